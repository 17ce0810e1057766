"""Numbers per image: scores are those of scikit-learn, and data that cannot be right name the way out."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from sklearn import metrics

from temper.gate.significance import discordant
from temper.maths.losses import penalize
from temper.problem import Row
from temper.problems.regression import Regression


def rows_of(values: Sequence[dict[str, float]]) -> list[Row]:
    return [Row(str(i), f"{i}.png", truth=json.dumps(each)) for i, each in enumerate(values)]


def bound(values: np.ndarray, names: tuple[str, ...] = ("age", "weight"), **fields: object) -> Regression:
    rows = rows_of([dict(zip(names, line, strict=True)) for line in values.tolist()])
    return Regression(kind="regression", quantities=names, **fields).bind(rows)  # type: ignore[arg-type]


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    true = rng.normal([1000.0, 3.0], [20.0, 0.1], (300, 2)).astype(np.float32)
    found = (true + rng.normal(0, [5.0, 0.2], (300, 2))).astype(np.float32)
    problem = bound(true)
    tallies = problem.tally({"values": torch.from_numpy(found)}, {"values": torch.from_numpy(true)})
    scores = {name: float(value) for name, value in problem.score(tallies.sum(dim=0)).items()}
    assert tuple(scores) == problem.scores
    pair = true.astype(np.float64), found.astype(np.float64)
    assert scores == {
        "mae": pytest.approx(metrics.mean_absolute_error(*pair), abs=1e-9),
        "rmse": pytest.approx(metrics.root_mean_squared_error(*pair), abs=1e-9),
        "r2": pytest.approx(metrics.r2_score(*pair), abs=1e-6),
        "mae_age": pytest.approx(np.abs(pair[0] - pair[1])[:, 0].mean(), abs=1e-9),
        "mae_weight": pytest.approx(np.abs(pair[0] - pair[1])[:, 1].mean(), abs=1e-9),
    }
    assert scores["r2"] < 0 < scores["mae"], "the second quantity is guessed worse than by its mean"


def test_r2_of_a_single_image_has_no_meaning_so_that_no_image_counts_as_right_or_wrong():
    problem = bound(np.array([[1.0, 2.0], [3.0, 5.0], [4.0, 9.0]]))
    values = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    alone = problem.score(problem.tally({"values": values}, {"values": values + 1}))["r2"].numpy()
    assert np.isnan(alone).all() and discordant(alone, alone) is None


def test_one_quantity_is_judged_by_its_mean_error_in_its_unit_and_several_by_r2():
    one = Regression(kind="regression", unit="years").headline
    assert (one.name, one.greater_is_better, one.unit) == ("mae", False, "years")
    several = Regression(kind="regression", quantities=("age", "weight")).headline
    assert (several.name, several.greater_is_better, several.unit) == ("r2", True, "R²")


def test_the_constant_answer_is_the_median_with_its_mean_error():
    values = np.array([[1.0], [2.0], [3.0], [4.0], [100.0]])
    problem = bound(values, ("age",), unit="years")
    assert problem.constant({}) == ("3 years", {"mae": np.abs(values - 3).mean(), "r2": 0.0})


def test_penalties_are_those_of_torch_and_lead_to_quantiles():
    errors = torch.randn(64, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    none = torch.zeros_like(errors)
    wanted = torch.nn.functional.huber_loss(errors, none, reduction="none").mean(dim=1)
    torch.testing.assert_close(penalize(errors, "huber"), wanted)
    torch.testing.assert_close(penalize(errors, "absolute"), errors.abs().mean(dim=1))
    torch.testing.assert_close(penalize(errors, "squared"), errors.square().mean(dim=1) / 2)
    truth, answers = torch.arange(1.0, 101.0), torch.arange(1.0, 101.0)
    costs = torch.stack(
        [penalize((each - truth)[:, None], "quantile", quantile=0.9).mean() for each in answers]
    )
    assert float(answers[costs.argmin()]) == pytest.approx(90, abs=1)


def test_strata_are_ranges_with_equally_many_examples():
    problem = bound(np.arange(1.0, 101.0)[:, None], ("age",))
    names = [next(iter(problem.strata({"values": np.array([age])}))) for age in range(1, 101)]
    counts = {name: names.count(name) for name in dict.fromkeys(names)}
    assert list(counts) == [
        "age up to 25.75",
        "age above 25.75 up to 50.5",
        "age above 50.5 up to 75.25",
        "age above 75.25",
    ]
    assert set(counts.values()) == {25}


def test_settings_without_effect_or_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"quantile = 0.9 with penalty = huber: .* set penalty"):
        Regression(kind="regression", quantile=0.9)
    with pytest.raises(ValueError, match=r"problem.spreads has 1 numbers, .* 2 quantities \(age, weight\)"):
        bound(np.array([[1.0, 2.0], [3.0, 5.0]]), spreads=(1.0,))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([Row("a", "a.png", labels=("cat",))], r"a.png has no numbers, .* set ingest.source: table and"),
        (rows_of([{"age": 1.0}, {"weight": 2.0}]), r"1.png has no age"),
        (rows_of([{"age": 1.0}, {"age": 1.0}]), r"all values of 'age' are equal, .*remove it"),
        (
            rows_of([{"age": 1.0, "weight": 2.0}]),
            r"several quantities; set problem.quantities: \[age, weight\]",
        ),
    ],
)
def test_data_that_cannot_be_right_name_the_way_out(rows: list[Row], words: str):
    with pytest.raises(ValueError, match=words):
        Regression(kind="regression").bind(rows)

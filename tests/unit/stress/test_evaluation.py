import csv
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet

from temper.problems.multiclass import Multiclass
from temper.stress.cells import CLEAN, MEAN, STRATUM, SUBSET
from temper.stress.evaluation import choose, evaluate
from temper.stress.params import EvaluateParams
from temper.stress.pool import Pool
from temper.stress.scores import figures, pick, tabulate, write
from temper.stress.worst_examples import find_worst
from tests.toy import pool_of

PROBLEM = Multiclass(kind="multiclass", classes=("dark", "light"))
PARAMS = EvaluateParams(stress_images=20, bootstrap=200, batch_size=16)


def by_mean(given: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Answer `light` with the mean brightness as its probability."""
    light = torch.from_numpy(given["image"].mean(axis=(1, 2, 3)) / 255).float()
    return {"probabilities": torch.stack([1 - light, light], dim=1)}


def always_dark(given: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {"probabilities": torch.tensor([[0.9, 0.1]]).expand(len(given["image"]), 2)}


@pytest.fixture(scope="module")
def data() -> tuple[Pool, dict[str, torch.Tensor], list[frozenset[str]]]:
    """30 dark and 20 light images, two of them labelled wrongly."""
    rng = np.random.default_rng(0)
    label = np.array([0] * 30 + [1] * 20)
    images = rng.integers(0, 100, (50, 8, 8, 1)) + 150 * label[:, None, None, None]
    label[[3, 40]] = 1 - label[[3, 40]]
    strata = [frozenset({PROBLEM.classes[number]}) for number in label]
    return pool_of(images.astype(np.uint8)), {"label": torch.from_numpy(label)}, strata


@pytest.fixture(scope="module")
def found(data):
    images, targets, strata = data
    candidates = {"mean": by_mean, "stubborn": always_dark}
    return evaluate(PROBLEM, candidates, images, targets=targets, strata=strata, params=PARAMS, seed=0)


@pytest.fixture(scope="module")
def scores(found):
    return tabulate(found.cells, confidence=0.95)


def test_clean_scores_are_exact(scores):
    row = pick(scores, candidate="mean", metric="accuracy", family=CLEAN, condition=CLEAN, severity=0)
    assert (row.value, row.images) == (48 / 50, 50)
    assert row.low < row.value < row.high <= 1
    row = pick(scores, candidate="stubborn", metric="accuracy", family=STRATUM, condition="light", severity=0)
    assert (row.value, row.low, row.high, row.images) == (0, 0, 0, 20)


def test_confusions_count_every_clean_image(found):
    assert found.confusions["mean"].tolist() == [[29, 1], [1, 19]]
    assert found.confusions["stubborn"].tolist() == [[30, 0], [20, 0]]


def test_table_holds_every_candidate_condition_and_severity_once(found, scores):
    counts = Counter((row.candidate, row.family, row.condition, row.severity, row.metric) for row in scores)
    assert set(counts.values()) == {1}
    per_metric = 2 * (2 + len(found.conditions) * 5 + 3 * 6)
    assert len(scores) == 3 * per_metric + 2 * 2  # Three metrics; only the headline by stratum.
    assert len(found.conditions) == 11


def test_a_candidate_that_ignores_images_is_not_moved_by_stress(scores):
    clean = pick(scores, candidate="stubborn", metric="accuracy", family=CLEAN, condition=SUBSET, severity=0)
    for row in scores:
        if row.candidate == "stubborn" and row.metric == "accuracy" and row.family not in (CLEAN, STRATUM):
            assert (row.value, row.low, row.high, row.images) == pytest.approx(
                (clean.value, clean.low, clean.high, clean.images)
            )


def test_means_are_over_conditions_and_severities(scores):
    rows = [row for row in scores if (row.candidate, row.family, row.metric) == ("mean", "noise", "accuracy")]
    single = [row.value for row in rows if row.condition != MEAN]
    total = next(row for row in rows if row.condition == MEAN and row.severity is None)
    assert len(single) == 10 and total.value == pytest.approx(math.fsum(single) / 10)
    at_5 = next(row for row in rows if row.condition == MEAN and row.severity == 5)
    assert at_5.value == pytest.approx(
        math.fsum(row.value for row in rows if row.severity == 5 and row is not at_5) / 2
    )


def test_batches_do_not_change_scores(data, found):
    images, targets, strata = data
    params = replace(PARAMS, batch_size=7)
    other = evaluate(
        PROBLEM, {"mean": by_mean}, images, targets=targets, strata=strata, params=params, seed=0
    )
    expected = [row for row in tabulate(found.cells, confidence=0.95) if row.candidate == "mean"]
    assert list(tabulate(other.cells, confidence=0.95)) == expected


def test_figures_are_those_of_the_table(scores):
    out = figures(scores, candidate="mean", headline="accuracy")
    assert out["accuracy"]["value"] == 48 / 50
    assert set(out["stress"]) == {"occlusion", "illumination", "noise"}


def test_worst_mistakes_come_first_with_captions(data, found):
    images, targets, _ = data
    errors = found.errors["mean"]["mistakes"]
    shown = find_worst(PROBLEM, by_mean, images, targets=targets, errors=errors, count=2, names=["x"] * 50)
    captions = [each.caption for each in shown]
    assert len(shown) == 2 and {caption.split(",")[0] for caption in captions} == {"light", "dark"}
    assert all("light" in caption and "dark" in caption for caption in captions)
    worst = int(errors.argmax())
    assert worst in (3, 40) and np.array_equal(shown[0].image, images.packed["image"][worst])
    assert not any(each.outlines for each in shown)
    assert find_worst(PROBLEM, by_mean, images, targets=targets, errors=errors * 0, count=2) == []


def test_subset_is_spread_evenly_sorted_and_seeded():
    strata = [frozenset({"common"})] * 90 + [frozenset({"rare"})] * 8 + [frozenset({"common", "rare"})] * 2
    chosen = choose(strata, 30, seed=0)
    assert len(set(chosen.tolist())) == 30 and chosen.tolist() == sorted(chosen.tolist())
    counts = Counter(name for number in chosen.tolist() for name in strata[number])
    assert counts["rare"] == 10 and counts["common"] >= 20
    assert torch.equal(choose(strata, 30, seed=0), chosen)
    assert not torch.equal(choose(strata, 30, seed=1), chosen)
    assert choose(strata, 1000, seed=0).tolist() == list(range(100))
    ten = choose([frozenset({str(number % 10)}) for number in range(1000)], 200, seed=0)
    assert set(Counter(number % 10 for number in ten.tolist()).values()) == {20}


def test_no_families_leave_the_clean_scores(data):
    images, targets, strata = data
    params = replace(PARAMS, families=())
    found = evaluate(
        PROBLEM, {"mean": by_mean}, images, targets=targets, strata=strata, params=params, seed=0
    )
    assert {cell.family for cell in found.cells} == {CLEAN, STRATUM}


def test_an_empty_test_split_is_refused():
    empty = pool_of(np.zeros((0, 8, 8, 1), np.uint8))
    with pytest.raises(ValueError, match="test split is empty"):
        evaluate(PROBLEM, {}, empty, targets={}, strata=[], params=PARAMS, seed=0)


def test_files_hold_the_table_and_equal_tables_give_equal_bytes(scores, tmp_path: Path):
    (tmp_path / "again").mkdir()
    write(scores, tmp_path)
    write(scores, tmp_path / "again")
    for name in ("scores.parquet", "scores.csv"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    table = parquet.read_table(tmp_path / "scores.parquet").to_pylist()
    assert table[0]["value"] == scores[0].value and table[-1]["candidate"] == scores[-1].candidate
    with (tmp_path / "scores.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["low"]) for row in rows] == [row.low for row in scores]


def test_a_missing_row_is_named(scores):
    with pytest.raises(ValueError, match=r"no row for .*nobody"):
        pick(scores, candidate="nobody", metric="accuracy", family=CLEAN, condition=CLEAN, severity=0)


def test_images_of_a_group_are_drawn_together(data):
    """Each image three times: as one group it has the intervals of the image, alone it would look certain."""
    images, targets, strata = data
    thrice = torch.arange(50).repeat_interleave(3)
    copies = pool_of(images.packed["image"][thrice.numpy()])
    again = {
        "targets": {"label": targets["label"][thrice]},
        "strata": [strata[key] for key in thrice.tolist()],
    }
    params = replace(PARAMS, families=())
    once, grouped, naive = (
        evaluate(PROBLEM, {"mean": by_mean}, pool, params=params, seed=0, **given)
        for pool, given in (
            (images, {"targets": targets, "strata": strata}),
            (copies, {**again, "units": thrice}),
            (copies, again),
        )
    )
    for one, three in zip(once.cells, grouped.cells, strict=True):
        if one.condition == SUBSET:
            continue
        assert one.values == pytest.approx(three.values) and three.images == 3 * one.images
        for name, drawn in one.samples.items():
            assert torch.allclose(drawn, three.samples[name])
    assert naive.cells[0].samples["accuracy"].std() < 0.7 * grouped.cells[0].samples["accuracy"].std()
    assert len(grouped.alone["mean"]) == 50 and len(naive.alone["mean"]) == 150

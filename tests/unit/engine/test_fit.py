import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from temper.engine.checkpoints import Checkpoints
from temper.engine.distributed.ranks import join_ranks
from temper.engine.fit import FitResult, fit
from temper.engine.metrics_log import read
from temper.engine.objectives import distilled, supervised
from temper.engine.params import FitParams
from temper.problem import Batch, Emphasis, Headline, Objective
from tests.toy import TOYS

TOY = TOYS["multiclass"]
PARAMS = FitParams(
    epochs=4,
    batch_size=16,
    lr=0.05,
    average_decay=0.5,
    precision="fp32",
    layout="contiguous",
    checkpoint_s=1e-9,
)


class ToyLoader:
    """Loader of the same five batches in every epoch; raises KeyboardInterrupt at step `die_at`."""

    num_batches = 5

    def __init__(self, die_at: int | None = None) -> None:
        self.die_at = die_at

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for number in range(start, self.num_batches):
            if epoch * self.num_batches + number == self.die_at:
                raise KeyboardInterrupt
            inputs, targets = TOY.batch(seed=number)
            yield Batch(inputs, targets, torch.ones(16))

    def ids(self, epoch: int, number: int) -> list[str]:
        return [f"{number}-{place}" for place in range(16)]


def train(
    folder: Path,
    params: FitParams = PARAMS,
    objective: "Objective | None" = None,
    die_at: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[nn.Module, FitResult]:
    network = TOY.network()
    held, truth = TOY.batch(64, seed=99)

    def validate(network: nn.Module) -> dict[str, float]:
        totals = TOY.problem.tally(TOY.problem.read(network(held)), truth).double().sum(dim=0)
        return {name: float(value) for name, value in TOY.problem.score(totals).items()}

    result = fit(
        network,
        objective or supervised(TOY.problem, Emphasis()),
        ToyLoader(die_at),
        validate,
        params,
        what="toy",
        headline=TOY.problem.headline,
        ranks=join_ranks(),
        checkpoints=Checkpoints(folder / "checkpoints"),
        journal=folder / "journal.jsonl",
        stop=stop,
    )
    return network, result


def test_it_learns_and_reports_the_best_epoch(tmp_path: Path):
    _, result = train(tmp_path)
    assert result.scores["accuracy"] > 0.6
    assert result.num_steps == 20 and 1 <= result.best_epoch <= 4
    scores = [
        entry["values"]["validation/accuracy"]
        for entry in read(tmp_path / "journal.jsonl")
        if "validation/accuracy" in entry["values"]
    ]
    assert len(scores) == 4 and max(scores) == result.scores["accuracy"]


@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("die_at", [0, 3, 5, 12, 19])
def test_a_resumed_training_ends_with_the_same_bits(tmp_path: Path, die_at: int, optimizer: str, layout: str):
    params = replace(PARAMS, optimizer=optimizer, lr=0.01, layout=layout)
    whole, result = train(tmp_path / "whole", params)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", params, die_at=die_at)
    resumed, again = train(tmp_path / "cut", params)
    assert again == result
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    steps = [
        [entry["step"] for entry in read(tmp_path / name / "journal.jsonl")] for name in ("whole", "cut")
    ]
    assert steps[0] == steps[1]


def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole, result = train(tmp_path / "whole")
    jumps = itertools.cycle([2e9, 0.0, 1e9])
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", die_at=12)
    resumed, again = train(tmp_path / "cut")
    assert again == result
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())
    steps = [
        [entry["step"] for entry in read(tmp_path / name / "journal.jsonl")] for name in ("whole", "cut")
    ]
    assert steps[0] == steps[1]


def test_a_lower_score_can_be_the_better_one(tmp_path: Path):
    network = TOY.network()
    values = iter([0.5, 0.2, 0.9, 0.4])
    result = fit(
        network,
        supervised(TOY.problem, Emphasis()),
        ToyLoader(),
        lambda _: {"error": next(values)},
        PARAMS,
        what="toy",
        headline=Headline("error", greater_is_better=False),
        ranks=join_ranks(),
        checkpoints=Checkpoints(tmp_path),
        journal=tmp_path / "journal.jsonl",
    )
    assert (result.best_epoch, result.scores) == (2, {"error": 0.2})


def test_a_student_that_only_listens_comes_closer_to_its_teacher(tmp_path: Path):
    teacher, _ = train(tmp_path / "teacher", replace(PARAMS, epochs=8))
    teacher.eval().requires_grad_(False)
    objective = distilled(
        TOY.problem,
        teacher,
        Emphasis(),
        share=1.0,
        temperature=2.0,
        teacher_temperature=1.0,
        standardized=False,
    )
    student, _ = train(tmp_path / "student", replace(PARAMS, epochs=8), objective)
    inputs, _ = TOY.batch(64, seed=5)
    with torch.inference_mode():
        wanted = teacher(inputs)
        before, after = (
            TOY.problem.distance(network.eval()(inputs), wanted).mean()
            for network in (TOY.network(seed=7), student)
        )
    assert after < before / 2
    terms = [
        entry["values"]
        for entry in read(tmp_path / "student" / "journal.jsonl")
        if "train/loss" in entry["values"]
    ]
    assert all(values["train/loss"] == pytest.approx(values["train/distance"]) for values in terms)


def test_weights_and_mixing_count_examples_as_told():
    inputs, targets = TOY.batch(2)
    network = TOY.network().eval()
    loss = TOY.problem.loss(network(inputs), targets)
    objective = supervised(TOY.problem, Emphasis())
    weighted = objective(network, Batch(inputs, targets, torch.tensor([2.0, 0.0])))["loss"]
    torch.testing.assert_close(weighted, loss[0])
    others = {key: value.flip(0) for key, value in targets.items()}
    mixed = objective(network, Batch(inputs, targets, torch.ones(2), others, torch.tensor([0.25, 1.0])))[
        "loss"
    ]
    crossed = TOY.problem.loss(network(inputs), others)
    torch.testing.assert_close(mixed, (0.25 * loss[0] + 0.75 * crossed[0] + loss[1]) / 2)

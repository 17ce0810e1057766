"""Gradients that are too long are clipped; all others stay unchanged."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from temper.engine.distributed.ranks import join_ranks
from temper.engine.nan_guard import Guard, follow, longest
from temper.engine.objectives import supervised
from temper.engine.params import FitParams
from temper.problem import Batch, Emphasis
from tests.unit.engine.test_fit import PARAMS, TOY, train
from tests.unit.engine.test_nan_guard import same, values

PLAIN = supervised(TOY.problem, Emphasis())


def steep(step: int, factor: float):
    """Return the toy's loss, multiplied by a factor at one step."""
    asked = iter(range(10_000))

    def objective(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        loss = PLAIN(network, batch)["loss"]
        return {"loss": loss * (factor if next(asked) == step else 1)}

    return objective


def test_a_norm_above_the_limit_is_brought_down_to_it():
    network = nn.Linear(2, 1, bias=False)
    network.weight.grad = torch.tensor([[3.0, 4.0]])
    guard = Guard(network, join_ranks())
    verdict = guard.judge(torch.tensor(1.0), max_norm=6.0)
    assert (verdict.good, verdict.norm, verdict.clipped) == (True, 5.0, False)
    assert network.weight.grad.tolist() == [[3.0, 4.0]]
    verdict = guard.judge(torch.tensor(1.0), max_norm=1.0)
    assert (verdict.good, verdict.norm, verdict.clipped) == (True, 5.0, True)
    torch.testing.assert_close(network.weight.grad, torch.tensor([[0.6, 0.8]]))
    network.weight.grad = torch.tensor([[math.inf, 4.0]])
    verdict = guard.judge(torch.tensor(1.0), max_norm=1.0)
    assert not verdict.good and not verdict.clipped


def test_the_limit_follows_the_norms():
    assert FitParams(epochs=1, batch_size=1, lr=1.0).max_grad_norm == "auto"
    assert follow(0.0, 3.0, 0) == 3.0  # the first norm
    assert follow(3.0, 5.0, 1) == 4.0  # the mean of both norms
    assert follow(1.0, 2.0, 499) == pytest.approx(1.02)  # later, it moves by a fiftieth of the difference
    assert follow(1.0, 1e9, 499) == pytest.approx(1.18)  # an unusual batch counts as ten means at most
    assert follow(1.0, 0.0, 499) == pytest.approx(0.98)


def test_one_odd_batch_throws_the_weights_no_further_than_four_ordinary_ones(tmp_path: Path):
    """One batch has gradients a million times as large. With plain sgd, weights move by rate times norm."""
    plain = replace(PARAMS, epochs=2, momentum=0.0, weight_decay=0.0, average_decay=0.0)
    _, calm = train(tmp_path / "calm", plain)
    _, clipped = train(tmp_path / "odd", plain, steep(6, 1e6))
    _, thrown = train(tmp_path / "thrown", replace(plain, max_grad_norm=0.0), steep(6, 1e6))
    assert calm.clipped_share == 0 and not values(tmp_path / "calm", "train/clipped_share")
    assert clipped.clipped_share == 1 / 10 and thrown.clipped_share == 0
    assert values(tmp_path / "odd", "train/clipped_share") == [(10, 0.1)]
    losses = [values(tmp_path / name, "train/loss")[-1][1] for name in ("calm", "odd", "thrown")]
    assert losses[1] < 2 * losses[0] and losses[2] > 2 * losses[0]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_a_healthy_training_keeps_its_course_to_the_last_bit(tmp_path: Path, optimizer: str):
    params = replace(PARAMS, optimizer=optimizer, lr=0.01)
    found = [train(tmp_path / str(limit), replace(params, max_grad_norm=limit))[0] for limit in ("auto", 0.0)]
    assert same(*found)


@pytest.mark.parametrize("die_at", [7, 8, 12])
def test_a_resumed_training_clips_as_an_undisturbed_one(tmp_path: Path, die_at: int):
    whole, result = train(tmp_path / "whole", PARAMS, steep(7, 50.0))
    assert result.clipped_share == 1 / 20
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", PARAMS, steep(7, 50.0), die_at=die_at)
    resumed, again = train(tmp_path / "cut", PARAMS, steep(7 - die_at, 50.0))
    assert again == result and same(whole, resumed)


def test_scaled_losses_are_judged_by_their_true_gradients(tmp_path: Path):
    """fp16 multiplies the loss by 65,536; norms are those of the unscaled gradients, about 1."""
    fp16 = replace(PARAMS, precision="fp16", layout="channels-last")
    _, result = train(tmp_path / "loose", replace(fp16, max_grad_norm=100.0))
    assert result.mode.precision == "fp16" and result.clipped_share == 0
    _, result = train(tmp_path / "tight", replace(fp16, max_grad_norm=1e-3))
    assert result.clipped_share == 1


def test_no_limit_and_numbers_are_taken_as_they_are():
    assert longest(0.0, 5.0) == math.inf and longest(2.0, 5.0) == 2.0
    assert longest("auto", 0.0) == math.inf and longest("auto", 0.5) == 2.0

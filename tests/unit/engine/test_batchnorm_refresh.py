"""Statistics that lag are recomputed for the network that is scored, and only for that network."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from temper.engine import fit as loop
from temper.engine.batchnorm_refresh import count_batches, find_statistics, refresh_statistics
from temper.engine.params import FitParams
from temper.engine.unfreezing import Unfreezing
from temper.networks.params import TransferParams
from temper.problem import Inputs
from tests.unit.engine.test_fit import PARAMS, TOY, ToyLoader, train
from tests.unit.engine.test_nan_guard import values

STALE = replace(PARAMS, epochs=3, optimizer="muon", lr=0.5, warmup_share=0.0, average_decay=0.9)


def scores(folder: Path) -> list[float]:
    return [score for _, score in values(folder, "validation/accuracy")]


@pytest.mark.parametrize("params", [STALE, replace(STALE, average_decay=0.0)], ids=["averaged", "few steps"])
def test_an_epoch_is_scored_by_statistics_of_its_own_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: FitParams
):
    """The first epoch of the toy scores 0.58 with lagging statistics (the best constant answer), and 1.0 with
    its own.
    """
    train(tmp_path / "fresh", params)
    monkeypatch.setattr(loop, "count_batches", lambda *_, **__: 0)
    train(tmp_path / "stale", params)
    fresh, stale = scores(tmp_path / "fresh"), scores(tmp_path / "stale")
    assert fresh[0] > 0.95 and stale[0] < 0.7
    # The network that continues training is the same in both cases.
    assert values(tmp_path / "fresh", "train/loss") == values(tmp_path / "stale", "train/loss")


def test_batches_count_alike_and_as_torch_counts_them():
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5), nn.BatchNorm1d(2))
    norms = [module for module in network if isinstance(module, nn.BatchNorm1d)]
    first, second = torch.tensor([[0.0, 2.0], [2.0, 4.0]]), torch.tensor([[4.0, 0.0], [8.0, 0.0]])
    network(torch.randn(9, 2) * 50)
    refresh_statistics(network, norms, [first, second])
    # First channel: means 1 and 6, unbiased variances 2 and 8. Second: means 3 and 0, variances 2 and 0.
    assert norms[0].running_mean.tolist() == pytest.approx([3.5, 1.5])
    assert norms[0].running_var.tolist() == pytest.approx([5.0, 1.0])
    assert not any(module.training for module in network.modules())
    assert [norm.momentum for norm in norms] == [0.1, 0.1]
    # Dropout is off, so the second normalisation gets the same inputs as in evaluation.
    assert norms[1].running_mean.tolist() == pytest.approx([0.0, 0.0], abs=1e-5)
    assert norms[1].running_var.tolist() == pytest.approx([2.0, 1.0], rel=1e-3)


def test_what_lags_is_told_by_averaging_and_steps_alone():
    assert count_batches(100, 32, averaged=False) == 0
    assert count_batches(99, 32, averaged=False) == 14
    assert count_batches(215, 256, averaged=True) == 4  # about 1,000 images
    assert count_batches(10_000, 8, averaged=True) == 125
    assert [count_batches(number, 4096, averaged=True) for number in (1, 2, 3, 1000)] == [1, 2, 2, 2]
    for number in (40, 68, 150, 1000):
        forward_only = count_batches(number, 32, averaged=True) / 3
        assert forward_only <= 0.05 * number


def test_frozen_and_foreign_normalisations_are_left_alone():
    network = TOY.network()
    every = find_statistics(network, Unfreezing(network))
    assert len(every) == sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) > 0
    held = Unfreezing(network, TransferParams(weights="some", freeze_statistics=True))
    held.begin(0)
    assert find_statistics(network, held) == []
    gradual = Unfreezing(network, TransferParams(weights="some", head_epochs=1, unfreeze_epochs=2))
    gradual.begin(0)
    assert find_statistics(network, gradual) == []
    gradual.begin(1)
    assert 0 < len(find_statistics(network, gradual)) < len(every)
    for module in (nn.GroupNorm(1, 4), nn.BatchNorm2d(4, track_running_stats=False)):
        assert find_statistics(nn.Sequential(module), Unfreezing(nn.Sequential(module))) == []


def test_an_epoch_of_many_steps_reads_no_batch_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[int, int]] = []
    batches = ToyLoader.batches

    def counted(self: ToyLoader, epoch: int, start: int = 0) -> Iterator[object]:
        for number, batch in enumerate(batches(self, epoch, start), start):
            asked.append((epoch, number))
            yield batch

    monkeypatch.setattr(ToyLoader, "batches", counted)
    train(tmp_path / "averaged", replace(PARAMS, epochs=2))
    whole = [(epoch, number) for epoch in range(2) for number in range(5)]
    again = [(0, 0), *whole[:5], (0, 0), (0, 1), *whole[5:], (1, 0), (1, 1)]
    assert asked == again  # the first batch is used to choose the mode
    asked.clear()
    monkeypatch.setattr("temper.engine.batchnorm_refresh._FEW_STEPS", 5)
    train(tmp_path / "plain", replace(PARAMS, epochs=2, average_decay=0.0))
    assert asked == [(0, 0), *whole]


def test_the_layout_and_the_parts_are_those_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """After memory ran out, statistics are computed over the same parts, in the same layout."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "micro-batch.json").write_text('{"examples": 8}')
    seen: list[Inputs] = []
    plain = refresh_statistics

    def watched(network: nn.Module, norms: list[nn.Module], batches: Iterator[Inputs]) -> None:
        seen.extend(kept := list(batches))
        plain(network, norms, kept)

    monkeypatch.setattr("temper.engine.train_state.refresh_statistics", watched)
    train(tmp_path, replace(PARAMS, epochs=1, layout="channels-last"))
    assert [len(inputs["image"]) for inputs in seen] == [8] * 4
    assert all(inputs["image"].is_contiguous(memory_format=torch.channels_last) for inputs in seen)

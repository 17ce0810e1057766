from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from temper.engine.checkpoints import Checkpoints
from temper.engine.distributed.ranks import join_ranks
from temper.engine.fit import FitResult, fit
from temper.engine.objectives import supervised
from temper.engine.optimizers import build_optimizer
from temper.engine.params import FitParams
from temper.engine.unfreezing import Unfreezing
from temper.networks.layers import split_layers
from temper.networks.params import TransferParams
from temper.problem import Batch, Emphasis
from tests.toy import TOYS

TOY = TOYS["multiclass"]
FIT = FitParams(
    epochs=4,
    batch_size=16,
    lr=0.05,
    average_decay=0.5,
    precision="fp32",
    layout="contiguous",
    checkpoint_s=1e-9,
)
GRADUAL = TransferParams(
    weights="some", head_epochs=1, unfreeze_epochs=2, lr_decay=0.5, freeze_statistics=True
)
BATCHES = 3


class ToyLoader:
    """Loader of the same three batches in every epoch; raises KeyboardInterrupt at step `die_at`."""

    num_batches = BATCHES

    def __init__(self, watch: nn.Module, die_at: int | None = None) -> None:
        self.watch, self.die_at = watch, die_at
        self.frozen: list[int] = []

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for number in range(start, self.num_batches):
            if epoch * self.num_batches + number == self.die_at:
                raise KeyboardInterrupt
            self.frozen.append(sum(not value.requires_grad for value in self.watch.parameters()))
            inputs, targets = TOY.batch(seed=number)
            yield Batch(inputs, targets, torch.ones(16))

    def ids(self, epoch: int, number: int) -> list[str]:
        return [f"{number}-{place}" for place in range(16)]


def train(
    folder: Path, transfer: TransferParams = GRADUAL, fit_params: FitParams = FIT, die_at: int | None = None
) -> tuple[nn.Module, FitResult, ToyLoader]:
    network = TOY.network(seed=3)
    loader = ToyLoader(network, die_at)
    held, truth = TOY.batch(64, seed=99)

    def validate(network: nn.Module) -> dict[str, float]:
        totals = TOY.problem.tally(TOY.problem.read(network(held)), truth).double().sum(dim=0)
        return {name: float(value) for name, value in TOY.problem.score(totals).items()}

    result = fit(
        network,
        supervised(TOY.problem, Emphasis()),
        loader,
        validate,
        fit_params,
        what="toy",
        headline=TOY.problem.headline,
        ranks=join_ranks(),
        checkpoints=Checkpoints(folder / "checkpoints"),
        journal=folder / "journal.jsonl",
        unfreezing=Unfreezing(network, transfer),
    )
    return network, result, loader


def test_layers_are_unfrozen_from_the_head_down():
    network = TOY.network()
    unfreezing = Unfreezing(network, GRADUAL)
    layers = split_layers(network.backbone)
    assert len(layers) == 3  # stem and two blocks
    assert [unfreezing.count(epoch) for epoch in range(5)] == [0, 2, 3, 3, 3]
    assert [unfreezing.begin(epoch) for epoch in (0, 0, 1, 1, 2, 3)] == [
        True,
        False,
        True,
        False,
        True,
        False,
    ]
    unfreezing.begin(1)
    assert [layer.parameters[0].requires_grad for layer in layers] == [False, True, True]
    assert all(value.requires_grad for value in network.head.parameters())
    never = Unfreezing(network, TransferParams(weights="some", unfreeze_epochs=None))
    assert {never.count(epoch) for epoch in range(100)} == {0}
    after = Unfreezing(network, TransferParams(weights="some", head_epochs=2))
    assert [after.count(epoch) for epoch in range(4)] == [0, 0, 3, 3]


def test_what_is_frozen_stays_as_it_was_to_the_last_bit(tmp_path: Path):
    before = TOY.network(seed=3).state_dict()
    network, _, loader = train(tmp_path, TransferParams(weights="some", unfreeze_epochs=None))
    # The first batch is used to choose the mode.
    assert set(loader.frozen[1:]) == {sum(1 for _ in network.backbone.parameters())}
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("backbone."), name


def test_statistics_stay_where_they_are_frozen_and_weights_do_not(tmp_path: Path):
    before = TOY.network(seed=3).state_dict()
    _, _, loader = train(tmp_path)
    _, *frozen = loader.frozen
    assert frozen[0] > frozen[BATCHES] > frozen[2 * BATCHES] == 0
    newest = Checkpoints(tmp_path / "checkpoints").newest()
    assert newest is not None
    now = Checkpoints(tmp_path / "checkpoints").load(newest).tensors
    for name, value in before.items():
        same = "running_" in name or "num_batches" in name or "normalize" in name
        assert torch.equal(now[f"network/{name}"], value) == same, name


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("die_at", [1, BATCHES, BATCHES + 1, 2 * BATCHES, 2 * BATCHES + 2])
def test_a_training_resumed_around_an_unfreezing_ends_with_the_same_bits(
    tmp_path: Path, die_at: int, optimizer: str
):
    params = replace(FIT, optimizer=optimizer, lr=0.01)
    whole, result, _ = train(tmp_path / "whole", fit_params=params)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", fit_params=params, die_at=die_at)
    resumed, again, _ = train(tmp_path / "cut", fit_params=params)
    assert again == result
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_no_transfer_is_training_as_ever(tmp_path: Path):
    plain, _, loader = train(tmp_path / "plain", TransferParams())
    assert set(loader.frozen) == {0}
    # Pretrained weights, all unfrozen from the start at one rate, change only where a training starts.
    same, _, _ = train(tmp_path / "same", TransferParams(weights="some"))
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in plain.state_dict().items())


def test_learning_rates_fall_from_the_head_to_the_image():
    network = TOY.network()
    optimizer = build_optimizer(network, replace(FIT, weight_decay=0.1))
    held = [id(value) for group in optimizer.param_groups for value in group["params"]]
    Unfreezing(network, GRADUAL).scale(optimizer)
    assert sorted(held) == sorted(id(value) for group in optimizer.param_groups for value in group["params"])
    found = {
        id(value): (group["lr_scale"], group["weight_decay"])
        for group in optimizer.param_groups
        for value in group["params"]
    }
    assert found[id(network.head.weight)] == (1.0, 0.1) and found[id(network.head.bias)] == (1.0, 0.0)
    scales = [found[id(layer.parameters[0])] for layer in split_layers(network.backbone)]
    assert scales == [(0.125, 0.1), (0.25, 0.1), (0.5, 0.1)]


def test_a_step_moves_a_layer_by_its_share_of_the_learning_rate(tmp_path: Path):
    """One step of sgd without momentum or decay moves weights by rate times gradient.

    The rate is halved from layer to layer.
    """
    params = replace(FIT, epochs=1, momentum=0.0, weight_decay=0.0, average_decay=0.0, warmup_share=0.0)
    decayed = TransferParams(weights="some", lr_decay=0.5)
    start = TOY.network(seed=3)
    moved = []
    for number, transfer in enumerate((TransferParams(), decayed)):
        folder = tmp_path / str(number)
        with pytest.raises(KeyboardInterrupt):
            train(folder, transfer, params, die_at=1)
        newest = Checkpoints(folder / "checkpoints").newest()
        assert newest is not None
        now = Checkpoints(folder / "checkpoints").load(newest).tensors
        names = ["head.weight", "backbone.stages.1.0.first.0.weight", "backbone.stem.0.0.weight"]
        moved.append([(now[f"network/{name}"] - start.state_dict()[name]).norm().item() for name in names])
    ratios = [after / before for before, after in zip(*moved, strict=True)]
    assert ratios == pytest.approx([1.0, 0.5, 0.125], rel=1e-3)


def test_an_impossible_plan_is_refused_early():
    with pytest.raises(ValueError, match=r"weights = null: .*head_epochs.*set weights"):
        TransferParams(head_epochs=1)
    with pytest.raises(ValueError, match=r"head_epochs = 3 and unfreeze_epochs = 2: .*fit\.epochs = 4"):
        TransferParams(weights="some", head_epochs=3, unfreeze_epochs=2).check(4)
    TransferParams(weights="some", head_epochs=2, unfreeze_epochs=2).check(4)

"""Edge cases of batches and data: one example, one class, a constant channel."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from temper.data.augmentation.class_balance import draw_repeats, emphasize, weigh
from temper.data.augmentation.params import BalanceParams
from temper.engine.calibration import fit_temperature
from temper.engine.checkpoints import Checkpoints
from temper.engine.distributed.ranks import join_ranks
from temper.engine.distributed.sync_batchnorm import check_single
from temper.engine.fit import fit
from temper.engine.objectives import supervised
from temper.inputs.image_input import ImageInput
from temper.networks.build import build_network
from temper.networks.params import SmallResNet, SmallVGG
from temper.networks.whitening import whiten
from temper.problem import Batch, Emphasis
from tests.unit.engine.test_fit import PARAMS, TOY

FLAT = SmallVGG(family="small-vgg", widths=(8, 8, 8), depths=(1, 1, 1))


class Ones:
    """Loader of batches of one example."""

    num_batches = 6

    def batches(self, epoch: int, start: int = 0):
        for number in range(start, self.num_batches):
            inputs, targets = TOY.batch(1, seed=number)
            yield Batch(inputs, targets, torch.ones(1))

    def ids(self, epoch: int, number: int) -> list[str]:
        return ["one"]


def train_by_ones(folder: Path, network: torch.nn.Module) -> None:
    fit(
        network,
        supervised(TOY.problem, Emphasis()),
        Ones(),
        lambda _: {"accuracy": 0.5},
        replace(PARAMS, epochs=1, batch_size=1, lr=0.01),
        what="toy",
        headline=TOY.problem.headline,
        ranks=join_ranks(),
        checkpoints=Checkpoints(folder),
        journal=folder / "journal.jsonl",
    )


def test_batches_of_one_are_trained_on_where_maps_have_several_cells(tmp_path: Path):
    network = TOY.network()
    train_by_ones(tmp_path, network)
    assert all(value.isfinite().all() for value in network.state_dict().values())


def test_batches_of_one_are_refused_early_where_a_map_is_one_cell(tmp_path: Path):
    facts = {"image": ImageInput(12, 12, 3, (127.0,) * 3, (60.0,) * 3)}
    network = build_network(TOY.problem, FLAT, facts, seed=0)  # maps of 6, 3 and 1 cells
    with pytest.raises(
        ValueError, match=r"backbone\.stages\.2\.\S+ sees one value.*fit\.batch_size to 2.*prepare\.height_px"
    ):
        train_by_ones(tmp_path, network)
    assert not (tmp_path / "journal.jsonl").read_text()
    check_single(network, {"image": torch.zeros(1, 3, 12, 16)})  # the last map has two cells


def test_a_batch_of_one_class_trains():
    network = TOY.network()
    inputs, targets = TOY.batch(8)
    alike = {"label": torch.zeros_like(targets["label"])}
    loss = supervised(TOY.problem, Emphasis(smoothing=0.1))(network, Batch(inputs, alike, torch.ones(8)))[
        "loss"
    ]
    loss.backward()
    assert loss.isfinite() and all(value.grad.isfinite().all() for value in network.parameters())


@pytest.mark.parametrize("backbone", [FLAT, SmallResNet(family="small-resnet", widths=(8, 8), depths=(1, 1))])
@pytest.mark.parametrize("varying", [1, 0])
def test_channels_that_never_vary_give_finite_answers(backbone: SmallVGG | SmallResNet, varying: int):
    """One channel is constant, like the empty channel of a grey image; or all channels are."""
    images = np.full((20, 12, 12, 2), 77, np.uint8)
    images[..., :varying] = np.random.default_rng(0).integers(0, 256, (20, 12, 12, varying))
    flat = images.reshape(-1, 2).astype(float)
    facts = {
        "image": ImageInput(12, 12, 2, tuple(flat.mean(axis=0).tolist()), tuple(flat.std(axis=0).tolist()))
    }
    network = build_network(TOY.problem, backbone, facts, seed=0)
    whiten(network, images)
    assert all(value.isfinite().all() for value in network.state_dict().values())
    outputs = network.train()({"image": torch.from_numpy(images).permute(0, 3, 1, 2)})["logits"]
    outputs.sum().backward()
    assert outputs.isfinite().all()
    assert all(value.grad.isfinite().all() for value in network.parameters() if value.grad is not None)


def test_a_network_that_is_always_right_is_not_made_surer_than_its_examples_allow():
    """The network gives 100 right answers with logits (2, 0, 0).

    Smoothing s = 1 / 102 allows a confidence p = 1 - s + s / 3, so the temperature is 2 / log(2 p / (1 - p)).
    """
    outputs, label = (
        {"logits": torch.tensor([[2.0, 0.0, 0.0]]).expand(100, 3)},
        torch.zeros(100, dtype=torch.int64),
    )
    sure = 1 - 2 / 3 / 102
    expected = 2 / np.log(2 * sure / (1 - sure))
    assert fit_temperature(TOY.problem, [outputs], [{"label": label}]) == pytest.approx(expected, rel=2e-3)


def test_a_class_with_one_example_is_weighed_and_drawn():
    strata = [frozenset({"many"})] * 9 + [frozenset({"one"})]
    weights = weigh(strata, BalanceParams(method="weights", beta=0.9999))
    assert weights.mean() == pytest.approx(1) and weights[9] == pytest.approx(9 * weights[0], rel=1e-3)
    assert weigh(strata, BalanceParams(method="weights", beta=0.0)).tolist() == [1.0] * 10
    assert draw_repeats(strata, BalanceParams(method="oversample"), seed=0).tolist() == [1] * 9 + [9]
    assert draw_repeats(strata, BalanceParams(method="undersample"), seed=0).sum() == 2
    adjusted = emphasize(strata, BalanceParams(method="logit-adjustment"), ("many", "one"))
    assert adjusted["offsets"] == pytest.approx([np.log(0.9), np.log(0.1)])

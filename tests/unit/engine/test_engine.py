from dataclasses import replace

import pytest
import torch
from torch import nn

from temper.engine.calibration import fit_temperature
from temper.engine.distributed.ranks import count_ranks
from temper.engine.optimizers import WeightAverage, build_optimizer, learning_rate
from temper.engine.params import FitParams
from temper.engine.precision import Mode, choose_mode
from temper.problem import Batch
from tests.toy import TOYS

FIT = FitParams(epochs=1, batch_size=8, lr=1.0, warmup_share=0.25)


def test_the_learning_rate_climbs_to_its_peak_and_falls_to_nearly_nothing():
    rates = [learning_rate(FIT, step, 8) for step in range(8)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    cosine = FitParams(epochs=1, batch_size=8, lr=1.0, warmup_share=0.0, schedule="cosine")
    assert [learning_rate(cosine, step, 4) for step in range(4)] == pytest.approx(
        [1, 0.853553, 0.5, 0.146447], abs=1e-5
    )


def test_biases_and_normalisation_are_not_decayed():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    groups = build_optimizer(network, FIT).param_groups
    assert [len(group["params"]) for group in groups] == [2, 4]
    assert [group["weight_decay"] for group in groups] == [5e-4, 0.0]


def test_the_weight_average_follows_the_weights():
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 0.0)
    average = WeightAverage(network, decay=0.5)
    nn.init.constant_(network.weight, 1.0)
    average.update(network, step=100)
    assert average.values["weight"].item() == 0.5
    early = WeightAverage(network, decay=0.99)
    nn.init.constant_(network.weight, 0.0)
    early.update(network, step=1)
    # After one step the decay is at most 2 / 11.
    assert early.values["weight"].item() == pytest.approx(2 / 11)


CPU = torch.device("cpu")


def _probe(params: FitParams, spoil: float = 1.0) -> tuple[Mode, float | None, list[torch.dtype]]:
    """Return the mode chosen for a toy, the deviation, and the types of its test runs.

    `spoil` is a factor that makes the loss in bf16 wrong.
    """
    toy = TOYS["multiclass"]
    inputs, targets = toy.batch()
    network = toy.network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    spoken = []

    def objective(network: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        outputs = network(batch.inputs)
        rough = torch.is_autocast_enabled("cpu")
        spoken.append(torch.bfloat16 if rough else torch.float32)
        return {"loss": toy.problem.loss(outputs, batch.targets).mean() * (spoil if rough else 1.0)}

    mode, deviation = choose_mode(network, objective, Batch(inputs, targets, torch.ones(16)), params, CPU)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    return mode, deviation, spoken


def test_bf16_is_taken_where_matrix_units_are_and_it_agrees(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    mode, deviation, spoken = _probe(FIT)
    assert mode == Mode("bf16", "channels-last")
    assert deviation is not None and deviation < 0.05
    assert spoken == [torch.float32, torch.bfloat16]
    mode, deviation, _ = _probe(FIT, spoil=1.2)
    assert mode == Mode("fp32", "channels-last")
    assert deviation == pytest.approx(0.2, abs=0.05)


def test_bf16_on_vector_units_alone_is_not_even_tried(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert _probe(FIT) == (Mode("fp32", "channels-last"), None, [])


def test_a_named_mode_is_taken_as_it_is():
    for precision, layout in (("fp32", "contiguous"), ("bf16", "channels-last")):
        mode, deviation, spoken = _probe(replace(FIT, precision=precision, layout=layout))
    assert (mode, deviation) == (Mode(precision, layout), None)
    assert set(spoken) <= {torch.float32}, "half precision is not compared with fp32"
    assert _probe(replace(FIT, precision="bf16", layout="auto"))[0] == Mode("bf16", "channels-last")


@pytest.mark.parametrize("scale", [0.2, 5.0])
def test_the_temperature_undoes_a_scale(scale: float):
    toy = TOYS["multiclass"]
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4000, 3, generator=generator)
    label = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)
    found = fit_temperature(toy.problem, [{"logits": logits * scale}], [{"label": label}])
    assert found == pytest.approx(scale, rel=0.1)


def test_ranks_are_as_many_as_asked_for():
    assert count_ranks(3) == 3
    assert count_ranks("auto") >= 1


class Overstepping(torch.nn.Module):
    """Network whose second convolution has stride two; its feature map is one pixel if the image is 4 px."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 4, 4), torch.nn.Conv2d(4, 4, 3, 2, 1))

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.body(inputs["image"].float()).flatten(1)


@pytest.mark.parametrize(("side", "taken"), [(4, "fp32"), (8, "bf16")])
def test_where_a_stride_is_larger_than_its_map_bf16_is_not_taken(
    side: int, taken: str, monkeypatch: pytest.MonkeyPatch
):
    """The gradient of such a layer reads uninitialised memory (`docs/facts.md`)."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    network = Overstepping()
    batch = Batch({"image": torch.rand(4, 1, side, side)}, {}, torch.ones(4))

    def objective(network: torch.nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        return {"loss": network(batch.inputs).square().mean()}

    assert choose_mode(network, objective, batch, replace(FIT, precision="auto"), CPU)[0].precision == taken
    asked = replace(FIT, precision="bf16")
    if taken == "bf16":
        assert choose_mode(network, objective, batch, asked, CPU)[0].precision == "bf16"
        return
    with pytest.raises(
        ValueError,
        match=r"fit\.precision = 'bf16': .*body\.1 .*2x2 .*1x1 px.*to auto or fp32",
    ):
        choose_mode(network, objective, batch, asked, CPU)
    assert not any(module._forward_pre_hooks for module in network.modules())

"""fp16 with its loss scale, and compiled steps."""

import os
import re
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from temper.engine.nan_guard import Verdict
from temper.engine.objectives import supervised
from temper.engine.precision import FIRST_LOSS_SCALE, SCALE_GROWS_AFTER, Mode, half_precision
from temper.engine.train_state import State
from temper.problem import Batch, Emphasis
from tests.unit.engine.test_fit import PARAMS, TOY, train
from tests.unit.engine.test_nan_guard import values

FP16 = replace(PARAMS, precision="fp16", layout="channels-last")
PLAIN = supervised(TOY.problem, Emphasis())


def steep(network: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    """Return the toy's loss times 3000; scaled, its gradients exceed the range of fp16."""
    return {"loss": 3000 * PLAIN(network, batch)["loss"]}


def test_depthwise_convolutions_compute_in_fp32_on_a_cpu():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1, groups=4))
    before = deepcopy(network)
    mode, images = Mode("bf16", "channels-last"), torch.randn(2, 3, 6, 6)
    mode.arrange(mode.arrange(network))
    assert [type(layer) is nn.Conv2d for layer in network] == [True, False, True]
    assert network.state_dict().keys() == before.state_dict().keys()
    torch.testing.assert_close(network(images), before(images))
    types = []
    for layer in network:
        layer.register_forward_hook(lambda layer, inputs, output: types.append(output.dtype))
    with mode.autocast(torch.device("cpu")):
        rough = network(images)
    assert types == [torch.bfloat16, torch.float32, torch.bfloat16]
    torch.testing.assert_close(rough.float(), before(images), rtol=0.05, atol=0.05)
    rough.float().sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_a_copy_of_such_a_network_has_its_own_weights():
    network = Mode("bf16", "contiguous").arrange(nn.Sequential(nn.Conv2d(8, 8, 3, groups=8)))
    copied = deepcopy(network)
    nn.init.zeros_(copied[0].weight)
    nn.init.zeros_(copied[0].bias)
    images = torch.randn(1, 8, 4, 4)
    assert not copied(images).any() and network(images).any()


def test_fp16_learns_as_fp32_does(tmp_path: Path):
    _, exact = train(tmp_path / "fp32", PARAMS)
    _, half = train(tmp_path / "fp16", FP16)
    assert half.mode == Mode("fp16", "channels-last") and half.num_skipped == 0
    assert half.scores["accuracy"] == pytest.approx(exact.scores["accuracy"], abs=0.05)
    losses = [dict(values(tmp_path / name, "train/loss")) for name in ("fp32", "fp16")]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_too_large_a_scale_is_halved_and_no_bad_step_is_counted(tmp_path: Path):
    params = replace(FP16, lr=0.05 / 3000)
    _, result = train(tmp_path, params, steep)
    scales = [scale for _, scale in values(tmp_path, "train/loss_scale")]
    assert 1 < scales[-1] < FIRST_LOSS_SCALE and sorted(scales, reverse=True) == scales
    assert result.num_skipped == 0 and result.scores["accuracy"] > 0.4


def test_a_resumed_fp16_training_goes_on_with_its_scale(tmp_path: Path):
    params = replace(FP16, lr=0.05 / 3000)
    whole, result = train(tmp_path / "whole", params, steep)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", params, steep, die_at=7)
    resumed, again = train(tmp_path / "cut", params, steep)
    assert again == result
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())


def test_the_scale_grows_again_and_what_is_no_fault_of_it_counts_as_bad():
    state = State(mode=Mode("fp16", "channels-last"), loss_scale=2.0)
    bad, good = Verdict(good=False, norm=0.0, clipped=False), Verdict(good=True, norm=1.0, clipped=False)
    state.count(bad)
    assert (state.loss_scale, state.streak, state.skipped) == (1.0, 0, 0)
    state.count(bad)
    assert (state.loss_scale, state.streak, state.skipped) == (1.0, 1, 1)
    for _ in range(SCALE_GROWS_AFTER):
        state.count(good)
    assert (state.loss_scale, state.scaled, state.streak, state.step) == (2.0, 0, 0, SCALE_GROWS_AFTER + 2)


@pytest.mark.parametrize(
    ("capability", "bf16", "expected"),
    [((6, 1), False, None), ((7, 5), False, "fp16"), ((9, 0), True, "bf16")],
)
def test_gpus_without_bf16_take_fp16(
    capability: tuple[int, int], bf16: bool, expected: str | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bf16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert half_precision(torch.device("cuda")) == expected


@pytest.mark.slow
def test_compiled_steps_are_those_of_the_network_itself(tmp_path: Path):
    plain, expected = train(tmp_path / "plain")
    network, result = train(tmp_path / "compiled", replace(PARAMS, compile="default"))
    assert list(network.state_dict()) == list(plain.state_dict())
    losses = [dict(values(tmp_path / name, "train/loss")) for name in ("plain", "compiled")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert result.scores == pytest.approx(expected.scores, abs=0.05)


@pytest.mark.slow
def test_a_machine_that_cannot_compile_is_told_of(tmp_path: Path):
    code = (
        "from torch import nn; from temper.engine.compiling import compiled; "
        "compiled(nn.Linear(1, 1), 'default')"
    )
    environment = {**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert re.match(r"ValueError: fit\.compile = 'default': .*cpu.*`apt install g\+\+`.*none", last), (
        done.stderr
    )

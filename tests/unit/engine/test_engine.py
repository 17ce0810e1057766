import json
from pathlib import Path

import pytest
import torch
from torch import nn

from temper.engine.calibration import fit_temperature
from temper.engine.checkpoints import Checkpoint, Checkpoints
from temper.engine.journal import Journal, read, write_curves
from temper.engine.optimizers import WeightAverage, build_optimizer, learning_rate
from temper.engine.params import FitParams
from temper.engine.precision import MODES, Mode, allowed_modes, choose_mode, prefer
from temper.engine.ranks import count_ranks
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


def test_a_checkpoint_comes_back_as_it_was_and_two_are_kept(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load() is None
    for step in (1, 2, 3):
        checkpoints.save(Checkpoint(step, {"best": step}, {"w": torch.full((2,), float(step))}))
    found = checkpoints.load()
    assert found is not None and (found.step, found.state) == (3, {"best": 3})
    assert found.tensors["w"].tolist() == [3, 3]
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(Checkpoint(step, {}, {"w": torch.full((2,), float(step))}))
    newest = tmp_path / "step-000000002.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    found = checkpoints.load()
    assert found is not None and found.step == 1
    assert "step-000000002.safetensors is damaged" in capsys.readouterr().err


def test_a_resumed_journal_has_no_gap_and_no_double_step(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for step in (1, 2, 3):
        journal.write(step, step / 10, {"train/loss": 1.0 / step, "speed/images_per_s": 5.0})
    with path.open("a") as stream:
        stream.write('{"step": 4, "ep')
    resumed = Journal(path, step=2)
    resumed.write(3, 0.3, {"train/loss": 0.5})
    assert [entry["step"] for entry in read(path)] == [1, 2, 3]
    write_curves(path, tmp_path / "curves.csv")
    assert (tmp_path / "curves.csv").read_text().splitlines() == [
        "step,epoch,name,value",
        "1,0.1,train/loss,1.0",
        "2,0.2,train/loss,0.5",
        "3,0.3,train/loss,0.5",
    ]
    assert all(entry["time"] > 0 for entry in map(json.loads, path.read_text().splitlines()))


def test_bf16_and_odd_layouts_are_taken_only_where_they_are_clearly_faster():
    plain, last = Mode("fp32", "contiguous"), Mode("fp32", "channels-last")
    half, half_last = Mode("bf16", "contiguous"), Mode("bf16", "channels-last")
    assert prefer({last: 1.0, plain: 0.9, half_last: 0.85, half: 0.86}) == last
    assert prefer({last: 1.0, plain: 0.7, half_last: 0.9, half: 0.9}) == plain
    assert prefer({last: 1.0, plain: 0.9, half_last: 0.41, half: 0.4}) == half_last
    assert prefer({plain: 1.0, half: 2.0}) == plain


def test_the_mode_is_tried_on_the_real_network_and_leaves_it_as_it_was():
    toy = TOYS["multiclass"]
    inputs, targets = toy.batch()
    network = toy.network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batch = Batch(inputs, targets, torch.ones(16))

    def objective(network: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        return {"loss": toy.problem.loss(network(batch.inputs), batch.targets).mean()}

    mode, seconds = choose_mode(network, objective, batch, FIT, torch.device("cpu"))
    assert mode in MODES and seconds
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    fixed = FitParams(epochs=1, batch_size=8, lr=1.0, precision="fp32", layout="contiguous")
    assert allowed_modes(fixed) == [Mode("fp32", "contiguous")]


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

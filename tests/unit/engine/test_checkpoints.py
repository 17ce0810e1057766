"""Checkpoints are either complete or ignored, whatever happens to them; and the journal inside them."""

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from temper.artifacts import explain
from temper.engine import checkpoints as module
from temper.engine.checkpoints import Checkpoint, Checkpoints
from temper.engine.metrics_log import Journal, read, write_curves


def checkpoint(step: int, turn: int = 0, good: bool = False, journal: str = "") -> Checkpoint:
    weights = {"w": torch.full((2,), float(step))}
    return Checkpoint(step, {"best": step}, weights, journal, epoch=step // 10, turn=turn, good=good)


def found(checkpoints: Checkpoints, good: bool = False) -> Checkpoint | None:
    path = checkpoints.newest(good=good)
    return None if path is None else checkpoints.load(path)


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name.split("-")[3]) for path in folder.iterdir())


def test_a_checkpoint_comes_back_as_it_was_and_two_are_kept(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.newest() is None
    for step in (1, 2, 3):
        checkpoints.save(checkpoint(step, journal='{"step": 1}\n'))
    again = found(checkpoints)
    assert again is not None and (again.step, again.state, again.journal) == (3, {"best": 3}, '{"step": 1}\n')
    assert again.tensors.keys() == {"w"} and again.tensors["w"].tolist() == [3, 3]
    assert steps(tmp_path) == [2, 3]
    assert load_file(next(tmp_path.glob("*step-000000003*")))["w"].tolist() == [3, 3]


def test_the_newest_one_to_go_back_to_is_kept_besides(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path)
    for step in (0, 10, 12, 14, 16):
        checkpoints.save(checkpoint(step, good=step % 10 == 0))
    assert steps(tmp_path) == [10, 14, 16]
    back = found(checkpoints, good=True)
    assert back is not None and (back.step, back.good) == (10, True)
    # A checkpoint of a later turn is newer than the abandoned ones.
    checkpoints.save(checkpoint(10, turn=1, good=True))
    again = found(checkpoints)
    assert again is not None and (again.step, again.turn) == (10, 1)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(b'{"step": ' * 20)


@pytest.mark.parametrize("damage", [cut, flip, empty, garbage])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None]
):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(checkpoint(step))
    newest, before = checkpoints.newest(), next(tmp_path.glob("*step-000000001*"))
    assert newest is not None
    damage(newest)
    assert checkpoints.newest() == before
    said = capsys.readouterr().err
    assert re.search(r"step-000000002\S* is damaged .*SHA-256.*previous", said)
    damage(before)
    assert checkpoints.newest() is None
    assert "step-000000001" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_at_all_is_damaged_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(checkpoint(1))
    content = b"sound checksum, no safetensors"
    name = f"turn-0-step-000000002-epoch-0000-{module.hashlib.sha256(content).hexdigest()}.safetensors"
    (tmp_path / name).write_bytes(content)
    again = found(checkpoints)
    assert again is not None and again.step == 1
    assert "is damaged" in capsys.readouterr().err


def test_half_written_and_foreign_files_do_not_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(checkpoint(1))
    (tmp_path / ".turn-0.safetensors.123").write_bytes(b"half")
    (tmp_path / "micro-batch.json").write_text("{}")
    again = found(checkpoints)
    assert again is not None and again.step == 1
    assert not (tmp_path / ".turn-0.safetensors.123").exists() and (tmp_path / "micro-batch.json").exists()
    assert capsys.readouterr().err == ""


def test_a_full_disk_names_the_file_and_leaves_the_ones_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(checkpoint(1))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space") as raised:
            checkpoints.save(checkpoint(2))
    assert "no space left on the disk at" in explain(raised.value) and "step-000000002" in explain(
        raised.value
    )
    again = found(checkpoints)
    assert again is not None and again.step == 1
    assert steps(tmp_path) == [1]


def test_a_restarted_journal_has_no_gap_and_no_double_step(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for step in (1, 2):
        journal.write(step, step / 10, {"train/loss": 1.0 / step, "speed/images_per_s": 5.0})
    kept = journal.text
    journal.write(3, 0.3, {"train/loss": 1 / 3})
    with path.open("a") as stream:
        stream.write('{"step": 4, "ep')
    assert [entry["step"] for entry in read(path)] == [1, 2, 3]
    path.unlink()
    resumed = Journal(path, kept)
    resumed.write(3, 0.3, {"train/loss": 0.5})
    assert [entry["step"] for entry in read(path)] == [1, 2, 3]
    write_curves(resumed.entries, tmp_path / "curves.csv")
    assert (tmp_path / "curves.csv").read_text().splitlines() == [
        "step,epoch,name,value",
        "1,0.1,train/loss,1.0",
        "2,0.2,train/loss,0.5",
        "3,0.3,train/loss,0.5",
    ]
    assert all(entry["time"] > 0 for entry in map(json.loads, path.read_text().splitlines()))

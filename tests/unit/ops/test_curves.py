"""Curves are sent live, completely, and no step twice."""

import json
import time
from pathlib import Path

import pytest

from temper.ops.mlflow.curves import Curve, Point, Tail, follow


def line(step: int, value: float = 0.5) -> str:
    return json.dumps({"step": step, "epoch": 0.1, "values": {"train/loss": value}, "time": 1.5}) + "\n"


def write(path: Path, *steps: int, mode: str = "a") -> None:
    with path.open(mode) as stream:
        stream.write("".join(line(step) for step in steps))


def steps(points: list[Point]) -> list[int]:
    return [point.step for point in points]


def test_only_what_was_added_is_read(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    tail = Tail(path)
    assert tail.read() == []
    write(path, 1, 2)
    assert tail.read() == [Point("train/loss", 1, 0.5, 1500), Point("train/loss", 2, 0.5, 1500)]
    assert tail.read() == []
    with path.open("a") as stream:
        stream.write(line(3) + line(4)[:20])
    assert steps(tail.read()) == [3]
    with path.open("a") as stream:
        stream.write(line(4)[20:])
    assert steps(tail.read()) == [4]


def test_a_journal_left_by_an_earlier_run_is_silent_until_it_changes(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    write(path, 1, 2, 3)
    tail = Tail(path)
    assert tail.read() == []
    write(path, 1, 2, mode="w")  # resumed from step 2: truncated ...
    write(path, 3)  # ... and continued
    assert steps(tail.read()) == [1, 2, 3]


def test_a_restarted_journal_gives_no_step_twice(tmp_path: Path):
    path, sent = tmp_path / "journal.jsonl", []
    curve, tail = Curve(sent.extend), Tail(path)
    write(path, 1, 2, 3, 4, 5, 6)
    curve.add(tail.read())
    write(path, 1, 2, 3, mode="w")
    curve.add(tail.read())
    write(path, 4, 5, 6, 7)
    curve.add(tail.read())
    assert steps(sent) == [1, 2, 3, 4, 5, 6, 7]


def test_following_sends_the_rest_at_the_end(tmp_path: Path):
    path, sent = tmp_path / "journal.jsonl", []
    with follow(path, sent.extend):
        write(path, 1)
        until = time.monotonic() + 10
        while not sent and time.monotonic() < until:
            time.sleep(0.05)
        assert steps(sent) == [1]
        write(path, 2, 3)
    assert steps(sent) == [1, 2, 3]


def test_a_failure_to_send_does_not_disturb_the_training(tmp_path: Path):
    path, done = tmp_path / "journal.jsonl", []

    def refuse(points: list[Point]) -> None:
        raise ValueError("database is locked")

    def train(step: int) -> None:
        with follow(path, refuse):
            write(path, step)
            time.sleep(1.2)
            done.append("trained to the end")

    with pytest.raises(ValueError, match="locked"):
        train(1)
    assert done


def test_the_bodys_own_error_comes_first(tmp_path: Path):
    def refuse(points: list[Point]) -> None:
        raise ValueError("database is locked")

    def fail() -> None:
        with follow(tmp_path / "journal.jsonl", refuse):
            write(tmp_path / "journal.jsonl", 1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()

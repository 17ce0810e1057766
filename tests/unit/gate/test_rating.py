"""Writing and reading of ratings, and the slices that rules name."""

from pathlib import Path

import numpy as np
import pytest

from temper.gate.rating import CellKey, read_rating, write_rating
from temper.gate.slices import Slice
from tests.unit.gate.toy_ratings import rating

STRESS = {
    ("noise", "gaussian noise", 1): 0.8,
    ("noise", "gaussian noise", 2): 0.6,
    ("occlusion", "patch", 1): 0.7,
}


def test_what_is_written_is_read_and_twice_the_same(tmp_path: Path):
    made = rating("a" * 64, 0.9, stress=STRESS)
    for name in ("one", "two"):
        write_rating(tmp_path / name, made)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    found = read_rating(tmp_path / "one")
    assert (found.model, found.question, found.cells, found.costs) == (
        made.model,
        made.question,
        made.cells,
        made.costs,
    )
    for name in ("values", "samples", "alone"):
        assert np.array_equal(getattr(found, name), getattr(made, name))


@pytest.mark.parametrize("content", [b"", b"\x00" * 40, b"{}"])
def test_a_damaged_rating_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "rating"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"rating is missing or .*; delete it"):
        read_rating(path)


def test_a_cut_rating_is_named(tmp_path: Path):
    path = tmp_path / "rating"
    write_rating(path, rating("a", 0.9))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"rating is missing or .*; delete it"):
        read_rating(path)


@pytest.mark.parametrize(
    ("on", "wanted"),
    [
        (Slice(), [("clean", 0)]),
        (Slice(stratum="shirt"), [("shirt", 0)]),
        (Slice(family="noise"), [("mean", None)]),
        (Slice(condition="gaussian noise"), [("gaussian noise", 1), ("gaussian noise", 2)]),
        (Slice(condition="gaussian noise", severity=2), [("gaussian noise", 2)]),
        (Slice(each=True), [("gaussian noise", 1), ("gaussian noise", 2), ("patch", 1)]),
        (Slice(each=True, family="occlusion"), [("patch", 1)]),
        (Slice(each=True, severity=1), [("gaussian noise", 1), ("patch", 1)]),
        (Slice(stratum="hat"), []),
        (Slice(condition="fog"), []),
    ],
)
def test_slices(on: Slice, wanted: list[tuple[str, int | None]]):
    made = rating("a", 0.9, stress=STRESS)
    found: list[CellKey] = [made.cells[number] for number in made.find("accuracy", on)]
    assert [(cell.condition, cell.severity) for cell in found] == wanted
    assert made.find("f1", on) == []

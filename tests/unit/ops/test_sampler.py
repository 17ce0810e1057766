"""The images that the server stores for the drift check: a share of them, each once, up to a size."""

from pathlib import Path

import pytest

from temper.ops import serve
from temper.ops.serve import Sampler

IMAGES = [bytes([number]) * 100 for number in range(50)]


def held(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in folder.iterdir())


def test_all_are_kept_once(tmp_path: Path):
    sampler = Sampler(tmp_path / "inbox", share=1.0, most_bytes=1e6)
    sampler(IMAGES)
    sampler(IMAGES[:7])
    assert held(tmp_path / "inbox") == IMAGES


def test_a_share_is_kept(tmp_path: Path):
    sampler = Sampler(tmp_path, share=0.5, most_bytes=1e6)
    sampler([number.to_bytes(2, "big") for number in range(2000)])
    assert 850 < len(held(tmp_path)) < 1150


def test_the_folder_does_not_grow_beyond_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "before").write_bytes(bytes(300))
    sampler = Sampler(tmp_path, share=1.0, most_bytes=1000)
    sampler(IMAGES)
    assert len(held(tmp_path)) == 1 + 7
    for path in tmp_path.iterdir():
        path.unlink()
    monkeypatch.setattr(serve, "_RECOUNT_S", -1.0)  # a minute later
    sampler(IMAGES)
    assert len(held(tmp_path)) == 10, "the folder was emptied, so there is room again"


def test_a_folder_that_was_taken_away_stops_nothing(tmp_path: Path):
    sampler = Sampler(tmp_path / "inbox", share=1.0, most_bytes=1000)
    (tmp_path / "inbox").rmdir()
    sampler(IMAGES)

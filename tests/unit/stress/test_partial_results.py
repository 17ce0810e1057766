"""A killed evaluation continues where it stopped, with the result of an undisturbed one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from temper.problems.multiclass import Multiclass
from temper.stress.evaluation import Evaluation, evaluate
from temper.stress.params import EvaluateParams
from tests.toy import pool_of

PROBLEM = Multiclass(kind="multiclass", classes=("dark", "light"))
PARAMS = EvaluateParams(stress_images=20, bootstrap=20, batch_size=8, families=("noise",))
BATCHES = 4 + 2 * 5 * 3
"""Batches of 30 clean images, and of 20 images under two conditions at five severities."""


class Killed(Exception):
    pass


class ByMean:
    """Answers `light` with the mean brightness as its probability; is killed after some batches."""

    def __init__(self, lives: int = 1_000) -> None:
        self.calls, self.lives = 0, lives

    def __call__(self, given: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
        if self.calls == self.lives:
            raise Killed
        self.calls += 1
        light = torch.from_numpy(given["image"].mean(axis=(1, 2, 3)) / 255).float()
        return {"probabilities": torch.stack([1 - light, light], dim=1)}


def measure(candidate: ByMean, folder: Path | None) -> Evaluation:
    rng = np.random.default_rng(0)
    label = np.arange(30) % 2
    images = rng.integers(0, 130, (30, 8, 8, 1)) + 60 * label[:, None, None, None]
    strata = [frozenset({PROBLEM.classes[number]}) for number in label]
    return evaluate(
        PROBLEM,
        {"first": candidate, "second": candidate},
        pool_of(images.astype(np.uint8)),
        targets={"label": torch.from_numpy(label)},
        strata=strata,
        params=PARAMS,
        seed=0,
        checkpoints=folder,
    )


def assert_equal(found: Evaluation, expected: Evaluation) -> None:
    assert len(found.cells) == len(expected.cells)
    for one, other in zip(found.cells, expected.cells, strict=True):
        what = [
            (cell.candidate, cell.family, cell.condition, cell.severity, cell.images) for cell in (one, other)
        ]
        assert what[0] == what[1]
        assert list(one.values.items()) == list(other.values.items())
        assert list(one.samples) == list(other.samples)
        assert all(torch.equal(one.samples[name], other.samples[name]) for name in one.samples)
        assert all(one.samples[name].dtype == other.samples[name].dtype for name in one.samples)
    for name in expected.errors:
        for kind, errors in expected.errors[name].items():
            assert torch.equal(found.errors[name][kind], errors)
        assert torch.equal(found.confusions[name], expected.confusions[name])
        assert found.confusions[name].dtype == expected.confusions[name].dtype


@pytest.fixture(scope="module")
def undisturbed() -> Evaluation:
    candidate = ByMean()
    found = measure(candidate, None)
    assert candidate.calls == 2 * BATCHES
    return found


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write after every batch."""
    monkeypatch.setattr("temper.stress.partial_results._EVERY_S", 0.0)
    monkeypatch.setattr("temper.stress.partial_results._LONGEST_S", 0.0)


@pytest.mark.parametrize("batches", [0, 1, 3, 4, 5, 7, 20, BATCHES - 1])
def test_a_killed_evaluation_goes_on_without_repeating_a_batch(
    batches: int, undisturbed: Evaluation, at_once: None, tmp_path: Path
):
    with pytest.raises(Killed):
        measure(ByMean(lives=2 * batches + 1), tmp_path / "pieces")
    again = ByMean()
    assert_equal(measure(again, tmp_path / "pieces"), undisturbed)
    assert again.calls == 2 * (BATCHES - batches)


def test_killed_again_and_again(undisturbed: Evaluation, at_once: None, tmp_path: Path):
    calls = 0
    for _ in range(6):
        candidate = ByMean(lives=11)
        with pytest.raises(Killed):
            measure(candidate, tmp_path)
        calls += candidate.calls
    candidate = ByMean()
    assert_equal(measure(candidate, tmp_path), undisturbed)
    # Each kill hit between the two candidates of a batch.
    assert calls + candidate.calls == 2 * BATCHES + 6
    assert measure(ByMean(lives=0), tmp_path).cells


def test_batches_of_finished_pieces_do_not_stay_on_disk(at_once: None, tmp_path: Path):
    measure(ByMean(), tmp_path)
    # At most one file per piece, and the file of the last write.
    assert len(list(tmp_path.iterdir())) <= 11


def test_little_work_is_written_once(undisturbed: Evaluation, tmp_path: Path):
    assert_equal(measure(ByMean(), tmp_path), undisturbed)
    assert len(list(tmp_path.iterdir())) == 1
    again = ByMean(lives=0)
    assert_equal(measure(again, tmp_path), undisturbed)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_file_is_named_and_measured_again(
    damage: str, undisturbed: Evaluation, at_once: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(Killed):
        measure(ByMean(lives=2 * 20 + 1), tmp_path)
    files = sorted(tmp_path.iterdir())
    spoilt = files[len(files) // 2]
    content = bytearray(spoilt.read_bytes())
    content[len(content) // 2] ^= 1
    spoilt.write_bytes({"flip": bytes(content), "cut": bytes(content[:40]), "empty": b""}[damage])
    again = ByMean()
    assert_equal(measure(again, tmp_path), undisturbed)
    said = capsys.readouterr().err
    assert str(spoilt) in said and "is damaged" in said and "measured again" in said
    assert 2 * (BATCHES - 20) < again.calls < 2 * BATCHES


def test_another_folder_starts_from_nothing(at_once: None, tmp_path: Path):
    with pytest.raises(Killed):
        measure(ByMean(lives=21), tmp_path / "one")
    candidate = ByMean()
    measure(candidate, tmp_path / "other")
    assert candidate.calls == 2 * BATCHES


def test_a_failed_write_leaves_no_part_and_is_an_error_of_the_disk(
    at_once: None, undisturbed: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            measure(ByMean(), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert_equal(measure(ByMean(), tmp_path), undisturbed)

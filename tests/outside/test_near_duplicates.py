"""Resized, re-encoded and brightened copies of images, which leak from training into test."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from temper.data.dataset.near_duplicates import find_pairs, group, to_cosines
from tests.outside.files import set_lines
from tests.project import make_project, run_until

COPIES = 20


def photograph(seed: int, side: int = 96) -> Image.Image:
    """Return a picture with content of all sizes, as photographs have."""
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8)).resize(
                (side, side), Image.Resampling.BICUBIC
            ),
            np.float32,
        )
        for size in (3, 6, 12, 24)
    ]
    return Image.fromarray(np.average(layers, axis=0, weights=[8, 4, 2, 1]).astype(np.uint8))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two classes of photographs, half of the first with a smaller copy as JPEG."""
    project = make_project(tmp_path / "project", "multiclass")
    prepare = "{height_px: 32, width_px: 32, validation_share: 0.2, test_share: 0.25}"
    set_lines(project, ingest="{source: imagefolder, folder: images}", prepare=prepare)
    for number in range(80):
        folder = project / "images" / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        photograph(number).save(folder / f"{number}.png")
        if number < 2 * COPIES and number % 2 == 0:
            photograph(number).resize((64, 64)).save(folder / f"small-{number}.jpg", quality=80)
    return project


def pairs_of(project: Path) -> list[dict[str, str]]:
    with (project / "artifacts" / "prepare" / "near_duplicates.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_copies_in_two_splits_are_reported(project: Path, capsys: pytest.CaptureFixture[str]):
    run_until(project, "prepare")
    pairs = pairs_of(project)
    assert {(pair["id"], pair["other_id"]) for pair in pairs} == {
        (f"cat/{number}.png", f"cat/small-{number}.jpg") for number in range(0, 2 * COPIES, 2)
    }
    across = [pair for pair in pairs if pair["split"] != pair["other_split"]]
    assert across
    said = f"prepare: noticed: {len(across)} images are nearly equal to one in another split"
    assert said in capsys.readouterr().err
    assert "nearly equal" in (project / "artifacts" / "prepare" / "report.html").read_text()


def test_copies_can_be_kept_in_one_split(project: Path, capsys: pytest.CaptureFixture[str]):
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("prepare: {", "prepare: {near_duplicates: group, "))
    run_until(project, "prepare")
    pairs = pairs_of(project)
    assert len(pairs) == COPIES and all(pair["split"] == pair["other_split"] for pair in pairs)
    assert {pair["split"] for pair in pairs} == {"train", "validation", "test"}
    assert "nearly equal" not in capsys.readouterr().err


def test_copies_of_an_official_test_image_are_dropped(project: Path):
    images = project / "images"
    for name in ("train", "test"):
        (images / name).mkdir()
    for name in ("cat", "dog"):
        (images / name).rename(images / "train" / name)
        (images / "test" / name).mkdir()
        for path in sorted((images / "train" / name).glob("[0-9]*.png"))[:10]:
            path.rename(images / "test" / name / path.name)
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("prepare: {", "prepare: {near_duplicates: group, "))
    run_until(project, "prepare")
    moved = [pair for pair in pairs_of(project) if "test" in (pair["split"], pair["other_split"])]
    assert moved and all("dropped" in (pair["split"], pair["other_split"]) for pair in moved)
    dropped = (project / "artifacts" / "prepare" / "dropped.csv").read_text()
    assert dropped.count("nearly the same image is in the test split") == len(moved)


def test_a_copy_of_another_class_is_named(project: Path, capsys: pytest.CaptureFixture[str]):
    photograph(0).resize((60, 60)).save(project / "images" / "dog" / "0.png")
    run_until(project, "prepare")
    assert "images are nearly equal to one of another class" in capsys.readouterr().err


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_images_and_blank_ones(count: int):
    assert not len(find_pairs(to_cosines(np.zeros((count, 8, 8, 1), np.uint8))[:1]))
    assert find_pairs(to_cosines(np.zeros((count, 8, 8, 1), np.uint8))).shape[1] == 2


def test_all_images_may_be_copies_of_each_other():
    one = np.asarray(photograph(1, 32))[None].repeat(500, axis=0)
    noise = np.random.default_rng(0).integers(0, 2, one.shape, np.uint8)
    others = np.stack([np.asarray(photograph(seed, 32)) for seed in range(2, 502)])
    pairs = find_pairs(to_cosines(np.concatenate([np.minimum(one, 253) + noise, others])))
    assert pairs.max() < 500 and len(np.unique(pairs)) == 500


def test_a_view_that_all_images_share_does_not_make_them_equal():
    view = np.asarray(photograph(1, 32)).astype(np.int64)
    details = np.stack([np.asarray(photograph(seed, 32)) for seed in range(2, 202)]).astype(np.int64)
    images = (view * 0.9 + details * 0.1).astype(np.uint8)
    assert not len(find_pairs(to_cosines(images)))


@pytest.mark.parametrize(
    ("splits", "groups", "drawn", "expected"),
    [
        ([None, None, None], [None] * 3, {"test", "validation"}, ([None] * 3, {}, 1)),
        (["test", None, None], [None] * 3, {"test", "validation"}, (["test"] * 3, {}, 0)),
        (["test", None, None], [None] * 3, {"validation"}, (["test", None, None], {1}, 1)),
        (["test", "train", None], [None] * 3, {"test", "validation"}, (["test", "train", "test"], {1}, 0)),
        (["train", None, None], [None] * 3, {"test", "validation"}, (["train"] * 3, {}, 0)),
        ([None, None, None], ["a", None, "b"], {"test"}, ([None] * 3, {}, 1)),
    ],
)
def test_chains_of_copies(splits, groups, drawn, expected):
    """0 is nearly equal to 1, and 1 to 2."""
    found = group(np.array([[0, 1], [1, 2]]), splits, groups, drawn=drawn)
    names = {name for name, split in zip(found.groups, found.splits, strict=True) if split is None}
    assert (found.splits, {*found.dropped}, len(names)) == (expected[0], {*expected[1]}, expected[2])


def test_images_that_differ_in_colour_only_are_not_nearly_equal():
    one = np.stack([np.asarray(photograph(seed, 32)) for seed in range(50)])
    assert not len(find_pairs(to_cosines(np.concatenate([one, one[..., [1, 0, 2]]]))))


def test_an_image_of_one_colour_with_a_little_noise_does_not_make_others_equal():
    photographs = np.stack([np.asarray(photograph(seed, 64)) for seed in range(50)])
    noise = np.random.default_rng(0).integers(0, 2, (1, 64, 64, 3), np.uint8)
    red = np.array([255, 0, 0], np.uint8) - noise.clip(0, 1) * np.array([1, 0, 0], np.uint8)
    found = to_cosines(np.concatenate([photographs, red]))
    assert np.isfinite(found).all() and not len(find_pairs(found))

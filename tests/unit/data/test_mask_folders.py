"""Masks in folders of their own or beside their images: pairs, splits, and what is wrong in such folders."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from temper.data.source_params import Masks
from temper.data.sources import LISTED
from temper.data.sources.listing import Listing
from temper.data.sources.mask_layout import find_pairs
from tests.project import ROOT

MEMBRANE = ROOT.parent / "shared" / "data" / "membrane"


def write(folder: Path, *names: str) -> Path:
    """Write files with the endings of images, each with another content."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def listed(folder: Path, **settings: str) -> Listing:
    return LISTED["masks"](Masks(source="masks", folder=str(folder), **settings), Path())  # type: ignore[arg-type]


def pairs(listing: Listing) -> dict[str, str]:
    return {row.id: str(row.mask).partition("/")[2] for row in listing.rows}


def said(listing: Listing) -> str:
    return "\n".join(map(str, listing.remarks))


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/1.png", "masks/1.png"),
        ("image/1.png", "label/1.png"),
        ("Images/a/1.jpg", "GroundTruth/a/1.png"),
        ("train/images/1.png", "train/masks/1.png"),
        ("images/train/1.png", "masks/train/1.png"),
        ("train_images/a/1.png", "train_masks/a/1.png"),
        ("1.png", "masks/1.png"),
        ("images/img_001.png", "masks/img_001_mask.png"),
        ("images/001.jpg", "masks/001_mask.gif"),
        ("images/1.jpg", "masks/1.jpg.png"),
        ("images/image_1.png", "masks/mask_1.png"),
        ("a/x.png", "a/x_mask.png"),
        ("images/x.png", "images/x-seg.png"),
        ("case 1/image.png", "case 1/mask.png"),
        ("a/img_7.png", "a/label_7.png"),
        ("images/Cafe\u0301.png", "masks/Caf\u00e9.png"),
    ],
)
def test_masks_are_found_by_folders_and_names(image: str, mask: str):
    assert find_pairs([image, mask]).pairs == [(image, mask)]
    assert find_pairs([mask, image]).pairs == [(image, mask)]


def test_subfolders_are_kept_apart(tmp_path: Path):
    write(tmp_path, "images/a/1.png", "images/b/1.png", "masks/a/1.png", "masks/b/1.png", "masks/c/1.png")
    listing = listed(tmp_path)
    assert pairs(listing) == {"images/a/1.png": "masks/a/1.png", "images/b/1.png": "masks/b/1.png"}
    assert "left out: 1 masks have no image: masks/c/1.png" in said(listing)
    assert "guessed: 2 folders hold images, or masks, by their names" in said(listing)
    assert listing.find("masks/a/1.png").is_file() and len(listing.names) == 4


def test_folders_with_other_names_can_be_named(tmp_path: Path):
    write(tmp_path, "raw/a/1.png", "drawn/fine/a/1.png", "drawn/coarse/a/1.png", "notes/2.png")
    with pytest.raises(ValueError, match=r"holds 4 images, but no masks by their names: .*ingest\.masks"):
        listed(tmp_path)
    listing = listed(tmp_path, images="raw", masks="drawn/fine")
    assert pairs(listing) == {"raw/a/1.png": "drawn/fine/a/1.png"}
    assert "2 files lie neither among images nor among masks: drawn/coarse/a/1.png" in said(listing)
    with pytest.raises(ValueError, match=r"ingest.masks = 'fin': no folder .* drawn, .*drawn/fine"):
        listed(tmp_path, images="raw", masks="fin")


def test_two_folders_that_may_hold_the_masks_are_named(tmp_path: Path):
    write(tmp_path, "JPEGImages/1.jpg", "SegmentationClass/1.png", "SegmentationObject/1.png")
    with pytest.raises(
        ValueError, match=r"SegmentationClass and SegmentationObject may both hold the masks.*ingest.masks"
    ):
        listed(tmp_path)
    assert len(listed(tmp_path, masks="SegmentationClass").rows) == 1


def test_folders_of_splits_are_splits(tmp_path: Path):
    for split in ("Training", "val"):
        write(tmp_path, f"{split}/images/1.png", f"{split}/masks/1.png")
    write(tmp_path, "more/images/2.png", "more/masks/2.png", "test/images/3.png")
    listing = listed(tmp_path)
    assert {row.id: row.split for row in listing.rows} == {
        "Training/images/1.png": "train",
        "val/images/1.png": "validation",
        "more/images/2.png": None,
    }
    assert "folders are the splits train, validation; ingest.splits: none" in said(listing)
    assert "noticed: 1 images are in no folder of a split, and are trained with: more" in said(listing)
    assert "left out: 1 images have no mask: test/images/3.png" in said(listing)
    assert {row.split for row in listed(tmp_path, splits="none").rows} == {None}
    for path in (tmp_path / "Training").rglob("*.png"):
        path.unlink()
    with pytest.raises(ValueError, match=r"has images for validation, but none for train; add a folder"):
        listed(tmp_path)


def test_files_without_a_counterpart_and_with_several_are_left_out_and_named(tmp_path: Path):
    write(tmp_path, *(f"{folder}/{stem}.png" for folder in ("images", "masks") for stem in "abc"))
    write(tmp_path, "images/only.png", "masks/alone.png", "masks/a.gif", "images/b.jpg", "masks/notes.npy")
    listing = listed(tmp_path)
    assert pairs(listing) == {"images/c.png": "masks/c.png"}
    assert "left out: 1 images have no mask: images/only.png" in said(listing)
    assert "left out: 1 masks have no image: masks/alone.png" in said(listing)
    assert "left out: 2 images have several masks, or the name of another image" in said(listing)
    assert "images/a.png = masks/a.gif = masks/a.png" in said(listing)
    assert "left out: 1 files have no ending of an image: masks/notes.npy" in said(listing)
    (tmp_path / "masks" / "c.png").unlink()
    with pytest.raises(ValueError, match=r"each image with a mask has several.* keep one mask"):
        listed(tmp_path)


def test_names_that_only_resemble_are_said(tmp_path: Path):
    write(tmp_path, "images/image_1.png", "masks/label-1.png")
    assert "guessed: 1 masks only resemble their images in name" in said(listed(tmp_path))


def test_masks_that_are_the_images_are_refused(tmp_path: Path):
    write(tmp_path, "images/1.png", "masks/1.png")
    (tmp_path / "masks" / "1.png").write_bytes((tmp_path / "images" / "1.png").read_bytes())
    with pytest.raises(ValueError, match=r"the masks are the images themselves: .*masks/1.png is equal to"):
        listed(tmp_path)
    with pytest.raises(ValueError, match=r"no masks by their names"):
        listed(tmp_path, images="images", masks="images")


def test_a_folder_without_pairs_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"does not exist; name the folder that holds the images and their"):
        listed(tmp_path / "gone")
    write(tmp_path, "images/1.png", "masks/2.png")
    with pytest.raises(
        ValueError, match=r"none of the 1 masks is called like .*masks/2.png and images/1.png"
    ):
        listed(tmp_path)


@pytest.mark.skipif(not MEMBRANE.is_dir(), reason="the slices are not part of the project")
def test_slices_of_membranes_are_read():
    listing = listed(MEMBRANE)
    assert len(listing.rows) == 30 and pairs(listing)["image/7.png"] == "label/7.png"
    mask = np.asarray(Image.open(listing.find("label/7.png")))
    assert set(np.unique(mask)) == {0, 255}
    assert "image/, label/" in said(listing) and "LICENSE" in said(listing)

"""Folders of masks beside folders of images, or masks beside images in one folder.

Images and masks are stored byte for byte in one archive. What the numbers or colours in masks mean is said by
`problem.classes` and `prepare.mask_values`.
"""

import filecmp
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from temper.data.images.zip_archive import NAME
from temper.data.remark import Remark, remark_on
from temper.data.source_params import Masks
from temper.data.sources.layout import open_folder
from temper.data.sources.listing import Listing
from temper.data.sources.litter import is_image
from temper.data.sources.mask_layout import Pairs, find_pairs
from temper.data.sources.walk import list_files
from temper.problem import Row


def list_rows(params: Masks, project: Path) -> Listing:
    """List the images with their masks; no image is read.

    Raises:
        ValueError: If a folder is missing, no image has a mask, the masks are the images themselves, or
            folders are splits but none is for training.
    """
    root = open_folder(params.folder, project, "name the folder that holds the images and their masks")
    walk = list_files(str(root))
    if walk.unnamed:
        raise ValueError(
            f"the name of '{root / walk.unnamed[0]}' contains characters that are not printable text; "
            f"rename the file ({len(walk.unnamed)} such names in all)"
        )
    names = [name for name in walk.files if is_image(name)]
    _require_folders(params, root, names)
    found = find_pairs(names, params.images, params.masks)
    if not found.pairs:
        raise ValueError(_explain_no_pairs(root, found))
    _refuse_images_as_masks(root, found.pairs)
    splits = found.splits if params.splits == "auto" else [None] * len(found.pairs)
    if any(splits) and "train" not in splits:
        raise ValueError(
            f"{root} has images for {' and '.join(sorted({*filter(None, splits)}))}, but none for train; add "
            "a folder train, or set ingest.splits: none"
        )
    rows = [
        Row(image, f"{NAME}/{image}", mask=f"{NAME}/{mask}", split=split)
        for (image, mask), split in zip(found.pairs, splits, strict=True)
    ]
    other = remark_on(
        "left out", "files have no ending of an image", [name for name in walk.files if not is_image(name)]
    )
    return Listing(
        rows,
        [name for pair in found.pairs for name in pair],
        partial(os.path.join, root),
        (*_remarks(found, splits), *other, *walk.remarks()),
    )


def _remarks(found: Pairs, splits: Sequence[str | None]) -> list[Remark]:
    """Return what was guessed and left out."""
    loose = [image for (image, _), split in zip(found.pairs, splits, strict=True) if split is None]
    used = sorted({split for split in splits if split})
    text = f"folders are the splits {', '.join(used)}; ingest.splits: none ignores their names"
    return [
        *remark_on(
            "guessed",
            "folders hold images, or masks, by their names; ingest.images and ingest.masks decide otherwise",
            found.folders,
        ),
        *([Remark("guessed", text)] if used else []),
        *remark_on("guessed", "masks only resemble their images in name; look at some pairs", found.unlike),
        *remark_on("left out", "images have no mask", found.without_mask),
        *remark_on("left out", "masks have no image", found.without_image),
        *remark_on(
            "left out",
            "images have several masks, or the name of another image, so which mask is right is not known",
            found.several,
        ),
        *remark_on("left out", "files lie neither among images nor among masks", found.elsewhere),
        *remark_on(
            "noticed", "images are in no folder of a split, and are trained with", loose if used else []
        ),
    ]


def _require_folders(params: Masks, root: Path, names: Sequence[str]) -> None:
    """Check that the folders exist that ingest.images and ingest.masks name.

    Raises:
        ValueError: Names the folders that there are.
    """
    folders = sorted({parent.as_posix() for name in names for parent in PurePosixPath(name).parents})
    for key, given in (("images", params.images), ("masks", params.masks)):
        if given is not None and not any(f"/{each}".endswith(f"/{PurePosixPath(given)}") for each in folders):
            listed = ", ".join(each for each in folders if each != ".") or "no folder"
            raise ValueError(
                f"ingest.{key} = {given!r}: no folder of this name in {root} holds images; it has {listed}"
            )


def _explain_no_pairs(root: Path, found: Pairs) -> str:
    """Return why no image has a mask."""
    if found.several:
        return (
            f"{root}: each image with a mask has several, or the name of another image ({found.several[0]}); "
            "keep one mask for each image"
        )
    if found.without_image:
        shown = (found.without_mask or ["no image"])[0]
        return (
            f"{root}: none of the {len(found.without_image)} masks is called like one of the "
            f"{len(found.without_mask)} images; the first ones are {found.without_image[0]} and {shown}; "
            "call them alike (images/a/1.png, masks/a/1.png), or write a table with the columns path and mask"
        )
    return (
        f"{root} holds {len(found.without_mask)} images, but no masks by their names: put them into the "
        "folders images/ and masks/, name their folders in ingest.images and ingest.masks, or call masks "
        "1_mask.png beside 1.png"
    )


def _refuse_images_as_masks(root: Path, pairs: Sequence[tuple[str, str]]) -> None:
    """Refuse masks that are copies of their images.

    Raises:
        ValueError: Names the first one.
    """
    if all(filecmp.cmp(root / image, root / mask, shallow=False) for image, mask in pairs):
        image, mask = pairs[0]
        raise ValueError(
            f"the masks are the images themselves: {root / mask} is equal to {root / image}, and so are all "
            "others; put the masks there"
        )

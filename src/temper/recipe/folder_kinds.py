"""What a folder is: each check in the table knows one form of dataset, and returns the source that reads it.

The first check that recognises the folder decides. A new source adds a function and a line to a table here.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from temper.data.source_params import ImageFolder, Masks
from temper.data.sources.litter import is_image
from temper.data.sources.mask_layout import find_pairs
from temper.data.sources.walk import list_files
from temper.recipe.annotated_folders import Recognised, find_coco, find_voc, find_yolo

_MASKS_SHARE = 0.5
"""Share of the images that must have a mask."""


def recognise(folder: Path) -> Recognised:
    """Return the source that reads a folder. Its path is absolute.

    Raises:
        ValueError: If the folder is of a form that cannot be read without a choice by the user.
    """
    found = [each for check in ANNOTATIONS if (each := check(folder)) is not None]
    if not found:
        return next(each for check in CHECKS if (each := check(folder)) is not None)
    others = "".join(f"; not read, though it is there: {each.why}" for each in found[1:])
    return replace(found[0], why=f"{found[0].why}{others}")


def _masks(folder: Path) -> Recognised | None:
    """Recognise images with masks, in folders of their own or side by side."""
    try:
        found = find_pairs(_images(folder))
    except ValueError as error:
        raise ValueError(
            f"{folder}: {error}, in a params.yaml of your own, or move the other one elsewhere"
        ) from error
    count = len(found.pairs)
    if not count or count <= _MASKS_SHARE * (count + len(found.without_mask) + len(found.several)):
        return None
    where = " and ".join(found.folders) if len(found.folders) > 1 else "beside them"
    if len(found.folders) == 1:
        where = f"in {found.folders[0]}"
    why = f"{count:,} images with masks ({where}): ingest.source: masks"
    return Recognised(Masks(source="masks", folder=str(folder.resolve())), why)


def _class_folders(folder: Path) -> Recognised:
    """Take a folder for class folders. Listing them says what is wrong if they are none."""
    return Recognised(ImageFolder(source="imagefolder", folder=str(folder.resolve())))


def _images(folder: Path) -> Iterator[str]:
    return (name for name in list_files(str(folder)).files if is_image(name))


Check = Callable[[Path], Recognised | None]
ANNOTATIONS: tuple[Check, ...] = (find_voc, find_coco, find_yolo)
"""Forms of annotations. The first one that a folder has is read, and the others are named."""
CHECKS: tuple[Check, ...] = (_masks, _class_folders)
"""What a folder without annotations may be, in the order in which it is asked. The last one never says no."""

"""What a folder is: each check in the table knows one form of dataset, and returns the source that reads it.

The first check that recognises the folder decides. A new source adds a function and a line here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from temper.data.source_params import AnySource, ImageFolder, Masks, Voc
from temper.data.sources.litter import is_image, is_litter
from temper.data.sources.mask_layout import find_pairs
from temper.data.sources.walk import list_files

_LOOKED_AT = 20
"""Number of .xml files whose beginning is read."""
_BEGINNING = 500
_MASKS_SHARE = 0.5
"""Share of the images that must have a mask."""


@dataclass(frozen=True)
class Recognised:
    """A folder whose form is known."""

    source: AnySource
    why: str = ""
    """What was found, as a line for the user; empty for class folders."""


def recognise(folder: Path) -> Recognised:
    """Return the source that reads a folder. Its path is absolute.

    Raises:
        ValueError: If the folder is of a form that cannot be read without a choice by the user.
    """
    return next(found for check in CHECKS if (found := check(folder)) is not None)


def _voc(folder: Path) -> Recognised | None:
    """Recognise .xml files that annotate images, as those of PASCAL VOC."""
    files = [path for path in folder.rglob("*.xml") if not is_litter(path.name)]
    if not any(_is_annotation(path) for path in islice(sorted(files), _LOOKED_AT)):
        return None
    why = f"{len(files):,} .xml files in the form of PASCAL VOC: boxes (ingest.source: voc)"
    return Recognised(Voc(source="voc", folder=str(folder.resolve())), why)


def _is_annotation(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return b"<annotation" in stream.read(_BEGINNING)
    except OSError:
        return False


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


CHECKS: tuple[Callable[[Path], Recognised | None], ...] = (_voc, _masks, _class_folders)
"""What a folder may be, in the order in which it is asked. The last one never says no."""

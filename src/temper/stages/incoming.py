"""Whether prepare can use a new image, and which class folder of the dataset it belongs to."""

from collections.abc import Iterable
from pathlib import Path

from temper.data.images.reading import Unreadable, unify
from temper.data.params import PrepareParams
from temper.data.sources.litter import is_litter
from temper.data.sources.split_names import split_of
from temper.data.sources.walk import list_files
from temper.problems.classes import merged_labels

__all__ = ["find_class", "is_litter", "is_torn", "list_files", "split_of", "why_unusable"]


def why_unusable(path: Path, params: PrepareParams) -> str | None:
    """Return why prepare could not read an image; None if it could."""
    try:
        unify(
            path.read_bytes(),
            height_px=params.height_px,
            width_px=params.width_px,
            fit=params.fit,
            max_pixels=params.max_pixels,
            max_side_px=params.max_side_px,
            levels="per-image",
        )
    except Unreadable as error:
        return str(error)
    return None


def find_class(name: str, known: Iterable[str]) -> str | None:
    """Return the class folder that a name means: the same, or the only one that differs in spelling."""
    folders = list(known)
    return name if name in folders else merged_labels(folders, [name]).get(name)


def is_torn(name: str, known: Iterable[str]) -> bool:
    """Return whether the folders of a file, `class/folder/file`, mean two classes.

    Example:
        >>> is_torn("cat/dog/1.png", ["cat", "dog"]), is_torn("cat/may/1.png", ["cat", "dog"])
        (True, False)
        >>> is_torn("train/dog/1.png", ["cat", "dog"]), is_torn("owl/1.png", ["cat", "dog"])
        (True, False)
    """
    folders, (first, *inner) = list(known), name.split("/")[:-1]
    return bool({find_class(each, folders) for each in inner} - {None, find_class(first, folders)})

"""Which file is the mask of which image: found by the names of folders and files.

Masks lie in a folder of their own, `masks/a/1.png` for `images/a/1.png`, above or below folders that are
splits, or beside their images, `1_mask.png` beside `1.png`.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from temper.data.sources.litter import is_image
from temper.data.sources.mask_names import (
    IMAGE_FOLDERS,
    TRUTH_FOLDERS,
    bare_name,
    image_of,
    is_mask_name,
    plain,
)
from temper.data.sources.split_names import split_of


@dataclass(frozen=True)
class _Place:
    """What the folders of a file say of it."""

    name: str
    is_mask: bool | None
    """None if no folder says so."""
    folder: str
    """The folder that says it."""
    parts: tuple[str, ...]
    """The other folders, which an image and its mask have in common."""

    @property
    def stem(self) -> str:
        return unicodedata.normalize("NFC", PurePosixPath(self.name).stem)

    def key(self, stem: str) -> tuple[str, ...]:
        """Return what images and masks are found by."""
        return (*self.parts, stem)


@dataclass
class Pairs:
    """Images with their masks, and files that have no counterpart. Names are relative to the data folder."""

    pairs: list[tuple[str, str]] = field(default_factory=list)
    splits: list[str | None] = field(default_factory=list)
    """Split that the folders of each pair mean."""
    folders: tuple[str, ...] = ()
    """Folders of images and of masks that were found by their usual names."""
    without_mask: list[str] = field(default_factory=list)
    without_image: list[str] = field(default_factory=list)
    several: list[str] = field(default_factory=list)
    """Images with several masks, and images of one name."""
    elsewhere: list[str] = field(default_factory=list)
    """Files that lie neither among images nor among masks."""
    unlike: list[str] = field(default_factory=list)
    """Masks whose names only resemble those of their images."""


def find_pairs(names: Iterable[str], images: str | None = None, masks: str | None = None) -> Pairs:
    """Return the mask of each image.

    Args:
        names: Images and masks, relative to the data folder.
        images: Folder of the images; None to find it by its usual names.
        masks: Folder of the masks; None to find it by its usual names.

    Raises:
        ValueError: If several folders may hold the images, or the masks; names them and the way out.
    """
    places = [_place(name, images, masks) for name in names]
    found = Pairs()
    for is_mask, key, given in ((False, "images", images), (True, "masks", masks)):
        same = {plain(each.folder).rstrip("s"): each.folder for each in places if each.is_mask is is_mask}
        if given is None and len(same) > 1:
            raise ValueError(
                f"the folders {' and '.join(sorted(same.values()))} may both hold the {key}; name one of "
                f"them: ingest.{key}"
            )
        found.folders += tuple(f"{folder}/" for folder in same.values() if given is None)
    drawn = [each for each in places if each.is_mask]
    shown = [each for each in places if each.is_mask is False]
    # Files of no such folder may be the images, unless one folder is named for both.
    loose = [each for each in places if each.is_mask is None]
    shown = shown or [each for each in loose if each.folder] or loose
    if not drawn:
        shown, drawn = _split_by_names(shown)
    used = {each.name for each in (*shown, *drawn)}
    found.elsewhere = [each.name for each in loose if each.name not in used]
    _match(shown, drawn, found)
    return found


def _place(name: str, images: str | None, masks: str | None) -> _Place:
    """Return what the folders of a file say of it; the deepest one decides."""
    folders = PurePosixPath(name).parts[:-1]
    found = [
        (end, is_mask, folder, parts)
        for is_mask, given in ((False, images), (True, masks))
        for end, folder, parts in [_find(folders, is_mask=is_mask, given=given)]
        if end
    ]
    if not found or (len(found) > 1 and found[0][0] == found[1][0]):
        return _Place(name, None, images if found and images else "", folders)
    _, is_mask, folder, parts = max(found)
    return _Place(name, is_mask, folder, parts)


def _find(folders: Sequence[str], *, is_mask: bool, given: str | None) -> tuple[int, str, tuple[str, ...]]:
    """Return the number of folders down to that of images or masks, its name, and the others; or 0."""
    wanted = None if given is None else PurePosixPath(given).parts
    for start in reversed(range(len(folders) if wanted != () else 0)):  # `.` has no folders
        if wanted is not None:
            end, split = start + len(wanted), ""
            matches = tuple(folders[start:end]) == wanted
        else:
            end = start + 1
            matches, split = _read_folder(folders[start], is_mask=is_mask)
        if matches:
            return (
                end,
                "/".join(folders[start:end]),
                (*folders[:start], *filter(None, [split]), *folders[end:]),
            )
    return 0, "", ()


def _read_folder(name: str, *, is_mask: bool) -> tuple[bool, str]:
    """Return whether a folder is called as those of masks or images are, and the split that it also names.

    Example:
        >>> _read_folder("val_masks", is_mask=True), _read_folder("Images", is_mask=True)
        ((True, 'val'), (False, ''))
    """
    known = TRUTH_FOLDERS if is_mask else IMAGE_FOLDERS
    words = re.split(r"[\W_]+", name)
    splits = [word for word in words if split_of(word)]
    if len(splits) == 1 and plain("".join(word for word in words if word not in splits)) in known:
        return True, splits[0]
    return plain(name) in known, ""


def _split_by_names(places: Sequence[_Place]) -> tuple[list[_Place], list[_Place]]:
    """Return images and masks that lie in the same folders: a mask is called like one, and like its image."""
    images = {each.key(bare_name(each.stem)) for each in places if not is_mask_name(each.stem)}
    shown, drawn = list[_Place](), list[_Place]()
    for each in places:
        is_mask = is_mask_name(each.stem) and each.key(bare_name(each.stem)) in images
        (drawn if is_mask else shown).append(each)
    return shown, drawn


def _match(shown: Sequence[_Place], drawn: Sequence[_Place], found: Pairs) -> None:
    """Find the image of each mask, and note what has none, or several."""
    images: dict[tuple[str, ...], list[_Place]] = {}
    alike: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for each in shown:
        key = each.key(each.stem)
        images.setdefault(key, []).append(each)
        alike.setdefault(each.key(bare_name(each.stem)), set()).add(key)
    masks: dict[tuple[str, ...], list[str]] = {}
    for each in drawn:
        inner = PurePosixPath(each.stem).stem if is_image(each.stem) else None  # 1.jpg.png
        stems = [stem for stem in (each.stem, image_of(each.stem), inner) if stem is not None]
        keys = [key for key in map(each.key, stems) if key in images]
        close = alike.get(each.key(bare_name(each.stem)), set())
        if not keys and len(close) == 1:
            keys = [*close]
            found.unlike.append(each.name)
        if keys:
            masks.setdefault(keys[0], []).append(each.name)
        else:
            found.without_image.append(each.name)
    for key, places in images.items():
        own = masks.get(key, [])
        if not own:
            found.without_mask += [each.name for each in places]
        elif len(places) > 1 or len(own) > 1:
            found.several.append(" = ".join([*(each.name for each in places), *own]))
        else:
            found.pairs.append((places[0].name, own[0]))
            found.splits.append(next(filter(None, map(split_of, places[0].parts)), None))

"""The images that files in COCO's form list, and where they are."""

import posixpath
from dataclasses import dataclass, field

from temper.data.remark import Remark, remark_on
from temper.data.sources.annotated import Size
from temper.data.sources.coco_file import CocoFile, Id, read_id, read_numbers
from temper.data.sources.image_names import ImageNames
from temper.data.sources.split_names import words_of_split


@dataclass(frozen=True)
class ListedImage:
    """What a file says of an image."""

    written: str
    """Its name in the file."""
    place: str | None
    """Path of the image below the user's folder; None if it is not there."""
    size: Size | None
    """Width and height that are stated."""


@dataclass
class CocoImages:
    """Finds the images of several files.

    Args:
        names: All images below the user's folder.
    """

    names: ImageNames
    files: dict[str, str] = field(default_factory=dict)
    """Image -> file that lists it."""
    written: dict[str, str] = field(default_factory=dict)
    """Image -> its name in that file."""
    nameless: list[str] = field(default_factory=list)
    """Entries without an id or a name."""
    _listed_twice: list[str] = field(default_factory=list)

    def find(self, file: CocoFile) -> dict[Id, ListedImage]:
        """Return the images of a file by their ids.

        Raises:
            ValueError: If an id means two images, or an image is listed in two files.
        """
        by_id: dict[Id, ListedImage] = {}
        folders = _folders(file.name)
        for place, each in enumerate(file.images, 1):
            number, written = read_id(each.get("id")), each.get("file_name")
            if number is None or not isinstance(written, str) or not written.strip():
                self.nameless.append(f"{file.name}: image number {place}")
                continue
            if number in by_id:
                if by_id[number].written != written:
                    raise ValueError(
                        f"{file.name}: the image id {number} is that of {by_id[number].written} and of "
                        f"{written}, so that nobody knows whose annotations are whose; give each image its "
                        "own id"
                    )
                self._listed_twice.append(f"{file.name}: {written}")
                continue
            image = self.names.find(written, folders)
            if image is not None and (other := self.files.setdefault(image, file.name)) != file.name:
                raise ValueError(
                    f"{image} is in {other} and in {file.name}; an image can be in one split only: remove it "
                    "from one of the files, or set ingest.annotations to the files that shall be read"
                )
            if image is not None:
                self.written.setdefault(image, written)
            size = read_numbers([each.get("width"), each.get("height")])
            by_id[number] = ListedImage(written, image, None if size is None else (size[0], size[1]))
        return by_id

    def remarks(self) -> list[Remark]:
        """Return which entries say nothing."""
        return [
            *remark_on("left out", "images have no id or no file_name in their file", self.nameless),
            *remark_on("left out", "images are listed twice with the same id", self._listed_twice),
        ]


def ids_by_place(by_id: dict[Id, ListedImage]) -> dict[str, list[Id]]:
    """Return the ids of each image that is there; an image may be listed twice.

    Example:
        >>> ids_by_place({1: ListedImage("a.jpg", "x/a.jpg", None), 2: ListedImage("b.jpg", None, None)})
        {'x/a.jpg': [1]}
    """
    joined: dict[str, list[Id]] = {}
    for number, each in by_id.items():
        if each.place is not None:
            joined.setdefault(each.place, []).append(number)
    return joined


def _folders(name: str) -> list[str]:
    """Return the folders to which names of images may be relative, the likeliest first.

    Example:
        >>> _folders("annotations/instances_val2017.json")[:4]
        ['annotations', 'annotations/images', 'val2017', 'images/val2017']
    """
    own, above = posixpath.dirname(name), posixpath.dirname(posixpath.dirname(name))
    stem = posixpath.splitext(posixpath.basename(name))[0]
    parts = [f"{folder}{word}" for word in words_of_split(stem) for folder in ("", "images/")]
    listed = [own, posixpath.join(own, "images")]
    for base in dict.fromkeys(("", above, own)):
        listed += [posixpath.join(base, part) for part in (*parts, "", "images")]
    return list(dict.fromkeys(listed))

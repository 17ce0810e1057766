"""Files in COCO's form with other content: the dataset's with new images, the inbox's with what stays."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from temper.data.intake.offer import Write, change
from temper.data.sources.coco_file import Categories, CocoFile, Id, read_coco, read_id


class DroppedJson:
    """A file of the inbox.

    Args:
        path: The file.
        name: Its name in the inbox.

    Raises:
        ValueError: If it cannot be read, or is not of COCO's form.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name, self._raw = path, name, path.read_bytes()
        file = read_coco(path, name, self._raw)
        if file is None or not file.has_objects:
            raise ValueError(
                "it lists no objects in COCO's form, which is an object with images, annotations and "
                "categories"
            )
        if not file.images:
            raise ValueError("it lists no images; remove it, or export it again")
        self.file: CocoFile = file
        self.categories = Categories().read(file)
        """Id -> label, and the names of its points."""

    def annotations(self, ids: Collection[Id]) -> list[dict[str, Any]]:
        """Return the annotations of images that have a known category."""
        return [
            each
            for each in self.file.annotations
            if read_id(each.get("image_id")) in ids and read_id(each.get("category_id")) in self.categories
        ]

    def category(self, annotation: Mapping[str, Any]) -> dict[str, Any]:
        """Return the category of an annotation, as the file describes it."""
        wanted = read_id(annotation.get("category_id"))
        listed = self.file.categories or []
        return next((each for each in listed if read_id(each.get("id")) == wanted), {"name": str(wanted)})

    def image(self, number: Id) -> dict[str, Any]:
        """Return what the file says of an image."""
        return next(each for each in self.file.images if read_id(each.get("id")) == number)

    def select(self, names: Mapping[Id, str]) -> bytes:
        """Return a file of some images.

        Args:
            names: Id of an image -> its name in that file.
        """
        images = [
            {**each, "file_name": names[number]}
            for each in self.file.images
            if (number := read_id(each.get("id"))) is not None and number in names
        ]
        return self._write(images, [each for each in self.file.annotations if _of(each) in names])

    def without(self, ids: Collection[Id]) -> Write:
        """Return the file without some images; it leaves the inbox if no other one is left."""
        images = [each for each in self.file.images if read_id(each.get("id")) not in ids]
        rest = [each for each in self.file.annotations if _of(each) not in ids]
        content = self._write(images, rest) if images else None
        return Write(self.path, content, hashlib.sha256(self._raw).hexdigest())

    def _write(self, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> bytes:
        whole = json.loads(self._raw)
        return write_json({**whole, "images": images, "annotations": annotations}, self._raw)


class GrownJson:
    """A file of the dataset that gets new images.

    Args:
        path: The file.
        name: Its name in the dataset.

    Raises:
        ValueError: If it cannot be read.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path, self.name, self._raw = path, name, path.read_bytes()
        file = read_coco(path, name, self._raw)
        assert file is not None
        self._content = json.loads(self._raw)
        self.has_names = file.categories is not None
        self._images, self._annotations = _next_id(file.images), _next_id(file.annotations)
        self._categories: dict[str, Id] = {}
        self.points: dict[str, list[str]] = {}
        """Label -> names of its points."""
        for number, (label, points) in Categories().read(file).items():
            self._categories.setdefault(label, number)
            self.points.setdefault(label, points)

    @property
    def labels(self) -> list[str]:
        """Labels of the categories."""
        return [*self._categories]

    def add(
        self,
        image: Mapping[str, Any],
        annotations: Sequence[tuple[Mapping[str, Any], str, Mapping[str, Any]]],
    ) -> None:
        """Add an image with new ids. Its licence is left out, since its number means another one here.

        Args:
            image: What the inbox says of it, with its name in the dataset.
            annotations: Its annotations, each with its label in the dataset and the inbox's category.
        """
        self._remove(str(image["file_name"]))
        number, self._images = self._images, self._images + 1
        kept = {key: value for key, value in image.items() if key != "license"}
        self._content["images"].append({**kept, "id": number})
        for each, label, category in annotations:
            changed = {
                "id": self._annotations,
                "image_id": number,
                "category_id": self._find(label, category),
            }
            self._annotations += 1
            self._content["annotations"].append({**each, **changed})

    def _find(self, label: str, category: Mapping[str, Any]) -> Id:
        """Return the id of a category, which is added if the file does not have it."""
        if label not in self._categories:
            if not self.has_names:
                self._categories[label] = int(label)
                return int(label)
            number = _next_id(self._content["categories"])
            self._content["categories"].append({**category, "id": number, "name": label})
            self._categories[label] = number
        return self._categories[label]

    def _remove(self, name: str) -> None:
        """Remove what the file says of an image of this name that is no longer there."""
        old = {read_id(each.get("id")) for each in self._content["images"] if each.get("file_name") == name}
        for key, of in (("images", "id"), ("annotations", "image_id")) if old else ():
            self._content[key] = [each for each in self._content[key] if read_id(each.get(of)) not in old]

    def write(self) -> Write:
        """Return the file with the new images.

        Raises:
            ValueError: If it is read-only.
        """
        return change(self._path, self._raw, write_json(self._content, self._raw), self.name)


def write_json(content: Any, like: bytes) -> bytes:
    r"""Return JSON that is indented, and writes letters, as another file does.

    Example:
        >>> write_json({"a": ["\u00e9"]}, b'{\n "b": []}'), write_json([1], b"[]")
        (b'{\n "a": [\n  "\\u00e9"\n ]\n}', b'[1]')
    """
    found = re.match(rb"(?:\xef\xbb\xbf)?\s*[{\[]\r?\n([ \t]*)", like)
    indent = found[1].decode() if found else None
    separators = (",", ": ") if found else None if b": " in like[:1000] else (",", ":")
    text = json.dumps(content, indent=indent, separators=separators, ensure_ascii=like.isascii())
    return text.encode()


def _of(annotation: Mapping[str, Any]) -> Id | None:
    return read_id(annotation.get("image_id"))


def _next_id(entries: Sequence[Mapping[str, Any]]) -> int:
    """Return a number above all ids."""
    numbers = [number for each in entries if isinstance(number := read_id(each.get("id")), int)]
    return max(numbers, default=0) + 1

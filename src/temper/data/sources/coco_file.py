"""A file of annotations in COCO's form: images, categories, and the annotations of each image."""

import json
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Id = int | str
_SHAPE = (
    'COCO\'s form is an object with "images", "annotations" and "categories"; export the annotations in it, '
    "or set ingest.annotations to such a file"
)


@dataclass(frozen=True)
class CocoFile:
    """What a file says, with its lists checked but not their contents."""

    name: str
    """Path of the file below the user's folder, for messages."""
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: list[dict[str, Any]] | None
    """None if the file names none."""

    @property
    def has_captions(self) -> bool:
        """Whether it holds texts instead of objects."""
        return any("caption" in each for each in self.annotations) and not self.has_objects

    @property
    def has_objects(self) -> bool:
        """Whether any annotation is of an object; if there are none at all, it may be."""
        return not self.annotations or any("category_id" in each for each in self.annotations)

    @property
    def has_points(self) -> bool:
        """Whether any annotation has points."""
        return any("keypoints" in each for each in self.annotations)


@dataclass
class Categories:
    """Labels of the categories of several files, and what is odd about them."""

    order: list[str] = field(default_factory=list)
    """Labels in the order of their first ids."""
    points: list[str] = field(default_factory=list)
    """Names of the points of all categories."""
    merged: list[str] = field(default_factory=list)
    """Labels that one file has under several ids."""
    numbered: list[str] = field(default_factory=list)
    """Files without categories."""
    unnamed_points: list[str] = field(default_factory=list)
    """Files whose annotations have points that the categories do not name."""

    def read(self, file: CocoFile) -> dict[Id, tuple[str, list[str]]]:
        """Return the label and the names of the points of each category of a file, by its id.

        Raises:
            ValueError: If a category has no id or name, or an id has two names.
        """
        found: dict[Id, tuple[str, list[str]]] = {}
        for each in self._listed(file):
            number, name = read_id(each.get("id")), each.get("name")
            if number is None or not isinstance(name, str | int) or not str(name).strip():
                raise ValueError(
                    f"{file.name}: the category {_brief(each)} has no id or no name; give it both"
                )
            label = unicodedata.normalize("NFC", str(name).strip())
            points = each.get("keypoints")
            names = [str(point) for point in points] if isinstance(points, list) else []
            if found.setdefault(number, (label, names))[0] != label:
                raise ValueError(
                    f"{file.name}: the category id {number} is called {found[number][0]!r} and {label!r}; "
                    "give each its own id, also in the annotations"
                )
        ordered = sorted(found.items(), key=lambda item: (isinstance(item[0], str), item[0]))
        by_label: dict[str, list[Id]] = {}
        for number, (label, names) in ordered:
            by_label.setdefault(label, []).append(number)
            self.points += [name for name in names if name not in self.points]
        self.order += [label for label in by_label if label not in self.order]
        self.merged += [
            f"{label} ({', '.join(map(str, ids))})" for label, ids in by_label.items() if len(ids) > 1
        ]
        return found

    def _listed(self, file: CocoFile) -> Iterable[Mapping[str, Any]]:
        if file.categories is not None:
            return file.categories
        self.numbered.append(file.name)
        ids = dict.fromkeys(read_id(each.get("category_id")) for each in file.annotations)
        return [{"id": number, "name": str(number)} for number in ids if number is not None]

    def name_points(self, names: Sequence[str], count: int, where: str) -> list[str]:
        """Return names of points as the category has them, or numbers if it does not name so many."""
        if len(names) == count:
            return list(names)
        self.unnamed_points.append(where)
        numbers = [str(number) for number in range(count)]
        self.points += [name for name in numbers if name not in self.points]
        return numbers


def read_coco(path: Path, name: str, raw: bytes | None = None) -> CocoFile | None:
    """Read a file; None if it is JSON, but not of this form.

    Args:
        path: The file.
        name: Its path below the user's folder, for messages.
        raw: Its content, if it was read already.

    Raises:
        ValueError: If it is no JSON.
    """
    try:
        content = json.loads(path.read_bytes() if raw is None else raw)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path} is no JSON ({reason}); it may be cut off: copy or export it again, or remove it"
        ) from None
    except PermissionError:
        raise ValueError(f"this user may not read {path}; make it readable (`chmod u+r`)") from None
    if not isinstance(content, dict):
        return None
    lists = [content.get(key) for key in ("images", "annotations", "categories")]
    images, annotations, categories = lists
    if not _are_objects(images) or not _are_objects(annotations):
        return None
    if categories is not None and not _are_objects(categories):
        return None
    return CocoFile(name, images, annotations, categories)  # type: ignore[arg-type]


def explain_shape(name: str) -> str:
    """Return why a file that was named cannot be used."""
    return f"{name} is not of COCO's form; {_SHAPE}"


def read_id(value: Any) -> Id | None:
    """Return an id in one form, since programs write 7, 7.0 and "7"; None if it is none.

    Example:
        >>> read_id(7.0), read_id("7"), read_id("a7"), read_id(None), read_id(True)
        (7, 7, 'a7', None, None)
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdecimal() and len(value) < 20 else value or None
    return value if isinstance(value, int) else None


def read_numbers(value: Any) -> list[float] | None:
    """Return a list of numbers, which may be NaN; None if it is none.

    Example:
        >>> read_numbers([1, 2.5]), read_numbers([1, "2"]), read_numbers(None)
        ([1.0, 2.5], None, None)
    """
    if not isinstance(value, list):
        return None
    if any(isinstance(each, bool) or not isinstance(each, int | float) for each in value):
        return None
    return [_float(each) for each in value]


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of more than 308 digits
        return math.inf


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _brief(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."

"""What a folder in YOLO's form says of all images: names of classes and points, and the splits."""

import os
import posixpath
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from temper.data.remark import Remark, remark_on
from temper.data.sources.image_names import ImageNames
from temper.data.sources.split_names import split_of

_USUAL = ("data.yaml", "dataset.yaml", "data.yml")
_NAME_FILES = ("classes.txt", "obj.names", "labels/classes.txt", "data/obj.names")
_WITH_PLACES = (2, 3)
"""Numbers of a point: across and down, and perhaps whether it is visible."""


@dataclass
class YoloData:
    """What data.yaml, or the files in its place, say.

    Args:
        root: The user's folder.
    """

    root: Path
    names: dict[int, str] | None = None
    """Number -> label; None if no file names classes."""
    points: tuple[int, int] | None = None
    """Number of points of an object, and of the numbers for each; None if rows have no points."""
    point_names: list[str] = field(default_factory=list)
    splits: dict[str, list[str]] = field(default_factory=dict)
    """Split -> folders, and lists of images, as they are written; empty if nothing says them."""
    read: list[Path] = field(default_factory=list)
    """Files that were read."""
    named_by: Path | None = None
    """The file that names the classes."""
    lines: dict[str, tuple[Path, str]] = field(default_factory=dict)
    """Image -> the list of images that names it, and how."""
    _base: str = ""
    _notes: list[Remark] = field(default_factory=list)
    _lost: list[str] = field(default_factory=list)

    def images(self, names: Sequence[str], find: ImageNames) -> dict[str, str] | None:
        """Return the split of each image; None if nothing says the splits.

        Raises:
            ValueError: If a folder does not exist, or an image is in two splits.
        """
        if not self.splits:
            return None
        found: dict[str, str] = {}
        for split, written in self.splits.items():
            for each in written:
                place = self._resolve(each)
                if place is None:
                    self._lost.append(f"{split}: {each}")
                    continue
                listed = self._listed(place, find) if (self.root / place).is_file() else None
                folder = "" if place == "." else f"{place}/"
                for image in (
                    [name for name in names if name.startswith(folder)] if listed is None else listed
                ):
                    if found.setdefault(image, split) != split:
                        raise ValueError(
                            f"{self.read[0]}: {image} is in the splits {found[image]} and {split}; it can be "
                            "in one only: correct the file, or remove the image from one of them"
                        )
        if "train" not in found.values():
            lost = f" ({'; '.join(self._lost)} does not exist)" if self._lost else ""
            raise ValueError(
                f"{self.read[0]} leads to no image for training{lost}; write paths that are relative to the "
                "file, for example train: images/train, or remove train, val and test: then names of "
                "folders say them"
            )
        return found

    def remarks(self) -> list[Remark]:
        """Return what was decided without asking."""
        return [
            *self._notes,
            *remark_on("left out", "paths of splits lead nowhere", self._lost),
        ]

    def _resolve(self, written: str) -> str | None:
        """Return a path relative to the user's folder; None if it does not exist.

        Some programs write `../train/images`, though they put `train` beside the file.

        Raises:
            ValueError: If it is outside the user's folder.
        """
        plain = written.replace("\\", "/").rstrip("/")
        parts = [part for part in plain.split("/") if part not in ("", ".", "..")]
        tries = [posixpath.join(self._base, plain), plain, "/".join(parts) or "."]
        outside: Path | None = None
        for each in dict.fromkeys(map(posixpath.normpath, tries)):
            path = self.root / each
            relative = os.path.relpath(path, self.root).replace(os.sep, "/")
            if path.exists() and not relative.startswith(".."):
                return relative
            outside = outside or (path if path.exists() else None)
        if outside is not None:
            raise ValueError(
                f"{self.read[0]} names {written}, which is outside ingest.folder; set ingest.folder to a "
                f"folder that holds both, such as {outside.resolve().parent}"
            )
        return None

    def _listed(self, place: str, find: ImageNames) -> list[str]:
        """Return the images that a list of paths names."""
        path = self.root / place
        self.read.append(path)
        lines = [line.strip() for line in read_text(path).splitlines()]
        folders = [posixpath.dirname(place), self._base, "", "images"]
        found = {image: line for line in lines if line and (image := find.find(line, folders)) is not None}
        self.lines |= {image: (path, line) for image, line in found.items()}
        return list(found)

    def say(self, remark: Sequence[Remark]) -> None:
        """Add remarks."""
        self._notes += remark

    def read_yaml(self, path: Path) -> None:
        """Read data.yaml.

        Raises:
            ValueError: If it is no YAML, or names of classes, points or splits have another form.
        """
        content = _load(path)
        self.read.append(path)
        if content.get("names") is not None:
            self.names, self.named_by = read_names(content["names"], path), path
        base = content.get("path")
        self._base = base.replace("\\", "/") if isinstance(base, str) else ""
        for key in ("train", "val", "valid", "validation", "test"):
            written = content.get(key)
            listed = [written] if isinstance(written, str) else written or []
            if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
                raise ValueError(f"{path}: {key} is {written!r}; write a path, or a list of paths")
            if listed:
                self.splits.setdefault(split_of(key) or key, []).extend(listed)
        count, known = content.get("nc"), self.names
        if known is not None and count is not None and count != len(known):
            text = f"{path.name} says nc: {count}, but names {len(known)} classes; the names count"
            self._notes.append(Remark("noticed", text))
        if content.get("kpt_shape") is not None:
            self._read_points(content, path)

    def _read_points(self, content: dict[str, Any], path: Path) -> None:
        shape = content["kpt_shape"]
        if (
            not isinstance(shape, list)
            or len(shape) != len(_WITH_PLACES)
            or not all(type(each) is int for each in shape)
            or shape[1] not in _WITH_PLACES
            or shape[0] < 1
        ):
            raise ValueError(
                f"{path}: kpt_shape is {shape!r}; write the number of points, and 2 or 3, for example [17, 3]"
            )
        self.points = shape[0], shape[1]
        names = content.get("kpt_names")
        listed = next(iter(names.values()), None) if isinstance(names, dict) else names
        if isinstance(listed, list) and len(listed) == shape[0]:
            self.point_names = [str(each) for each in listed]
            return
        self.point_names = [str(number) for number in range(shape[0])]
        flip = content.get("flip_idx")
        plain = isinstance(flip, list) and all(type(each) is int for each in flip)
        pairs = {here: there for here, there in enumerate(flip or []) if here < there} if plain else None
        written = "{}" if not pairs else "{" + ", ".join(f"'{a}': '{b}'" for a, b in pairs.items()) + "}"
        way = f"{written} (flip_idx)" if pairs is not None else "the pairs that a mirror exchanges"
        text = f"points are called by their numbers, since {path.name} has no kpt_names"
        self._notes.append(Remark("guessed", f"{text}; set problem.mirrored to {way}"))


def read_data(root: Path, texts: Sequence[str]) -> YoloData:
    """Read data.yaml or, without it, names of classes and lists of images beside the images.

    Args:
        root: The user's folder.
        texts: Names of the .txt files below it.

    Raises:
        ValueError: If there are several, or one cannot be read.
    """
    found = YoloData(root)
    yamls = [path for path in sorted(root.iterdir()) if path.suffix.lower() in (".yaml", ".yml")]
    usual = [path for path in yamls if path.name.lower() in _USUAL] or [
        path for path in yamls if {"names", "train"} & _load(path).keys()
    ]
    if len(usual) > 1:
        raise ValueError(
            f"{root} has {' and '.join(path.name for path in usual)}; keep one of them, or call it data.yaml "
            "and the others otherwise"
        )
    if usual:
        found.read_yaml(usual[0])
    if not found.splits:
        for name in texts:
            split = split_of(posixpath.splitext(name)[0]) if "/" not in name else None
            if split is not None:
                found.splits.setdefault(split, []).append(name)
    for name in _NAME_FILES if found.names is None else ():
        if (root / name).is_file():
            lines = [line.strip() for line in read_text(root / name).splitlines()]
            found.names = read_names([line for line in lines if line], root / name)
            found.named_by = root / name
            found.read.append(root / name)
            break
    if found.names is None:
        found.say(
            [
                Remark(
                    "guessed",
                    "classes are called by their numbers, since there is no data.yaml with names, no "
                    "classes.txt and no obj.names",
                )
            ]
        )
    return found


def _load(path: Path) -> dict[str, Any]:
    """Return the content of a file of YAML.

    Raises:
        ValueError: If it is no YAML, or no mapping.
    """
    try:
        content = YAML(typ="safe", pure=True).load(read_text(path))
    except YAMLError as error:
        raise ValueError(f"{path} is no YAML ({' '.join(str(error).split())}); correct it") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no mapping; write names: [cat, dog] and train: images/train")
    return {str(key): value for key, value in content.items()}


def read_names(written: Any, path: Path) -> dict[int, str]:
    """Return number -> label of a list or mapping.

    Raises:
        ValueError: If they have another form, or a number twice.
    """
    listed = dict(enumerate(written)) if isinstance(written, list) else written
    if not isinstance(listed, dict) or not listed:
        raise ValueError(f"{path}: names is {written!r}; write a list, such as names: [cat, dog]")
    found: dict[int, str] = {}
    for key, value in listed.items():
        text = str(key)
        label = unicodedata.normalize("NFC", str(value).strip())
        if not text.isdecimal() or value is None or isinstance(value, list | dict) or not label:
            raise ValueError(
                f"{path}: names has {key!r}: {value!r}; write a number and a name for each class"
            )
        if int(text) in found:
            raise ValueError(f"{path}: names has the number {text} twice; give each class its own")
        found[int(text)] = label
    return found


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        ValueError: If it is not UTF-8, or may not be read.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8; save it as UTF-8") from None
    except PermissionError:
        raise ValueError(f"this user may not read {path}; make it readable (`chmod u+r`)") from None

"""Class numbers of YOLO's text files: those of the inbox, and those of the dataset, which may grow."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from ruamel.yaml import YAML

from temper.data.intake.offer import Write, change
from temper.data.sources.yolo_data import YoloData, read_data, read_names

NAME_FILES = frozenset({"data.yaml", "dataset.yaml", "data.yml", "classes.txt", "obj.names"})
"""Files that name the classes of text files in their folder and below."""


class DroppedNames:
    """The files of the inbox that name classes; each counts for text files in its folder and below.

    Args:
        labelled: Folder of the new files.
    """

    def __init__(self, labelled: Path) -> None:
        self._labelled = labelled
        self._read: dict[Path, YoloData] = {}

    def of(self, text: str) -> YoloData | None:
        """Return what the nearest such file says; None if there is none, and the dataset's numbers count.

        Args:
            text: Name of a text file.

        Raises:
            ValueError: If it cannot be read.
        """
        folder = (self._labelled / text).parent
        while folder.is_relative_to(self._labelled):
            if folder not in self._read:
                self._read[folder] = read_data(folder, [])
            if self._read[folder].named_by is not None:
                return self._read[folder]
            folder = folder.parent
        return None


class ClassNumbers:
    """The class numbers of the dataset, and those of classes that it gets.

    Args:
        names: Number -> label; None if classes are called by their numbers.
        file: File that names them.
    """

    def __init__(self, names: Mapping[int, str] | None, file: Path | None) -> None:
        self._names, self._file = names, file
        self.added: dict[int, str] = {}
        """Number -> label of the classes that `writes` adds."""
        self._by_label: dict[str, int] = {}
        for number, label in (names or {}).items():
            self._by_label.setdefault(label, number)

    @property
    def labels(self) -> list[str]:
        """All labels, new ones too; empty if classes are called by their numbers."""
        return [*self._by_label]

    def add(self, label: str) -> int:
        """Return the number of a label. A new one comes behind the others."""
        if self._names is None:
            return int(label)
        return self._by_label.setdefault(label, max(self._by_label.values(), default=-1) + 1)

    def writes(self, used: Iterable[int]) -> list[Write]:
        """Return the file with the names of new classes.

        Args:
            used: Numbers in the text files that are written.

        Raises:
            ValueError: If it is read-only, or would be read otherwise.
        """
        last = max(used, default=-1)
        new = {n: label for label, n in self._by_label.items() if n not in (self._names or {}) and n <= last}
        if not new or self._file is None:
            return []
        raw = self._file.read_bytes()
        is_yaml = self._file.suffix.lower() in (".yaml", ".yml")
        content = _add_to_yaml(raw, new) if is_yaml else _add_lines(raw, new)
        _check(content, {**(self._names or {}), **new}, self._file, is_yaml=is_yaml)
        self.added = new
        return [change(self._file, raw, content, str(self._file))]


def renumber(text: str, numbers: Mapping[int, int]) -> bytes:
    r"""Return rows with other class numbers.

    Args:
        text: Content of a text file.
        numbers: Class number -> new class number, of all rows.

    Example:
        >>> renumber("0 0.5 0.5 1 1\n\n1.0\t0.5 0.5 1 1", {0: 3, 1: 0})
        b'3 0.5 0.5 1 1\n\n0\t0.5 0.5 1 1'
    """
    lines = []
    for line in text.splitlines(keepends=True):
        words = line.split(maxsplit=1)
        if words:
            start = line.index(words[0])
            line = f"{numbers[int(float(words[0]))]}{line[start + len(words[0]) :]}"
        lines.append(line)
    return "".join(lines).encode()


def _add_to_yaml(raw: bytes, new: Mapping[int, str]) -> bytes:
    """Return data.yaml with further names; comments and the order of keys stay."""
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 1_000_000
    content = yaml.load(raw.decode("utf-8-sig"))
    names = content["names"]
    for number, label in new.items():
        if isinstance(names, list):
            names.append(label)
        else:
            names[str(number) if all(isinstance(key, str) for key in names) else number] = label
    if isinstance(content.get("nc"), int):
        content["nc"] = len(names)
    stream = io.BytesIO()
    yaml.dump(content, stream)
    return stream.getvalue()


def _add_lines(raw: bytes, new: Mapping[int, str]) -> bytes:
    end = b"\r\n" if b"\r\n" in raw else b"\n"
    start = raw if not raw or raw.endswith(b"\n") else raw + end
    return start + b"".join(label.encode() + end for label in new.values())


def _check(content: bytes, wanted: Mapping[int, str], file: Path, *, is_yaml: bool) -> None:
    """Check that a file with new names is read as it is meant.

    Raises:
        ValueError: If it is not.
    """
    text = content.decode("utf-8-sig")
    written = YAML(typ="safe", pure=True).load(text)["names"] if is_yaml else text.split("\n")
    found = read_names(written if is_yaml else [line.strip() for line in written if line.strip()], file)
    if found != wanted:
        raise ValueError(
            f"{file} was left as it is, since new names would change how it is read; add "
            f"{', '.join(label for number, label in wanted.items() if found.get(number) != label)} yourself"
        )

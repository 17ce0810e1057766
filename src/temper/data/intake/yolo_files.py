"""New images with .txt files of rows, for a folder in YOLO's form.

Class numbers are those of the dataset or, if a data.yaml or classes.txt lies beside or above the .txt files
in the inbox, those of that file: then they are compared by name, and the rows get the numbers of the dataset.
Such a file stays in the inbox, since more images may come.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar

from temper.data.images.header import read_header
from temper.data.intake.annotated_inbox import (
    Decided,
    Dropped,
    Inbox,
    first_for_training,
    pair_by_name,
    places_of_pair,
)
from temper.data.intake.dropped_objects import DroppedObjects, say_objects
from temper.data.intake.offer import Arrival, Contents, Offer, Write, change
from temper.data.intake.yolo_names import NAME_FILES, ClassNumbers, DroppedNames, renumber
from temper.data.source_params import Yolo
from temper.data.sources.litter import is_image
from temper.data.sources.yolo import read_folder, size_in, texts_of
from temper.data.sources.yolo_data import YoloData, read_text
from temper.data.sources.yolo_rows import YoloRows
from temper.problem import Row

_ANY_SIZE = (1000, 1000)
"""Width and height for images that cannot be read: prepare says what is wrong with them."""


class YoloFiles:
    """A folder in YOLO's form.

    Args:
        params: Parameters of the source.
        project: Folder of the project.

    Raises:
        ValueError: If it cannot be read.
    """

    truth: ClassVar[str] = "set of objects"
    counted_as: ClassVar[str] = "with text files"
    unsorted: ClassVar[tuple[str, str]] = (
        "are images without a .txt file, or .txt files without an image, of the same name",
        "put both of one name into labelled/; an empty .txt file says that an image shows no object",
    )
    endings: ClassVar[frozenset[str]] = frozenset({".txt", ".yaml", ".yml", ".names"})

    def __init__(self, params: Yolo, project: Path) -> None:
        self._found, self._params = read_folder(params, project), params
        self._root, self._data = project / params.folder, self._found.data
        self.rows: Sequence[Row] = self._found.listing.rows
        self._numbers = ClassNumbers(self._data.names, self._data.named_by)
        # The text of a new image is found where that of this one is.
        self._first = first_for_training([row for row in self.rows if self._found.texts[row.id]]).id
        self._texts: dict[str, tuple[str, dict[int, str]]] = {}
        """Image of the inbox -> content of its text file, and the label of each class number in it."""
        self._renamed: dict[str, Mapping[str, str]] = {}
        self._told: dict[str, str] = {}
        """Image of the inbox -> file of the inbox that names the classes of its rows."""

    def draw(self, member: str) -> bytes:
        return self._objects.draw(member)

    def files(self, row: Row) -> tuple[Path, ...]:
        return (self._found.listing.find(row.id),)

    def read(self, offer: Offer, images: Sequence[str], others: Sequence[str]) -> Inbox:
        self._offer, names = offer, DroppedNames(offer.labelled)
        self._objects = DroppedObjects(
            self._params.truth,
            self._params.boxes_in,
            offer.labelled,
            points=self._data.point_names,
            numbers=self._found.numbers,
            has_class=lambda label: self._find(label) is not None,
        )
        texts = [name for name in others if PurePosixPath(name).name.lower() not in NAME_FILES]
        pairs, lone = _pair([name for name in images if is_image(name)], texts)
        inbox = Inbox(lone=[*lone, *(name for name in images if not is_image(name))])
        for image, text in pairs.items():
            try:
                inbox.dropped.append(self._read_one(image, text, names.of(text)))
            except ValueError as error:
                inbox.refused.append(Arrival(text, "refused", reason=str(error)))
        return inbox

    def _read_one(self, image: str, text: str, names: YoloData | None) -> Dropped:
        """Read a text file.

        Args:
            image: The image.
            text: The text file.
            names: What names its classes; None for the dataset.

        Raises:
            ValueError: If it cannot be read, or its numbers have no meaning in the dataset.
        """
        if names is not None:
            _compare(names, self._data)
        data = names or self._data
        rows = YoloRows(data.names, self._data.points, self._data.point_names)
        content = read_text(self._offer.labelled / text)
        read = rows.read(content, text)
        rows.check()
        header = read_header(self._offer.labelled / image)
        size = _ANY_SIZE if header is None else size_in(header, self._params.boxes_in)
        things = rows.things(read, size, text)
        if rows.unknown:
            listed = ", ".join(f"{number} {label}" for number, label in (data.names or {}).items())
            raise ValueError(
                f"it has rows of {rows.unknown[0].rpartition('(')[2].rstrip(')')}, but the classes of "
                f"{data.named_by or self._root} are {listed or 'whole numbers from 0'}; correct the rows, or "
                "put a data.yaml with the names of their classes beside them"
            )
        row = self._objects.add(image, things, size)
        labels = {int(numbers[0]): thing.label for numbers, thing in zip(read, things, strict=True)}
        self._texts[image] = content, labels
        told_by = () if names is None else (_name(names, self._offer.labelled),)
        if told_by:
            self._told[image] = told_by[0]
        return Dropped(row, (image, text), told_by, rewritten=names is not None)

    def _find(self, label: str) -> str | None:
        """Return which class of the dataset a label means, also one without a row; None if there is none."""
        if self._data.names is None:
            return label
        return self._offer.find_class(label, self._numbers.labels)

    def spell(self, row: Row, renamed: Mapping[str, str]) -> Row:
        self._renamed[row.id] = renamed
        return self._objects.respell(row.id, renamed)

    def said(self, row: Row, files: Sequence[Path]) -> str:
        dropped = files[0].is_relative_to(self._offer.labelled)
        return say_objects(row, self._objects.draw if dropped else self._found.listing.draw)

    def places(self, new: Dropped, image: Path, offer: Offer, contents: Contents) -> tuple[Path, ...]:
        folders = (self._root / self._first).parent, self._text_folder
        text = offer.labelled / new.files[1]
        content = self._write_text(new) if new.rewritten else None
        pair = places_of_pair(image, folders[0], text, folders[1], contents, content=content)
        return pair[:1] if new.rewritten else pair

    @property
    def _text_folder(self) -> Path:
        return (self._root / str(self._found.texts[self._first])).parent

    def _write_text(self, new: Dropped) -> bytes:
        """Return the rows of an image with the class numbers of the dataset."""
        content, labels = self._texts[new.name]
        return renumber(content, {old: self._number(new, label) for old, label in labels.items()})

    def _number(self, new: Dropped, label: str) -> int:
        """Return the number of a label of an image in the dataset."""
        meant = self._renamed[new.name].get(label, label)
        return self._numbers.add(self._find(meant) or meant)

    def writes_before(self, decided: Decided, offer: Offer) -> list[Write]:
        """Return the file with new names of classes, and then the texts with other class numbers.

        A text without an image is left out of the dataset, but an image without a text would show no object.
        """
        texts, used = list[Write](), set[int]()
        for new, arrival in decided:
            if not new.rewritten or not arrival.places:
                continue
            used |= {self._number(new, label) for label in self._texts[new.name][1].values()}
            place = arrival.places[0].with_suffix(".txt")
            taken = arrival.fate == "new"
            texts.append(Write(self._text_folder / place.name if taken else place, self._write_text(new)))
        return [*self._numbers.writes(used), *texts]

    def writes(self, decided: Decided, offer: Offer) -> list[Write]:
        """Return the list of images for training, if there is one, with the new images."""
        new = [arrival.places[0] for _, arrival in decided if arrival.fate == "new"]
        if self._first not in self._data.lines or not new:
            return []
        path, line = self._data.lines[self._first]
        raw = path.read_bytes()
        end = b"\r\n" if b"\r\n" in raw else b"\n"
        folder = line[: len(line) - len(PurePosixPath(line.replace("\\", "/")).name)]
        added = b"".join(f"{folder}{place.name}".encode() + end for place in new)
        content = (raw if raw.endswith(b"\n") else raw + end) + added
        return [change(path, raw, content, str(path))]

    def notes(self, taken: Sequence[Dropped]) -> list[str]:
        lines = self._objects.explain([new.name for new in taken], crowds="boxes are marked as crowds")
        for file in sorted({self._told[new.name] for new in taken if new.name in self._told}):
            of = [new for new in taken if self._told.get(new.name) == file]
            changed = {
                f"{label} {old} -> {number}"
                for new in of
                for old, label in self._texts[new.name][1].items()
                if (number := self._number(new, label)) != old
            }
            lines.append(
                f"converted: {len(of)} text files have the class numbers of {file}"
                + (f", and got those of the dataset: {', '.join(sorted(changed))}" if changed else "")
                + f"; {file} stays in the inbox: remove it before images with other numbers come"
            )
        commit = "commit it if git or DVC tracks it"
        if added := self._numbers.added:
            listed = ", ".join(f"{number} {label}" for number, label in added.items())
            lines.append(f"{Path(str(self._data.named_by)).name} names new classes: {listed}; {commit}")
        if self._first in self._data.lines:
            lines.append(f"{self._data.lines[self._first][0].name} has {len(taken)} new lines: {commit}")
        elif any(row.split for row in self.rows):
            folder = PurePosixPath(self._first).parent
            lines.append(f"{len(taken)} new images went into {folder}, whose split is train")
        return lines


def _pair(images: Sequence[str], texts: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the text of each image, where the source looks for it or of the same name, and other files."""
    known = {*texts}
    places = {image: next((name for name in texts_of(image) if name in known), None) for image in images}
    counts = Counter(places.values())
    near = {image: text for image, text in places.items() if text is not None and counts[text] == 1}
    left, used = [image for image in images if image not in near], {*near.values()}
    far, lone = pair_by_name(left, [text for text in texts if text not in used])
    return dict(sorted({**near, **far}.items())), lone


def _name(data: YoloData, labelled: Path) -> str:
    """Return the file of the inbox that names classes."""
    assert data.named_by is not None
    return data.named_by.relative_to(labelled).as_posix()


def _compare(names: YoloData, dataset: YoloData) -> None:
    """Check that rows of the inbox can be rows of the dataset.

    Raises:
        ValueError: If classes or points are called otherwise.
    """
    if dataset.names is None:
        raise ValueError(
            f"{names.named_by} names its classes, but the dataset calls them by their numbers; remove it if "
            "the numbers are those of the dataset, or add names to the dataset"
        )
    numbered = names.point_names == [str(number) for number in range(len(names.point_names))]
    if names.points is not None and names.points != dataset.points:
        raise ValueError(
            f"{names.named_by} says kpt_shape: {names.points}, but the dataset {dataset.points}; rows need "
            "the points of the dataset"
        )
    if names.points is not None and not numbered and names.point_names != dataset.point_names:
        raise ValueError(
            f"the points of {names.named_by} are {', '.join(names.point_names)}, but those of the dataset "
            f"are {', '.join(dataset.point_names)}, in this order; write rows and kpt_names as it does"
        )

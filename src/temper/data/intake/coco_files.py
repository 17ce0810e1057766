"""New images with annotations in COCO's JSON, for a folder of such.

The entries of new images go into the dataset's file for training, with new ids. One file there is what other
tools read, and it is replaced in one rename, once the images are in their places. Then the inbox's file loses
the entries of the images that leave, and only then these leave.
"""

import hashlib
import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from temper.data.intake.annotated_inbox import Decided, Dropped, Inbox, first_for_training
from temper.data.intake.coco_writing import DroppedJson, GrownJson
from temper.data.intake.dropped_objects import DroppedObjects, say_objects
from temper.data.intake.offer import Arrival, Contents, Offer, Write, place_aside, place_in
from temper.data.remark import Remark
from temper.data.source_params import Coco
from temper.data.sources.coco import read_folder
from temper.data.sources.coco_file import Id, read_id
from temper.data.sources.coco_images import CocoImages, ids_by_place
from temper.data.sources.coco_objects import CocoObjects
from temper.data.sources.image_names import ImageNames
from temper.data.sources.litter import is_image
from temper.problem import Row


@dataclass(frozen=True)
class _Entry:
    """An image of the inbox in its file."""

    file: DroppedJson
    ids: tuple[Id, ...]
    """Its ids; several if it is listed more than once."""


class CocoFiles:
    """A folder with annotations in COCO's JSON.

    Args:
        params: Parameters of the source.
        project: Folder of the project.

    Raises:
        ValueError: If it cannot be read.
    """

    truth: ClassVar[str] = "set of objects"
    counted_as: ClassVar[str] = "with annotations"
    unsorted: ClassVar[tuple[str, str]] = (
        "are images that no JSON file lists, or entries of JSON files without an image",
        "put the images into labelled/, together with a JSON file in COCO's form that lists them",
    )
    endings: ClassVar[frozenset[str]] = frozenset({".json"})

    def __init__(self, params: Coco, project: Path) -> None:
        self._found, self._params = read_folder(params, project), params
        self._root = project / params.folder
        self.rows: Sequence[Row] = self._found.listing.rows
        self._first = first_for_training(self.rows)
        name = self._found.files[self._first.id]
        self._main = GrownJson(self._root / name, name)
        self._entries: dict[str, _Entry] = {}
        self._renamed: dict[str, Mapping[str, str]] = {}
        self._remarks: dict[str, list[Remark]] = {}
        """File of the inbox -> what was left out of it, or guessed."""

    def draw(self, member: str) -> bytes:
        return self._objects.draw(member)

    def files(self, row: Row) -> tuple[Path, ...]:
        return (self._found.listing.find(row.id),)

    def read(self, offer: Offer, images: Sequence[str], others: Sequence[str]) -> Inbox:
        self._offer, inbox = offer, Inbox()
        self._objects = DroppedObjects(
            self._params.truth,
            self._params.boxes_in,
            offer.labelled,
            points=self._found.points,
            numbers=self._found.numbers,
            has_class=lambda label: offer.find_class(label, self._main.labels) is not None,
        )
        usable = [name for name in images if is_image(name)]
        for name in others:
            try:
                self._read_file(DroppedJson(offer.labelled / name, name), usable, inbox)
            except ValueError as error:
                inbox.refused.append(Arrival(name, "refused", reason=str(error)))
        listed = {*self._entries}
        unlisted = [name for name in images if name not in listed]
        # A file that was not read may list what no other one lists.
        inbox.lone = [] if any(each.name in others for each in inbox.refused) else unlisted
        inbox.dropped.sort(key=lambda each: each.name)
        return inbox

    def _read_file(self, file: DroppedJson, images: Sequence[str], inbox: Inbox) -> None:
        """Read the images that a file lists.

        Raises:
            ValueError: If it contradicts itself, or its categories have no meaning in the dataset.
        """
        if file.file.categories is None and self._main.has_names:
            raise ValueError(
                f"it names no categories, but {self._main.name} does; add them, or nobody knows what its "
                "numbers mean"
            )
        found = CocoImages(ImageNames(images))
        by_id = found.find(file.file)
        objects = CocoObjects(self._params.truth)
        things = objects.read(file.file, {key: each.place or each.written for key, each in by_id.items()})
        objects.check()
        self._remarks[file.name] = [
            *(each for each in objects.remarks() if each.kind == "left out"),
            *(each for each in found.names.remarks() if each.kind == "guessed"),
        ]
        inbox.missing += found.nameless
        inbox.missing += [f"{file.name}: {each.written}" for each in by_id.values() if each.place is None]
        for image, ids in ids_by_place(by_id).items():
            try:
                if (other := self._entries.get(image)) is not None:
                    inbox.dropped = [each for each in inbox.dropped if each.name != image]
                    raise ValueError(f"{other.file.name} and {file.name} list it; remove it from one of them")
                self._entries[image] = _Entry(file, tuple(ids))
                self._compare_points(file, ids)
                shown = [thing for each in ids for thing in things[each]]
                row = self._objects.add(image, shown, by_id[ids[0]].size)
            except ValueError as error:
                inbox.refused.append(Arrival(image, "refused", reason=str(error)))
                continue
            inbox.dropped.append(Dropped(row, (image,), (file.name,)))

    def _compare_points(self, file: DroppedJson, ids: Sequence[Id]) -> None:
        """Check that the points of an image are called as in the dataset.

        Raises:
            ValueError: If they are not, so that their numbers would mean others.
        """
        for each in file.annotations(ids):
            label, points = file.categories[_id(each["category_id"])]
            meant = self._offer.find_class(label, self._main.labels) or label
            known = self._main.points.get(meant, [])
            if known and points and points != known:
                raise ValueError(
                    f"the points of {label} are {', '.join(points)}, but those of {self._main.name} are "
                    f"{', '.join(known)}, in this order; write them as it does"
                )

    def spell(self, row: Row, renamed: Mapping[str, str]) -> Row:
        self._renamed[row.id] = renamed
        return self._objects.respell(row.id, renamed)

    def said(self, row: Row, files: Sequence[Path]) -> str:
        dropped = files[0].is_relative_to(self._offer.labelled)
        return say_objects(row, self._objects.draw if dropped else self._found.listing.draw)

    def places(self, new: Dropped, image: Path, offer: Offer, contents: Contents) -> tuple[Path, ...]:
        if not self._main.has_names and not all(label.isdecimal() for label in new.row.labels):
            raise ValueError(
                f"{self._main.name} calls its categories by their numbers, so it cannot have "
                f"{', '.join(new.row.labels)}; add categories with names to it"
            )
        return (place_in((self._root / self._first.id).parent, image, contents),)

    def writes_before(self, decided: Decided, offer: Offer) -> list[Write]:
        return []

    def writes(self, decided: Decided, offer: Offer) -> list[Write]:
        """Return the dataset's file, files of what is put aside, and those of the inbox with what stays."""
        taken = [(new, arrival.places[0]) for new, arrival in decided if arrival.fate == "new"]
        for new, place in taken:
            self._add(new, place)
        aside = [
            (new, arrival.places[0]) for new, arrival in decided if arrival.fate not in ("new", "before")
        ]
        leaving: dict[str, set[Id]] = {}
        for new, _ in decided:
            entry = self._entries[new.name]
            leaving.setdefault(entry.file.name, set()).update(entry.ids)
        files = {entry.file.name: entry.file for entry in self._entries.values()}
        return [
            *([self._main.write()] if taken else []),
            *self._write_aside(aside, offer),
            *(files[name].without(ids) for name, ids in leaving.items()),
        ]

    def _add(self, new: Dropped, place: Path) -> None:
        """Add a new image to the dataset's file."""
        entry, first = self._entries[new.name], self._found.written[self._first.id]
        folder = first[: len(first) - len(posixpath.basename(first.replace("\\", "/")))]
        annotations = []
        for each in entry.file.annotations(entry.ids):
            label = entry.file.categories[_id(each["category_id"])][0]
            meant = self._renamed[new.name].get(label, label)
            known = self._offer.find_class(meant, self._main.labels) or meant
            annotations.append((each, known, entry.file.category(each)))
        image = {**entry.file.image(entry.ids[0]), "file_name": f"{folder}{place.name}"}
        self._main.add(image, annotations)

    def _write_aside(self, aside: Sequence[tuple[Dropped, Path]], offer: Offer) -> list[Write]:
        """Return files with the entries of what is put aside, beside it."""
        by_file: dict[str, dict[Id, Path]] = {}
        for new, place in aside:
            entry = self._entries[new.name]
            by_file.setdefault(entry.file.name, {}).update(dict.fromkeys(entry.ids, place))
        writes = []
        for name, places in by_file.items():
            folder = (offer.aside / name).parent
            file = next(each.file for each in self._entries.values() if each.file.name == name)
            paths = {number: os.path.relpath(place, folder) for number, place in places.items()}
            content = file.select({number: path.replace(os.sep, "/") for number, path in paths.items()})
            writes.append(Write(place_aside(offer, name, hashlib.sha256(content).hexdigest()), content))
        return writes

    def notes(self, taken: Sequence[Dropped]) -> list[str]:
        lines = self._objects.explain([new.name for new in taken], crowds="boxes are marked as crowds")
        read = {self._entries[new.name].file.name for new in taken}
        lines += [str(each) for name in sorted(read) for each in self._remarks[name]]
        split = f", whose split is {self._first.split}" if self._first.split else ""
        lines.append(
            f"{self._main.name} has {len(taken)} new images{split}: commit it if git or DVC tracks it"
        )
        return lines


def _id(value: object) -> Id:
    """Return an id that is known to be one."""
    number = read_id(value)
    assert number is not None
    return number

"""New images with .xml files of boxes, for a folder in the form of PASCAL VOC."""

import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar

from temper.data.intake.annotated_inbox import (
    Decided,
    Dropped,
    Inbox,
    first_for_training,
    pair_by_name,
    places_of_pair,
)
from temper.data.intake.dropped_objects import DroppedObjects, say_objects
from temper.data.intake.offer import Arrival, Contents, Offer, Write
from temper.data.source_params import Voc
from temper.data.sources.litter import is_image
from temper.data.sources.voc import DIFFICULT, Annotation, read_annotation, read_folder
from temper.problem import Row


class VocFiles:
    """A folder in the form of PASCAL VOC.

    Args:
        params: Parameters of the source.
        project: Folder of the project.

    Raises:
        ValueError: If it cannot be read.
    """

    truth: ClassVar[str] = "set of boxes"
    counted_as: ClassVar[str] = "with boxes"
    unsorted: ClassVar[tuple[str, str]] = (
        "are images without an .xml file, or .xml files without an image, of the same name",
        "put both of one name into labelled/",
    )
    endings: ClassVar[frozenset[str]] = frozenset({".xml"})

    def __init__(self, params: Voc, project: Path) -> None:
        self._found, self._params = read_folder(params, project), params
        self.rows: Sequence[Row] = self._found.listing.rows
        first = first_for_training(self.rows)
        self._images = self._found.listing.find(first.id).parent
        self._annotations = self._found.annotations[first.id].parent
        self._folder, self._split = PurePosixPath(first.id).parent, first.split
        self._objects = DroppedObjects("boxes", params.boxes_in, Path())

    @property
    def draw(self) -> None:
        return None

    def files(self, row: Row) -> tuple[Path, ...]:
        return (self._found.listing.find(row.id),)

    def read(self, offer: Offer, images: Sequence[str], others: Sequence[str]) -> Inbox:
        pairs, lone = pair_by_name(filter(is_image, images), others)
        inbox = Inbox(lone=[*lone, *(name for name in images if not is_image(name))])
        for image, name in pairs.items():
            try:
                found = self._read_one(offer.labelled / name, name)
            except ValueError as error:
                inbox.refused.append(Arrival(name, "refused", reason=str(error)))
                continue
            row = self._objects.add(image, found.things(self._found.first), found.size)
            inbox.dropped.append(Dropped(row, (image, name)))
        return inbox

    def _read_one(self, path: Path, name: str) -> Annotation:
        """Read an annotation.

        Raises:
            ValueError: If it cannot be read, or would change how the others are read.
        """
        found = read_annotation(path, name)
        if found is None:
            raise ValueError("its first element is not <annotation>, so it holds no boxes of an image")
        if self._params.first_pixel is None and self._found.first and 0 in found.starts:
            raise ValueError(
                "it has a box that begins at pixel 0, but the boxes of the dataset were taken to count from "
                "1, since none begins at 0; with it all of them would move by a pixel: correct it, or set "
                "ingest.first_pixel"
            )
        return found

    def spell(self, row: Row, renamed: Mapping[str, str]) -> Row:
        return self._objects.respell(row.id, renamed)

    def said(self, row: Row, files: Sequence[Path]) -> str:
        return say_objects(row, None)

    def places(self, new: Dropped, image: Path, offer: Offer, contents: Contents) -> tuple[Path, ...]:
        other = offer.labelled / new.files[1]
        pair = places_of_pair(image, self._images, other, self._annotations, contents)
        return pair[:1] if new.renamed else pair

    def writes_before(self, decided: Decided, offer: Offer) -> list[Write]:
        return []

    def writes(self, decided: Decided, offer: Offer) -> list[Write]:
        """Return the annotations of new images whose labels are spelled otherwise."""
        return [
            Write(
                self._annotations / f"{arrival.places[0].stem}.xml",
                _respell((offer.labelled / new.files[1]).read_bytes(), new.renamed),
            )
            for new, arrival in decided
            if arrival.fate == "new" and new.renamed
        ]

    def notes(self, taken: Sequence[Dropped]) -> list[str]:
        lines = self._objects.explain([new.name for new in taken], crowds=DIFFICULT)
        if self._found.listed:
            lines.append(
                f"{len(taken)} new images are in no list of ImageSets/Main, so they are trained with; name "
                "them in a list to validate or test with them"
            )
        elif self._split:
            lines.append(f"{len(taken)} new images went into {self._folder}, whose split is {self._split}")
        return lines


def _respell(content: bytes, renamed: Mapping[str, str]) -> bytes:
    """Return an annotation with other names of its objects."""
    document = ET.fromstring(content)
    for each in document.iterfind("object/name"):
        label = unicodedata.normalize("NFC", (each.text or "").strip())
        each.text = renamed.get(label, label)
    return ET.tostring(document, encoding="utf-8")

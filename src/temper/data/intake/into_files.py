"""Takes new images with their annotations or masks into a dataset whose truth lies in files.

Image and annotation get one name, which contains the digest of the image. Both are in their places before
either of them leaves the inbox; the image arrives last and leaves last, so that an interrupted run is
recognised by it, and no image is in the dataset without its truth.
"""

import glob
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temper.data.intake.annotated_inbox import AnnotatedSet, Dropped
from temper.data.intake.new_rows import explain_new_class, find_unfit, read_labels
from temper.data.intake.offer import Arrival, Contents, Fate, Intake, Offer, place_aside
from temper.problem import Row


@dataclass
class _Dataset:
    """The dataset, with the examples that it gets."""

    main: AnnotatedSet
    contents: Contents
    """Its images."""
    examples: dict[Path, tuple[Row, Sequence[Path]]] = field(default_factory=dict)
    """Image -> its row and files."""

    def alike(self, image: Path) -> list[tuple[Row, Sequence[Path]]]:
        """Return the examples with the same image, byte for byte."""
        return [self.examples[path] for path in self.contents.alike(image) if path in self.examples]


def take_in(kind: type[AnnotatedSet], params: Any, project: Path, offer: Offer) -> Intake:
    """Decide which new images the dataset gets with their truth, and which are put aside or stay.

    Args:
        kind: How the source keeps what is true of its images.
        params: Parameters of the source.
        project: Folder of the project.
        offer: What is in the inbox.

    Raises:
        ValueError: If the dataset cannot be read, or the inbox is inside its folder.
    """
    intake = Intake(kind.truth, kind.unsorted, new_class=explain_new_class(offer), together=True)
    found = offer.found
    others = [name for name in found.companions if Path(name).suffix.lower() in kind.endings]
    intake.leave("litter", sorted({*found.companions} - {*others}))
    if not found.files and not others:
        return intake
    offer.require_apart(project, params.folder)
    main = kind(params, project)
    files = [main.files(row) for row in main.rows]
    dataset = _Dataset(main, Contents(each[0] for each in files))
    dataset.examples = {each[0]: (row, each) for row, each in zip(main.rows, files, strict=True)}
    settled = [name for name in (*found.files, *others) if not offer.is_fresh(offer.labelled / name)]
    read = main.read(offer, found.files, others)
    intake.arrivals += [_leave_refused(each, settled) for each in read.refused]
    intake.arrivals += [_leave_lone(name, dataset, offer, settled) for name in read.lone]
    intake.leave("unsorted", read.missing)
    ready = [each for each in read.dropped if {*each.files, *each.told_by} <= {*settled}]
    intake.leave("fresh", [each.name for each in read.dropped if each not in ready])
    known = _leave_strange(ready, dataset, offer, intake)
    reasons = find_unfit([each.row for each in known], main.rows, offer, main.draw)
    decided = []
    for number, new in enumerate(known):
        arrival = _decide(new, dataset, offer, reasons.get(number))
        intake.arrivals.append(arrival)
        if arrival.files:
            decided.append((new, arrival))
    intake.writes_before += main.writes_before(decided, offer)
    intake.writes += main.writes(decided, offer)
    taken = [new for new, arrival in decided if arrival.fate == "new"]
    intake.notes += main.notes(taken) if taken else []
    return intake


def _leave_refused(arrival: Arrival, settled: Sequence[str]) -> Arrival:
    """Return what becomes of a file that cannot be read: it may still be being copied."""
    return arrival if arrival.name in settled else Arrival(arrival.name, "fresh")


def _leave_lone(name: str, dataset: _Dataset, offer: Offer, settled: Sequence[str]) -> Arrival:
    """Return what becomes of a file that belongs to nothing: perhaps an interrupted run left it."""
    path = offer.labelled / name
    if name not in settled:
        return Arrival(name, "fresh")
    if dataset.contents.holds(path) or _is_aside(name, dataset, offer):
        return Arrival(name, "before", files=(name,))
    if alike := dataset.contents.alike(path):
        place = place_aside(offer, name, dataset.contents.digest(path))
        reason = f"the dataset contains it already: {alike[0]}"
        return Arrival(name, "known", "", reason, (name,), (place,))
    return Arrival(f"labelled/{name}", "unsorted")


def _is_aside(name: str, dataset: _Dataset, offer: Offer) -> bool:
    """Return whether a file was put aside already."""
    path, digest = Path(name), dataset.contents.digest(offer.labelled / name)
    place = place_aside(offer, name, digest)
    others = (offer.aside / path.parent).glob(f"*-{glob.escape(place.name.partition('-')[2])}")
    return any(dataset.contents.digest(each) == digest for each in others)


def _leave_strange(
    dropped: Sequence[Dropped], dataset: _Dataset, offer: Offer, intake: Intake
) -> list[Dropped]:
    """Leave images with labels that the dataset does not have; return the others, spelled as it does."""
    main, known = dataset.main, list[Dropped]()
    others = {label for row in main.rows for label in row.labels}
    labels = read_labels([each.row for each in dropped], others, offer)
    for each in dropped:
        if unknown := labels.unknown(each.row):
            intake.arrivals += [Arrival(each.name, "strange", label) for label in unknown]
            continue
        each.renamed = labels.renamed(each.row)
        each.row = main.spell(labels.spell(each.row), each.renamed)
        intake.renamed |= each.renamed
        known.append(each)
    return known


def _decide(new: Dropped, dataset: _Dataset, offer: Offer, unusable: str | None) -> Arrival:
    """Return what becomes of an image of known classes, and add it to the dataset if it is new."""
    paths, contents, main = [offer.labelled / each for each in new.files], dataset.contents, dataset.main

    def put_aside(fate: Fate, reason: str) -> Arrival:
        # All have one digest, so that they keep one name; it is that of all contents, so that none is lost.
        digest = hashlib.sha256(" ".join(map(contents.digest, paths)).encode()).hexdigest()
        moved = new.files[:1] if new.rewritten else new.files
        places = tuple(place_aside(offer, each, digest) for each in moved)
        return Arrival(new.name, fate, main.counted_as, reason, new.files, places)

    if unusable is not None:
        return put_aside("unusable", unusable)
    alike, said = dataset.alike(paths[0]), main.said(new.row, paths)
    other = next((row.id for row, files in alike if main.said(row, files) != said), None)
    if other is not None:
        return put_aside("disputed", other)
    if alike and contents.holds(paths[0]):
        return Arrival(new.name, "before", main.counted_as, files=new.files)
    if alike:
        return put_aside("known", f"the dataset contains it already: {alike[0][0].id}")
    try:
        places = main.places(new, paths[0], offer, contents)
    except ValueError as error:
        return Arrival(new.name, "refused", reason=str(error))
    contents.add(places[0], paths[0])
    dataset.examples[places[0]] = (new.row, paths)
    return Arrival(new.name, "new", main.counted_as, files=new.files, places=places)

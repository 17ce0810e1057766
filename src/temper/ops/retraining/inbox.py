"""Takes new labelled examples from the inbox, `inbox/labelled`, into the dataset.

The source decides what becomes of each file (`temper.data.intake`). What cannot be taken is moved to
`inbox/aside`, and `inbox/aside/reasons.csv` says why:

- an image that the dataset contains already, byte for byte, in any split;
- an image that the dataset contains with another class or truth: a person must decide which is right;
- a file that is no image, is damaged or is too large, or a truth that prepare would reject.

An interruption at any time neither loses an image nor takes it twice (`intake_steps.py`).
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from temper.config import Params
from temper.ops.project import Project
from temper.ops.retraining.intake_steps import ASIDE, carry_out
from temper.stages import incoming

LABELLED, UNLABELLED = "labelled", "unlabelled"
_SETTLED_S = 2.0
"""Seconds since the last change of a file within which it may still be being copied."""
_NAMED = 3
"""Number of names that a message lists."""


@dataclass
class Taken:
    """The result of importing the inbox."""

    moved: Counter[str] = field(default_factory=Counter)
    """Number of imported examples by class, by the table that contained them, or by what came with them."""
    renamed: dict[str, str] = field(default_factory=dict)
    """Class in the inbox -> class of the dataset whose name differs only in spelling."""
    before: int = 0
    """Number of images that an interrupted run had imported, and that only left the inbox."""
    known: int = 0
    """Number of images put aside because the dataset contains them already."""
    disputed: list[str] = field(default_factory=list)
    """Images put aside because the dataset contains them with another truth, as `image is other image`."""
    truth: str = "truth"
    """What this other truth is called, e.g. `class`."""
    unusable: list[str] = field(default_factory=list)
    """Files put aside because prepare could not use them, as `file: reason`."""
    fresh: int = 0
    """Number of files left in the inbox because they may still be being copied."""
    unsorted: list[str] = field(default_factory=list)
    """Files and folders left in the inbox because they belong to nothing, e.g. to no class folder."""
    why_unsorted: tuple[str, str] = ("are in no folder that is read", f"move them into {LABELLED}/")
    """What is wrong with them, and the way out."""
    litter: list[str] = field(default_factory=list)
    """Files left in the inbox that are hidden, unfinished or the system's, and links without a target."""
    strange: Counter[str] = field(default_factory=Counter)
    """Number of images left in the inbox, by class: the dataset has no such class."""
    why_strange: str = ""
    """What a new class needs."""
    refused: list[str] = field(default_factory=list)
    """Tables and annotations left in the inbox because of an error, as `file: error`."""
    notes: list[str] = field(default_factory=list)
    """What else is said of tables and annotations, each as a line."""

    def words(self) -> str:
        """Return the result as one line, and a line for each file that changes or has an error."""
        parts = [f"{count} {name}" for name, count in sorted(self.moved.items())]
        messages = [
            f"imported {self.moved.total()} new examples from the inbox ({', '.join(parts)})"
            if parts
            else "the inbox contains no new examples"
        ]
        messages += [f"took {old} for the class {new}" for old, new in sorted(self.renamed.items())]
        if self.before:
            messages.append(f"removed {self.before} from the inbox that an interrupted run had imported")
        if self.known:
            messages.append(f"moved {self.known} to aside/ in the inbox: the dataset already contains them")
        if self.disputed:
            messages.append(
                f"moved {len(self.disputed)} to aside/ in the inbox that the dataset contains with another "
                f"{self.truth}: {_list(self.disputed)}"
            )
        if self.unusable:
            messages.append(
                f"moved {len(self.unusable)} to aside/ in the inbox that cannot be read: "
                f"{_list(self.unusable)}"
            )
        if self.fresh:
            messages.append(f"left {self.fresh} that changed within the last {_SETTLED_S:g} s")
        if self.unsorted:
            messages.append(
                f"left {len(self.unsorted)} files or folders that {self.why_unsorted[0]}: "
                f"{_list(self.unsorted)}; {self.why_unsorted[1]}"
            )
        if self.litter:
            messages.append(
                f"left {len(self.litter)} hidden, unfinished, system or other files: {_list(self.litter)}"
            )
        if self.strange:
            names = ", ".join(f"{count} {name}" for name, count in sorted(self.strange.items()))
            messages.append(f"left {names}: the dataset has no such class. {self.why_strange}")
        return "\n".join(["; ".join(messages), *self.notes, *(f"left {each}" for each in self.refused)])


def import_new(project: Project, params: Params) -> Taken:
    """Import what is new in the inbox; call it while holding the project's lock.

    Raises:
        ValueError: If there are images and the source takes none, or cannot take these; if the inbox is
            inside the dataset; or if a table changes at the same time.
    """
    inbox, taken = project.folder / params.retrain.inbox, Taken()
    labelled = inbox / LABELLED
    taken.unsorted = _beside(inbox)
    found = incoming.list_files(str(labelled)) if labelled.is_dir() else incoming.Walk()
    taken.litter = [*found.litter, *found.broken, *found.loops, *found.special, *found.unnamed]
    source = params.ingest.source
    if source not in incoming.TAKE_IN:
        if found.files:
            raise ValueError(
                f"ingest.source = {source}: only {' and '.join(incoming.TAKE_IN)} can take the "
                f"{len(found.files)} files in {labelled}; empty the inbox or change the source"
            )
        return taken
    offer = incoming.make_offer(
        inbox,
        labelled,
        inbox / ASIDE,
        found,
        params,
        is_fresh=_is_fresh,
        new_classes=params.retrain.new_classes == "allow",
    )
    intake = incoming.TAKE_IN[source](params.ingest, project.folder, offer)
    taken.truth, taken.why_unsorted, taken.why_strange = intake.truth, intake.unsorted, intake.new_class
    taken.renamed, taken.notes = intake.renamed, intake.notes
    for arrival in intake.arrivals:
        _count(arrival, taken)
    carry_out(intake, labelled, inbox / ASIDE)
    return taken


def _is_fresh(path: Path) -> bool:
    """Return whether a file may still be being copied."""
    return abs(time.time() - path.stat().st_mtime) < _SETTLED_S


def _count(arrival: incoming.Arrival, taken: Taken) -> None:
    """Add what becomes of a file to the result."""
    name = arrival.name
    match arrival.fate:
        case "new":
            taken.moved[arrival.kind] += 1
        case "before":
            taken.before += 1
        case "known":
            taken.known += 1
        case "disputed":
            taken.disputed.append(f"{name} is {arrival.reason}")
        case "unusable":
            taken.unusable.append(f"{name}: {arrival.reason}")
        case "fresh":
            taken.fresh += 1
        case "unsorted":
            taken.unsorted.append(name)
        case "litter":
            taken.litter.append(name)
        case "strange":
            taken.strange[arrival.kind] += 1
        case "refused":
            taken.refused.append(f"{name}: {arrival.reason}")


def _beside(inbox: Path) -> list[str]:
    """Return the files and folders of the inbox that nothing reads."""
    known = (LABELLED, UNLABELLED, ASIDE)
    children = sorted(inbox.iterdir()) if inbox.is_dir() else []
    return [
        f"{each.name}/" if each.is_dir() else each.name
        for each in children
        if each.name not in known and not incoming.is_litter(each.name, folder=each.is_dir())
    ]


def unlabelled(project: Project, params: Params) -> list[Path]:
    """Return the recent images without labels, the newest last."""
    folder = project.folder / params.retrain.inbox / UNLABELLED
    found = [path for path in _files(folder) if not incoming.is_litter(path.name)]
    return sorted(found, key=lambda path: (path.stat().st_mtime, path.name))


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if path.is_file())


def _list(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")

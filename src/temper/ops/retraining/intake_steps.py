"""Carries out what a source decided about the files in the inbox.

An interruption at any time neither loses an image nor takes it twice. A new image has a name that contains
its digest. A lone image appears under that name by one rename. Where a table gets new rows, or several files
belong together, files appear in their places first, by a link or a copy; then tables and files of annotations
are written, that of the dataset first; only then files leave the inbox. So the next run finds all it needs:
it leaves files that are in their places already, and removes rows from the inbox that the dataset has.
"""

import csv
import errno
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from temper.artifacts import digest_file, flush, write_atomically
from temper.stages import incoming

ASIDE, REASONS = "aside", "reasons.csv"
_PUT_ASIDE = ("known", "disputed", "unusable")
"""What is moved to the folder `aside`."""


def carry_out(intake: incoming.Intake, labelled: Path, aside: Path) -> None:
    """Bring files to their places, write tables, and only then remove files from the inbox.

    Args:
        intake: What the source decided.
        labelled: Folder of the new files.
        aside: Folder of what cannot be taken.

    Raises:
        ValueError: If somebody changes a table or a file of annotations meanwhile.
    """
    explained, copied = _explained(aside), bool(intake.writes) or intake.together
    # The image is named first and leaves last: an interrupted run is recognised by it.
    stamps = {
        name: _stamp(labelled / name) for arrival in intake.arrivals for name in reversed(arrival.files)
    }
    for write in intake.writes_before:
        _write(write)
    for arrival in intake.arrivals:
        # The image arrives last, so that it is never in the dataset without what is true of it.
        for name, place in reversed([*zip(arrival.files, arrival.places, strict=False)]):
            if copied:
                _copy(labelled / name, place)
            else:
                _move(labelled / name, place)
        if arrival.fate in _PUT_ASIDE:
            _explain(arrival, intake.truth, aside, explained)
    if copied:
        for folder in {place.parent for arrival in intake.arrivals for place in arrival.places}:
            flush(folder)
    for write in intake.writes:
        _write(write)
    for name, stamp in stamps.items():
        if stamp and name not in intake.shared and _stamp(labelled / name) == stamp:
            (labelled / name).unlink()


def _stamp(path: Path) -> tuple[int, ...]:
    """Return what changes if a file is replaced by another one; nothing if there is none."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _write(write: incoming.Write) -> None:
    """Write or remove a file that nobody changed meanwhile.

    Raises:
        ValueError: If somebody changed it.
    """
    path = write.path
    if write.digest is not None and (not path.is_file() or digest_file(path) != write.digest):
        raise ValueError(f"{path} changed while the inbox was being imported; run the same command again")
    if write.content is None:
        path.unlink()
        return
    mode = path.stat().st_mode if path.is_file() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, write.content)
    if mode is not None:
        path.chmod(mode)


def _explained(aside: Path) -> set[tuple[str, ...]]:
    """Return the files that are put aside, each with its reason."""
    if not (aside / REASONS).is_file():
        return set()
    with (aside / REASONS).open(encoding="utf-8", newline="") as stream:
        return {tuple(line[:2]) for line in csv.reader(stream)}


def _explain(arrival: incoming.Arrival, truth: str, aside: Path, explained: set[tuple[str, ...]]) -> None:
    """Write why an image is put aside, unless an interrupted run did so."""
    name, reason = arrival.name, arrival.reason
    if arrival.places:
        name = arrival.places[0].relative_to(aside).as_posix()
    if arrival.fate == "disputed":
        reason = f"the dataset contains it with another {truth}: {reason}"
    if (name, reason) in explained:
        return
    aside.mkdir(parents=True, exist_ok=True)
    with (aside / REASONS).open("a", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if not explained:
            writer.writerow(["file", "reason", "time"])
        writer.writerow([name, reason, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())])
    explained |= {("file", "reason"), (name, reason)}


def _copy(path: Path, place: Path) -> None:
    """Make a file appear in a second place, too, by a link if that is possible, completely or not at all."""
    if place.is_file():
        return  # a name with a digest, so an interrupted run or an equal file brought it there
    place.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_symlink():
        with suppress(OSError):  # another disk, or one without links
            place.hardlink_to(path)
            return
    _copy_content(path, place)


def _move(path: Path, place: Path) -> None:
    """Move a file, also to another disk. What a link leads to is copied, and the link is removed.

    The file appears in its place completely or not at all, and the original is removed only then.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_symlink():
        try:
            path.replace(place)
            return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
    _copy_content(path, place)
    path.unlink()


def _copy_content(path: Path, place: Path) -> None:
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    shutil.copyfile(path, temporary)
    flush(temporary)
    temporary.replace(place)
    flush(place.parent)

"""Reads the clips of all rows into one column, in threads, and notes what was decided about them."""

import hashlib
import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from temper.data.dataset.rows import Rows
from temper.data.images.clip_reading import Clip, read_clip
from temper.data.images.levels import CLIPPED
from temper.data.images.reading import Raw, Unreadable
from temper.data.images.store import Store
from temper.data.params import PrepareParams
from temper.data.remark import NAMED, Note, Remark
from temper.inputs.clip_input import ClipInput
from temper.problem import Row
from temper.progress import Bar

_AT_ONCE = 64
_BLANK = Note("noticed", "clips are blank: all their pixels are equal")
_SINGLE = Note(
    "noticed", "clips are files with a single frame, which repeats: nothing moves in them; are they clips?"
)
_GREYED = Note(
    "converted",
    "clips in colour became grey, because all clips were grey when the project was trained first; "
    "prepare.mode: colour decides otherwise",
)


@dataclass
class ClipNotes:
    """What was decided about clips, by numbers of rows."""

    bad: dict[int, str] = field(default_factory=dict)
    """Number of the row -> why its clip cannot be used."""
    notes: dict[Note, list[int]] = field(default_factory=dict)
    """What was changed, left out or noticed -> numbers of the rows."""
    contents: dict[int, bytes] = field(default_factory=dict)
    """Number of the row -> digest of its file, where what is packed may hide that files differ: in clips that
    are blank, or have more than 8 bits."""
    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Number of the row -> height and width of its clip in the file."""
    grey: bool = True
    """Whether no clip has colour."""

    def remarks(self, rows: Rows, bad: Collection[int], params: PrepareParams) -> list[Remark]:
        """Return remarks on the clips, apart from what the settings ask for.

        Args:
            rows: All rows.
            bad: Numbers of the rows that cannot be used.
            params: The settings as the user wrote them.
        """
        asked = {_GREYED: params.mode != "auto", CLIPPED: params.range != "auto"}
        found = []
        for note, all_numbers in self.notes.items():
            numbers = [number for number in all_numbers if number not in bad]
            if numbers and not asked.get(note, False):
                names = rows.table["id"].take(np.asarray(numbers[:NAMED], np.int64)).to_pylist()
                found.append(Remark(*note, len(numbers), tuple(names)))
        return found

    def add(self, number: int, raw: Raw, made: Clip) -> None:
        """Note what is to be said about a clip."""
        blank, wanted = np.ptp(made.pixels) == 0, len(made.pixels)
        counted = {
            _SINGLE: made.count == 1,
            Note(
                "converted",
                f"clips have fewer than {wanted} frames (prepare.clip_frames), some of which repeat",
            ): 1 < made.count < wanted,
            Note(
                "left out",
                f"clips have more than {wanted} frames, of which {wanted} are used, evenly spread; "
                "prepare.clip_frames sets their number",
            ): made.count > wanted,
            _GREYED: made.coloured,
            _BLANK: blank,
        }
        for note in (*made.notes, *(note for note, is_so in counted.items() if is_so)):
            self.notes.setdefault(note, []).append(number)
        if blank or made.wide:
            content = raw if isinstance(raw, bytes) else raw.tobytes()
            self.contents[number] = hashlib.blake2b(content, digest_size=16).digest()
        self.sizes[number] = made.size
        self.grey = self.grey and is_grey(made.pixels)


def read_clips(
    rows: Sequence[Row], store: Store, clip: ClipInput, column: np.ndarray, params: PrepareParams
) -> ClipNotes:
    """Read the clip of each row into a column; return what was decided about them.

    Args:
        rows: The examples.
        store: Files with their clips.
        clip: Number and size of the frames, and how they are read.
        column: Column for the clips, uint8 [rows, frames, height, width, channels].
        params: Limits of the clips.
    """
    found = ClipNotes()

    def read(row: Row) -> tuple[Raw, Clip] | str:
        try:
            raw = store.read(row.path)
            return raw, read_clip(raw, clip, max_pixels=params.max_pixels, max_side_px=params.max_side_px)
        except Unreadable as error:
            return str(error)

    with Bar("prepare", len(rows)) as bar, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for start in range(0, len(rows), _AT_ONCE):
            some = list(rows[start : start + _AT_ONCE])
            for row in some:
                store.open(row.path)
            for number, made in enumerate(pool.map(read, some), start):
                if isinstance(made, str):
                    found.bad[number] = made
                else:
                    column[number] = made[1].pixels
                    found.add(number, *made)
            bar.advance(len(some))
    return found


def is_grey(clip: np.ndarray) -> bool:
    """Return whether all channels of a clip are equal in every pixel."""
    return bool((clip[..., :1] == clip[..., 1:]).all())

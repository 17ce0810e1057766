"""The inputs of all rows besides images, packed as columns: texts, numbers of a table, clips."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from temper.data.dataset.clip_columns import ClipNotes, is_grey, read_clips
from temper.data.dataset.packed import measure
from temper.data.images.store import Store
from temper.data.params import PrepareParams
from temper.inputs.clip_input import ClipInput
from temper.inputs.declared import declare
from temper.inputs.facts import Facts, Input
from temper.inputs.image_input import ImageInput
from temper.inputs.table_input import TableInput
from temper.inputs.text_input import TextInput
from temper.problem import Problem, Row


@dataclass
class GivenColumns:
    """Columns in files in a folder, one for each input that is no picture."""

    facts: Facts
    """These inputs."""
    columns: dict[str, np.ndarray]
    cut: list[int] = field(default_factory=list)
    """Numbers of the rows whose text is longer than what is packed of it."""
    clips: ClipNotes = field(default_factory=ClipNotes)
    """What was decided about clips, if there are any."""

    @classmethod
    def create(cls, facts: Facts, num_rows: int, params: PrepareParams, work: Path) -> "GivenColumns":
        """Create the columns for all rows in the folder `work`."""
        plain = {name: _as_read(each, params) for name, each in facts.items() if not each.picture}
        columns = {
            name: np.asarray(
                np.lib.format.open_memmap(
                    work / f"given-{name}.npy", "w+", each.example(0).dtype, (num_rows, *each.shape)
                )
            )
            for name, each in plain.items()
        }
        return cls(plain, columns)

    def read_files(self, rows: Sequence[Row], store: Store, params: PrepareParams) -> dict[int, str]:
        """Read what lies in files: clips. Return why rows cannot be used, by their number.

        Clips of which none has colour become grey, if the settings leave that to them.
        """
        for name, each in self.facts.items():
            if isinstance(each, ClipInput):
                self.clips = read_clips(rows, store, each, self.columns[name], params)
                if self.clips.grey and params.mode == "auto":
                    self.columns[name] = self.columns[name][..., :1]
                    self.facts = {**self.facts, name: replace(each, channels=1)}
        return self.clips.bad

    def pack(self, number: int, row: Row) -> None:
        """Pack what a row gives besides files.

        Raises:
            ValueError: If an input of the row cannot be packed.
        """
        given = json.loads(row.given or "{}") if self.facts else {}
        for name, each in self.facts.items():
            if each.from_file:
                continue
            self.columns[name][number] = each.decode(given[name])
            if isinstance(each, TextInput) and len(given[name].encode()) > each.length:
                self.cut.append(number)

    def digest(self, number: int, image: bytes) -> str:
        """Return the digest of an example from that of its image, and from what else is given.

        That of a clip without colour does not depend on how many channels it is packed in.
        """
        sha = hashlib.blake2b(image, digest_size=16)
        for name, column in self.columns.items():
            value = column[number]
            if isinstance(self.facts[name], ClipInput):
                value = value[..., :1] if is_grey(value) else value
                sha.update(self.clips.contents.get(number, b""))
            sha.update(value.tobytes())
        return sha.hexdigest()

    def measured(self, numbers: np.ndarray) -> Facts:
        """Return these inputs with the statistics of some rows."""
        return {name: self._measured(name, each, numbers) for name, each in self.facts.items()}

    def _measured(self, name: str, each: Input, numbers: np.ndarray) -> Input:
        if isinstance(each, ClipInput):
            found = measure(self.columns[name], numbers)
            return replace(each, mean=found.mean, std=found.std)
        return each.measured(self.columns[name][numbers]) if isinstance(each, TableInput) else each


def _as_read(given: Input, params: PrepareParams) -> Input:
    """Return an input with the settings by which clips are read; another one as it is."""
    if not isinstance(given, ClipInput):
        return given
    channels = 1 if params.mode == "grey" else 3
    return replace(given, channels=channels, levels=params.levels, background=params.background)


def declare_inputs(problem: Problem, rows: Sequence[Row], params: PrepareParams) -> Facts:
    """Return the inputs of a problem before any example was looked at.

    Raises:
        ValueError: If the rows do not give an input; names it and the way out.
    """
    given = json.loads(rows[0].given or "{}")
    image = ImageInput(params.height_px, params.width_px, 3, fit=params.fit)
    facts = declare(
        problem.inputs, image, text_bytes=params.text_bytes, clip_frames=params.frames, given=given
    )
    for name, each in facts.items():
        if not each.from_file and name not in given:
            raise ValueError(
                f"problem.inputs names {name!r}, which the source does not give; set its columns "
                "(ingest.text, ingest.numbers), or leave it out"
            )
    return facts

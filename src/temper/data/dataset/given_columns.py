"""The inputs of all rows besides images, packed as columns: texts, and numbers of a table."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from temper.data.params import PrepareParams
from temper.inputs.declared import declare
from temper.inputs.facts import Facts
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

    @classmethod
    def create(cls, facts: Facts, num_rows: int, work: Path) -> "GivenColumns":
        """Create the columns for all rows in the folder `work`."""
        plain = {name: each for name, each in facts.items() if not each.picture}
        columns = {
            name: np.asarray(
                np.lib.format.open_memmap(
                    work / f"given-{name}.npy", "w+", each.example(0).dtype, (num_rows, *each.shape)
                )
            )
            for name, each in plain.items()
        }
        return cls(plain, columns)

    def pack(self, number: int, row: Row) -> None:
        """Pack what a row gives.

        Raises:
            ValueError: If an input of the row cannot be packed.
        """
        given = json.loads(row.given or "{}") if self.facts else {}
        for name, each in self.facts.items():
            self.columns[name][number] = each.decode(given[name])
            if isinstance(each, TextInput) and len(given[name].encode()) > each.length:
                self.cut.append(number)

    def digest(self, number: int, image: bytes) -> str:
        """Return the digest of an example from that of its image, and from what else is given."""
        sha = hashlib.blake2b(image, digest_size=16)
        for column in self.columns.values():
            sha.update(column[number].tobytes())
        return sha.hexdigest()

    def measured(self, numbers: np.ndarray) -> Facts:
        """Return these inputs with the statistics of some rows."""
        return {
            name: each.measured(self.columns[name][numbers]) if isinstance(each, TableInput) else each
            for name, each in self.facts.items()
        }


def declare_inputs(problem: Problem, rows: Sequence[Row], params: PrepareParams) -> Facts:
    """Return the inputs of a problem before any example was looked at.

    Raises:
        ValueError: If the rows do not give an input; names it and the way out.
    """
    given = json.loads(rows[0].given or "{}")
    image = ImageInput(params.height_px, params.width_px, 3, fit=params.fit)
    facts = declare(problem.inputs, image, text_bytes=params.text_bytes, given=given)
    for name, each in facts.items():
        if not each.picture and name not in given:
            raise ValueError(
                f"problem.inputs names {name!r}, which the source does not give; set its columns "
                "(ingest.text, ingest.numbers), or leave it out"
            )
    return facts

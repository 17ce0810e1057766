"""Ways to be wrong, of which the report of an evaluation shows the worst examples.

A problem names them, says how wrong each answer is in each of them and, if single entries of its columns can
be right or wrong, which entries are. This module does not import torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Mistake:
    """A way to be wrong."""

    title: str
    """Title of the sheet with the worst examples."""
    text: str
    """What the sheet shows, in a sentence; `{candidate}` is the name of the network."""


WORST: Mapping[str, Mistake] = {
    "mistakes": Mistake("Worst mistakes", "The clean test images on which {candidate} was most wrong.")
}
"""The only way to be wrong of most kinds."""


class Verdict(IntEnum):
    """What became of an entry of the truth, or of an answer."""

    HIDDEN = 0
    """It is not shown: it does not count, or it is no decision."""
    RIGHT = 1
    WRONG = 2
    """Nothing found the true entry, or the answered one is about nothing that is true."""
    CONFUSED = 3
    """The answered entry is about a true one, but says something else, or says it again."""
    UNSURE = 4
    """The answered entry is the best about a true one that was not found, but is no decision."""
    EXCUSED = 5
    """It is neither right nor wrong."""


class Reported(Protocol):
    """What only the report of an evaluation asks of a problem."""

    @property
    def mistakes(self) -> Mapping[str, Mistake]:
        """Ways to be wrong by name; the names are those of files."""

    def errors(self, answer: "Mapping[str, Tensor]", targets: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
        """Return how wrong each example is in each of these ways, shape [batch]; 0 is not wrong at all."""

    def verdicts(
        self, answer: "Mapping[str, Tensor]", targets: "Mapping[str, Tensor]"
    ) -> "tuple[Tensor, Tensor] | None":
        """Return what became of each entry of the ragged columns, as numbers of `Verdict`.

        Returns:
            Those of the truth, [batch, true entries], and of the answer, [batch, answered entries]. None if
            examples are right or wrong as a whole.
        """

    def parts(self, targets: "Mapping[str, Tensor]") -> "Mapping[str, Mapping[str, Tensor]]":
        """Return parts of the truth that the report scores by themselves, such as small objects.

        For each of them, `Problem.tally` counts that part only. Empty parts are left out.
        """

    def caption(self, answer: "Mapping[str, Tensor]", targets: "Mapping[str, Tensor]") -> str:
        """Return a caption for a batch of one example, e.g. `shirt, predicted coat 0.93`."""

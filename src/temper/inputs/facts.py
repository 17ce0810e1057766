"""What an input of a network is: its form in the packed files, in the network and in the deployed file.

An example has one or several inputs: an image or a clip, a text, a row of a table. Stages, loaders, exports
and the server work on all of them alike, by these methods.
"""

from collections.abc import Mapping, Sized
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np

from temper.fields import Field

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Input(Protocol):
    """What is known about an input. Inputs are frozen dataclasses, whose fields are stored as JSON."""

    picture: ClassVar[bool]
    """Whether it consists of pixels, [height, width, channels]: views, stress and near duplicates concern
    only such an input."""
    from_file: ClassVar[bool]
    """Whether it is read from the file of a row; at most one input is. The others are given as values."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an example as it is packed."""

    @property
    def words(self) -> str:
        """What the input is, for reports, e.g. `images of 24 x 24 px in colour`."""

    @property
    def needs(self) -> str:
        """What a model of this input needs, as text; that of another data set needs the same."""

    @property
    def free(self) -> Mapping[int, str]:
        """Axes of a batch that may have any length in the deployed file, by their names."""

    def example(self, batch: int, *, longer: int = 0) -> np.ndarray:
        """Return a batch as it is packed, without content, to try a network or a file with it.

        Args:
            batch: Number of examples.
            longer: By how much the free axes are longer than those of packed examples.
        """

    def decode(self, value: Any) -> np.ndarray:
        """Return a value of JSON as it is packed, e.g. a text or numbers by name.

        Raises:
            ValueError: If the value is of another kind; the message says what is expected.
        """

    def arrange(self, packed: "Tensor") -> "Tensor":
        """Return a batch of packed examples in the form that networks take."""

    def preprocess(self, sent: "Tensor") -> "Tensor":
        """Return a batch that was sent to the deployed file, of any size, in the form that networks take."""

    def as_sent(
        self, answer: "Mapping[str, Tensor]", fields: Mapping[str, Field], sent: "Tensor"
    ) -> "dict[str, Tensor]":
        """Return the columns of an answer that lie elsewhere in what was sent than in what networks see.

        Args:
            answer: Answers to what networks see.
            fields: What the answers contain.
            sent: What was sent, as `preprocess` takes it.
        """

    def describe(self, packed: np.ndarray) -> "dict[str, Tensor]":
        """Return the properties of packed examples that drift is tested in: numbers and vectors by name."""

    def draw(self, packed: np.ndarray) -> np.ndarray:
        """Return a packed example as a picture for sheets, uint8 [height, width, channels]."""


Facts: TypeAlias = Mapping[str, Input]
"""What is known about each input of a problem, by its name and in the order of the deployed file."""


def picture_of(facts: Facts) -> str | None:
    """Return the name of the input that is a picture; None if there is none."""
    return next((name for name, each in facts.items() if each.picture), None)


def file_of(facts: Facts) -> str | None:
    """Return the name of the input that is read from a file; None if there is none."""
    return next((name for name, each in facts.items() if each.from_file), None)


def as_networks_take(columns: "Mapping[str, Tensor]", facts: Facts) -> "dict[str, Tensor]":
    """Return the inputs among packed columns in the form that networks take."""
    return {name: each.arrange(columns[name]) for name, each in facts.items()}


def try_out(facts: Facts, batch: int = 1) -> "dict[str, Tensor]":
    """Return inputs without content, in the form that networks take."""
    import torch

    examples = {name: torch.from_numpy(each.example(batch)) for name, each in facts.items()}
    return as_networks_take(examples, facts)


def draw(example: Mapping[str, np.ndarray], facts: Facts) -> np.ndarray:
    """Return a packed example as a picture for sheets; several inputs are side by side, equally high."""
    drawn = [each.draw(example[name]) for name, each in facts.items()]
    if len(drawn) == 1:
        return drawn[0]
    height, parts = max(len(each) for each in drawn), []
    for each in drawn:
        width = max(1, each.shape[1] * height // len(each))
        rows, columns = np.arange(height) * len(each) // height, np.arange(width) * each.shape[1] // width
        parts.append(np.broadcast_to(each[rows][:, columns], (height, width, 3)))
    return np.concatenate(parts, axis=1)


def count_examples(columns: Mapping[str, Sized]) -> int:
    """Return the number of examples in columns, [examples, ...] each."""
    return len(next(iter(columns.values())))


def count_values(facts: Facts) -> int:
    """Return the number of values of an example in all its inputs."""
    return sum(int(np.prod(each.shape)) for each in facts.values())

"""The interface between stages and problems, and the types that all packages share.

A *problem* is a kind of question about an example: which class, which classes, or which class at each pixel.
Stages do not branch on the kind of problem: they call the methods of `Problem`. `docs/extend.md` explains
how to add one. This module does not import torch, so that stages that only move files need not wait for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from temper.fields import Field, Frame, View
from temper.mistakes import Reported
from temper.taught import Taught

if TYPE_CHECKING:
    from torch import Tensor, nn

Inputs: TypeAlias = "Mapping[str, Tensor]"
"""Inputs of the network, e.g. `image` (float or uint8 pixels 0..255, [batch, channels, height, width])."""
Targets: TypeAlias = "Mapping[str, Tensor]"
"""Ground truth of a batch."""
Outputs: TypeAlias = "Mapping[str, Tensor]"
"""Raw outputs of the network, with the same keys in training, evaluation and export."""
Answer: TypeAlias = "Mapping[str, Tensor]"
"""Predictions made from the outputs by `Problem.read`. The deployed file returns them."""
Columns: TypeAlias = Mapping[str, np.ndarray]
"""One example as in the packed files, or a whole split with the examples along the first axis."""
Objective: TypeAlias = "Callable[[nn.Module, Batch], Mapping[str, Tensor]]"
"""`(network, batch) -> {"loss": scalar, "<term>": scalar, ...}`, for supervised training and distillation."""


SHARE = "share"
"""Unit of scores from 0 to 1, which pages show in per cent."""


@dataclass(frozen=True)
class Headline:
    """The score by which stages compare networks of a problem."""

    name: str
    """Key of the score in the result of `Problem.score`, e.g. `accuracy`."""
    greater_is_better: bool = True
    unit: str = SHARE
    """What the score is measured in."""

    @property
    def title(self) -> str:
        """Name and unit, as the heading of a column."""
        return self.name if self.unit == SHARE else f"{self.name}, {self.unit}"


@dataclass(frozen=True, slots=True)
class Row:
    """One example as its source describes it, before anything is decoded."""

    id: str
    """Name of the example, unique in the dataset and equal in every fetch."""
    path: str
    """Place of the image in ingest's artifact: `file`, `archive.zip/member` or `file.gz#index`. Without an
    image, the id again."""
    labels: tuple[str, ...] = ()
    """Names of the classes that the image shows: one for multiclass, any number for multilabel."""
    mask: str | None = None
    """Place of the mask, in the same form as `path`. A mask has one class number per pixel, 255 for pixels
    that do not count."""
    split: str | None = None
    """`train`, `validation` or `test` if the source fixes the split, otherwise None."""
    group: str | None = None
    """Name of a group (e.g. a patient or a scene). All examples of a group are in the same split."""
    truth: str | None = None
    """What else is true of the example, as JSON for its problem and `data/counted.py`."""
    given: str | None = None
    """What is given besides files, as JSON by the name of the input: a text, numbers by name."""


@dataclass(frozen=True)
class Batch:
    """A whole batch on the training device."""

    inputs: Inputs
    targets: Targets
    weights: "Tensor"
    """Weight of each example in the loss, mean 1 over the dataset, shape [batch]."""
    others: "Targets | None" = None
    """Targets of the examples that were mixed in (mixup, CutMix), or None if nothing was mixed."""
    shares: "Tensor | None" = None
    """Share of `targets` if `others` is set, shape [batch], 0..1."""
    keys: "Tensor | None" = None
    """Number of each draw of the training, shape [batch], whatever the number of ranks: what is random inside
    a loss or a network derives from it, and the loss of an example has a name by it."""


@dataclass(frozen=True)
class Emphasis:
    """Options of the loss that training may set. By default, none is active."""

    smoothing: float = 0.0
    """Label smoothing: share of the target that is spread evenly over the classes, 0..1."""
    offsets: tuple[float, ...] = ()
    """Offset of each class's logit (logit adjustment), in training only, in nats; empty for none."""
    costs: tuple[tuple[float, ...], ...] = ()
    """Cost of each confusion, `costs[true][predicted]`; empty for none. The loss adds the expected cost."""


PLAIN = Emphasis()
Option = Literal["smoothing", "offsets", "costs"]
"""Options of `Emphasis`."""


class Backbone(Protocol):
    """A network without its head, from an input to feature maps, each [batch, channels, rows, columns].

    The maps of a text have one row, and those of a table one cell.
    """

    num_channels: tuple[int, ...]
    """Channels of each feature map, finest first."""
    strides: tuple[int, ...]
    """Pixels of the image per cell of each feature map, finest first."""

    def __call__(self, given: "Tensor") -> "list[Tensor]": ...


@runtime_checkable
class Problem(Taught, Reported, Protocol):
    """A kind of question about an image. Kinds are frozen dataclasses, and their fields are their YAML."""

    kind: str
    classes: tuple[str, ...]
    """Names of the classes in the order of the network's outputs. Empty if `bind` must still read them from
    the data."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs that the network sees, in the order of the deployed file."""

    @property
    def headline(self) -> Headline:
        """The score by which stages compare networks."""

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of all scores that `score` returns, in the same order.

        They are known without torch, so that a rule about another score is rejected early.
        """

    @property
    def truth(self) -> Mapping[str, Field]:
        """Columns of the targets. What lies in the image moves with it: in flips, crops, policies."""

    @property
    def keeps(self) -> frozenset[View]:
        """Views after which the truth is still true; params.yaml may turn on no other."""

    @property
    def emphases(self) -> frozenset[Option]:
        """Options of the loss that are defined; params.yaml may turn on no other."""

    @property
    def answer(self) -> Mapping[str, Field]:
        """Entries of the answer, in the order of `read`: the server and drift know what they contain."""

    def bind(self, rows: Sequence[Row]) -> "Problem":
        """Return the same problem, completed with the class names from the data.

        Raises:
            ValueError: If the rows do not fit the problem: no labels, a single class, unknown labels, no
                masks.
        """

    def pack(self, row: Row, images: Mapping[str, np.ndarray], frame: Frame) -> Columns:
        """Return the ground truth of one example as columns. Called once per example, in prepare.

        Args:
            row: The example.
            images: Decoded images of unified size: `image` (uint8 [height, width, channels]) and, if the
                row has one, `mask` (uint8 [height, width]).
            frame: Where the unified image lies in the image of the file.

        Raises:
            ValueError: If the example's ground truth is not valid, e.g. a mask has an unknown class number.
        """

    def settle(self, columns: Columns, facts: Mapping[str, Any]) -> "tuple[Problem, list[str]]":
        """Return the problem, completed by what the training split shows, and what is said about it.

        Called once, after all examples were packed and split.

        Args:
            columns: Columns of the training split.
            facts: Facts about the inputs.
        """

    def strata(self, columns: Columns) -> frozenset[str]:
        """Return the strata of an example, which rebalancing and stratified splitting count; never empty.

        They are the names of its classes, or a special name if it has none.
        """

    @property
    def rare(self) -> bool:
        """Whether a split may lack a stratum, as an item of which there is a single image."""

    head: ClassVar[type[Any]]
    """Dataclass of what params.yaml may set on the head."""

    def network(self, encoders: Mapping[str, Backbone], head: Any = None) -> "nn.Module":
        """Return encoders and head as one module, `Inputs -> Outputs`.

        Its attribute `backbone` is the encoder of the first input.

        Args:
            encoders: Encoder of each input.
            head: Settings of the type `head`; None for its defaults.
        """

    def loss(self, outputs: Outputs, targets: Targets, emphasis: Emphasis = PLAIN) -> "Tensor":
        """Return the loss of each example, not reduced, shape [batch], in nats.

        Raises:
            ValueError: If `emphasis` sets an option that is not among `emphases`.
        """

    def read(self, outputs: Outputs) -> Answer:
        """Convert outputs to predictions (probabilities, classes), as part of the exported graph."""

    def tally(self, answer: Answer, targets: Targets) -> "Tensor":
        """Return the counts that each example adds to the scores, shape [batch, counts].

        `score` turns sums of them into scores.
        """

    def score(self, totals: "Tensor") -> "dict[str, Tensor]":
        """Compute scores from summed tallies.

        Args:
            totals: Sums of tallies, shape [..., counts].

        Returns:
            Scores by name, each of shape [...], the headline among them.
        """

    def constant(self, counts: Mapping[str, int]) -> tuple[str, dict[str, float]] | None:
        """Return the best answer that looks at no image, and its scores.

        Args:
            counts: Number of examples by stratum.

        Returns:
            The answer as text, and its scores by name, the headline among them: a model must exceed one of
            them. None if the strata do not determine them.
        """

    def confusion(self, answer: Answer, targets: Targets) -> "Tensor | None":
        """Count true classes (rows) by predicted ones (columns), [classes, classes]; None without classes."""

    def error(self, answer: Answer, targets: Targets) -> "Tensor":
        """Return how wrong each prediction is, shape [batch], from 0 (correct and certain) to 1."""

    def gap(self, ours: Answer, theirs: Answer) -> "Tensor":
        """Return by how much two answers differ, shape [batch], 0 to 1: also where no decision changes.

        Parity of the exported file and the drift of int8 networks are measured by it.
        """

    def changed(self, ours: Answer, theirs: Answer) -> "Tensor":
        """Return the share of the decisions about each image in which two answers differ, shape [batch]."""

"""The seam: the words every room speaks, and the questions a stage may ask of a problem.

A *problem* is a kind of question put to an image: which class, which classes, which class at each pixel. Stages never
guess what kind they serve; they ask. Everything a stage asks stands in `Problem`, and `docs/add-a-problem.md` walks
through it. This module imports no torch, so that stages which only move files never wait for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

Inputs: TypeAlias = "Mapping[str, Tensor]"
"""What the network sees, e.g. `image` (float or uint8 pixels 0..255, [batch, channels, height, width])."""
Targets: TypeAlias = "Mapping[str, Tensor]"
"""What is true."""
Outputs: TypeAlias = "Mapping[str, Tensor]"
"""What the network says: raw, the same keys in training, evaluation and export."""
Answer: TypeAlias = "Mapping[str, Tensor]"
"""What the outputs mean, as `Problem.read` gives it and as the deployed file returns it."""
Columns: TypeAlias = Mapping[str, np.ndarray]
"""One example, or a whole split with a leading axis, as it lies in the packed files."""
Objective: TypeAlias = "Callable[[nn.Module, Batch], Mapping[str, Tensor]]"
"""`(network, batch) -> {"loss": scalar, "<term>": scalar, ...}`; supervised training and distillation are objectives."""


@dataclass(frozen=True)
class Headline:
    """The one score by which stages compare networks of a problem."""

    name: str
    """Its key in what the meter computes, e.g. `accuracy`."""
    greater_is_better: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One example as its source describes it, before anything was decoded."""

    id: str
    """Unique within the data set and stable from fetch to fetch."""
    path: str
    """Where the image lies inside ingest's artifact: `file`, `archive.zip/member` or `file.gz#index`."""
    labels: tuple[str, ...] = ()
    """Names of what it shows: one for multiclass, any number for multilabel."""
    mask: str | None = None
    """Where its mask lies, like `path`: one class number per pixel, 255 for pixels that do not count."""
    split: str | None = None
    """`train`, `validation` or `test` where the source fixes it, else None."""
    group: str | None = None
    """Examples of one group (a patient, a scene) never cross splits."""


@dataclass(frozen=True)
class Batch:
    """A whole batch on the training device."""

    inputs: Inputs
    targets: Targets
    weights: "Tensor"
    """How much each example counts, mean 1 over the data set, shape [batch]."""
    others: "Targets | None" = None
    """Targets of the examples mixed in (mixup, cutmix), or None where nothing was mixed."""
    shares: "Tensor | None" = None
    """Share of the first targets where `others` is set, shape [batch], 0..1."""


@dataclass(frozen=True)
class Emphasis:
    """What training may ask of a loss beyond being right; the default asks nothing."""

    smoothing: float = 0.0
    """Label smoothing: share of the truth spread evenly over the classes, 0..1."""
    offsets: tuple[float, ...] = ()
    """Added to each class's logit in training only (logit adjustment), nats; empty for none."""
    costs: tuple[tuple[float, ...], ...] = ()
    """`costs[true][said]`: what a confusion costs; adds the expected cost to the loss. Empty for none."""


PLAIN = Emphasis()


Attention = Literal["none", "se", "eca", "cbam"]
"""Blocks that weigh feature maps by what they hold: squeeze-and-excitation, efficient channel attention, CBAM."""


@dataclass(frozen=True, kw_only=True)
class HeadParams:
    """How a classifier makes one vector of the coarsest feature maps; networks that answer with a map have no such vector."""

    attention: Attention = "none"
    """Weighs the maps before they are pooled."""
    pooling: Literal["average", "max", "average-and-max", "gem", "attention"] = "average"
    """`gem` is the generalised mean with a learned exponent; `attention` a mean with learned weights of the places."""


PLAIN_HEAD = HeadParams()


class Backbone(Protocol):
    """A network without its head: images in, feature maps out."""

    num_channels: tuple[int, ...]
    """Channels of each feature map, finest first."""
    strides: tuple[int, ...]
    """Pixels of the image per cell of each feature map, finest first."""

    def __call__(self, image: "Tensor") -> "list[Tensor]": ...


@runtime_checkable
class Problem(Protocol):
    """A kind of question put to an image. Members are frozen dataclasses whose fields are their YAML."""

    kind: str
    classes: tuple[str, ...]
    """Names of the classes in the order of the network's outputs; empty until `bind` read them from the data."""

    @property
    def headline(self) -> Headline:
        """The one score stages compare by."""

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of all that `score` tells, in its order; known without torch, so that a rule about another is refused early."""

    @property
    def spatial(self) -> frozenset[str]:
        """Target keys laid out like the image, [batch, height, width]: they flip, crop and paste along with it."""

    def bind(self, rows: Sequence[Row]) -> "Problem":
        """The same question with what only the data can tell filled in (class names).

        Raises:
            ValueError: If the rows cannot be asked this question: no labels, a single class, unknown labels, no masks.
        """

    def pack(self, row: Row, images: Mapping[str, np.ndarray]) -> Columns:
        """How one example's truth becomes columns, once, in prepare; `images` holds what was decoded, unified in size.

        Args:
            row: The example.
            images: `image` (uint8 [height, width, channels]) and, where the row names one, `mask` (uint8 [height, width]).
        """

    def strata(self, columns: Columns) -> frozenset[str]:
        """What rebalancing and stratified splitting count: names of classes, or one name of its own for none; never empty."""

    def network(self, backbone: Backbone, head: HeadParams = PLAIN_HEAD) -> "nn.Module":
        """Backbone and head as one module: `Inputs -> Outputs`; the backbone is its attribute `backbone`.

        Raises:
            ValueError: If the problem's networks cannot have such a head.
        """

    def loss(self, outputs: Outputs, targets: Targets, emphasis: Emphasis = PLAIN) -> "Tensor":
        """How wrong, per example, shape [batch], not reduced, nats."""

    def distance(self, outputs: Outputs, reference: Outputs, *, temperature: float = 1.0) -> "Tensor":
        """How far from another network's outputs, per example, shape [batch]; 0 where they agree, gradient only to the first."""

    def soften(self, outputs: Outputs, temperature: float) -> Outputs:
        """The same outputs, less sure of themselves by `temperature` (1 changes nothing)."""

    def standardize(self, outputs: Outputs) -> Outputs:
        """Outputs freed of scale and offset (z-scored logits), for distillation between networks of unlike confidence."""

    @property
    def standardized_share(self) -> float:
        """Of the directions in which outputs can differ, the share that `standardize` keeps, 0..1; distillation compares the rest raw."""

    def read(self, outputs: Outputs) -> Answer:
        """What the outputs mean: probabilities, classes; part of the exported graph."""

    def tally(self, answer: Answer, targets: Targets) -> "Tensor":
        """What one example adds to the scores, shape [batch, counts]; `score` turns sums of it into scores."""

    def score(self, totals: "Tensor") -> "dict[str, Tensor]":
        """Scores by name from summed tallies of shape [..., counts]; each of shape [...]. Holds the headline's name."""

    def confusion(self, answer: Answer, targets: Targets) -> "Tensor":
        """How often each true class (row) was answered with each class (column), shape [classes, classes]."""

    def error(self, answer: Answer, targets: Targets) -> "Tensor":
        """How wrong each answer is, shape [batch], 0 (right and sure) to 1: orders the sheet of worst mistakes."""

    def decide(self, answer: Answer) -> "Tensor":
        """What is done by the answer, as whole numbers, shape [batch, ...]: equal where two networks decide alike."""

    def caption(self, answer: Answer, targets: Targets) -> str:
        """One line under an image, e.g. `shirt, said coat 0.93`; takes a batch of one."""


@dataclass(frozen=True)
class Facts:
    """What the data tell the networks: shape of the images and their statistics."""

    height_px: int
    width_px: int
    channels: int
    mean: tuple[float, ...] = field(default=())
    """Per channel, pixels 0..255, over the training split."""
    std: tuple[float, ...] = field(default=())
    """Per channel, pixels 0..255, over the training split."""

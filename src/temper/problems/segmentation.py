"""Segmentation: which class does each pixel show?"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from temper.fields import VIEWS, Field, Frame, InputName, View
from temper.networks.head_params import PixelPyramidParams
from temper.problem import (
    PLAIN,
    Answer,
    Backbone,
    Columns,
    Emphasis,
    Headline,
    Option,
    Outputs,
    Row,
    Targets,
)
from temper.problems import choices
from temper.problems.classes import merged_labels
from temper.problems.defaults import Defaults
from temper.problems.gaps import largest_gap

if TYPE_CHECKING:
    from torch import Tensor, nn

_MANY = 8
"""Number of unknown numbers in a mask from which on they are no class numbers."""
IGNORED = 255
"""Value of pixels of a mask that do not count; the same number as in `temper.maths.losses`."""
BACKGROUND = "background"
"""Name of class 0 in masks that are drawn of outlines, if no outline has it."""
NOTHING = "(all ignored)"
"""Stratum of examples in which all pixels are ignored."""


@dataclass(frozen=True, kw_only=True)
class Segmentation(Defaults):
    """One class per pixel.

    The target `mask` and the answer `classes` are [batch, height, width], the output `logits` is
    [batch, classes, height, width].
    """

    head: ClassVar[type[PixelPyramidParams]] = PixelPyramidParams
    inputs: ClassVar[tuple[InputName, ...]] = ("image",)
    kind: Literal["segmentation"]
    classes: tuple[str, ...] = ()
    """Names of the class numbers in the masks, from 0. Pixels with 255 do not count. Left out if
    `prepare.mask_values` names them, or if ingest draws the masks of outlines."""

    @property
    def headline(self) -> Headline:
        return Headline("mean_iou")

    @property
    def scores(self) -> tuple[str, ...]:
        return ("mean_iou", "mean_dice", "pixel_accuracy")

    @property
    def truth(self) -> Mapping[str, Field]:
        return {"mask": Field("map", names=self.classes)}

    @property
    def keeps(self) -> frozenset[View]:
        return VIEWS

    @property
    def emphases(self) -> frozenset[Option]:
        return frozenset({"smoothing", "offsets", "costs"})

    @property
    def answer(self) -> Mapping[str, Field]:
        return {"classes": Field("map", names=self.classes)}

    def bind(self, rows: Sequence[Row]) -> "Segmentation":
        classes = _drawn_classes(rows, self.classes)
        if len(classes) < 2:
            raise ValueError(
                f"problem.classes = {list(classes)}: segmentation needs at least two classes; "
                "name the classes in the order of their numbers, background first, or give names in "
                "prepare.mask_values"
            )
        missing = [row.path for row in rows if row.mask is None]
        if missing:
            raise ValueError(
                f"images without a mask: {len(missing)}, the first one is {missing[0]}; segmentation needs "
                "one mask per image (of outlines in annotations, ingest.truth: masks draws them)"
            )
        return replace(self, classes=classes)

    def pack(self, row: Row, images: Mapping[str, np.ndarray], frame: Frame) -> Columns:
        mask = images["mask"]
        unknown = mask[(mask >= len(self.classes)) & (mask != IGNORED)]
        if unknown.size:
            raise ValueError(
                f"{row.mask} contains class number {int(unknown.flat[0])}, but the numbers of "
                f"problem.classes are 0 to {len(self.classes) - 1} (255 is ignored); {_way_out(unknown)}"
            )
        return {"mask": mask}

    def strata(self, columns: Columns) -> frozenset[str]:
        shown = np.unique(columns["mask"])
        return frozenset(self.classes[number] for number in shown if number != IGNORED) or frozenset(
            {NOTHING}
        )

    def network(
        self, encoders: Mapping[str, Backbone], head: PixelPyramidParams | None = None
    ) -> "nn.Module":
        from temper.networks.heads import Segmenter

        return Segmenter(encoders, num_classes=len(self.classes), params=head or PixelPyramidParams())

    def loss(self, outputs: Outputs, targets: Targets, emphasis: Emphasis = PLAIN) -> "Tensor":
        return choices.loss(outputs, targets["mask"], emphasis)

    def distance(self, outputs: Outputs, reference: Outputs, *, temperature: float = 1.0) -> "Tensor":
        return choices.distance(outputs, reference, temperature)

    def soften(self, outputs: Outputs, temperature: float) -> Outputs:
        return {"logits": outputs["logits"] / temperature}

    def standardize(self, outputs: Outputs) -> Outputs:
        return choices.standardize(outputs)

    @property
    def standardized_share(self) -> float:
        return choices.standardized_share(len(self.classes))

    def read(self, outputs: Outputs) -> Answer:
        return {"classes": outputs["logits"].argmax(dim=1)}

    def tally(self, answer: Answer, targets: Targets) -> "Tensor":
        """Return three pixel counts by class, [batch, counts].

        They are the pixels that have this class and were predicted as it, those that were predicted as it,
        and those that have it.
        """
        import torch

        valid = targets["mask"] != IGNORED
        by_class = []
        for number in range(len(self.classes)):
            true = (targets["mask"] == number) & valid
            predicted = (answer["classes"] == number) & valid
            by_class.append(
                torch.stack([(true & predicted).sum((1, 2)), predicted.sum((1, 2)), true.sum((1, 2))])
            )
        return torch.stack(by_class, dim=-1).permute(1, 0, 2).flatten(1).double()

    def score(self, totals: "Tensor") -> "dict[str, Tensor]":
        from temper.maths.tallies import mean_where, share

        both, predicted, true = totals.chunk(3, dim=-1)
        seen = (predicted + true) > 0
        return {
            "mean_iou": mean_where(share(both, predicted + true - both), seen),
            "mean_dice": mean_where(share(2 * both, predicted + true), seen),
            "pixel_accuracy": share(both.sum(dim=-1), true.sum(dim=-1)),
        }

    def constant(self, counts: Mapping[str, int]) -> tuple[str, dict[str, float]] | None:
        """Return None: the strata of an example are not its whole truth."""

    def confusion(self, answer: Answer, targets: Targets) -> "Tensor":
        """Count the pixels of each true class (row) that were predicted as each class (column)."""
        from temper.maths.tallies import count_pairs

        valid = targets["mask"] != IGNORED
        return count_pairs(targets["mask"][valid].long(), answer["classes"][valid].long(), len(self.classes))

    def error(self, answer: Answer, targets: Targets) -> "Tensor":
        """Return the share of wrong pixels."""
        valid = targets["mask"] != IGNORED
        wrong = ((answer["classes"] != targets["mask"]) & valid).sum((1, 2)).double()
        return wrong / valid.sum((1, 2)).clamp(min=1)

    def gap(self, ours: Answer, theirs: Answer) -> "Tensor":
        return largest_gap(ours, theirs)

    def changed(self, ours: Answer, theirs: Answer) -> "Tensor":
        return largest_gap(ours, theirs)

    def caption(self, answer: Answer, targets: Targets) -> str:
        shown = self.strata({name: value[0].numpy() for name, value in targets.items()})
        return f"{' + '.join(sorted(shown))}, {float(self.error(answer, targets)[0]):.0%} of pixels wrong"


def _drawn_classes(rows: Sequence[Row], named: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the classes: those of params.yaml or, without them, those of drawn masks.

    Args:
        rows: The examples. The truth of a drawn mask says the numbers of the labels in it.
        named: Names in params.yaml, which must be those of drawn masks.

    Raises:
        ValueError: If they are others, so that numbers would have wrong names.
    """
    numbers: dict[str, int] = {}
    for row in rows:
        numbers |= json.loads(row.truth or "{}").get("numbers", {})
    if not numbers:
        return named
    drawn = {number: label for label, number in numbers.items()}
    listed = tuple(drawn.get(number, BACKGROUND) for number in range(max(drawn) + 1))
    merged = merged_labels(named, listed[1:])
    if named and tuple(merged.get(label, label) for label in listed[1:]) != named[1:]:
        raise ValueError(
            f"problem.classes = {list(named)}, but ingest drew masks with the classes {list(listed)}; write "
            "them in this order, or leave problem.classes out"
        )
    return named or listed


def _way_out(unknown: np.ndarray) -> str:
    """Return what to do about a mask with unknown numbers."""
    if len(np.unique(unknown)) >= _MANY:
        return (
            "it has many such numbers: it is blurred (by resizing, or as a JPEG), numbers objects instead of "
            "classes, or is a photograph (are images and masks confused?); make it anew, with one number "
            "per class, as a PNG"
        )
    return (
        "add the name there or, if masks number classes otherwise, set prepare.mask_values, for example "
        f"{{{int(unknown.flat[0])}: 1}} (JPEGs blur the numbers: store masks as PNG)"
    )

"""Multilabel classification: which of several classes does the image show? It may show any number of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import pydantic

from temper.fields import Field, Frame, View
from temper.networks.head_params import PoolingParams
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
from temper.problems.classes import bind_classes
from temper.problems.defaults import Defaults
from temper.problems.gaps import largest_gap
from temper.problems.several_inputs import AnyInputs, kept_views

if TYPE_CHECKING:
    from torch import Tensor, nn

NOTHING = "(none)"
"""Stratum of examples that show no class."""


@dataclass(frozen=True, kw_only=True)
class Multilabel(Defaults):
    """Any number of classes per image.

    The target is `labels` (0 or 1), the output `logits` and the answer `probabilities`, all [batch, classes].
    """

    head: ClassVar[type[PoolingParams]] = PoolingParams
    kind: Literal["multilabel"]
    inputs: AnyInputs = ("image",)
    """What the network sees of an example: image, text, table, or several of them."""
    classes: tuple[str, ...] = ()
    """Names of the classes in the order of the outputs. If left out, they are read from the data and
    sorted."""
    threshold: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.5
    """Smallest probability with which a class is predicted."""

    @property
    def headline(self) -> Headline:
        return Headline("macro_f1")

    @property
    def scores(self) -> tuple[str, ...]:
        return ("macro_f1", "micro_f1", "exact_match")

    @property
    def truth(self) -> Mapping[str, Field]:
        return {"labels": Field(names=self.classes, threshold=0.5)}

    @property
    def keeps(self) -> frozenset[View]:
        return kept_views(self.inputs)

    @property
    def emphases(self) -> frozenset[Option]:
        return frozenset({"smoothing", "offsets"})

    @property
    def answer(self) -> Mapping[str, Field]:
        return {"probabilities": Field(names=self.classes, threshold=self.threshold)}

    def bind(self, rows: Sequence[Row]) -> "Multilabel":
        classes = bind_classes(self.classes, rows, least=1)
        if len(classes) == 1 and all(row.labels for row in rows):
            raise ValueError(
                f"every example has the label {classes[0]!r}, and there is no other class; "
                "add examples without this label"
            )
        return replace(self, classes=classes)

    def pack(self, row: Row, images: Mapping[str, np.ndarray], frame: Frame) -> Columns:
        return {"labels": np.asarray([name in row.labels for name in self.classes], dtype=np.float32)}

    def strata(self, columns: Columns) -> frozenset[str]:
        shown = frozenset(name for name, yes in zip(self.classes, columns["labels"], strict=True) if yes)
        return shown or frozenset({NOTHING})

    def network(self, encoders: Mapping[str, Backbone], head: PoolingParams | None = None) -> "nn.Module":
        from temper.networks.heads import Classifier

        return Classifier(encoders, num_classes=len(self.classes), params=head or PoolingParams())

    def loss(self, outputs: Outputs, targets: Targets, emphasis: Emphasis = PLAIN) -> "Tensor":
        from temper.maths.losses import binary_cross_entropy

        if emphasis.costs:
            raise ValueError(
                "a cost matrix is not defined for several labels per image; "
                "set augment.balance.method to weights"
            )
        return binary_cross_entropy(
            outputs["logits"],
            targets["labels"],
            smoothing=emphasis.smoothing,
            offsets=emphasis.offsets,
        )

    def distance(self, outputs: Outputs, reference: Outputs, *, temperature: float = 1.0) -> "Tensor":
        from temper.maths.distances import sigmoid_kl

        return sigmoid_kl(outputs["logits"], reference["logits"], temperature=temperature)

    def soften(self, outputs: Outputs, temperature: float) -> Outputs:
        return {"logits": outputs["logits"] / temperature}

    def standardize(self, outputs: Outputs) -> Outputs:
        from temper.maths.distances import unit_scale

        return {"logits": unit_scale(outputs["logits"])}

    @property
    def standardized_share(self) -> float:
        return (len(self.classes) - 1) / len(self.classes)  # all but the scale

    def read(self, outputs: Outputs) -> Answer:
        return {"probabilities": outputs["logits"].float().sigmoid()}

    def tally(self, answer: Answer, targets: Targets) -> "Tensor":
        """Return the counts of each example, [batch, counts].

        They are true positives, false positives and false negatives by class, then whether all classes are
        correct, then 1.
        """
        import torch

        true = targets["labels"] > 0.5
        predicted = answer["probabilities"] >= self.threshold
        exact = (true == predicted).all(dim=1, keepdim=True)
        counts = [true & predicted, ~true & predicted, true & ~predicted, exact, torch.ones_like(exact)]
        return torch.cat(counts, dim=1).double()

    def score(self, totals: "Tensor") -> "dict[str, Tensor]":
        from temper.maths.tallies import mean_where, share

        size = len(self.classes)
        hits, false, missed = (totals[..., start : start + size] for start in range(0, 3 * size, size))
        shown = hits + missed
        f1 = share(2 * hits, 2 * hits + false + missed)
        return {
            "macro_f1": mean_where(f1, (shown + false) > 0),
            "micro_f1": share(2 * hits.sum(-1), (2 * hits + false + missed).sum(-1)),
            "exact_match": share(totals[..., -2], totals[..., -1]),
        }

    def constant(self, counts: Mapping[str, int]) -> tuple[str, dict[str, float]] | None:
        """Return None: the strata of an example are not its whole truth."""

    def confusion(self, answer: Answer, targets: Targets) -> "Tensor":
        """Count how often each true class (row) occurred together with each predicted class (column)."""
        predicted = (answer["probabilities"] >= self.threshold).double()
        return ((targets["labels"] > 0.5).double().T @ predicted).long()

    def error(self, answer: Answer, targets: Targets) -> "Tensor":
        """Return the largest difference between a probability and its target."""
        return (answer["probabilities"] - targets["labels"]).abs().amax(dim=1)

    def gap(self, ours: Answer, theirs: Answer) -> "Tensor":
        return largest_gap(ours, theirs)

    def changed(self, ours: Answer, theirs: Answer) -> "Tensor":
        mine, others = (answer["probabilities"] >= self.threshold for answer in (ours, theirs))
        return (mine != others).double().mean(dim=1)

    def caption(self, answer: Answer, targets: Targets) -> str:
        true = [name for name, yes in zip(self.classes, targets["labels"][0], strict=True) if yes > 0.5]
        chances = zip(self.classes, answer["probabilities"][0].tolist(), strict=True)
        predicted = [f"{name} {chance:.2f}" for name, chance in chances if chance >= self.threshold]
        return f"{' + '.join(true) or 'nothing'}, predicted {' + '.join(predicted) or 'nothing'}"

"""Multiclass classification: which one of several classes does the image show?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

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
from temper.problems import choices
from temper.problems.classes import bind_classes, require_one_label
from temper.problems.defaults import Defaults
from temper.problems.gaps import largest_gap
from temper.problems.several_inputs import AnyInputs, kept_views

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Multiclass(Defaults):
    """Exactly one class per image.

    The target is `label` [batch], the output `logits` and the answer `probabilities`, both [batch, classes].
    """

    head: ClassVar[type[PoolingParams]] = PoolingParams
    kind: Literal["multiclass"]
    inputs: AnyInputs = ("image",)
    """What the network sees of an example: image, text, table, or several of them."""
    classes: tuple[str, ...] = ()
    """Names of the classes in the order of the outputs. If left out, they are read from the data and
    sorted."""

    @property
    def headline(self) -> Headline:
        return Headline("accuracy")

    @property
    def scores(self) -> tuple[str, ...]:
        return ("accuracy", "balanced_accuracy", "worst_class_accuracy")

    @property
    def truth(self) -> Mapping[str, Field]:
        return {"label": Field(names=self.classes)}

    @property
    def keeps(self) -> frozenset[View]:
        return kept_views(self.inputs)

    @property
    def emphases(self) -> frozenset[Option]:
        return frozenset({"smoothing", "offsets", "costs"})

    @property
    def answer(self) -> Mapping[str, Field]:
        return {"probabilities": Field(names=self.classes)}

    def bind(self, rows: Sequence[Row]) -> "Multiclass":
        require_one_label(rows, self.kind, way="set problem.kind to multilabel")
        return replace(self, classes=bind_classes(self.classes, rows))

    def pack(self, row: Row, images: Mapping[str, np.ndarray], frame: Frame) -> Columns:
        return {"label": np.asarray(self.classes.index(row.labels[0]), dtype=np.int64)}

    def strata(self, columns: Columns) -> frozenset[str]:
        return frozenset({self.classes[int(columns["label"])]})

    def network(self, encoders: Mapping[str, Backbone], head: PoolingParams | None = None) -> "nn.Module":
        from temper.networks.heads import Classifier

        return Classifier(encoders, num_classes=len(self.classes), params=head or PoolingParams())

    def loss(self, outputs: Outputs, targets: Targets, emphasis: Emphasis = PLAIN) -> "Tensor":
        return choices.loss(outputs, targets["label"], emphasis)

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
        return {"probabilities": outputs["logits"].float().softmax(dim=1)}

    def tally(self, answer: Answer, targets: Targets) -> "Tensor":
        """Return the correct predictions by true class, then the examples by true class, [batch, counts]."""
        import torch
        from torch.nn.functional import one_hot

        true = one_hot(targets["label"], len(self.classes)).double()
        right = (answer["probabilities"].argmax(dim=1) == targets["label"]).double()
        return torch.cat([true * right[:, None], true], dim=1)

    def score(self, totals: "Tensor") -> "dict[str, Tensor]":
        from temper.maths.tallies import mean_where, share

        right, count = totals.chunk(2, dim=-1)
        recall = share(right, count)
        return {
            "accuracy": share(right.sum(dim=-1), count.sum(dim=-1)),
            "balanced_accuracy": mean_where(recall, count > 0),
            "worst_class_accuracy": recall.where(count > 0, recall.new_ones(())).amin(dim=-1),
        }

    def constant(self, counts: Mapping[str, int]) -> tuple[str, dict[str, float]] | None:
        """Return the largest class, its share, and the mean over classes of the shares that it gets right."""
        name, shown = max(counts, key=lambda each: counts[each]), sum(1 for count in counts.values() if count)
        return name, {"accuracy": counts[name] / sum(counts.values()), "balanced_accuracy": 1 / shown}

    def confusion(self, answer: Answer, targets: Targets) -> "Tensor":
        from temper.maths.tallies import count_pairs

        return count_pairs(targets["label"], answer["probabilities"].argmax(dim=1), len(self.classes))

    def error(self, answer: Answer, targets: Targets) -> "Tensor":
        """Return 1 minus the probability of the true class."""
        return 1 - answer["probabilities"].gather(1, targets["label"][:, None]).squeeze(1)

    def gap(self, ours: Answer, theirs: Answer) -> "Tensor":
        return largest_gap(ours, theirs)

    def changed(self, ours: Answer, theirs: Answer) -> "Tensor":
        mine, others = (answer["probabilities"].argmax(dim=1) for answer in (ours, theirs))
        return (mine != others).double()

    def caption(self, answer: Answer, targets: Targets) -> str:
        predicted = int(answer["probabilities"][0].argmax())
        probability = float(answer["probabilities"][0, predicted])
        true = self.classes[int(targets["label"][0])]
        return f"{true}, predicted {self.classes[predicted]} {probability:.2f}"

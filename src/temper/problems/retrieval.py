"""Retrieval: which known examples are most similar, and which item do they show?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from temper.fields import PRESENT, VALID, Field, Frame, View
from temper.networks.head_params import EmbeddingParams
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
from temper.problems.several_inputs import AnyInputs, kept_views

if TYPE_CHECKING:
    from torch import Tensor, nn

_RANKS = (1, 5, 10)
"""Numbers of nearest examples among which the item is looked for."""
_NEAREST = 10
"""Number of nearest examples in an answer."""


@dataclass(frozen=True, kw_only=True)
class Retrieval(Defaults):
    """The known examples that are most similar, by the item that they show (a product, a person, a place).

    Known are examples of the training split, which the network keeps in its index. The target is `item`
    [batch]. The answers `items` and `similarities` (cosines) are [batch, nearest], nearest first;
    `items_valid` is 0 where fewer examples are known.
    """

    head: ClassVar[type[EmbeddingParams]] = EmbeddingParams
    kind: Literal["retrieval"]
    inputs: AnyInputs = ("image",)
    """What the network sees of an example: image, text, table, or several of them."""
    items: tuple[str, ...] = ()
    """Names of the items. If left out, they are the labels of the data, sorted."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Nothing: the items of two models may differ, and a split need not show all of them."""
        return ()

    @property
    def headline(self) -> Headline:
        return Headline("recall_at_1")

    @property
    def scores(self) -> tuple[str, ...]:
        return (*(f"recall_at_{rank}" for rank in _RANKS), "reciprocal_rank")

    @property
    def truth(self) -> Mapping[str, Field]:
        return {"item": Field(names=self.items)}

    @property
    def answer(self) -> Mapping[str, Field]:
        return {"items": Field("sequence", names=self.items), "similarities": Field("sequence")}

    @property
    def keeps(self) -> frozenset[View]:
        return kept_views(self.inputs)

    @property
    def emphases(self) -> frozenset[Option]:
        return frozenset({"smoothing"})

    @property
    def rare(self) -> bool:
        """An item may have a single example."""
        return True

    def bind(self, rows: Sequence[Row]) -> "Retrieval":
        require_one_label(rows, self.kind, way="the only label must be the item")
        for row in rows:
            if self.items and row.labels[0] not in self.items:
                raise ValueError(
                    f"item {row.labels[0]!r} of {row.path} is not among problem.items; add it there, or "
                    "leave problem.items out, and all items of the data are taken"
                )
        return replace(self, items=bind_classes(self.items, rows))

    def pack(self, row: Row, images: Mapping[str, np.ndarray], frame: Frame) -> Columns:
        return {"item": np.asarray(self.items.index(row.labels[0]), dtype=np.int64)}

    def strata(self, columns: Columns) -> frozenset[str]:
        return frozenset({self.items[int(columns["item"])]})

    def network(self, encoders: Mapping[str, Backbone], head: EmbeddingParams | None = None) -> "nn.Module":
        from temper.networks.heads import Embedder

        return Embedder(encoders, num_items=len(self.items), params=head or EmbeddingParams())

    def loss(self, outputs: Outputs, targets: Targets, emphasis: Emphasis = PLAIN) -> "Tensor":
        if emphasis != Emphasis(smoothing=emphasis.smoothing):
            raise ValueError("logit adjustment and costs are not defined for retrieval")
        return choices.loss(outputs, targets["item"], emphasis)

    def distance(self, outputs: Outputs, reference: Outputs, *, temperature: float = 1.0) -> "Tensor":
        return choices.distance(outputs, reference, temperature)

    def soften(self, outputs: Outputs, temperature: float) -> Outputs:
        return {**outputs, "logits": outputs["logits"] / temperature}

    def standardize(self, outputs: Outputs) -> Outputs:
        return choices.standardize(outputs)

    @property
    def standardized_share(self) -> float:
        return choices.standardized_share(len(self.items))

    def read(self, outputs: Outputs) -> Answer:
        import torch

        from temper.networks.index import UNKNOWN

        similarities = outputs["similarities"].float()
        kept = similarities.shape[1] // len(self.items)
        found = similarities.topk(min(_NEAREST, similarities.shape[1]), dim=1)
        valid = (found.values > (UNKNOWN - 1) / 2).to(torch.uint8)
        return {"items": found.indices // kept, f"items{VALID}": valid, "similarities": found.values}

    def tally(self, answer: Answer, targets: Targets) -> "Tensor":
        """Return whether the item is among the nearest 1, 5 and 10, 1 / its first rank, and 1: [batch, 5]."""
        import torch

        right = self._right(answer, targets)
        ranks = torch.arange(1, right.shape[1] + 1, device=right.device)
        counts = [right[:, :rank].any(dim=1).double() for rank in _RANKS]
        first = (right.double() / ranks).amax(dim=1)
        return torch.stack([*counts, first, torch.ones_like(first)], dim=1)

    def score(self, totals: "Tensor") -> "dict[str, Tensor]":
        from temper.maths.tallies import share

        *parts, whole = totals.unbind(dim=-1)
        return {name: share(part, whole) for name, part in zip(self.scores, parts, strict=True)}

    def constant(self, counts: Mapping[str, int]) -> tuple[str, dict[str, float]] | None:
        """Return the items with most examples, each with its share."""
        largest = sorted(counts, key=lambda name: (-counts[name], name))[:_NEAREST]
        shares = [counts[name] / sum(counts.values()) for name in largest]
        recalls = {f"recall_at_{rank}": sum(shares[:rank]) for rank in _RANKS}
        ranked = sum(share / rank for rank, share in enumerate(shares, start=1))
        return largest[0], {**recalls, "reciprocal_rank": ranked}

    def error(self, answer: Answer, targets: Targets) -> "Tensor":
        """Return how much nearer another item is than the true one: 0 if only the true one was found."""
        right, valid = self._right(answer, targets), answer[f"items{VALID}"] == PRESENT
        similarities = answer["similarities"].double().clamp(-1, 1)
        own, other = (
            similarities.where(which, similarities.new_full((), -1)).amax(dim=1)
            for which in (right, valid & ~right)
        )
        return (2 + other - own) / 4 * (other > -1) + (~right.any(dim=1) & (other <= -1)).double()

    def gap(self, ours: Answer, theirs: Answer) -> "Tensor":
        """Return the largest difference of similarities to one item, at most 1.

        An item that only one answer names is compared with the last similarity of the other: whatever is not
        named is at most as similar.
        """
        import torch

        return torch.maximum(_farthest(ours, theirs), _farthest(theirs, ours)).clamp(0, 1)

    def changed(self, ours: Answer, theirs: Answer) -> "Tensor":
        """Return whether the nearest examples show different items."""
        return (ours["items"][:, 0] != theirs["items"][:, 0]).double()

    def caption(self, answer: Answer, targets: Targets) -> str:
        true = self.items[int(targets["item"][0])]
        if int(answer[f"items{VALID}"][0, 0]) != PRESENT:
            return f"{true}, nothing is known"
        nearest = self.items[int(answer["items"][0, 0])]
        return f"{true}, nearest {nearest} {float(answer['similarities'][0, 0]):.2f}"

    def _right(self, answer: Answer, targets: Targets) -> "Tensor":
        """Return which of the nearest examples show the true item, [batch, nearest]."""
        valid = answer[f"items{VALID}"] == PRESENT
        return valid & (answer["items"] == targets["item"][:, None])


def _farthest(ours: Answer, theirs: Answer) -> "Tensor":
    """Return by how much any item of our answer is nearer or farther in their answer, [batch]."""
    known = ours["similarities"].double()
    same = ours["items"][:, :, None] == ours["items"][:, None]
    alike = ours["items"][:, :, None] == theirs["items"][:, None]
    worst = known.new_full((), -3.0)
    own = known[:, None].where(same, worst).amax(dim=2)
    other = theirs["similarities"].double()
    found = other[:, None].where(alike, worst).amax(dim=2)
    last = other[:, -1:].expand_as(found)
    apart = (own - found).abs().where(alike.any(dim=2), (own - last).clamp(min=0))
    return (apart * (ours["items_valid"] == PRESENT)).amax(dim=1)

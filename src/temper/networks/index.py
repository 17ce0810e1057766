"""The index of known examples, a part of a network that answers which of them are most similar.

It is no parameter: it is written from the embeddings of training examples before a network is scored. The
deployed file holds it, so that what is measured, quantized and served is the network with its index.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from temper.problem import Inputs

UNKNOWN = -2.0
"""Similarity to a place of the index that holds no example: below that of opposite directions."""


class Index(nn.Module):
    """Directions of known examples, at most `kept` for each item: those of item `i` from `i * kept` on."""

    directions: Tensor
    offsets: Tensor

    def __init__(self, num_items: int, *, kept: int, size: int) -> None:
        super().__init__()
        self.kept = kept
        self.register_buffer("directions", torch.zeros(num_items * kept, size))
        self.register_buffer("offsets", torch.full((num_items * kept,), UNKNOWN))

    def forward(self, direction: Float[Tensor, "batch size"]) -> Float[Tensor, "batch places"]:
        """Return the cosine to each known example, and `UNKNOWN` for places without one."""
        return functional.linear(direction, self.directions, self.offsets)

    def choose(self, items: Int64[Tensor, "examples"]) -> tuple[Tensor, Tensor]:
        """Choose examples of each item, evenly over their order.

        Args:
            items: Item of each training example.

        Returns:
            Numbers of the chosen examples, and the place of each in the index.
        """
        order = items.argsort(stable=True)
        ordered = items[order]
        first = torch.searchsorted(ordered, ordered)
        many = torch.bincount(items)[ordered].clamp(min=self.kept)
        spot = (torch.arange(len(items)) - first) * self.kept // many
        place = ordered * self.kept + spot
        new = torch.ones(len(items), dtype=torch.bool)
        new[1:] = place[1:] != place[:-1]
        return order[new], place[new]

    def write(self, directions: Float[Tensor, "places size"], known: Bool[Tensor, "places"]) -> None:
        """Replace the whole content; places that are not known are empty."""
        self.directions.copy_(directions * known[:, None])
        self.offsets.copy_(torch.where(known, 0.0, UNKNOWN))


@runtime_checkable
class Indexed(Protocol):
    """A network with an index."""

    index: Index

    def embed(self, inputs: Inputs) -> Tensor:
        """Return what the index compares, [batch, size]."""

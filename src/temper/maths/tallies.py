"""Counts that add up: scores are functions of summed tallies, so partial sums can be merged in any order."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def share(part: Float[Tensor, "*sums"], whole: Float[Tensor, "*sums"]) -> Float[Tensor, "*sums"]:
    """Return `part / whole`, and 0 where whole is 0."""
    return part / whole.clamp(min=1e-12) * (whole > 0)


def mean_where(values: Float[Tensor, "*sums classes"], counted: Tensor) -> Float[Tensor, "*sums"]:
    """Return the mean over the last axis of the values that `counted` marks; 0 where it marks none."""
    return share((values * counted).sum(dim=-1), counted.to(values.dtype).sum(dim=-1))


def count_pairs(
    true: Int[Tensor, "count"], said: Int[Tensor, "count"], num_classes: int
) -> Int[Tensor, "num_classes num_classes"]:
    """Count how often each true class (row) was answered with each class (column).

    Example:
        >>> count_pairs(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2)
        tensor([[1, 1],
                [0, 1]])
    """
    return torch.bincount(true * num_classes + said, minlength=num_classes**2).reshape(
        num_classes, num_classes
    )

"""Losses: the error of an output, per example, in nats."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

IGNORED = 255
"""Class number of positions that are ignored, as in PASCAL VOC masks."""


def mean_over_space(
    values: Float[Tensor, "batch *space"], valid: Tensor | None = None
) -> Float[Tensor, "batch"]:
    """Return the mean over the valid positions of each example; 0 if an example has no valid position."""
    flat = values[:, None].flatten(1)
    if valid is None:
        return flat.mean(dim=1)
    counted = valid.reshape(flat.shape).to(flat.dtype)
    return (flat * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)


def penalize(
    errors: Float[Tensor, "batch values"],
    penalty: Literal["huber", "absolute", "squared", "quantile"],
    *,
    quantile: float = 0.5,
) -> Float[Tensor, "batch"]:
    """Return the mean penalty of the errors (answer minus truth) of each example; 0 for errors of 0.

    Args:
        errors: Errors in standard deviations.
        penalty: `huber` is quadratic up to 1 and linear beyond it.
        quantile: With the penalty `quantile`, the share of the truths that shall be below the answers.

    Source:
        Huber 1964, "Robust estimation of a location parameter". Quantiles: Koenker and Bassett 1978,
        "Regression quantiles".

    Example:
        >>> import torch
        >>> errors = torch.tensor([[0.5], [-2.0]])
        >>> penalize(errors, "huber"), penalize(errors, "quantile", quantile=0.75)
        (tensor([0.1250, 1.5000]), tensor([0.1250, 1.5000]))
    """
    sizes = errors.abs()
    if penalty == "huber":
        found = torch.where(sizes <= 1, 0.5 * sizes.square(), sizes - 0.5)
    elif penalty == "squared":
        found = 0.5 * sizes.square()
    elif penalty == "quantile":
        found = torch.where(errors < 0, quantile * sizes, (1 - quantile) * sizes)
    else:
        found = sizes
    return found.mean(dim=1)


def cross_entropy(
    logits: Float[Tensor, "batch classes *space"],
    labels: Int[Tensor, "batch *space"],
    *,
    smoothing: float = 0.0,
    offsets: Sequence[float] = (),
    costs: Sequence[Sequence[float]] = (),
) -> Float[Tensor, "batch"]:
    """Return the cross-entropy of the true classes under the logits, averaged over `space`.

    Args:
        logits: Not normalised.
        labels: True class numbers; `IGNORED` positions are left out.
        smoothing: Share of the truth that is spread evenly over the classes, 0..1.
        offsets: Values added to the logits (logit adjustment: log of the class's share), one per class;
            or none.
        costs: `costs[true][predicted]`, a square matrix, or none. The loss adds the expected cost under the
            logits.

    Returns:
        Nats per example.

    Source:
        Smoothing: Szegedy et al. 2016, arXiv:1512.00567, section 7.
        Offsets: Menon et al. 2021, arXiv:2007.07314, equation 10.

    Example:
        >>> import torch
        >>> cross_entropy(torch.zeros(1, 4), torch.tensor([2]))
        tensor([1.3863])
    """
    logits = logits.float()
    valid = labels != IGNORED
    safe = labels.where(valid, labels.new_zeros(()))
    shape = (1, -1) + (1,) * (logits.dim() - 2)
    log_shares = functional.log_softmax(
        logits + logits.new_tensor(offsets).view(shape) if offsets else logits, dim=1
    )
    loss = -log_shares.gather(1, safe.unsqueeze(1)).squeeze(1)
    if smoothing:
        loss = (1 - smoothing) * loss - smoothing * log_shares.mean(dim=1)
    if costs:
        shares = functional.softmax(logits, dim=1).movedim(1, -1)
        loss = loss + (shares * logits.new_tensor(costs)[safe]).sum(dim=-1)
    return mean_over_space(loss, valid)


def binary_cross_entropy(
    logits: Float[Tensor, "batch classes"],
    labels: Float[Tensor, "batch classes"],
    *,
    smoothing: float = 0.0,
    offsets: Sequence[float] = (),
) -> Float[Tensor, "batch"]:
    """Return the cross-entropy of the true yes or no of each class, averaged over the classes.

    Args:
        logits: Log-odds of yes.
        labels: 1 for yes, 0 for no.
        smoothing: Share of the truth that is spread evenly over yes and no, 0..1.
        offsets: Values added to the logits, one per class, or none.

    Returns:
        Nats per example and class.

    Example:
        >>> import torch
        >>> binary_cross_entropy(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]))
        tensor([0.6931])
    """
    logits = logits.float()
    if offsets:
        logits = logits + logits.new_tensor(offsets)
    targets = labels * (1 - smoothing) + smoothing / 2
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)

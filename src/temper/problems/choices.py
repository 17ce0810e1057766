"""Functions for problems with one of several classes per position, with `logits` [batch, classes, *space]."""

from typing import TYPE_CHECKING

from temper.problem import Emphasis, Outputs

if TYPE_CHECKING:
    from torch import Tensor


def loss(outputs: Outputs, labels: "Tensor", emphasis: Emphasis) -> "Tensor":
    """Return the cross-entropy of each example, with all options of `Emphasis`."""
    from temper.maths.losses import cross_entropy

    return cross_entropy(
        outputs["logits"],
        labels,
        smoothing=emphasis.smoothing,
        offsets=emphasis.offsets,
        costs=emphasis.costs,
    )


def distance(outputs: Outputs, reference: Outputs, temperature: float) -> "Tensor":
    """Return the Kullback-Leibler divergence of the softened class probabilities of each example."""
    from temper.maths.distances import softmax_kl

    return softmax_kl(outputs["logits"], reference["logits"], temperature=temperature)


def standardize(outputs: Outputs) -> Outputs:
    """Return z-scored logits."""
    from temper.maths.distances import z_score

    return {"logits": z_score(outputs["logits"])}


def standardized_share(num_classes: int) -> float:
    """Return the share of the directions that z-scored logits keep.

    The offset of the logits has no meaning, so num_classes - 1 directions count. z-scoring removes one of
    them, the scale.

    Example:
        >>> standardized_share(2), standardized_share(3), standardized_share(10) > 0.88
        (0.0, 0.5, True)
    """
    return (num_classes - 2) / (num_classes - 1)

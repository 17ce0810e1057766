"""One class out of several at each place: what problems share whose `logits` are [batch, classes, *space]."""

from typing import TYPE_CHECKING

from temper.problem import Emphasis, Outputs

if TYPE_CHECKING:
    from torch import Tensor


def loss(outputs: Outputs, labels: "Tensor", emphasis: Emphasis) -> "Tensor":
    """Cross-entropy per example, with everything training may ask for."""
    from temper.maths.losses import cross_entropy

    return cross_entropy(
        outputs["logits"],
        labels,
        smoothing=emphasis.smoothing,
        offsets=emphasis.offsets,
        costs=emphasis.costs,
    )


def distance(outputs: Outputs, reference: Outputs, temperature: float) -> "Tensor":
    """Kullback-Leibler divergence of the softened class probabilities, per example."""
    from temper.maths.distances import softmax_kl

    return softmax_kl(outputs["logits"], reference["logits"], temperature=temperature)


def standardize(outputs: Outputs) -> Outputs:
    """z-scored logits."""
    from temper.maths.distances import z_score

    return {"logits": z_score(outputs["logits"])}


def standardized_share(num_classes: int) -> float:
    """Share of the directions that z-scored logits keep: of all but the offset, which says nothing, all but the scale.

    Example:
        >>> standardized_share(2), standardized_share(3), standardized_share(10) > 0.88
        (0.0, 0.5, True)
    """
    return (num_classes - 2) / (num_classes - 1)

"""Muon: moves filters along the orthogonal matrix nearest to their momentum, so all directions learn equally.

All other parameters (biases, normalisation, the first and the last layer) are trained by SGD with Nesterov
momentum in the same optimiser; each group has its own share of the learning rate. torch's own Muon accepts
only matrices and therefore refuses convolutions. Here a convolution's weights are treated as a matrix with
one row per output channel.

Source:
    Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; for small convolutional
    networks Jordan 2024, arXiv:2404.00498, and its successor airbench94_muon.
"""

from collections.abc import Callable, Iterable
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Jordan et al. 2024: coefficients of the polynomial a·x + b·x³ + c·x⁵ that raises small singular values
fastest. They end near 1, not exactly at 1."""
_NUM_STEPS = 5
_FILTERS = "filters"


@final
class Muon(torch.optim.Optimizer):
    """Optimiser: orthogonalised momentum for groups with `filters`, SGD with Nesterov momentum for others.

    Args:
        groups: Parameter groups; each may contain `filters` (bool), `weight_decay`, `momentum` and `lr`.
        lr: Learning rate of the filters: about the share of a filter's norm that a step changes.
        momentum: Momentum of all groups that do not contain their own.
        precision: Type in which matrices are multiplied; bf16 if the device is fast in it.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, _FILTERS: False})
        self._precision = precision

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step with the current gradients; a closure is not supported."""
        assert closure is None
        for group in self.param_groups:
            values = [value for value in group["params"] if value.grad is not None]
            if not values:
                continue
            gradients = [value.grad for value in values]
            momenta = [self._momentum(value) for value in values]
            decay, momentum = group["weight_decay"], group["momentum"]
            if group[_FILTERS]:
                # Decoupled weight decay, as in AdamW: the direction does not depend on the weights' size.
                torch._foreach_lerp_(momenta, gradients, 1 - momentum)
                ahead = torch._foreach_lerp(gradients, momenta, momentum)
                torch._foreach_mul_(values, 1 - group["lr"] * decay)
                directions = [orthogonal(move, precision=self._precision) for move in ahead]
            else:
                if decay:
                    gradients = list(torch._foreach_add(gradients, values, alpha=decay))
                torch._foreach_mul_(momenta, momentum)
                torch._foreach_add_(momenta, gradients)
                directions = list(torch._foreach_add(gradients, momenta, alpha=momentum))
            torch._foreach_add_(values, directions, alpha=-group["lr"])

    def _momentum(self, value: Tensor) -> Tensor:
        state = self.state[value]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(value)
        found: Tensor = state["momentum_buffer"]
        return found


def orthogonal(
    moves: Float[Tensor, "outputs *inputs"], *, precision: torch.dtype = torch.float32
) -> Float[Tensor, "outputs *inputs"]:
    """Return the matrix in the direction of another whose singular values are all near 1 (0.7 to 1.2).

    The result is scaled according to its shape.

    Args:
        moves: Tensor with one row per output; the shape of the other axes is free.
        precision: Type in which the products are computed.

    Returns:
        The matrix in the same shape and layout. It is multiplied by sqrt(outputs / inputs) if there are more
        outputs than inputs, so that outputs move equally for every shape.

    Source:
        Newton-Schulz iteration with the coefficients of Jordan et al. 2024.
    """
    # Read the values in memory order: the columns may be permuted, and a copy would cost more than the
    # products.
    last = (
        moves.dim() == 4
        and moves.is_contiguous(memory_format=torch.channels_last)
        and not moves.is_contiguous()
    )
    rows = moves.permute(0, 2, 3, 1) if last else moves
    matrix = rows.reshape(len(moves), -1)
    outputs, inputs = matrix.shape
    found = matrix.to(precision)
    found = found / (found.norm() + 1e-7)
    if outputs > inputs:
        found = found.T
    first, second, third = _QUINTIC
    for _ in range(_NUM_STEPS):
        product = found @ found.T
        found = first * found + (second * product + third * product @ product) @ found
    if outputs > inputs:
        found = found.T
    found = (found.to(moves.dtype) * max(1.0, outputs / inputs) ** 0.5).reshape(rows.shape)
    return found.permute(0, 3, 1, 2) if last else found

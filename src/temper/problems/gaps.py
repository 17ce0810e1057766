"""How far two answers are apart, for problems whose answers can be compared number by number."""

from typing import TYPE_CHECKING

from temper.problem import Answer

if TYPE_CHECKING:
    from torch import Tensor


def largest_gap(ours: Answer, theirs: Answer) -> "Tensor":
    """Return the largest difference of a fraction or, for whole numbers, the share that differs, [batch]."""
    import torch

    found = []
    for name, value in theirs.items():
        if value.is_floating_point():
            found.append((ours[name] - value).abs().flatten(1).amax(dim=1))
        else:
            found.append((ours[name] != value).flatten(1).float().mean(dim=1))
    return torch.stack(found).amax(dim=0).double()

"""torch.compile: used only if a mode is named, and tested before a training starts.

It pays off on GPUs, where launching many small kernels limits the speed of a step. Only training steps are
compiled. Validation and export use the network itself, so no stored file depends on compilation.
"""

from typing import cast

import torch
from torch import nn


def compiled(network: nn.Module, mode: str) -> nn.Module:
    """Return a network whose steps are compiled when they first run; for `none`, the network itself.

    Args:
        network: Network as shared by the ranks, on its device.
        mode: `none`, or a mode of torch.compile.

    Raises:
        ValueError: If nothing can be compiled on this machine.
    """
    if mode == "none":
        return network
    device = next(network.parameters()).device
    try:
        torch.compile(torch.sin)(torch.zeros(8, device=device))
    except Exception as error:  # the compiler behind it may raise anything
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            f"fit.compile = {mode!r}: torch.compile does not work on {device} here ({reason}); "
            "install a C++ compiler (Debian: `apt install g++`), or set fit.compile to none"
        ) from error
    return cast(nn.Module, torch.compile(network, mode=mode))

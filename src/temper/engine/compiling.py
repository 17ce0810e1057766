"""torch.compile, asked for by name and tried out before a training begins.

It pays where a step is bound by the start of many small kernels, on GPUs. Only training steps go through it: validation and export
see the network itself, so nothing that is stored knows of it.
"""

from typing import cast

import torch
from torch import nn


def compiled(network: nn.Module, mode: str) -> nn.Module:
    """A network whose steps are compiled when they first run; the same one for `none`.

    Args:
        network: As the ranks share it, on its device.
        mode: `none`, or one of torch.compile's.

    Raises:
        ValueError: If nothing can be compiled here.
    """
    if mode == "none":
        return network
    device = next(network.parameters()).device
    try:
        torch.compile(torch.sin)(torch.zeros(8, device=device))
    except Exception as error:  # whatever the compiler behind it finds amiss
        words = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            f"fit.compile = {mode!r}: torch.compile does not work on {device} here ({words}); it needs a C++ compiler (Debian: "
            "`apt install g++`), or set fit.compile to none"
        ) from error
    return cast(nn.Module, torch.compile(network, mode=mode))

"""Builds whole networks from parameters, stores them as safetensors and loads them again."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import nn

from temper.inputs.facts import Facts, try_out
from temper.networks.encoders import build_encoders
from temper.networks.head_params import read_head
from temper.networks.params import AnyBackbone
from temper.problem import Problem

_DOES_NOT_FIT = (RuntimeError, AssertionError, IndexError)
"""Errors that torch and timm raise if feature maps become too small."""


def build_network(
    problem: Problem,
    params: AnyBackbone,
    facts: Facts,
    *,
    seed: int,
    head: Mapping[str, Any] = MappingProxyType({}),
    encoders: Mapping[str, AnyBackbone] = MappingProxyType({}),
) -> nn.Module:
    """Build a new network for a problem; equal seeds give equal weights. torch's random state stays as it is.

    Args:
        problem: The problem.
        params: The backbone, which encodes the first input.
        facts: Facts about the inputs.
        seed: Seed of the first weights.
        head: Settings of the problem's head, by name.
        encoders: Encoders of the inputs after the first.

    Raises:
        ValueError: If there is no such network, or it cannot take images of this size.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = problem.network(build_encoders(params, facts, encoders), read_head(problem.head, head))
        _try(network, facts)
    return network


def _try(network: nn.Module, facts: Facts) -> None:
    """Run a new network on one example without content, to find before training whether it fits the data."""
    try:
        with torch.inference_mode():
            network.eval()(try_out(facts))
    except _DOES_NOT_FIT as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        sizes = ", ".join(f"{name} {'x'.join(map(str, each.shape))}" for name, each in facts.items())
        raise ValueError(
            f"backbone: this network cannot take inputs of this size ({sizes}: {reason}); "
            "use fewer stages, smaller strides or filters, another backbone, "
            "or larger images (prepare.height_px, prepare.width_px)"
        ) from error
    network.train()


def save_network(network: nn.Module, path: Path) -> None:
    """Write the weights and statistics of a network as safetensors."""
    # If the disk is full, Python's error names the file; the error of the library's own function does not.
    path.write_bytes(
        save({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()})
    )


def load_network(
    problem: Problem,
    params: AnyBackbone,
    facts: Facts,
    weights: Path,
    *,
    head: Mapping[str, Any] = MappingProxyType({}),
    encoders: Mapping[str, AnyBackbone] = MappingProxyType({}),
) -> nn.Module:
    """Load the network that `save_network` wrote, in evaluation mode and frozen."""
    network = build_network(problem, params, facts, seed=0, head=head, encoders=encoders)
    network.load_state_dict(load_file(weights))
    return network.eval().requires_grad_(False)

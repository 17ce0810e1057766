"""Whole networks: built from parameters, stored as safetensors, loaded again."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import nn

from temper.networks.backbones import build_backbone
from temper.networks.params import AnyBackbone
from temper.problem import PLAIN_HEAD, Facts, HeadParams, Problem

_DOES_NOT_FIT = (RuntimeError, AssertionError, IndexError)
"""What torch and timm make of maps that became too small."""


def build_network(
    problem: Problem, params: AnyBackbone, facts: Facts, *, seed: int, head: HeadParams = PLAIN_HEAD
) -> nn.Module:
    """A fresh network for a problem; equal seeds give equal weights and leave torch's own random state alone.

    Raises:
        ValueError: If there is no such network, or it cannot take images of this size.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = problem.network(build_backbone(params, facts), head)
        _try(network, facts)
    return network


def _try(network: nn.Module, facts: Facts) -> None:
    """Let a fresh network see one black image: what does not fit is found before anything is trained."""
    size = (facts.height_px, facts.width_px)
    try:
        with torch.inference_mode():
            network.eval()({"image": torch.zeros(1, facts.channels, *size, dtype=torch.uint8)})
    except _DOES_NOT_FIT as error:
        words = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(
            f"backbone: this network cannot take images of {size[0]}x{size[1]} px ({words}); take fewer stages, smaller strides or filters, "
            "another backbone, or larger images (prepare.height_px, prepare.width_px)"
        ) from error
    network.train()


def save_network(network: nn.Module, path: Path) -> None:
    """Write weights and statistics of a network as safetensors."""
    # By Python's own writing: where the disk is full it names the file, the library's function would not.
    path.write_bytes(
        save({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()})
    )


def load_network(
    problem: Problem,
    params: AnyBackbone,
    facts: Facts,
    weights: Path,
    *,
    head: HeadParams = PLAIN_HEAD,
) -> nn.Module:
    """The network that `save_network` wrote, in evaluation mode and frozen."""
    network = build_network(problem, params, facts, seed=0, head=head)
    network.load_state_dict(load_file(weights))
    return network.eval().requires_grad_(False)

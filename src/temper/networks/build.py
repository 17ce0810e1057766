"""Whole networks: built from parameters, stored as safetensors, loaded again."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import nn

from temper.networks.backbones import build_backbone
from temper.networks.params import AnyBackbone
from temper.problem import PLAIN_HEAD, Facts, HeadParams, Problem


def build_network(
    problem: Problem, params: AnyBackbone, facts: Facts, *, seed: int, head: HeadParams = PLAIN_HEAD
) -> nn.Module:
    """A fresh network for a problem; equal seeds give equal weights and leave torch's own random state alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return problem.network(build_backbone(params, facts), head)


def save_network(network: nn.Module, path: Path) -> None:
    """Write weights and statistics of a network as safetensors."""
    # By Python's own writing: where the disk is full it names the file, the library's function would not.
    path.write_bytes(save({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}))


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

"""What the training stages left behind, read by the stages after them; apart from training, so that these do not depend on it."""

from pathlib import Path

from pydantic import TypeAdapter
from torch import nn

from temper.artifacts import Artifact
from temper.networks.build import load_network
from temper.networks.params import AnyBackbone
from temper.problem import Facts
from temper.problems import load as load_problem

WEIGHTS = "network.safetensors"


def read_facts(prepare: Artifact) -> Facts:
    """What the pictures are like, as prepare found them."""
    found = dict(prepare.facts["facts"])
    return Facts(**{**found, "mean": tuple(found["mean"]), "std": tuple(found["std"])})


def read_network(artifact: Artifact, prepare: Artifact, project: Path) -> nn.Module:
    """The frozen network that a training stage left behind."""
    backbone = TypeAdapter(AnyBackbone).validate_python(artifact.facts["backbone"])
    problem = load_problem(prepare.facts["problem"])
    return load_network(problem, backbone, read_facts(prepare), artifact.path(WEIGHTS), project=project)

"""Read the results of the training stages for later stages.

This is separate from the training code, so that the later stages do not depend on it.
"""

from pydantic import TypeAdapter
from torch import nn

from temper.artifacts import WEIGHTS, Artifact
from temper.networks.build import load_network
from temper.networks.params import AnyBackbone
from temper.problem import Facts
from temper.problems import load as load_problem


def read_facts(prepare: Artifact) -> Facts:
    """Return the facts about the images that prepare measured."""
    found = dict(prepare.facts["facts"])
    levels = found["levels"] if isinstance(found["levels"], str) else tuple(found["levels"])
    return Facts(**{**found, "mean": tuple(found["mean"]), "std": tuple(found["std"]), "levels": levels})


def read_network(artifact: Artifact, prepare: Artifact) -> nn.Module:
    """Return the frozen network that a training stage stored."""
    backbone = TypeAdapter(AnyBackbone).validate_python(artifact.facts["backbone"])
    problem = load_problem(prepare.facts["problem"])
    head = artifact.facts.get("head", {})
    return load_network(problem, backbone, read_facts(prepare), artifact.path(WEIGHTS), head=head)

"""Read the results of the training stages for later stages.

This is separate from the training code, so that the later stages do not depend on it.
"""

from pydantic import TypeAdapter
from torch import nn

from temper.artifacts import WEIGHTS, Artifact
from temper.inputs.facts import Facts
from temper.inputs.stored import read_record
from temper.networks.build import load_network
from temper.networks.params import AnyBackbone
from temper.problems import load as load_problem


def read_facts(prepare: Artifact) -> Facts:
    """Return the facts about the inputs that prepare measured."""
    return read_record(prepare.facts["inputs"])


def read_network(artifact: Artifact, prepare: Artifact) -> nn.Module:
    """Return the frozen network that a training stage stored."""
    backbone = TypeAdapter(AnyBackbone).validate_python(artifact.facts["backbone"])
    problem = load_problem(prepare.facts["problem"])
    encoders = TypeAdapter(dict[str, AnyBackbone]).validate_python(artifact.facts.get("encoders", {}))
    return load_network(
        problem,
        backbone,
        read_facts(prepare),
        artifact.path(WEIGHTS),
        head=artifact.facts.get("head", {}),
        encoders=encoders,
    )

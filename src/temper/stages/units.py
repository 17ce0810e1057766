"""The units that the bootstrap draws from a split: groups of images, and images that are in none."""

import torch
from jaxtyping import Int64
from torch import Tensor

from temper.artifacts import Artifact
from temper.data.dataset.packed import GROUPED, read_rows_of
from temper.maths.statistics import number_units


def read_units(prepare: Artifact, split: str) -> Int64[Tensor, "examples"]:
    """Return the number of each example's unit, in the order of the packed files."""
    if not prepare.facts.get(GROUPED):
        return torch.arange(prepare.facts["examples"][split])
    return number_units(read_rows_of(prepare, split, ["group"])["group"])

"""The training examples that a network with an index compares new ones with."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from temper.artifacts import Artifact
from temper.data.dataset.packed import open_inputs, open_split
from temper.data.loading.loader import to_tensors, whole_batches
from temper.engine.distributed.ranks import Ranks
from temper.inputs.facts import Facts, count_values
from temper.maths.batching import fit_batch
from temper.networks.index import Indexed
from temper.problem import Problem
from temper.stages.validation import VALIDATION_BATCH

_PLACE = "place in the index"
Fill = Callable[[nn.Module], None]
"""Fills the index of a network, if it has one."""


def open_known(
    network: nn.Module, problem: Problem, prepare: Artifact, facts: Facts, ranks: Ranks, *, what: str
) -> Fill:
    """Choose the known examples, and return the function that fills the index of a network with them.

    The ranks share the work, and all of them get the same index.

    Args:
        network: The network that will be trained.
        problem: Its problem; its only column of truth is the item.
        prepare: Artifact with the training split.
        facts: The inputs.
        ranks: Ranks that share the work.
        what: Name of the stage, for the message of how many examples are known.
    """
    if not isinstance(network, Indexed):
        return lambda candidate: None
    (column,) = problem.truth
    items = torch.from_numpy(np.array(open_split(prepare, "train")[column]))
    numbers, places = network.index.choose(items)
    given = {name: np.asarray(each[numbers.numpy()]) for name, each in open_inputs(prepare).items()}
    held = to_tensors({**given, _PLACE: places.numpy()}, ranks.device)
    if ranks.first:
        print(
            f"{what}: the index holds {len(numbers)} of {len(items)} training images of "
            f"{len(items.unique())} items, at most {network.index.kept} of each ({what}.head.kept)"
        )
    size = fit_batch([count_values(facts)], VALIDATION_BATCH)

    def fill(candidate: nn.Module) -> None:
        assert isinstance(candidate, Indexed)
        index = candidate.index
        directions = torch.zeros(index.directions.shape, device=ranks.device)
        known = torch.zeros(len(directions), device=ranks.device)
        for inputs, targets in whole_batches(held, facts, size, ranks.device, ranks.rank, ranks.num):
            directions[targets[_PLACE]] = candidate.embed(inputs).float()
            known[targets[_PLACE]] = 1
        index.write(ranks.sum(directions), ranks.sum(known) > 0)

    return fill

"""The scores of a network on the validation split, which the ranks of a training compute together."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from temper.data.loading.loader import as_batch, whole_batches
from temper.engine.distributed.ranks import Ranks
from temper.engine.training_notes import CHANCE
from temper.inputs.facts import Facts, count_examples, count_values
from temper.maths.batching import fit_batch
from temper.maths.random import hashes
from temper.problem import Headline, Inputs, Problem, Targets

VALIDATION_BATCH = 512
"""Number of examples of a batch without views, if they are small."""
_OTHER = "other image"
"""Column with the number of another image; `CHANCE` scores each answer against that image's truth."""


def validate(
    network: nn.Module,
    problem: Problem,
    held: Mapping[str, Tensor],
    facts: Facts,
    ranks: Ranks,
    *,
    seed: int,
    by: Headline | None = None,
) -> dict[str, float]:
    """Return the scores on the validation split. The ranks share the work, and all ranks get the same scores.

    The key `CHANCE` holds another value of the score by which epochs are compared, for which the same answers
    are compared with the truth of other images of the split. It is the score that the answers reach by
    chance, whatever the problem, the balance of its classes and the network's habits.

    Args:
        network: Network in evaluation mode.
        problem: Problem that the network answers.
        held: Columns of the validation split.
        facts: The inputs among them.
        ranks: Ranks that share the work.
        seed: Seed for the order of the other images.
        by: Score by which epochs are compared; None for the headline.
    """
    # Other images come from the whole split: a source lists class after class, so a batch may hold one class.
    total = count_examples(held)
    other = hashes(torch.arange(total), 1, seed=seed, stream="chance")[:, 0].argsort()
    columns = {**held, _OTHER: other}
    totals: Tensor | None = None
    size = fit_batch([count_values(facts)], VALIDATION_BATCH)
    for inputs, targets in whole_batches(columns, facts, size, ranks.device, ranks.rank, ranks.num):
        tally = _tally(network, problem, inputs, targets, held).sum(dim=1)
        totals = tally if totals is None else totals + tally
    if totals is None:
        # With more ranks than batches, this rank has nothing to count but must take part in the sum.
        inputs, targets = next(whole_batches(columns, facts, 1, ranks.device))
        totals = torch.zeros_like(_tally(network, problem, inputs, targets, held)[:, 0])
    own, others = ranks.sum(totals)
    scores = {name: float(value) for name, value in problem.score(own).items()}
    return scores | {CHANCE: float(problem.score(others)[(by or problem.headline).name])}


def _tally(
    network: nn.Module, problem: Problem, inputs: Inputs, targets: Targets, held: Mapping[str, Tensor]
) -> Tensor:
    """Return each answer's tally by its own truth and by that of another image, [2, batch, counts]."""
    answer = problem.read(network(inputs))
    truth = {name: value for name, value in targets.items() if name != _OTHER}
    # `as_batch` gives the truth the types that `Problem.tally` expects; it needs no inputs for that.
    others = {name: held[name][targets[_OTHER].to(held[name].device)] for name in truth}
    _, wrong = as_batch(others, {})
    wrong = {name: value.to(truth[name].device) for name, value in wrong.items()}
    return torch.stack([problem.tally(answer, truth).double(), problem.tally(answer, wrong).double()])

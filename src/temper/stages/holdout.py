"""The test split, and the ratings of candidates on it, which the gate compares."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from temper.artifacts import Artifact, digest_json
from temper.data.dataset.packed import as_targets, held_out, read_rows_of, read_strata
from temper.gate.rating import CellKey, Question, Rating
from temper.maths.batching import fit_batch
from temper.networks.onnx_model import PART, Deployed
from temper.problem import Answer, Problem, Targets
from temper.problems import load as load_problem
from temper.problems.deployed_answer import ANSWER, read_answer
from temper.stages.load_trained import read_facts
from temper.stages.units import read_units
from temper.stress.cells import PART_OF_TRUTH
from temper.stress.evaluation import Candidate, Evaluation
from temper.stress.params import EvaluateParams
from temper.stress.pool import Pool, boxes_of


@dataclass(frozen=True)
class HeldOut:
    """The test examples with their truth, on which candidates are measured."""

    problem: Problem
    examples: Pool
    targets: Targets
    strata: list[frozenset[str]]
    units: Int64[Tensor, "examples"]
    """Number of the unit of each example: a group, or an example that is in none."""
    names: Sequence[str] = ()
    """Name of each example, as its source says it; empty if they are not known."""

    def open(self, file: Path) -> Candidate:
        """Open a deployed file, which takes as many of these examples at a time as memory allows.

        Numbers of names in its answers become those of the problem: a model that knew other items is measured
        by what it answers, and items that are gone are wrong.
        """
        model = Deployed(file, part=fit_batch([self.examples.num_values], PART))
        # Files from before this was written are of kinds whose models must know the same classes.
        known = read_answer(model.metadata) if ANSWER in model.metadata else self.problem.answer
        numbers = {
            name: torch.tensor([_place(each, field.names) for each in known[name].names])
            for name, field in self.problem.answer.items()
            if field.layout == "sequence" and field.names and known[name].names != field.names
        }
        if not numbers:
            return model

        def renumbered(given: Mapping[str, np.ndarray]) -> Answer:
            answer = model(given)
            return {**answer, **{name: becomes[answer[name].long()] for name, becomes in numbers.items()}}

        return renumbered

    @property
    def groups(self) -> dict[str, int]:
        """`groups`: number of units, if they are not the examples themselves."""
        count = len(self.units.unique())
        return {"groups": count} if count < len(self.units) else {}


def open_test(prepare: Artifact) -> HeldOut:
    """Open the test split. Only measurements do this."""
    columns = held_out(prepare)
    facts, problem = read_facts(prepare), load_problem(prepare.facts["problem"])
    targets = as_targets(columns, facts)
    given = {name: np.asarray(columns[name]) for name in facts}
    return HeldOut(
        problem,
        Pool(given, facts, boxes_of(targets, problem.truth)),
        targets,
        read_strata(prepare, "test"),
        read_units(prepare, "test"),
        read_rows_of(prepare, "test", ["id"])["id"],
    )


def make_ratings(
    evaluation: Evaluation,
    problem: Problem,
    prepare: Artifact,
    params: EvaluateParams,
    *,
    seed: int,
    costs: Mapping[str, Mapping[str, Any]],
) -> dict[str, Rating]:
    """Return the rating of every candidate of an evaluation.

    Args:
        evaluation: Evaluation on the test split of `prepare`.
        problem: Problem that the candidates answer.
        prepare: Artifact with the images.
        params: Parameters of the evaluation.
        seed: Seed of the evaluation.
        costs: By candidate: `digest`, and further values, of which the rating takes the numbers.
    """
    headline = problem.headline
    question = Question(problem.kind, problem.classes, headline.name, headline.greater_is_better)
    conditions = {item.name: item.strengths for item in evaluation.conditions}
    measured_on = digest_json(
        {"data": prepare.digest, "seed": seed, "evaluate": asdict(params), "conditions": conditions}
    )
    ratings = {}
    for name, found in costs.items():
        rows = [
            (
                CellKey(cell.family, cell.condition, cell.severity, metric),
                value,
                cell.samples[metric].double().numpy(),
            )
            for cell in evaluation.cells
            if cell.candidate == name and cell.family != PART_OF_TRUTH
            for metric, value in cell.values.items()
        ]
        cells, values, samples = zip(*rows, strict=True)
        ratings[name] = Rating(
            model=found["digest"],
            measured_on=measured_on,
            question=question,
            cells=cells,
            values=np.array(values),
            samples=np.stack(samples),
            alone=evaluation.alone[name].numpy(),
            costs={key: float(value) for key, value in found.items() if isinstance(value, int | float)},
        )
    return ratings


def _place(name: str, names: Sequence[str]) -> int:
    return names.index(name) if name in names else -1

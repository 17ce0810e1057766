"""estimate: time a few real steps on this machine and estimate the duration of training and evaluation.

This is no DVC stage. The network, the views, the optimiser and the precision are those of the training
itself. The images are prepare's if its artifact is there, otherwise a few of the source. The total is
start-up + epochs x (steps x seconds per step + images x seconds per image). These images are those of
validation and those over which batch norm statistics are computed again.

The time that DVC takes and other work on the machine are left out.
"""

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from temper.commands.time_estimates import TRAININGS, Estimate, say_step, write_estimates
from temper.commands.workload import Size, find_made, measure_workload
from temper.config import DistillParams, Params, TrainParams
from temper.data.dataset.packed import open_inputs, open_split
from temper.data.dataset.sample import Sample, take_sample
from temper.data.loading.loader import Examples, TrainLoader, as_batch, to_tensors
from temper.data.loading.params import SamplingParams
from temper.engine.batchnorm_refresh import count_batches
from temper.engine.distributed.ranks import Ranks, count_ranks
from temper.engine.objectives import supervised
from temper.engine.step_timing import LONGEST_S, time_calls, time_steps
from temper.engine.unfreezing import Unfreezing
from temper.inputs.facts import Facts, count_examples
from temper.networks.whitening import whiten
from temper.problem import Emphasis, Objective, Problem
from temper.problems import load as load_problem
from temper.stages.distill import learn_from
from temper.stages.fit_network import MakeObjective, build_of, check_weights
from temper.stages.load_trained import read_facts
from temper.stages.training_batches import make_loader, open_loader
from temper.stages.validation import validate
from temper.stress.conditions import SEVERITIES, applicable, stress
from temper.stress.pool import Pool, as_served, boxes_of

_HELD = 64
"""Number of images in a timed batch of validation or evaluation."""
_CANDIDATES_OF_STUDENT = 2
"""The float and the int8 student, taken as equally slow: which one is faster depends on the processor."""
_LEAST_BATCHES = 16
"""Least number of batches that an epoch of a sample has: its images are repeated to fill them."""


@dataclass(frozen=True)
class Material:
    """The images on which steps are timed: prepared images, or a sample."""

    problem: Problem
    facts: Facts
    held: Mapping[str, np.ndarray]
    """Columns of a few whole examples: inputs and truth."""
    given: Mapping[str, np.ndarray]
    """Inputs of a few training examples, images in the size that the network sees."""
    open_loader: Callable[[TrainParams | DistillParams, str, Ranks], TrainLoader]
    """Opens the loader of a section, by its name, as one of the ranks uses it."""


def estimate(project: Path, params: Params, stages: Sequence[str]) -> dict[str, Estimate]:
    """Time the named stages and store their estimates in `.temper/estimate.json`.

    Args:
        project: Folder with params.yaml.
        params: Parameters of the project.
        stages: Stages from `time_estimates.TIMED`.

    Raises:
        ValueError: If the source, the network or the machine's memory does not allow it.
    """
    size = measure_workload(project, params)
    with tempfile.TemporaryDirectory(prefix="temper-") as work:
        material = open_material(project, params, Path(work))
        found = {
            name: time_training(name, params, size, material)
            if name in TRAININGS
            else time_evaluation(params, size, material)
            for name in stages
        }
    write_estimates(project, params, size, found)
    return found


def open_material(project: Path, params: Params, work: Path) -> Material:
    """Open the prepared images if both artifacts were made with the current parameters.

    Otherwise take a sample of the source.
    """
    prepare, augment = (find_made(name, project, params) for name in ("prepare", "augment"))
    if prepare is None or augment is None:
        return use_sample(
            take_sample(params.ingest, cast(Problem, params.problem), params.prepare, project, work),
            seed=params.seed,
        )
    inputs = {"prepare": prepare, "augment": augment}
    problem, facts = load_problem(prepare.facts["problem"]), read_facts(prepare)
    held = {name: np.array(column[:_HELD]) for name, column in open_split(prepare, "validation").items()}
    given = open_inputs(prepare)
    some = np.arange(min(_HELD, count_examples(given)))

    def load(section: TrainParams | DistillParams, what: str, ranks: Ranks) -> TrainLoader:
        return open_loader(inputs, problem, facts, section, ranks, seed=params.seed, what=what)

    return Material(
        problem, facts, held, {name: np.asarray(column[some]) for name, column in given.items()}, load
    )


def use_sample(sample: Sample, *, seed: int) -> Material:
    """Use a sample as if it were a whole training split, by repeating its images."""
    encoded = sample.encoded
    decoded = None if encoded is None else np.asarray(encoded[np.arange(len(encoded))])
    given = {
        name: sample.columns[name] if name in sample.columns or decoded is None else decoded
        for name in sample.facts
    }
    count = count_examples(given)

    def load(section: TrainParams | DistillParams, what: str, ranks: Ranks) -> TrainLoader:
        repeats = np.full(count, 1 + _LEAST_BATCHES * section.fit.batch_size // count)
        weights = np.ones(count, np.float32)
        examples = Examples(repeats, weights, sample.facts, sample.problem.truth)
        # A sample need not have all classes, and how examples are chosen does not change the time of a step.
        shuffled = replace(section, sampling=SamplingParams())
        return make_loader(sample.columns, encoded, examples, shuffled, ranks, seed=seed)

    held = {name: column[:_HELD] for name, column in {**sample.columns, **given}.items()}
    return Material(sample.problem, sample.facts, held, given, load)


def time_training(name: str, params: Params, size: Size, material: Material) -> Estimate:
    """Estimate the duration of a training stage.

    Args:
        name: Name of the stage: `train` or `distill`.
        params: Parameters of the project.
        size: Size of the data.
        material: Images on which steps are timed.
    """
    section: TrainParams | DistillParams = getattr(params, name)
    try:
        check_weights(section)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    num_ranks = count_ranks(section.ranks) * (section.hosts.most if section.hosts else 1)
    times = time_network(name, section, make_objective(name, params, material), material, num_ranks=num_ranks)
    return sum_up(section, size, times, num_ranks=num_ranks)


def sum_up(
    section: TrainParams | DistillParams, size: Size, times: "NetworkTimes", *, num_ranks: int = 1
) -> Estimate:
    """Estimate the duration of a training from the times of its steps and images."""
    num_batches = times.num_batches if size.exact else max(1, size.draws // section.fit.batch_size)
    epochs, steps = section.fit.epochs, section.fit.epochs * num_batches
    # The validation images are read once more at the end, when the temperature is fitted on them.
    looked_at = (epochs + 1) * size.validation
    batch_size, averaged = section.fit.batch_size, section.fit.average_decay > 0
    looked_at += epochs * batch_size * count_batches(num_batches, batch_size, averaged=averaged)
    seconds = start_s() + steps * times.step_s + looked_at * times.image_s / num_ranks
    words = f"{steps:,} steps of {say_step(times.step_s)}"
    if num_ranks > 1:
        words += f", timed on one of {num_ranks} ranks, without the communication between them"
    return Estimate(seconds=seconds, words=words, device=times.device)


@dataclass(frozen=True)
class NetworkTimes:
    """Measured speed of a network."""

    step_s: float
    """Seconds of a training step on one rank's part of the batch."""
    image_s: float
    """Seconds of a validation image."""
    device: str
    num_batches: int
    """Number of batches in an epoch of the material."""


def time_network(
    name: str,
    section: TrainParams | DistillParams,
    objective_of: MakeObjective,
    material: Material,
    *,
    num_ranks: int = 1,
    longest_s: float = LONGEST_S,
) -> NetworkTimes:
    """Time the network of a section in training and in validation.

    Args:
        name: Name of the section.
        section: Section of params.yaml.
        objective_of: Makes the objective of the training.
        material: Images on which steps are timed.
        num_ranks: Number of ranks that share a batch; one of them is timed.
        longest_s: Approximate limit on the time of the steps, in seconds.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and num_ranks > 1:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // num_ranks))
    alone, emphasis = Ranks(rank=0, num=1, device=device), Emphasis(smoothing=section.fit.label_smoothing)
    network = _build(section, material)
    whiten(network, next(iter(material.given.values())))
    network = network.to(device)
    loader = material.open_loader(section, name, Ranks(rank=0, num=num_ranks, device=device))
    objective = objective_of(material.problem, emphasis, alone)
    unfreezing = Unfreezing(network, section.transfer)
    step_s, mode = time_steps(
        network, objective, loader, section.fit, ranks=alone, unfreezing=unfreezing, longest_s=longest_s
    )
    held = to_tensors(material.held, device)
    network.eval()
    with torch.inference_mode(), mode.autocast(device):
        call_s = time_calls(
            lambda: validate(network, material.problem, held, material.facts, alone, seed=0), device
        )
    return NetworkTimes(step_s, call_s / count_examples(held), device.type, loader.num_batches)


def time_evaluation(params: Params, size: Size, material: Material) -> Estimate:
    """Estimate the longest duration of the evaluation.

    The float networks, on the processor, stand for the files that will be deployed.
    """
    held = {name: torch.from_numpy(np.array(column)) for name, column in material.held.items()}
    given = {name: material.held[name] for name in material.facts}
    pool = Pool(given, material.facts, boxes_of(held, material.problem.truth))
    conditions = applicable(params.evaluate.families, pool)
    stressed = min(params.evaluate.stress_images, size.test) * len(conditions) * len(SEVERITIES)
    count = len(pool)
    networks = [
        (_build(params.train, material), 1),
        (_build(params.distill, material), _CANDIDATES_OF_STUDENT),
    ]
    seconds = [times * _forward_s(network, held, material.facts) for network, times in networks]
    answer_s = sum(seconds) / count
    cpu, keys = torch.device("cpu"), torch.arange(count)

    def disturb() -> None:
        for condition in conditions:
            as_served(stress(condition, pool.take(keys), keys=keys, severity=3, seed=0, pool=pool).images)

    stress_s = time_calls(disturb, cpu) / count / max(1, len(conditions))
    images = size.test + stressed
    total = start_s(processes=1) + images * answer_s + stressed * stress_s
    words = f"{images:,} images, clean and under stress, {say_step(answer_s)} each for all three candidates"
    return Estimate(seconds=total, words=words)


def _build(section: TrainParams | DistillParams, material: Material) -> nn.Module:
    return build_of(material.problem, section, material.facts, seed=0)


def learn_truth(problem: Problem, emphasis: Emphasis, ranks: Ranks) -> Objective:
    """Return the teacher's objective."""
    return supervised(problem, emphasis)


def make_objective(name: str, params: Params, material: Material) -> MakeObjective:
    """Return the function that makes the objective of a training stage."""
    if name == "train":
        return learn_truth
    teacher = _build(params.train, material).eval().requires_grad_(False)
    whiten(teacher, next(iter(material.given.values())))
    return learn_from(teacher, params.distill.terms, temperature=1.0)


def _forward_s(network: nn.Module, held: Mapping[str, Tensor], facts: Facts) -> float:
    inputs, _ = as_batch(held, facts)
    network.eval()
    with torch.inference_mode():
        return time_calls(lambda: network(inputs), torch.device("cpu"))


def start_s(processes: int = 2) -> float:
    """Return the seconds that a stage takes before its first step, from the start of this process.

    Args:
        processes: Processes that start one after another: 2 for a training, whose agent starts its ranks.
    """
    return _STARTED_S * processes


_STARTED_S = time.time() - psutil.Process().create_time()
"""Seconds from the start of this process until all modules of a training were imported."""

"""The code that the two training stages share: from prepared artifacts to a fitted, calibrated network."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from temper.artifacts import WEIGHTS, Artifact
from temper.data.dataset.packed import (
    open_images,
    open_split,
)
from temper.data.loading.loader import as_batch, to_tensors, whole_batches
from temper.engine.calibration import fit_temperature
from temper.engine.checkpoints import Checkpoints
from temper.engine.distributed.ranks import Ranks, join_ranks, leave_ranks
from temper.engine.distributed.shutdown import stopping
from temper.engine.fit import fit
from temper.engine.interface import FitResult
from temper.engine.metrics_log import write_curves
from temper.engine.training_notes import CHANCE, Course, of_student, of_training, read_epochs
from temper.engine.unfreezing import Unfreezing
from temper.maths.batching import fit_batch
from temper.maths.random import derive, hashes
from temper.networks.build import build_network, save_network
from temper.networks.heads import count_parameters
from temper.networks.params import watched_file
from temper.networks.pretrained import pin, read_weights
from temper.networks.transfer import start_from
from temper.networks.whitening import whiten
from temper.problem import Emphasis, Headline, Inputs, Objective, Problem, Targets
from temper.problems import load as load_problem
from temper.stages.load_trained import read_facts
from temper.stages.training_batches import open_loader

if TYPE_CHECKING:
    from temper.config import DistillParams, TrainParams

_VALIDATION_BATCH = 512
_CALIBRATION_BYTES = 256 << 20
"""Bytes of the outputs from which a network is calibrated. Maps of large images need more for a split."""
_OTHER = "other image"
"""Column with the number of another image; `CHANCE` scores each answer against that image's truth."""

MakeObjective = Callable[[Problem, Emphasis, Ranks], Objective]


def train_network(
    what: str,
    params: "TrainParams | DistillParams",
    make_objective: MakeObjective,
    inputs: Mapping[str, Artifact],
    out: Path,
    *,
    seed: int,
    project: Path,
    work: Path,
    checkpoints: Path,
    teacher: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Train a network on every rank. The first rank writes the network and its curves into `out`.

    Args:
        what: Name of the stage: `train` or `distill`.
        params: The stage's section of params.yaml.
        make_objective: Makes the objective of the training.
        inputs: Artifacts of the earlier stages.
        out: Folder for the network and its curves.
        seed: Seed of the project.
        project: Folder of the project.
        work: Folder for the journal, which other processes read during the training.
        checkpoints: Folder with the checkpoints of an unfinished training.
        teacher: Validation scores of the network that this one learns from, if there is one.

    Returns:
        The facts of the training on the first rank; nothing on the other ranks.
    """
    ranks = join_ranks()
    with stopping(first=ranks.first, num=ranks.num) as stop:
        prepare = inputs["prepare"]
        problem, facts = load_problem(prepare.facts["problem"]), read_facts(prepare)
        emphasis = _emphasis(params, inputs["augment"])
        seed = derive(seed, what)
        loader = open_loader(inputs, problem, facts, params, ranks, seed=seed, what=what)
        network = build_network(problem, params.backbone, facts, seed=seed, head=params.head)
        whiten(network, open_images(prepare))
        started = transfer(network, params, project, ranks)
        network = network.to(ranks.device)
        held = to_tensors(open_split(prepare, "validation"), ranks.device)
        by = best_by(problem, params)
        result = fit(
            network,
            make_objective(problem, emphasis, ranks),
            loader,
            lambda candidate: validate(candidate, problem, held, ranks, seed=seed, by=by),
            params.fit,
            what=what,
            headline=by,
            ranks=ranks,
            checkpoints=Checkpoints(checkpoints),
            journal=work / "journal.jsonl",
            stop=stop,
            unfreezing=Unfreezing(network, params.transfer),
        )
        found: dict[str, Any] = {}
        if ranks.first:
            save_network(network, out / WEIGHTS)
            write_curves(result.entries, out / "curves.csv")
            scores = ", ".join(f"{name} {result.scores[name]:.4f}" for name in problem.scores)
            print(
                f"{what}: epoch {result.best_epoch} of {params.fit.epochs} is the best by {by.name}: {scores}"
            )
            notes = _notes(result, Course(what, by, params.fit), teacher)
            found = _facts(result, network, problem, held, params, ranks.device) | started | notes
        leave_ranks(ranks)
        return found


def best_by(problem: Problem, params: "TrainParams | DistillParams") -> Headline:
    """Return the score by which the best epoch is chosen."""
    name = params.fit.best_by
    better = problem.headline.greater_is_better
    return problem.headline if name == "headline" else Headline(name, greater_is_better=better)


def check_weights(section: "TrainParams | DistillParams") -> None:
    """Find weights of a package or of the hub, which are downloaded now, not hours later.

    Raises:
        ValueError: If they cannot be found; names the ways out.
    """
    weights = section.transfer.weights
    if weights is not None and watched_file(weights) is None:
        read_weights(weights, Path(), section.backbone)


def try_section(name: str, section: "TrainParams | DistillParams", prepare: Artifact) -> None:
    """Build the network of a later stage and find its weights, to report errors before hours of training.

    Raises:
        ValueError: If the section is wrong; names the section and the error.
    """
    try:
        build_network(
            load_problem(prepare.facts["problem"]),
            section.backbone,
            read_facts(prepare),
            seed=0,
            head=section.head,
        )
        check_weights(section)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _emphasis(params: "TrainParams | DistillParams", augment: Artifact) -> Emphasis:
    asked = augment.facts["emphasis"]
    costs = tuple(tuple(row) for row in asked["costs"])
    return Emphasis(smoothing=params.fit.label_smoothing, offsets=tuple(asked["offsets"]), costs=costs)


def transfer(
    network: nn.Module, params: "TrainParams | DistillParams", project: Path, ranks: Ranks
) -> dict[str, Any]:
    """Start a network from pretrained weights if any are named. Print a report and return its facts."""
    reference = params.transfer.weights
    if reference is None:
        return {}
    weights = read_weights(reference, project, params.backbone) if ranks.first else None
    # Each host has its own cache of the hub, so all ranks take the revision that the first rank found. On the
    # first host, only the first rank may download it.
    pinned = ranks.agree(pin(reference, weights) if weights else None)
    weights = weights or read_weights(str(pinned), project, params.backbone)
    report = start_from(network, weights, params.transfer)
    if ranks.first:
        print(report.table())
    return {"transfer": report.record()}


def validate(
    network: nn.Module,
    problem: Problem,
    held: Mapping[str, Tensor],
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
        ranks: Ranks that share the work.
        seed: Seed for the order of the other images.
        by: Score by which epochs are compared; None for the headline.
    """
    # Other images come from the whole split: a source lists class after class, so a batch may hold one class.
    other = hashes(torch.arange(len(held["image"])), 1, seed=seed, stream="chance")[:, 0].argsort()
    columns = {**held, _OTHER: other}
    totals: Tensor | None = None
    size = fit_batch(held["image"].shape[1:], _VALIDATION_BATCH)
    for inputs, targets in whole_batches(columns, size, ranks.device, ranks.rank, ranks.num):
        tally = _tally(network, problem, inputs, targets, held).sum(dim=1)
        totals = tally if totals is None else totals + tally
    if totals is None:
        # With more ranks than batches, this rank has nothing to count but must take part in the sum.
        inputs, targets = next(whole_batches(columns, 1, ranks.device))
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
    # `as_batch` gives the truth the types that `Problem.tally` expects; it needs no images for that.
    others = {name: held[name][targets[_OTHER].to(held[name].device)] for name in truth}
    _, wrong = as_batch({"image": held["image"][:0], **others})
    wrong = {name: value.to(inputs["image"].device) for name, value in wrong.items()}
    return torch.stack([problem.tally(answer, truth).double(), problem.tally(answer, wrong).double()])


def _facts(
    result: FitResult,
    network: nn.Module,
    problem: Problem,
    held: Mapping[str, Tensor],
    params: "TrainParams | DistillParams",
    device: torch.device,
) -> dict[str, Any]:
    found = {
        "backbone": asdict(params.backbone),
        "scores": {name: value for name, value in result.scores.items() if name != CHANCE},
        "best_epoch": result.best_epoch,
        "num_steps": result.num_steps,
        "num_parameters": count_parameters(network),
        "precision": result.mode.precision,
        "layout": result.mode.layout,
        "temperature": _calibrate(network, problem, held, device),
    }
    if params.head:
        found["head"] = params.head
    # Recorded only if it happened, so that the facts of a good run do not change.
    if result.accumulation > 1:
        found["accumulation"] = result.accumulation
    if result.num_skipped:
        found["num_skipped"] = result.num_skipped
    return found


def _calibrate(
    network: nn.Module, problem: Problem, held: Mapping[str, Tensor], device: torch.device
) -> float:
    """Return the calibration temperature, from as many examples as `_CALIBRATION_BYTES` of outputs allow."""
    outputs, truths = [], []
    network.eval()
    with torch.inference_mode():
        one, _ = next(whole_batches(held, 1, device))
        each = sum(value.numel() * value.element_size() for value in network(one).values())
        total = len(held["image"])
        count = max(1, min(total, _CALIBRATION_BYTES // each))
        some = torch.linspace(0, total - 1, count).round().long()
        kept = held if count == total else {name: column[some] for name, column in held.items()}
        size = fit_batch(held["image"].shape[1:], _VALIDATION_BATCH)
        for inputs, targets in whole_batches(kept, size, device):
            outputs.append(network(inputs))
            truths.append(targets)
        return fit_temperature(problem, outputs, truths)


def _notes(result: FitResult, course: Course, teacher: Mapping[str, float] | None) -> dict[str, Any]:
    """Print the notes on a training and return them for the facts. A good training has none."""
    epochs = read_epochs(result.entries, course.headline)
    notes = of_training(course, epochs, result.clipped_share)
    if teacher is not None and epochs:
        notes += of_student(course, course.best(epochs), teacher[course.headline.name])
    for note in notes:
        print(note, file=sys.stderr)
    return {"notes": notes} if notes else {}

"""The code that the two training stages share: from prepared artifacts to a fitted, calibrated network."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from temper.artifacts import WEIGHTS, Artifact
from temper.data.dataset.packed import open_inputs, open_split
from temper.data.loading.loader import to_tensors, whole_batches
from temper.engine.calibration import fit_temperature
from temper.engine.checkpoints import Checkpoints
from temper.engine.distributed.ranks import Ranks, join_ranks, leave_ranks
from temper.engine.distributed.shutdown import stopping
from temper.engine.fit import fit
from temper.engine.interface import FitResult
from temper.engine.metrics_log import write_curves
from temper.engine.training_notes import CHANCE, Course, of_student, of_training, read_epochs
from temper.engine.unfreezing import Unfreezing
from temper.inputs.facts import Facts, count_examples, count_values
from temper.maths.batching import fit_batch
from temper.maths.random import derive
from temper.networks.build import build_network, save_network
from temper.networks.heads import count_parameters
from temper.networks.params import watched_file
from temper.networks.pretrained import pin, read_weights
from temper.networks.transfer import start_from
from temper.networks.whitening import whiten
from temper.problem import Emphasis, Headline, Objective, Outputs, Problem, Targets
from temper.problems import load as load_problem
from temper.stages.known_examples import open_known
from temper.stages.load_trained import read_facts
from temper.stages.training_batches import open_loader
from temper.stages.validation import VALIDATION_BATCH, validate

if TYPE_CHECKING:
    from temper.config import DistillParams, TrainParams

_CALIBRATION_BYTES = 256 << 20
"""Bytes of the outputs from which a network is calibrated. Maps of large images need more for a split."""

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
        network = build_of(problem, params, facts, seed=seed)
        whiten(network, next(iter(open_inputs(prepare).values())))
        started = transfer(network, params, project, ranks)
        network = network.to(ranks.device)
        held = to_tensors(open_split(prepare, "validation"), ranks.device)
        by = best_by(problem, params)
        fill = open_known(network, problem, prepare, facts, ranks, what=what)

        def score(candidate: nn.Module) -> dict[str, float]:
            fill(candidate)
            return validate(candidate, problem, held, facts, ranks, seed=seed, by=by)

        result = fit(
            network,
            make_objective(problem, emphasis, ranks),
            loader,
            score,
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
            calibrated = _calibrate(network, problem, held, facts, ranks.device)
            save_network(network, out / WEIGHTS)
            write_curves(result.entries, out / "curves.csv")
            found = _facts(result, network, params, *calibrated) | started
            scores = ", ".join(f"{name} {found['scores'][name]:.4f}" for name in problem.scores)
            print(
                f"{what}: epoch {result.best_epoch} of {params.fit.epochs} is the best by {by.name}: {scores}"
            )
            found |= _notes(result, Course(what, by, params.fit), teacher)
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
        build_of(load_problem(prepare.facts["problem"]), section, read_facts(prepare), seed=0)
        check_weights(section)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def build_of(
    problem: Problem, section: "TrainParams | DistillParams", facts: Facts, *, seed: int
) -> nn.Module:
    """Build the network that a section of params.yaml describes."""
    return build_network(
        problem, section.backbone, facts, seed=seed, head=section.head, encoders=section.encoders
    )


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


def _facts(
    result: FitResult,
    network: nn.Module,
    params: "TrainParams | DistillParams",
    temperature: float,
    decided: Mapping[str, float],
) -> dict[str, Any]:
    found = {
        "backbone": asdict(params.backbone),
        "scores": {name: value for name, value in result.scores.items() if name != CHANCE} | {**decided},
        "best_epoch": result.best_epoch,
        "num_steps": result.num_steps,
        "num_parameters": count_parameters(network),
        "precision": result.mode.precision,
        "layout": result.mode.layout,
        "temperature": temperature,
    }
    if params.head:
        found["head"] = params.head
    if params.encoders:
        found["encoders"] = {name: asdict(each) for name, each in params.encoders.items()}
    # Recorded only if it happened, so that the facts of a good run do not change.
    if result.accumulation > 1:
        found["accumulation"] = result.accumulation
    if result.num_skipped:
        found["num_skipped"] = result.num_skipped
    return found


def _calibrate(
    network: nn.Module,
    problem: Problem,
    held: Mapping[str, Tensor],
    facts: Facts,
    device: torch.device,
) -> tuple[float, Mapping[str, float]]:
    """Set the decisions of a trained network; return its temperature, and the scores that changed."""
    outputs, truths = _answer_some(network, held, facts, device)
    decided = problem.set_decisions(network, outputs, truths)
    if decided:
        outputs, _ = _answer_some(network, held, facts, device)
    return fit_temperature(problem, outputs, truths), decided


@torch.inference_mode()
def _answer_some(
    network: nn.Module, held: Mapping[str, Tensor], facts: Facts, device: torch.device
) -> tuple[list[Outputs], list[Targets]]:
    """Return outputs and truth of as many validation examples as `_CALIBRATION_BYTES` of outputs allow."""
    outputs, truths = [], []
    network.eval()
    one, _ = next(whole_batches(held, facts, 1, device))
    each = sum(value.numel() * value.element_size() for value in network(one).values())
    total = count_examples(held)
    count = max(1, min(total, _CALIBRATION_BYTES // each))
    some = torch.linspace(0, total - 1, count).round().long()
    kept = held if count == total else {name: column[some] for name, column in held.items()}
    size = fit_batch([count_values(facts)], VALIDATION_BATCH)
    for inputs, targets in whole_batches(kept, facts, size, device):
        outputs.append(network(inputs))
        truths.append(targets)
    return outputs, truths


def _notes(result: FitResult, course: Course, teacher: Mapping[str, float] | None) -> dict[str, Any]:
    """Print the notes on a training and return them for the facts. A good training has none."""
    epochs = read_epochs(result.entries, course.headline)
    notes = of_training(course, epochs, result.clipped_share)
    if teacher is not None and epochs:
        notes += of_student(course, course.best(epochs), teacher[course.headline.name])
    for note in notes:
        print(note, file=sys.stderr)
    return {"notes": notes} if notes else {}

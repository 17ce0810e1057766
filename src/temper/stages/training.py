"""What the two training stages share: from prepared artifacts to a fitted, calibrated network."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from temper.artifacts import WEIGHTS, Artifact
from temper.data.loading import TrainLoader, as_batch, to_tensors, whole_batches
from temper.data.packing import (
    TABLE,
    check_batch,
    open_encoded,
    open_pictures,
    open_split,
    open_training,
    read_strata_drawn,
    read_table,
)
from temper.data.streaming import Stream, count_workers
from temper.engine.calibration import fit_temperature
from temper.engine.checkpoints import Checkpoints
from temper.engine.fit import fit
from temper.engine.interface import FitResult
from temper.engine.journal import write_curves
from temper.engine.notes import CHANCE, Course, of_student, of_training, read_epochs
from temper.engine.ranks import Ranks, join_ranks, leave_ranks
from temper.engine.stopping import stopping
from temper.engine.thawing import Thawing
from temper.maths.random import derive, hashes
from temper.networks.build import build_network, save_network
from temper.networks.heads import count_parameters
from temper.networks.params import watched_file
from temper.networks.pretrained import pin, read_weights
from temper.networks.transfer import start_from
from temper.networks.whitening import whiten
from temper.problem import PLAIN_HEAD, Emphasis, Facts, Inputs, Objective, Problem, Targets
from temper.problems import load as load_problem
from temper.stages.trained import read_facts

if TYPE_CHECKING:
    from temper.params import DistillParams, TrainParams

_VALIDATION_BATCH = 512
_OTHER = "other image"
"""Column: the number of the image whose truth an answer is held against to tell chance."""

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
    """Train a network on every rank; the first one writes it, its curves and its facts into `out`.

    Args:
        what: Which stage's: `train` or `distill`.
        params: Its section.
        make_objective: What the network is trained for.
        inputs: Artifacts of the stages before.
        out: Folder for what it leaves.
        seed: Of the project.
        project: Folder of the project.
        work: Folder for what others look at meanwhile.
        checkpoints: Folder of half-finished training.
        teacher: Validation scores of the network that it learns from, if there is one.
    """
    ranks = join_ranks()
    with stopping(first=ranks.first, num=ranks.num) as stop:
        prepare = inputs["prepare"]
        problem, facts = load_problem(prepare.facts["problem"]), read_facts(prepare)
        emphasis = _emphasis(params, inputs["augment"])
        seed = derive(seed, what)
        loader = make_loader(inputs, problem, facts, params, ranks, seed=seed, what=what)
        network = build_network(problem, params.backbone, facts, seed=seed, head=params.head)
        whiten(network, open_pictures(prepare))
        started = transfer(network, params, project, ranks)
        network = network.to(ranks.device)
        held = to_tensors(open_split(prepare, "validation"), ranks.device)
        result = fit(
            network,
            make_objective(problem, emphasis, ranks),
            loader,
            lambda candidate: validate(candidate, problem, held, ranks, seed=seed),
            params.fit,
            what=what,
            headline=problem.headline,
            ranks=ranks,
            checkpoints=Checkpoints(checkpoints),
            journal=work / "journal.jsonl",
            stop=stop,
            thawing=Thawing(network, params.transfer),
        )
        found: dict[str, Any] = {}
        if ranks.first:
            save_network(network, out / WEIGHTS)
            write_curves(result.entries, out / "curves.csv")
            notes = _notes(result, Course(what, problem.headline, params.fit), teacher)
            found = _facts(result, network, problem, held, params, ranks.device) | started | notes
        leave_ranks(ranks)
        return found


def try_section(name: str, section: "TrainParams | DistillParams", prepare: Artifact) -> None:
    """Build the network that a later stage will train and find its weights, so that what is wrong is told before hours of training.

    Raises:
        ValueError: Names the section and what is wrong with it.
    """
    try:
        build_network(
            load_problem(prepare.facts["problem"]), section.backbone, read_facts(prepare), seed=0, head=section.head
        )
        weights = section.transfer.weights
        if weights is not None and watched_file(weights) is None:
            # A package, or the hub: what is missing is told, or fetched, while somebody may still be watching.
            read_weights(weights, Path(), section.backbone)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _emphasis(params: "TrainParams | DistillParams", augment: Artifact) -> Emphasis:
    asked = augment.facts["emphasis"]
    costs = tuple(tuple(row) for row in asked["costs"])
    return Emphasis(smoothing=params.fit.label_smoothing, offsets=tuple(asked["offsets"]), costs=costs)


def transfer(network: nn.Module, params: "TrainParams | DistillParams", project: Path, ranks: Ranks) -> dict[str, Any]:
    """Start a network from pretrained weights, where some are named; says what became of them, for the terminal and the facts."""
    reference = params.transfer.weights
    if reference is None:
        return {}
    weights = read_weights(reference, project, params.backbone) if ranks.first else None
    # Each host has its own cache of the hub: all ranks take the revision that the first one found, which alone may fetch it for its host.
    pinned = ranks.agree(pin(reference, weights) if weights else None)
    weights = weights or read_weights(str(pinned), project, params.backbone)
    report = start_from(network, weights, params.transfer)
    if ranks.first:
        print(report.table())
    return {"transfer": report.record()}


def make_loader(
    inputs: Mapping[str, Artifact],
    problem: Problem,
    facts: Facts,
    params: "TrainParams | DistillParams",
    ranks: Ranks,
    *,
    seed: int,
    what: str,
) -> TrainLoader:
    """Batches from memory, or of pictures made ahead where they are encoded or viewed one by one."""
    columns, repeats, weights = open_training(inputs["prepare"], inputs["augment"])
    check_batch(params.fit.batch_size, repeats, key=f"{what}.fit.batch_size", num_ranks=ranks.num)
    encoded = open_encoded(inputs["prepare"])
    stream = None
    if encoded is not None or params.views.per_picture:
        stream = Stream(
            columns.pop("image") if encoded is None else encoded,
            {name: columns.pop(name) for name in sorted(problem.spatial)},
            params.views,
            seed=seed,
            workers=count_workers(params.views.workers, ranks.num),
            ids=lambda: _ids(inputs["augment"]),
            pinned=ranks.device.type == "cuda",
        )
    return TrainLoader(
        to_tensors(columns, ranks.device),
        repeats,
        weights,
        batch_size=params.fit.batch_size,
        device=ranks.device,
        views=params.views,
        spatial=problem.spatial,
        mean=facts.mean,
        seed=seed,
        rank=ranks.rank,
        num_ranks=ranks.num,
        ids=lambda: _ids(inputs["augment"]),
        sampling=params.sampling,
        strata=lambda: read_strata_drawn(inputs["augment"]),
        stream=stream,
    )


def validate(
    network: nn.Module, problem: Problem, held: Mapping[str, Tensor], ranks: Ranks, *, seed: int
) -> dict[str, float]:
    """Scores on the validation split, shared out over the ranks; the same on every rank.

    Beside them, under `CHANCE`, the headline of the same answers held against the truth of other images of the split: what they are
    worth by chance, whatever the problem, the balance of its classes and the network's habits.

    Args:
        network: Ready to answer.
        problem: What is asked.
        held: The split.
        ranks: Those that take part.
        seed: Of the order of other images.
    """
    # Over the whole split: a source lists class after class, so a batch may hold one class only.
    other = hashes(torch.arange(len(held["image"])), 1, seed=seed, stream="chance")[:, 0].argsort()
    columns = {**held, _OTHER: other}
    totals: Tensor | None = None
    for inputs, targets in whole_batches(columns, _VALIDATION_BATCH, ranks.device, ranks.rank, ranks.num):
        tally = _tally(network, problem, inputs, targets, held).sum(dim=1)
        totals = tally if totals is None else totals + tally
    if totals is None:
        # More ranks than batches: this one has nothing to count, but must take part in the sum.
        inputs, targets = next(whole_batches(columns, 1, ranks.device))
        totals = torch.zeros_like(_tally(network, problem, inputs, targets, held)[:, 0])
    own, others = ranks.sum(totals)
    scores = {name: float(value) for name, value in problem.score(own).items()}
    return scores | {CHANCE: float(problem.score(others)[problem.headline.name])}


def _tally(
    network: nn.Module, problem: Problem, inputs: Inputs, targets: Targets, held: Mapping[str, Tensor]
) -> Tensor:
    """What each answer adds to the scores by its own truth, and by another image's, [2, batch, counts]."""
    answer = problem.read(network(inputs))
    truth = {name: value for name, value in targets.items() if name != _OTHER}
    # As a batch of its own without images: truth of the types that scores want.
    others = {name: held[name][targets[_OTHER].to(held[name].device)] for name in truth}
    _, wrong = as_batch({"image": held["image"][:0], **others})
    wrong = {name: value.to(inputs["image"].device) for name, value in wrong.items()}
    return torch.stack([problem.tally(answer, truth).double(), problem.tally(answer, wrong).double()])


def _ids(augment: Artifact) -> list[str]:
    """Ids of all that training draws from, in the order of the packed files; a view has its picture's."""
    table = read_table(augment.path(TABLE), ["index", "id"])
    return [name for _, name in sorted(zip(table["index"], table["id"], strict=True))]


def _facts(
    result: FitResult,
    network: nn.Module,
    problem: Problem,
    held: Mapping[str, Tensor],
    params: "TrainParams | DistillParams",
    device: torch.device,
) -> dict[str, Any]:
    outputs, truths = [], []
    network.eval()
    with torch.inference_mode():
        for inputs, targets in whole_batches(held, _VALIDATION_BATCH, device):
            outputs.append(network(inputs))
            truths.append(targets)
        temperature = fit_temperature(problem, outputs, truths)
    found = {
        "backbone": asdict(params.backbone),
        "scores": {name: value for name, value in result.scores.items() if name != CHANCE},
        "best_epoch": result.best_epoch,
        "num_steps": result.num_steps,
        "num_parameters": count_parameters(network),
        "precision": result.mode.precision,
        "layout": result.mode.layout,
        "temperature": temperature,
    }
    if params.head != PLAIN_HEAD:
        found["head"] = asdict(params.head)
    # Said only where something happened: facts of a good run stay as they were.
    if result.accumulation > 1:
        found["accumulation"] = result.accumulation
    if result.num_skipped:
        found["num_skipped"] = result.num_skipped
    return found


def _notes(result: FitResult, course: Course, teacher: Mapping[str, float] | None) -> dict[str, Any]:
    """What there is to say of a training, said on the terminal and for the facts; nothing of a good one."""
    epochs = read_epochs(result.entries, course.headline)
    notes = of_training(course, epochs, result.clipped_share)
    if teacher is not None and epochs:
        notes += of_student(course, course.best(epochs), teacher[course.headline.name])
    for note in notes:
        print(note, file=sys.stderr)
    return {"notes": notes} if notes else {}

"""The job of a contestant, and the format of its report.

A contestant is a process, `python -m peers JOB`, that prints JSON lines: `{"epoch", "seconds", "score"}`
after each epoch and `{"seconds", "images", "facts"}` at its end. Seconds are those of training: the clock
starts after a warm-up (the contestant's complete loop over a few batches) and is paused while a score is
computed.
"""

import copy
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ruamel.yaml import YAML
from torch import Tensor, nn

from temper import artifacts
from temper.artifacts import Artifact
from temper.config import FILE, Params, parse
from temper.data.dataset.packed import held_out, open_split, open_training
from temper.data.loading.loader import to_tensors, whole_batches
from temper.inputs.facts import Facts
from temper.inputs.image_input import image_of
from temper.maths.random import derive
from temper.networks.build import build_network
from temper.networks.whitening import whiten
from temper.problem import Problem
from temper.problems import load as load_problem
from temper.stages.load_trained import read_facts

WARM_UP_BATCHES = 10
INPUTS = ("prepare", "augment")
CONTESTANTS = {
    "plain": ("plain",),
    "timm": ("with_timm", "plain"),
    "lightning": ("with_lightning", "plain"),
    "temper": ("with_temper",),
    "recipe": ("with_temper",),
}
"""Name -> the module in this package that trains it, and the modules that it imports."""
OWN_LOOP = ("temper", "recipe")
"""Contestants that use temper's training loop."""
_SCORED_AT_ONCE = 512


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training. All values can be written as JSON."""

    contestant: str
    project: str
    """Folder with params.yaml and the artifacts of prepare and augment."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Dotted key under `train` -> value that replaces the project's."""
    split: Literal["validation", "test"] = "validation"
    """Split on which scores are computed. No choice may depend on scores of the test split."""
    seed: int = 0
    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    """Threads of the computing process."""
    workers: int = 0
    """Processes that load data, for contestants that use such processes."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the peers; temper chooses its own."""
    batches: int | None = None
    """Train on this many batches of the training split only; None for all."""

    def params(self) -> Params:
        """Return the project's parameters with the overrides and the seed."""
        return override(
            Path(self.project),
            {**{f"train.{key}": value for key, value in self.overrides.items()}, "seed": self.seed},
        )

    def inputs(self) -> dict[str, Artifact]:
        """Load the artifacts that training starts from."""
        return {name: artifacts.load(name, Path(self.project) / "artifacts" / name) for name in INPUTS}


def override(project: Path, values: Mapping[str, Any]) -> Params:
    """Return a project's parameters with other values at some dotted keys.

    Raises:
        ValueError: If a key is unknown or a value breaks a rule.
    """
    tree = YAML(typ="safe", pure=True).load(io.StringIO((project / FILE).read_text(encoding="utf-8")))
    for dotted, value in values.items():
        *path, last = dotted.split(".")
        section = tree
        for key in path:
            section = section.setdefault(key, {})
            if not isinstance(section, dict):
                raise ValueError(f"{dotted}: {key} is a value and has no keys below it; set {key} itself")
        section[last] = copy.deepcopy(value)  # since a later key may change something inside it
    return parse(json.dumps(tree))


@dataclass(frozen=True)
class Data:
    """The peers' training data: the same images, problem and initial weights as temper's."""

    params: Params
    problem: Problem
    facts: Facts
    images: np.ndarray
    """uint8 [examples, height, width, channels]."""
    labels: np.ndarray
    """int64 [examples]."""

    def first(self, batches: int | None) -> "Data":
        """Return only the examples of the first batches; all of them if `batches` is None."""
        if batches is None:
            return self
        count = batches * self.params.train.fit.batch_size
        return replace(self, images=self.images[:count], labels=self.labels[:count])

    def with_epochs(self, epochs: int) -> "Data":
        """Return the same data with another number of epochs."""
        train = self.params.train
        short = replace(train, fit=replace(train.fit, epochs=epochs))
        return replace(self, params=self.params.model_copy(update={"train": short}))

    @property
    def num_batches(self) -> int:
        """Batches of an epoch; a smaller last batch is left out."""
        return len(self.images) // self.params.train.fit.batch_size

    @property
    def num_images(self) -> int:
        """Images that all epochs together train on."""
        fit = self.params.train.fit
        return fit.epochs * self.num_batches * fit.batch_size

    def network(self) -> "Logits":
        """Build the network as temper builds it for this seed; it expects normalised pixels."""
        seed, train = derive(self.params.seed, "train"), self.params.train
        network = build_network(self.problem, train.backbone, self.facts, seed=seed, head=train.head)
        whiten(network, self.images)
        network.backbone.normalize = nn.Identity()
        return Logits(network)


class Logits(nn.Module):
    """Wraps a network of temper for the peers' loops: one tensor in, one tensor out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network({"image": images})["logits"]


def open_data(job: Job) -> Data:
    """Read the training data of a peer.

    Raises:
        ValueError: If the project is not a plain classification, since the peers support nothing else.
    """
    inputs = job.inputs()
    problem, facts = load_problem(inputs["prepare"].facts["problem"]), read_facts(inputs["prepare"])
    columns, repeats, weights = open_training(inputs["prepare"], inputs["augment"])
    if set(columns) != {"image", "label"} or (repeats != 1).any() or (weights != 1).any():
        raise ValueError(
            "the peers train plain classification only: one label per image, no rebalancing, no weights; "
            "name a project like that with --project"
        )
    return Data(job.params(), problem, facts, np.array(columns["image"]), np.array(columns["label"]))


class Report:
    """The clock of a training, and its report to the parent process.

    Args:
        job: The training.
        out: Takes the lines of the report; with None, nothing is reported or scored (a warm-up).
    """

    def __init__(self, job: Job, out: Callable[[str], object] | None) -> None:
        self._out, self._epoch, self._seconds, self._since = out, 0, 0.0, 0.0
        if out is not None:
            prepare = job.inputs()["prepare"]
            columns = open_split(prepare, "validation") if job.split == "validation" else held_out(prepare)
            self._problem = load_problem(prepare.facts["problem"])
            self._facts = read_facts(prepare)
            self._held = to_tensors(columns, device())

    def start(self) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def stop(self) -> None:
        """Stop the clock: the training has ended."""
        with self.aside():
            pass

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Pause the clock inside the block."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._seconds += time.perf_counter() - self._since
        yield
        self._since = time.perf_counter()

    def score(self, network: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]) -> None:
        """Report the score after another epoch. Call it inside `aside`.

        Args:
            network: Maps inputs (`image`: pixels 0..255) to outputs, in evaluation mode.
        """
        self._epoch += 1
        if self._out is None:
            return
        totals = torch.zeros(())
        with torch.inference_mode():
            for inputs, targets in whole_batches(self._held, self._facts, _SCORED_AT_ONCE, device()):
                totals = (
                    totals
                    + self._problem.tally(self._problem.read(network(inputs)), targets)
                    .double()
                    .sum(dim=0)
                    .cpu()
                )
        score = float(self._problem.score(totals)[self._problem.headline.name])
        self._out(json.dumps({"epoch": self._epoch, "seconds": self._seconds, "score": score}))

    def end(self, images: int, **facts: object) -> None:
        """Report, after `stop`, how many images were trained on in all, and further facts."""
        if self._out is not None:
            self._out(json.dumps({"seconds": self._seconds, "images": images, "facts": facts}))


def take_turn(train: Callable[[Data, Job, Report], None], job: Job, report: Report) -> None:
    """Let a peer train twice: on a few batches to warm up, without a report, and then on all."""
    data = open_data(job).first(job.batches)
    train(data.first(WARM_UP_BATCHES).with_epochs(1), job, Report(job, None))
    train(data, job, report)
    report.end(data.num_images)


def normalised(network: nn.Module, facts: Facts) -> Callable[[Mapping[str, Tensor]], dict[str, Tensor]]:
    """Wrap a peer's network for `Report.score`: it first normalises pixels, as the peer's loader does."""
    image = image_of(facts)
    mean, std = (torch.tensor(each, device=device()).view(1, -1, 1, 1) for each in (image.mean, image.std))
    return lambda inputs: {"logits": network((inputs["image"].float() - mean) / std)}


def device() -> torch.device:
    """Return the device on which all contestants train."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def lines_apart() -> Callable[[str], object]:
    """Return a function that prints a line to the current standard output.

    From then on, everything else that is printed, by libraries too, goes to standard error.
    """
    stream = os.fdopen(os.dup(1), "w", buffering=1)
    sys.stdout.flush()
    os.dup2(2, 1)
    return lambda line: stream.write(line + "\n")

"""What a contestant is asked to train, and the words in which it reports.

A contestant is a process, `python -m peers JOB`, that prints JSON lines: `{"epoch", "seconds", "score"}` after each epoch and
`{"seconds", "images", "facts"}` at its end. Seconds are those of training: the clock starts after a warm-up (the contestant's own
whole loop over a few batches) and stands still while a score is taken.
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
from temper.maths.random import derive
from temper.networks.build import build_network
from temper.networks.whitening import whiten
from temper.problem import Facts, Problem
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
"""Name -> the module beside this one that trains it, and those it is made of."""
OWN_LOOP = ("temper", "recipe")
"""Those whose loop is temper's."""
_SCORED_AT_ONCE = 512


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training; JSON values only."""

    contestant: str
    project: str
    """Folder with params.yaml and the artifacts of prepare and augment."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Dotted key under `train` -> value that takes the place of the project's."""
    split: Literal["validation", "test"] = "validation"
    """Where scores are taken; nothing may be chosen by those of the test split."""
    seed: int = 0
    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    """Of the process that computes."""
    workers: int = 0
    """Processes that load data, where a contestant has such."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the peers; temper chooses its own."""
    batches: int | None = None
    """Train on so many batches of the training split only."""

    def params(self) -> Params:
        """The project's parameters with the overrides and the seed."""
        return override(
            Path(self.project),
            {**{f"train.{key}": at for key, at in self.overrides.items()}, "seed": self.seed},
        )

    def inputs(self) -> dict[str, Artifact]:
        """The artifacts that training starts from."""
        return {name: artifacts.load(name, Path(self.project) / "artifacts" / name) for name in INPUTS}


def override(project: Path, values: Mapping[str, Any]) -> Params:
    """A project's parameters with other values at some dotted keys.

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
                raise ValueError(f"{dotted}: {key} is a value and has no keys below it; name {key} itself")
        section[last] = copy.deepcopy(value)  # a later key may lie within it
    return parse(json.dumps(tree))


@dataclass(frozen=True)
class Data:
    """What the peers train on: the same images, problem and first weights as temper."""

    params: Params
    problem: Problem
    facts: Facts
    images: np.ndarray
    """uint8 [examples, height, width, channels]."""
    labels: np.ndarray
    """int64 [examples]."""

    def first(self, batches: int | None) -> "Data":
        """Only as many examples as fill so many batches."""
        if batches is None:
            return self
        count = batches * self.params.train.fit.batch_size
        return replace(self, images=self.images[:count], labels=self.labels[:count])

    def with_epochs(self, epochs: int) -> "Data":
        """The same with another length of training."""
        train = self.params.train
        short = replace(train, fit=replace(train.fit, epochs=epochs))
        return replace(self, params=self.params.model_copy(update={"train": short}))

    @property
    def num_batches(self) -> int:
        """Of an epoch; a last smaller one is left out."""
        return len(self.images) // self.params.train.fit.batch_size

    @property
    def num_images(self) -> int:
        """Trained on in all epochs together."""
        fit = self.params.train.fit
        return fit.epochs * self.num_batches * fit.batch_size

    def network(self) -> "Logits":
        """The network as temper builds it for this seed; its pixels come normalised."""
        seed, train = derive(self.params.seed, "train"), self.params.train
        network = build_network(self.problem, train.backbone, self.facts, seed=seed, head=train.head)
        whiten(network, self.images)
        network.backbone.normalize = nn.Identity()
        return Logits(network)


class Logits(nn.Module):
    """A network of temper's as peers know networks: a tensor in, a tensor out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network({"image": images})["logits"]


def open_data(job: Job) -> Data:
    """Read what a peer trains on.

    Raises:
        ValueError: If the project is no plain classification: the peers know nothing else.
    """
    inputs = job.inputs()
    problem, facts = load_problem(inputs["prepare"].facts["problem"]), read_facts(inputs["prepare"])
    columns, repeats, weights = open_training(inputs["prepare"], inputs["augment"])
    if set(columns) != {"image", "label"} or (repeats != 1).any() or (weights != 1).any():
        raise ValueError(
            "the peers train plain classification only: one label an image, no rebalancing, no weights"
        )
    return Data(job.params(), problem, facts, np.array(columns["image"]), np.array(columns["label"]))


class Report:
    """The clock of a training, and what it tells whoever started it.

    Args:
        job: What is trained.
        out: Where lines go; None tells nothing and takes no scores (a warm-up).
    """

    def __init__(self, job: Job, out: Callable[[str], object] | None) -> None:
        self._out, self._epoch, self._seconds, self._since = out, 0, 0.0, 0.0
        if out is not None:
            prepare = job.inputs()["prepare"]
            columns = open_split(prepare, "validation") if job.split == "validation" else held_out(prepare)
            self._problem = load_problem(prepare.facts["problem"])
            self._held = to_tensors(columns, device())

    def start(self) -> None:
        """Begin to count."""
        self._since = time.perf_counter()

    def stop(self) -> None:
        """Count no more: the training is over."""
        with self.aside():
            pass

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Inside, the clock stands still."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._seconds += time.perf_counter() - self._since
        yield
        self._since = time.perf_counter()

    def score(self, network: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]) -> None:
        """Tell the score after another epoch; asked inside `aside`.

        Args:
            network: Inputs (`image`: pixels 0..255) to outputs, in evaluation mode.
        """
        self._epoch += 1
        if self._out is None:
            return
        totals = torch.zeros(())
        with torch.inference_mode():
            for inputs, targets in whole_batches(self._held, _SCORED_AT_ONCE, device()):
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
        """After `stop`: tell how many images were trained on in all, and what else is worth knowing."""
        if self._out is not None:
            self._out(json.dumps({"seconds": self._seconds, "images": images, "facts": facts}))


def take_turn(train: Callable[[Data, Job, Report], None], job: Job, report: Report) -> None:
    """Let a peer train twice: a few batches to warm up, without report, and then all."""
    data = open_data(job).first(job.batches)
    train(data.first(WARM_UP_BATCHES).with_epochs(1), job, Report(job, None))
    train(data, job, report)
    report.end(data.num_images)


def normalised(network: nn.Module, facts: Facts) -> Callable[[Mapping[str, Tensor]], dict[str, Tensor]]:
    """A peer's network as `Report.score` asks it: pixels are normalised before, as the peer's loader does."""
    mean, std = (torch.tensor(each, device=device()).view(1, -1, 1, 1) for each in (facts.mean, facts.std))
    return lambda inputs: {"logits": network((inputs["image"].float() - mean) / std)}


def device() -> torch.device:
    """Where everybody trains."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def lines_apart() -> Callable[[str], object]:
    """A way to print to what is now standard output; whatever libraries print goes to standard error from here on."""
    stream = os.fdopen(os.dup(1), "w", buffering=1)
    sys.stdout.flush()
    os.dup2(2, 1)
    return lambda line: stream.write(line + "\n")

"""The training loop: fits a network to an objective, whatever the problem, on one process or many.

The loop asks one callable for a dict with a `loss` and does not know whether it distils. It keeps the best network by a
score on the validation split, averages weights, writes checkpoints by time and by epoch, and resumes from the last one. It
holds no random state: what is random (order, views) depends on the step alone and comes from the loader.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from temper.engine.checkpoints import Checkpoint, Checkpoints
from temper.engine.journal import Journal
from temper.engine.optimizers import WeightAverage, build_optimizer, learning_rate
from temper.engine.params import FitParams
from temper.engine.precision import Mode, choose_mode
from temper.engine.ranks import Ranks
from temper.problem import Batch, Headline, Objective
from temper.progress import Bar

_JOURNAL_EVERY_STEPS = 10


class Loader(Protocol):
    """Where batches come from."""

    num_batches: int
    """Batches of an epoch."""

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from number `start` on."""


@dataclass(frozen=True)
class FitResult:
    """What a training came to."""

    scores: dict[str, float]
    """Of the best network, on the validation split."""
    best_epoch: int
    num_steps: int
    mode: Mode


@dataclass
class _State:
    """What a checkpoint must bring back besides weights."""

    step: int = 0
    best_epoch: int = 0
    best_scores: dict[str, float] = field(default_factory=dict)
    mode: Mode | None = None


def fit(
    network: nn.Module,
    objective: Objective,
    loader: Loader,
    validate: Callable[[nn.Module], dict[str, float]],
    params: FitParams,
    *,
    what: str,
    headline: Headline,
    ranks: Ranks,
    checkpoints: Checkpoints,
    journal: Path,
) -> FitResult:
    """Fit a network in place; it ends with the weights of its best epoch.

    Args:
        network: On the ranks' device.
        objective: What it is trained for.
        loader: This rank's batches.
        validate: Scores of a network on the validation split, the same on every rank.
        params: How.
        what: A word for the progress bar.
        headline: Which score decides which epoch was best.
        ranks: This process among those that train together.
        checkpoints: Where half-finished training lies.
        journal: Where the curves are written.

    Raises:
        ValueError: If the loss stops being a finite number.
    """
    return _Fit(network, objective, loader, params, ranks, checkpoints).run(validate, headline, journal, what)


class _Fit:
    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        loader: Loader,
        params: FitParams,
        ranks: Ranks,
        checkpoints: Checkpoints,
    ) -> None:
        self.network, self.objective, self.loader, self.params = network, objective, loader, params
        self.ranks, self.checkpoints = ranks, checkpoints
        self.num_steps = params.epochs * loader.num_batches
        self.optimizer = build_optimizer(network, params)
        self.average = WeightAverage(network, params.average_decay)
        self.best: dict[str, Tensor] = {}
        self.state = _State()

    def run(
        self, validate: Callable[[nn.Module], dict[str, float]], headline: Headline, journal_path: Path, what: str
    ) -> FitResult:
        deviation = None if self._resume() else self._choose_mode()
        mode = self.state.mode
        assert mode is not None
        shared = self.ranks.share(mode.arrange(self.network))
        journal = Journal(journal_path if self.ranks.first else None, step=self.state.step)
        if deviation is not None:
            journal.write(0, 0.0, {"probe/deviation of bf16": deviation})
        saved = time.monotonic()
        with Bar(what if self.ranks.first else "", self.num_steps if self.ranks.first else 0) as bar:
            bar.skip(self.state.step)
            for epoch in range(self.state.step // self.loader.num_batches, self.params.epochs):
                start = self.state.step - epoch * self.loader.num_batches
                for batch in self.loader.batches(epoch, start):
                    self._step(shared, mode, batch, journal)
                    if self.ranks.first:
                        bar.advance()
                    if time.monotonic() - saved >= self.params.checkpoint_s and self.state.step < self.num_steps:
                        self._save()
                        saved = time.monotonic()
                scores = self._validate(validate, mode)
                journal.write(
                    self.state.step, epoch + 1, {f"validation/{name}": value for name, value in scores.items()}
                )
                self._keep_best(scores, headline, epoch + 1)
                bar.advance(0, f"{headline.name} {scores[headline.name]:.4f}")
                self._save()
                saved = time.monotonic()
        self.network.load_state_dict(self.best)
        return FitResult(self.state.best_scores, self.state.best_epoch, self.num_steps, mode)

    def _step(self, shared: nn.Module, mode: Mode, batch: Batch, journal: Journal) -> None:
        step, started = self.state.step, time.perf_counter()
        lr = learning_rate(self.params, step, self.num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        shared.train()
        inputs = {**batch.inputs, "image": mode.arrange_input(batch.inputs["image"])}
        with mode.autocast(self.ranks.device):
            terms = self.objective(shared, Batch(inputs, batch.targets, batch.weights, batch.others, batch.shares))
        self.optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        if self.params.max_grad_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.params.max_grad_norm)
        self.optimizer.step()
        self.state.step += 1
        if self.params.average_decay:
            self.average.update(self.network, self.state.step)
        if step % _JOURNAL_EVERY_STEPS == 0 or self.state.step == self.num_steps:
            self._record(step, lr, terms, journal, time.perf_counter() - started, len(batch.weights) * self.ranks.num)

    def _record(
        self, step: int, lr: float, terms: "dict[str, Tensor] | object", journal: Journal, seconds: float, size: int
    ) -> None:
        assert isinstance(terms, dict)
        means = self.ranks.sum(torch.stack([value.detach().double() for value in terms.values()])) / self.ranks.num
        values = {f"train/{name}": value for name, value in zip(terms, means.tolist(), strict=True)}
        epoch = self.state.step / self.loader.num_batches
        if not math.isfinite(values["train/loss"]):
            raise ValueError(
                f"the loss became {values['train/loss']} at step {step} (epoch {epoch:.2f}, lr {lr:.3g}); "
                f"lower fit.lr (now {self.params.lr}), or set fit.max_grad_norm, and run again"
            )
        speed = {"speed/images_per_s": size / seconds}
        journal.write(self.state.step, epoch, {**values, "train/lr": lr, **speed})

    def _validate(self, validate: Callable[[nn.Module], dict[str, float]], mode: Mode) -> dict[str, float]:
        """Scores of the averaged weights where there are any, else of the present ones."""
        own = None
        if self.params.average_decay:
            own = {name: value.clone() for name, value in self.network.state_dict().items()}
            self.network.load_state_dict(self.average.values)
        self.network.eval()
        with torch.inference_mode(), mode.autocast(self.ranks.device):
            scores = validate(self.network)
        self.candidate = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        if own is not None:
            self.network.load_state_dict(own)
        return scores

    def _keep_best(self, scores: dict[str, float], headline: Headline, epoch: int) -> None:
        sign = 1 if headline.greater_is_better else -1
        before = self.state.best_scores.get(headline.name, -sign * math.inf)
        if not self.best or sign * scores[headline.name] > sign * before:
            self.best, self.state.best_scores, self.state.best_epoch = self.candidate, scores, epoch

    def _choose_mode(self) -> float | None:
        batch = next(self.loader.batches(0))
        mode, deviation = choose_mode(self.network, self.objective, batch, self.params, self.ranks.device)
        agreed = self.ranks.agree([mode.precision, mode.layout])
        assert isinstance(agreed, list)
        self.state.mode = Mode(*agreed)
        return deviation

    def _save(self) -> None:
        if not self.ranks.first:
            return
        tensors = {f"network/{name}": value for name, value in self.network.state_dict().items()}
        if self.params.average_decay:
            tensors |= {f"average/{name}": value for name, value in self.average.values.items()}
        tensors |= {f"best/{name}": value for name, value in self.best.items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{name}": value for name, value in values.items()}
        assert self.state.mode is not None
        state = {
            "best_epoch": self.state.best_epoch,
            "best_scores": self.state.best_scores,
            "mode": [self.state.mode.precision, self.state.mode.layout],
        }
        self.checkpoints.save(Checkpoint(self.state.step, state, tensors))

    def _resume(self) -> bool:
        """Go on from the last checkpoint if there is one."""
        found = self.checkpoints.load()
        if found is None:
            return False
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "best": {}, "optimizer": {}}
        for key, value in found.tensors.items():
            part, name = key.split("/", 1)
            parts[part][name] = value.to(self.ranks.device)
        self.network.load_state_dict(parts["network"])
        if parts["average"]:
            self.average.values = parts["average"]
        self.best = parts["best"]
        optimizer = self.optimizer.state_dict()
        for key, value in parts["optimizer"].items():
            number, name = key.split("/", 1)
            optimizer["state"].setdefault(int(number), {})[name] = value
        self.optimizer.load_state_dict(optimizer)
        best = found.state
        self.state = _State(found.step, best["best_epoch"], best["best_scores"], Mode(*best["mode"]))
        if self.ranks.first:
            print(f"resuming at step {found.step} of {self.num_steps}")
        return True

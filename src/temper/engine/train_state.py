"""The state of a training: how it is written to a checkpoint and restored, bit for bit."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from temper.engine.batchnorm_refresh import copy_state, find_statistics, refresh_statistics
from temper.engine.checkpoints import Checkpoint
from temper.engine.nan_guard import Verdict, follow
from temper.engine.optimizers import WeightAverage, build_optimizer
from temper.engine.params import FitParams
from temper.engine.precision import SCALE_GROWS_AFTER, Mode
from temper.engine.unfreezing import Unfreezing
from temper.problem import Headline, Inputs


@dataclass
class State:
    """The state of a training; all fields except `mode` are JSON values."""

    step: int = 0
    """Number of finished steps, including skipped ones."""
    epoch: int = 0
    """Number of finished epochs, including their validation."""
    turn: int = 0
    """How often training went back to a good checkpoint."""
    streak: int = 0
    """Number of bad steps in a row up to now."""
    skipped: int = 0
    """Total number of bad steps, including those before training went back."""
    clipped: int = 0
    """Number of good steps whose gradients were clipped."""
    mean_norm: float = 0.0
    """Running mean of the norms of all gradients; 0 before the first good step."""
    best_epoch: int = 0
    best_scores: dict[str, float] = field(default_factory=dict)
    mode: Mode | None = None
    loss_scale: float = 1.0
    """Factor by which losses are multiplied; it differs from 1 only with fp16."""
    scaled: int = 0
    """Number of good steps since the loss scale last changed."""

    @property
    def clipped_share(self) -> float:
        """Share of the finished steps whose gradients were clipped."""
        return self.clipped / max(self.step, 1)

    def count(self, verdict: Verdict) -> None:
        """Record a finished step.

        If the loss is scaled, numbers that are not finite are attributed to the scale as long as it can be
        halved.
        """
        self.step += 1
        self.clipped += verdict.clipped
        if verdict.good:
            self.mean_norm = follow(self.mean_norm, verdict.norm, self.step - 1)
            self.streak, self.scaled = 0, self.scaled + 1
            if self.mode is not None and self.mode.precision == "fp16" and self.scaled == SCALE_GROWS_AFTER:
                self.loss_scale, self.scaled = 2 * self.loss_scale, 0
        elif self.loss_scale > 1:
            self.loss_scale, self.scaled = self.loss_scale / 2, 0
        else:
            self.streak, self.skipped = self.streak + 1, self.skipped + 1


class Training:
    """A network in training, with everything that the next step depends on.

    Args:
        network: Network on the ranks' device.
        params: Parameters of the fit.
        unfreezing: Learning rates by layer, and which layers are trained in which epoch.
    """

    def __init__(self, network: nn.Module, params: FitParams, unfreezing: Unfreezing) -> None:
        self.network, self.params, self.unfreezing = network, params, unfreezing
        self.optimizer = build_optimizer(network, params)
        unfreezing.scale(self.optimizer)
        self.average = WeightAverage(network, params.average_decay)
        self.best: dict[str, Tensor] = {}
        self.state = State()

    def finish_epoch(
        self,
        validate: Callable[[nn.Module], dict[str, float]],
        headline: Headline,
        context: AbstractContextManager[object],
        training_inputs: Callable[[], Iterator[Inputs]] | None,
    ) -> dict[str, float]:
        """Score the averaged weights, or the current ones without averaging, and store the best so far.

        Args:
            validate: Returns the scores of a network, the same on every rank.
            headline: Score that decides which weights are the best.
            context: Context in which the network runs.
            training_inputs: Returns the inputs over which batch normalisation statistics are recomputed
                before the network is scored; None if the statistics do not lag.

        Returns:
            The scores of the epoch.
        """
        norms = find_statistics(self.network, self.unfreezing)
        own = copy_state(self.network)
        if self.params.average_decay:
            self.network.load_state_dict(self.average.values)
        self.network.eval()
        with torch.inference_mode(), context:
            if norms and training_inputs is not None:
                refresh_statistics(self.network, norms, training_inputs())
            scores = validate(self.network)
        self.state.epoch += 1
        before = self.state.best_scores.get(headline.name, math.nan)
        sign = 1 if headline.greater_is_better else -1
        if not math.isfinite(before) or sign * scores[headline.name] > sign * before:
            self.best = copy_state(self.network)
            self.state.best_scores, self.state.best_epoch = scores, self.state.epoch
        self.network.load_state_dict(own)
        return scores

    def pack(self, journal: str, *, good: bool) -> Checkpoint:
        """Return the current state as a checkpoint."""
        tensors = {f"network/{name}": value for name, value in self.network.state_dict().items()}
        if self.params.average_decay:
            tensors |= {f"average/{name}": value for name, value in self.average.values.items()}
        tensors |= {f"best/{name}": value for name, value in self.best.items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{name}": value for name, value in values.items()}
        state = self.state
        return Checkpoint(state.step, asdict(state), tensors, journal, state.epoch, state.turn, good)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore the state of a checkpoint, whatever happened since."""
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "best": {}, "optimizer": {}}
        for key, value in checkpoint.tensors.items():
            part, name = key.split("/", 1)
            parts[part][name] = value
        state = dict(checkpoint.state)
        mode = Mode(**state.pop("mode"))
        self.state = State(**state, mode=mode)
        mode.arrange(self.network)
        self.network.load_state_dict(parts["network"])
        device = next(self.network.parameters()).device
        if parts["average"]:
            self.average.values = {name: value.to(device) for name, value in parts["average"].items()}
        self.best = {name: value.to(device) for name, value in parts["best"].items()}
        self._restore_optimizer(parts["optimizer"])

    def _restore_optimizer(self, tensors: dict[str, Tensor]) -> None:
        parameters = [value for group in self.optimizer.param_groups for value in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            number, name = key.split("/", 1)
            like = parameters[int(number)]
            if value.shape == like.shape:
                # Use the layout of the parameter, as the optimiser did: sums over another layout may differ
                # in the last bit.
                value = torch.empty_like(like, dtype=value.dtype).copy_(value)
            state.setdefault(int(number), {})[name] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})

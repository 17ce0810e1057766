"""Batches of a training split whose columns are tensors on the training device, or mapped from their files.

There is no Python object per example: a batch takes a few operations on whole tensors. Order, views and
mixing depend only on the seed and the step. Each rank takes its part of the same global batch.
"""

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, final

import numpy as np
import psutil
import torch
from torch import Tensor

from temper.data.augmentation.batch_transforms import (
    boxes,
    cutout,
    draw_moves,
    mix_plan,
    over_frames,
    shift_and_flip,
)
from temper.data.loading.params import SamplingParams, ViewParams
from temper.data.loading.sampler import Sampler, Strata, part
from temper.fields import Field, by_layout, listed
from temper.inputs.facts import Facts, as_networks_take, count_examples, file_of
from temper.inputs.image_input import pixels_of
from temper.maths.geometry import hide, move, placed, shift_of
from temper.maths.random import derive, uniform
from temper.problem import Batch, Inputs, Targets

_SHARE_OF_MEMORY = 0.5
_SHUFFLE = SamplingParams()
_PLANNED_AT_ONCE = 32
"""Number of batches whose moves are drawn together."""


def to_tensors(columns: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    """Return packed columns as tensors of the same types: on the device if they fit, else mapped from files.

    They fit if they need at most half of the device's free memory; the network needs the rest.
    """
    size = sum(column.nbytes for column in columns.values())
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if size <= free * _SHARE_OF_MEMORY:
        return {name: torch.from_numpy(np.array(column)).to(device) for name, column in columns.items()}
    with warnings.catch_warnings():
        # The files are mapped read-only, and no code here writes to a column.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return {name: torch.from_numpy(column) for name, column in columns.items()}


def as_batch(columns: Mapping[str, Tensor], facts: Facts) -> tuple[Inputs, Targets]:
    """Return columns [batch, ...] as the network's inputs and targets.

    Images become [batch, channels, height, width]. Integer targets become int64, the others float32.

    Args:
        columns: Packed columns.
        facts: The inputs among them; all others are targets.
    """
    rest = {name: value for name, value in columns.items() if name not in facts}
    return as_networks_take(columns, facts), {
        name: value.float() if value.is_floating_point() else value.long() for name, value in rest.items()
    }


@dataclass(frozen=True)
class Plan:
    """The plan of a rank's part of a batch: its examples, and how they are mixed."""

    rows: Tensor
    """Row numbers of the examples. A mixed batch has one more: each example is mixed with the next one."""
    draws: Tensor
    """Number of each draw, counted over the whole training. The random views depend on it."""
    kind: str
    """How the batch is mixed: `none`, `mixup` or `cutmix`."""
    shares: Tensor
    """Share that each example keeps when it is mixed, [batch]."""


class Ahead(Protocol):
    """Makes the images of the next batches while the training works on earlier ones."""

    def ahead(self, plans: Iterable[Plan], epoch: int) -> Iterator[tuple[Plan, dict[str, Tensor]]]: ...


@dataclass(frozen=True)
class Examples:
    """What a loader knows about the examples of a training split, beside their columns."""

    repeats: np.ndarray
    """How often each example is drawn in an epoch, [examples]."""
    weights: np.ndarray
    """Weight of each example in the loss, [examples]."""
    facts: Facts
    """What is known about the inputs. Cutout fills its square with the mean of the pixels."""
    truth: Mapping[str, Field] = field(default_factory=dict)
    """What the columns of the truth contain: what lies in the image moves with it."""
    ids: Callable[[], Sequence[str]] = tuple
    """Returns the ids of the examples. Called only for error messages."""
    strata: Callable[[], Strata] = tuple
    """Returns the strata of the examples. Called only by sampling methods that need them."""


@final
class TrainLoader:
    """Batches of a training split.

    Args:
        columns: Columns of the split, from `to_tensors`, without the columns that `stream` makes.
        examples: The examples of the split.
        batch_size: Number of examples of a global batch, over all ranks. A last incomplete batch is left out.
        device: Device on which batches are needed.
        views: Augmentation.
        seed: Seed of the training.
        rank: Number of this process.
        num_ranks: Number of processes that share a global batch.
        sampling: How examples are chosen for batches.
        stream: Makes the images (and the columns that move with them) if they are not whole columns in
            memory.

    Raises:
        ValueError: If an epoch has fewer examples than a batch.
    """

    def __init__(
        self,
        columns: Mapping[str, Tensor],
        examples: Examples,
        *,
        batch_size: int,
        device: torch.device,
        views: ViewParams,
        seed: int,
        rank: int = 0,
        num_ranks: int = 1,
        sampling: SamplingParams = _SHUFFLE,
        stream: Ahead | None = None,
    ) -> None:
        weights = examples.weights
        self.sampler = Sampler(
            examples.repeats, weights, sampling, strata=examples.strata, batch_size=batch_size, seed=seed
        )
        if sampling.method == "weighted":
            weights = np.ones_like(weights)
        self.columns, self.weights = dict(columns), torch.from_numpy(weights.astype(np.float32))
        self.batch_size, self.device, self.views, self.seed = batch_size, device, views, seed
        self.truth = examples.truth
        self.facts, self.seen = examples.facts, file_of(examples.facts)
        self.moving = by_layout(examples.truth, "map") | {name for name in [self.seen] if name}
        pixels = pixels_of(self.facts)
        self.fill = torch.tensor(() if pixels is None else pixels.mean).round().to(torch.uint8)
        self.mine = part(batch_size, rank, num_ranks)
        self.num_batches = self.sampler.num_batches
        self._ids, self._stream = examples.ids, stream

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield this rank's parts of an epoch's batches, from batch number `start` on."""
        order = self.sampler.epoch(epoch)
        plans = (self._plan(order, epoch, number) for number in range(start, self.num_batches))
        if self._stream is not None:
            for plan, columns in self._stream.ahead(plans, epoch):
                yield self._batch(plan, columns)
            return
        moving = {name: self.columns[name] for name in self.moving}
        while some := list(itertools.islice(plans, _PLANNED_AT_ONCE)):
            rows, draws = (torch.cat([getattr(plan, what) for plan in some]) for what in ("rows", "draws"))
            moves = draw_moves(rows, draws, self.views, seed=self.seed, epoch=epoch)
            each = [None] * len(some) if moves is None else moves.split([len(plan.rows) for plan in some])
            for plan, own in zip(some, each, strict=True):
                yield self._batch(plan, shift_and_flip(moving, plan.rows, own, self.views), own)

    def ids(self, epoch: int, number: int) -> list[str]:
        """Return the ids of the examples of a global batch, in its order."""
        rows = self.sampler.epoch(epoch)[number * self.batch_size : (number + 1) * self.batch_size]
        ids = self._ids()
        return [ids[row] for row in rows.tolist()]

    def _plan(self, order: Tensor, epoch: int, number: int) -> Plan:
        step = epoch * self.num_batches + number
        kind, shares = mix_plan(self.views, step, self.batch_size, seed=self.seed)
        # Each example is mixed with the next one of the global batch.
        places = torch.arange(self.mine.start, self.mine.stop + (kind != "none")) % self.batch_size
        return Plan(
            rows=order[number * self.batch_size + places],
            draws=step * self.batch_size + places,
            kind=kind,
            shares=torch.from_numpy(shares[self.mine].astype(np.float32)),
        )

    def _batch(self, plan: Plan, moving: Mapping[str, Tensor], moves: Tensor | None = None) -> Batch:
        """Return a batch; `moves` are those of its images, which the other columns must still follow."""
        columns = {name: value.to(self.device, non_blocking=True) for name, value in moving.items()}
        for name, value in self.columns.items():
            if name not in columns:
                columns[name] = value[plan.rows.to(value.device)].to(self.device)
        if moves is not None and not placed(self.truth).isdisjoint(columns):
            assert self.seen is not None, "without a picture, nothing is placed in it"
            scale, offset = shift_of(moves, self.views.crop_px, *columns[self.seen].shape[1:3])
            columns = move(columns, self.truth, scale.to(self.device), offset.to(self.device))
        if self.views.cutout_px and self.seen is not None:
            columns[self.seen], hidden = cutout(
                columns[self.seen], plan.draws, self.views.cutout_px, self.fill, seed=self.seed
            )
            columns = hide(columns, self.truth, hidden)
        weights = self.weights[plan.rows[: len(plan.shares)]].to(self.device)
        keys = plan.draws[: len(plan.shares)].to(self.device)
        if plan.kind == "none":
            inputs, targets = as_batch(columns, self.facts)
            return Batch(inputs=inputs, targets=targets, weights=weights, keys=keys)
        others = {name: value[1:] for name, value in columns.items()}
        columns = {name: value[:-1] for name, value in columns.items()}
        mix = self._paste if plan.kind == "cutmix" else self._blend
        columns, others, share = mix(columns, others, plan.shares.to(self.device), plan.draws[:-1])
        if by_layout(self.truth, "boxes"):
            # Both images show their objects: a truth that was only one or the other would deny the rest.
            columns |= {
                name: torch.cat([columns[name], others[name]], dim=1)
                for name in listed(self.truth) & columns.keys()
            }
            inputs, targets = as_batch(columns, self.facts)
            return Batch(inputs=inputs, targets=targets, weights=weights, keys=keys)
        inputs, targets = as_batch(columns, self.facts)
        _, other_targets = as_batch(others, self.facts)
        return Batch(inputs, targets, weights, other_targets, share, keys)

    def _blend(
        self, columns: dict[str, Tensor], others: dict[str, Tensor], share: Tensor, draws: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Apply mixup (Zhang et al. 2018, arXiv:1710.09412): each pixel is a weighted mean of two images."""
        assert self.seen is not None, "only images or clips alone are mixed"
        own, other = columns[self.seen].float(), others[self.seen].float()
        mine = share.view(-1, *(1,) * (own.dim() - 1))
        return {**columns, self.seen: own * mine + other * (1 - mine)}, others, share

    def _paste(
        self, columns: dict[str, Tensor], others: dict[str, Tensor], share: Tensor, draws: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Apply CutMix (Yun et al. 2019, arXiv:1905.04899): paste a box of another image and its masks."""
        assert self.seen is not None, "only images or clips alone are mixed"
        height, width = columns[self.seen].shape[-3:-1]
        sides = (1 - share).sqrt()[:, None].cpu() * torch.tensor([height, width])
        inside = boxes(
            uniform(draws, 2, seed=derive(self.seed, "cutmix"), stream="box"), sides, height, width
        )
        inside = inside.to(share.device)
        pasted = {
            name: torch.where(over_frames(inside, value), others[name], value)
            for name, value in columns.items()
            if name in self.moving
        }
        return {**columns, **pasted}, {**others, **pasted}, 1 - inside.flatten(1).float().mean(dim=1)


def whole_batches(
    columns: Mapping[str, Tensor],
    facts: Facts,
    size: int,
    device: torch.device,
    rank: int = 0,
    num_ranks: int = 1,
) -> Iterator[tuple[Inputs, Targets]]:
    """Yield a split in order, in batches without views; each rank gets every `num_ranks`-th batch."""
    total = count_examples(columns)
    for start in range(rank * size, total, size * num_ranks):
        some = {name: value[start : start + size].to(device) for name, value in columns.items()}
        yield as_batch(some, facts)

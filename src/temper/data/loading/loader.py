"""Whole batches of a training split that lies as tensors on the training device, or mapped from its files.

There is no per-example Python object and no worker process: a batch is a handful of whole-tensor operations. Order,
views and mixing depend on the seed and the step alone; each rank cuts its part out of the same global batch.
"""

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
import psutil
import torch
from torch import Tensor

from temper.data.augmentation.batch_transforms import boxes, cutout, draw_moves, mix_plan, shift_and_flip
from temper.data.loading.sampler import Sampler, Strata, part
from temper.data.params import SamplingParams, ViewParams
from temper.maths.random import derive, uniform
from temper.problem import Batch, Inputs, Targets

_SHARE_OF_MEMORY = 0.5
_SHUFFLE = SamplingParams()
_PLANNED_AT_ONCE = 32
"""Batches whose moves are drawn together."""


def to_tensors(columns: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    """Packed columns as tensors, types as packed: on the device where they fit, else mapped from their files.

    They fit if they take up to half of what is free there; the network needs the rest.
    """
    size = sum(column.nbytes for column in columns.values())
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if size <= free * _SHARE_OF_MEMORY:
        return {name: torch.from_numpy(np.array(column)).to(device) for name, column in columns.items()}
    with warnings.catch_warnings():
        # The files are mapped read-only; nothing here writes to a column.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return {name: torch.from_numpy(column) for name, column in columns.items()}


def as_batch(columns: Mapping[str, Tensor]) -> tuple[Inputs, Targets]:
    """Columns [batch, ...] as what the network sees and what is true.

    Images become [batch, channels, height, width]; among the targets whole numbers become int64, the rest float32.
    """
    inputs = {"image": columns["image"].permute(0, 3, 1, 2)}
    rest = {name: value for name, value in columns.items() if name != "image"}
    return inputs, {
        name: value.float() if value.is_floating_point() else value.long() for name, value in rest.items()
    }


@dataclass(frozen=True)
class Plan:
    """What a rank's part of a batch is made of."""

    rows: Tensor
    """Numbers of its examples; where batches are mixed, one more: everybody is mixed with the next one."""
    draws: Tensor
    """The number of each draw over the whole training: what its views depend on."""
    kind: str
    """`none`, `mixup` or `cutmix`."""
    shares: Tensor
    """Each example's share of itself, [batch]."""


class Ahead(Protocol):
    """Makes the images of coming batches while training is busy with others."""

    def ahead(self, plans: Iterable[Plan], epoch: int) -> Iterator[tuple[Plan, dict[str, Tensor]]]: ...


@final
class TrainLoader:
    """Batches of a training split.

    Args:
        columns: The split, from `to_tensors`; without the columns that `stream` makes.
        repeats: How often each example is drawn in an epoch, [examples].
        weights: How much each example counts, [examples].
        batch_size: Examples of a global batch, over all ranks; a last smaller one is left out.
        device: Where batches are needed.
        views: Augmentation.
        spatial: Columns that move along with the image.
        mean: Mean of the pixels per channel, 0..255; what cutout fills with.
        seed: Of the training.
        rank: This process's number.
        num_ranks: How many processes share a global batch.
        ids: Ids of the split's examples; asked for only where something went wrong.
        sampling: How batches are made up.
        strata: Of the split's examples; asked for only by a sampling that reads them.
        stream: Makes images (and what moves along) that are not whole columns in memory.

    Raises:
        ValueError: If there are fewer examples than one batch, or a batch has fewer than there are ranks.
    """

    def __init__(
        self,
        columns: Mapping[str, Tensor],
        repeats: np.ndarray,
        weights: np.ndarray,
        *,
        batch_size: int,
        device: torch.device,
        views: ViewParams,
        spatial: frozenset[str],
        mean: tuple[float, ...],
        seed: int,
        rank: int = 0,
        num_ranks: int = 1,
        ids: Callable[[], Sequence[str]] = tuple,
        sampling: SamplingParams = _SHUFFLE,
        strata: Callable[[], Strata] = tuple,
        stream: Ahead | None = None,
    ) -> None:
        if batch_size < num_ranks:
            raise ValueError(
                f"fit.batch_size = {batch_size} cannot be shared by {num_ranks} ranks; make it {num_ranks} or more"
            )
        self.sampler = Sampler(repeats, weights, sampling, strata=strata, batch_size=batch_size, seed=seed)
        if sampling.method == "weighted":
            weights = np.ones_like(weights)
        self.columns, self.weights = dict(columns), torch.from_numpy(weights.astype(np.float32))
        self.batch_size, self.device, self.views, self.seed = batch_size, device, views, seed
        self.moving = frozenset({"image"}) | spatial
        self.fill = torch.tensor(mean).round().to(torch.uint8)
        self.mine = part(batch_size, rank, num_ranks)
        self.num_batches = self.sampler.num_batches
        self._ids, self._stream = ids, stream

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This rank's parts of an epoch's batches, from batch number `start` on."""
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
                yield self._batch(plan, shift_and_flip(moving, plan.rows, own, self.views))

    def ids(self, epoch: int, number: int) -> list[str]:
        """Ids of the examples of a global batch, in its order."""
        rows = self.sampler.epoch(epoch)[number * self.batch_size : (number + 1) * self.batch_size]
        ids = self._ids()
        return [ids[row] for row in rows.tolist()]

    def _plan(self, order: Tensor, epoch: int, number: int) -> Plan:
        step = epoch * self.num_batches + number
        kind, shares = mix_plan(self.views, step, self.batch_size, seed=self.seed)
        # Everybody is mixed with the next one of the global batch.
        places = torch.arange(self.mine.start, self.mine.stop + (kind != "none")) % self.batch_size
        return Plan(
            rows=order[number * self.batch_size + places],
            draws=step * self.batch_size + places,
            kind=kind,
            shares=torch.from_numpy(shares[self.mine].astype(np.float32)),
        )

    def _batch(self, plan: Plan, moving: Mapping[str, Tensor]) -> Batch:
        columns = {name: value.to(self.device, non_blocking=True) for name, value in moving.items()}
        if self.views.cutout_px:
            columns["image"] = cutout(
                columns["image"], plan.draws, self.views.cutout_px, self.fill, seed=self.seed
            )
        for name, value in self.columns.items():
            if name not in columns:
                columns[name] = value[plan.rows.to(value.device)].to(self.device)
        weights = self.weights[plan.rows[: len(plan.shares)]].to(self.device)
        if plan.kind == "none":
            inputs, targets = as_batch(columns)
            return Batch(inputs=inputs, targets=targets, weights=weights)
        others = {name: value[1:] for name, value in columns.items()}
        columns = {name: value[:-1] for name, value in columns.items()}
        mix = self._paste if plan.kind == "cutmix" else self._blend
        columns, others, share = mix(columns, others, plan.shares.to(self.device), plan.draws[:-1])
        inputs, targets = as_batch(columns)
        return Batch(
            inputs=inputs, targets=targets, weights=weights, others=as_batch(others)[1], shares=share
        )

    def _blend(
        self, columns: dict[str, Tensor], others: dict[str, Tensor], share: Tensor, draws: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Mixup (Zhang et al. 2018, arXiv:1710.09412): each pixel a weighted mean of two images."""
        mine = share.view(-1, 1, 1, 1)
        image = columns["image"].float() * mine + others["image"].float() * (1 - mine)
        return {**columns, "image": image}, others, share

    def _paste(
        self, columns: dict[str, Tensor], others: dict[str, Tensor], share: Tensor, draws: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """CutMix (Yun et al. 2019, arXiv:1905.04899): a box of another image, with all that is laid out like it."""
        height, width = columns["image"].shape[1:3]
        sides = (1 - share).sqrt()[:, None].cpu() * torch.tensor([height, width])
        inside = boxes(
            uniform(draws, 2, seed=derive(self.seed, "cutmix"), stream="box"), sides, height, width
        )
        inside = inside.to(share.device)
        pasted = {
            name: torch.where(inside.view(*inside.shape, *(1,) * (value.dim() - 3)), others[name], value)
            for name, value in columns.items()
            if name in self.moving
        }
        return {**columns, **pasted}, {**others, **pasted}, 1 - inside.flatten(1).float().mean(dim=1)


def whole_batches(
    columns: Mapping[str, Tensor], size: int, device: torch.device, rank: int = 0, num_ranks: int = 1
) -> Iterator[tuple[Inputs, Targets]]:
    """A split in order, as batches without views; with several ranks each gets every `num_ranks`-th batch."""
    total = len(columns["image"])
    for start in range(rank * size, total, size * num_ranks):
        yield as_batch({name: value[start : start + size].to(device) for name, value in columns.items()})

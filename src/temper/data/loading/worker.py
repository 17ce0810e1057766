"""The work of a worker for training: decode, cut, join and augment the images of one batch.

This module does not import torch: the import would cost every worker process seconds and memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from temper.data.augmentation.albumentations_policy import apply, compose
from temper.data.images.decoding import Undecodable, cut_out, stretch
from temper.data.images.encoded import Encoded
from temper.data.images.mask_values import IGNORED
from temper.fields import Field, by_layout, listed
from temper.maths.geometry import crop_of, move
from temper.parent_death import end_with_parent

_WHERE = "views.policy"


@dataclass(frozen=True)
class Order:
    """A request to a worker for the images of a batch; picklable."""

    count: int
    """Number of images."""
    owners: Sequence[int]
    """Which image each part belongs to, in order."""
    numbers: Sequence[int]
    """Number of the example of each part."""
    boxes: Sequence[Sequence[int]]
    """What is taken for each part: top, left, height, width, in pixels of that example's image."""
    places: Sequence[Sequence[int]]
    """Where it goes: top, left, height, width, in pixels of the image that is made."""
    seeds: Sequence[int]
    """Seed of the policy for each image."""
    pixels: np.ndarray | None
    """Pixels of each part's image; None if the images are encoded."""
    truth: Mapping[str, np.ndarray]
    """Columns that move with the images, [parts, ...]; maps are whole."""


@dataclass(frozen=True)
class Maker:
    """Settings with which workers make images; picklable."""

    images: Encoded | None
    """The encoded images; None if requests contain pixels."""
    shape: tuple[int, int, int]
    """Height, width and channels of the images to make."""
    policy: Sequence[Mapping[str, Any]]
    truth: Mapping[str, Field]
    """What the columns of the truth contain."""
    picture: str
    """Name of the images' column."""
    most_parts: int = 1
    """Largest number of parts of an image: a column has as many times the room for what they show."""

    def make(self, order: Order, transform: Any = None) -> dict[str, np.ndarray] | tuple[int, str]:
        """Return the columns of a batch; or the number of an image that cannot be read, and the reason."""
        made = {self.picture: np.empty((order.count, *self.shape), np.uint8)}
        for name, column in order.truth.items():
            shape = column.shape[1:]
            if name in self._maps:
                shape = self.shape[:2]
            elif name in listed(self.truth):
                shape = (shape[0] * self.most_parts, *shape[1:])
            made[name] = np.zeros((order.count, *shape), column.dtype)
        start = [0] * order.count
        for part, owner in enumerate(order.owners):
            try:
                self._fill(made, order, part)
            except Undecodable as error:
                return order.numbers[part], str(error)
            start[owner] = self._place(made, order, part, start[owner])
        for owner in range(order.count if transform is not None else 0):
            example = {name: column[owner] for name, column in made.items()}
            for name, value in apply(
                transform, example, self.truth, order.seeds[owner], _WHERE, picture=self.picture
            ).items():
                made[name][owner] = value
        return made

    def _fill(self, made: Mapping[str, np.ndarray], order: Order, part: int) -> None:
        """Write a part of an image, and of the maps over it, to its place."""
        box, (down, right, tall, wide) = order.boxes[part], order.places[part]
        place = (order.owners[part], slice(down, down + tall), slice(right, right + wide))
        if order.pixels is None:
            assert self.images is not None
            self.images.part(order.numbers[part], tuple(box), made[self.picture][place])  # type: ignore[arg-type]
        else:
            stretch(cut_out(order.pixels[part], box), tall, wide, made[self.picture][place])
        whole = self._size(order, part)
        for name in self._maps & order.truth.keys():
            mask = order.truth[name][part]
            down_across = [
                np.floor((start + (np.arange(wanted) + 0.5) * side / wanted) * mask.shape[axis] / whole[axis])
                for axis, start, side, wanted in ((0, box[0], box[2], tall), (1, box[1], box[3], wide))
            ]
            lines, columns = (
                each.clip(0, size - 1).astype(int) for each, size in zip(down_across, mask.shape, strict=True)
            )
            taken = mask[np.ix_(lines, columns)]
            for axis, each in enumerate(down_across):
                beside = (each < 0) | (each >= mask.shape[axis])
                taken[beside if axis == 0 else (slice(None), beside)] = IGNORED
            made[name][place] = taken

    def _place(self, made: Mapping[str, np.ndarray], order: Order, part: int, start: int) -> int:
        """Write what a part shows besides maps, from an entry on; return the next entry."""
        one = {name: each[part : part + 1] for name, each in order.truth.items() if name not in self._maps}
        one = move(one, self.truth, *crop_of(order.boxes[part], self._size(order, part)))
        down, right, tall, wide = order.places[part]
        height, width, _ = self.shape
        share, corner = (wide / width, tall / height), (right / width, down / height)
        for name in by_layout(self.truth, "boxes", "points") & one.keys():
            one[name] = one[name] * np.resize(share, one[name].shape[-1]) + np.resize(
                corner, one[name].shape[-1]
            )
        count = 0
        for name, column in one.items():
            if name in listed(self.truth):
                count = column.shape[1]
                made[name][order.owners[part], start : start + count] = column[0]
            elif not start:
                made[name][order.owners[part]] = column[0]
        return start + count

    @property
    def _maps(self) -> frozenset[str]:
        return by_layout(self.truth, "map")

    def _size(self, order: Order, part: int) -> Sequence[int]:
        """Return height and width of the image of a part."""
        if order.pixels is not None:
            return order.pixels.shape[1:3]
        assert self.images is not None
        found: Sequence[int] = self.images.sizes[order.numbers[part]]
        return found


_WORKER: dict[str, Any] = {}
"""State of a worker process: the maker and the transform of its policy."""


def begin(maker: Maker) -> None:
    """Set up a worker process."""
    end_with_parent()
    _WORKER.update(maker=maker, transform=compose(maker.policy, maker.truth, _WHERE))


def make(order: Order) -> dict[str, np.ndarray] | tuple[int, str]:
    """Make the images of an order in a worker process."""
    found: dict[str, np.ndarray] | tuple[int, str] = _WORKER["maker"].make(order, _WORKER["transform"])
    return found

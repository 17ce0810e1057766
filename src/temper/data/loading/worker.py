"""The work of a worker for training: decode, crop and augment the images of one batch.

This module does not import torch: the import would cost every worker process seconds and memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from temper.data.augmentation.albumentations_policy import apply, compose
from temper.data.images.decoding import Undecodable, stretch
from temper.data.images.encoded import Encoded
from temper.fields import Field, by_layout
from temper.maths.geometry import crop_of, move
from temper.parent_death import end_with_parent

_WHERE = "views.policy"


@dataclass(frozen=True)
class Order:
    """A request to a worker for the images of a batch; picklable."""

    numbers: Sequence[int]
    """Numbers of the images."""
    boxes: Sequence[Sequence[int]]
    """Crop of each image: top, left, height, width, in pixels of that image."""
    seeds: Sequence[int]
    """Seed of the policy for each image."""
    pixels: np.ndarray | None
    """Pixels of the images; None if the images are encoded."""
    truth: Mapping[str, np.ndarray]
    """Columns that move with the images, [batch, ...]; maps are whole."""


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

    def make(self, order: Order, transform: Any = None) -> dict[str, np.ndarray] | tuple[int, str]:
        """Return the columns of a batch; or the number of an image that cannot be read, and the reason."""
        made = {self.picture: np.empty((len(order.numbers), *self.shape), np.uint8)}
        maps = by_layout(self.truth, "map") & order.truth.keys()
        made |= {
            name: np.empty((len(column), *self.shape[:2]), column.dtype) if name in maps else column * 1
            for name, column in order.truth.items()
        }
        for place, (number, box) in enumerate(zip(order.numbers, order.boxes, strict=True)):
            try:
                self._fill(made, order, place, number, box)
            except Undecodable as error:
                return number, str(error)
            if transform is not None:
                example = {name: column[place] for name, column in made.items()}
                for name, value in apply(
                    transform, example, self.truth, order.seeds[place], _WHERE, picture=self.picture
                ).items():
                    made[name][place] = value
        return made

    def _fill(
        self, made: Mapping[str, np.ndarray], order: Order, place: int, number: int, box: Sequence[int]
    ) -> None:
        """Write one image and its truth to their place in the batch."""
        top, left, height, width = box
        whole = self.images.sizes[number] if order.pixels is None else order.pixels.shape[1:3]  # type: ignore[union-attr]
        if order.pixels is None:
            assert self.images is not None
            self.images.part(number, (top, left, height, width), made[self.picture][place])
        else:
            pixels = order.pixels[place][top : top + height, left : left + width]
            stretch(pixels, *self.shape[:2], made[self.picture][place])
        one = {name: column[place : place + 1] for name, column in order.truth.items()}
        for name, moved in move(one, self.truth, *crop_of(box, whole)).items():
            if name not in by_layout(self.truth, "map"):
                made[name][place] = moved[0]
        for name in by_layout(self.truth, "map") & order.truth.keys():
            masks = order.truth[name]
            places = [
                (
                    (start + (np.arange(wanted) + 0.5) * side / wanted) * masks.shape[axis] / whole[axis - 1]
                ).astype(int)
                for axis, start, side, wanted in (
                    (1, top, height, self.shape[0]),
                    (2, left, width, self.shape[1]),
                )
            ]
            made[name][place] = masks[place][np.ix_(*places)]


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

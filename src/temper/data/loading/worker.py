"""What a worker does for training: the images of one batch, decoded, cropped and sent through a policy.

Without torch, whose import would cost every worker process seconds and memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from temper.data.augmentation.albumentations_policy import apply, compose
from temper.data.images.decoding import Undecodable, stretch
from temper.data.images.encoded import Encoded
from temper.parent_death import end_with_parent

_WHERE = "views.policy"


@dataclass(frozen=True)
class Order:
    """The images of a batch, as a worker is asked for them; picklable."""

    numbers: Sequence[int]
    boxes: Sequence[Sequence[int]]
    """The part of each: top, left, height, width, in its own pixels."""
    seeds: Sequence[int]
    """Of the policy."""
    pixels: np.ndarray | None
    """The images themselves, where they are not encoded."""
    masks: Mapping[str, np.ndarray]
    """What moves along with them, [batch, height, width], whole."""


@dataclass(frozen=True)
class Maker:
    """How workers make images; picklable."""

    images: Encoded | None
    shape: tuple[int, int, int]
    """Height, width and channels of what is made."""
    policy: Sequence[Mapping[str, Any]]
    spatial: frozenset[str]
    """Names of the masks."""

    def make(self, order: Order, transform: Any = None) -> dict[str, np.ndarray] | tuple[int, str]:
        """The columns of a batch; or the number of an image that cannot be read, and why."""
        made = {"image": np.empty((len(order.numbers), *self.shape), np.uint8)}
        made |= {
            name: np.empty((len(mask), *self.shape[:2]), mask.dtype) for name, mask in order.masks.items()
        }
        for place, (number, box) in enumerate(zip(order.numbers, order.boxes, strict=True)):
            try:
                self._fill(made, order, place, number, box)
            except Undecodable as error:
                return number, str(error)
            if transform is not None:
                example = {name: column[place] for name, column in made.items()}
                for name, value in apply(
                    transform, example, self.spatial, order.seeds[place], _WHERE
                ).items():
                    made[name][place] = value
        return made

    def _fill(
        self, made: Mapping[str, np.ndarray], order: Order, place: int, number: int, box: Sequence[int]
    ) -> None:
        """Make one image, with its masks, where it belongs."""
        top, left, height, width = box
        if order.pixels is None:
            assert self.images is not None
            self.images.part(number, (top, left, height, width), made["image"][place])
        else:
            pixels = order.pixels[place][top : top + height, left : left + width]
            stretch(pixels, *self.shape[:2], made["image"][place])
        for name, masks in order.masks.items():
            whole = self.images.sizes[number] if order.pixels is None else order.pixels.shape[1:3]  # type: ignore[union-attr]
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
"""What a worker process keeps from order to order."""


def begin(maker: Maker) -> None:
    """Prepare a worker process."""
    end_with_parent()
    _WORKER.update(maker=maker, transform=compose(maker.policy, maker.spatial, _WHERE))


def make(order: Order) -> dict[str, np.ndarray] | tuple[int, str]:
    """What a worker process does with an order."""
    found: dict[str, np.ndarray] | tuple[int, str] = _WORKER["maker"].make(order, _WORKER["transform"])
    return found

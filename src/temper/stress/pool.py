"""The test examples, fetched by number: those to stress, and the donors of foreign patches."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from temper.fields import PRESENT, VALID, Field, by_layout
from temper.inputs.facts import Facts, count_examples, count_values, draw, picture_of


class Stressed(NamedTuple):
    """What a condition made of images. It says what it did, and not what is true now."""

    images: UInt8[Tensor, "batch channels height width"]
    hidden: Bool[Tensor, "batch height width"] | None = None
    """Pixels of which nothing is left; None if there are none."""


@dataclass(frozen=True)
class Pool:
    """Packed examples; the key of an example is its number in the split."""

    packed: Mapping[str, np.ndarray]
    """Each input, [examples, ...]; may be memory-mapped from a file."""
    facts: Facts
    boxes: Float[Tensor, "examples boxes 4"] | None = None
    """Boxes round the objects, as shares of the picture, on which some conditions lay their covers; boxes
    that do not count have no area. None if the truth has no boxes."""

    def __len__(self) -> int:
        return count_examples(self.packed)

    @cached_property
    def picture(self) -> str | None:
        """Name of the input that conditions act on; None if there is no picture."""
        return picture_of(self.facts)

    @property
    def channels(self) -> int:
        """Number of channels: 1 for grey images, 3 for those in colour, 0 if there is no picture."""
        return int(self.packed[self.picture].shape[3]) if self.picture is not None else 0

    @property
    def num_values(self) -> int:
        """Number of values of an example in all its inputs."""
        return count_values(self.facts)

    def take(self, keys: Int64[Tensor, "batch"]) -> UInt8[Tensor, "batch channels height width"]:
        """Return the pictures of some examples with channels first, as conditions expect them."""
        assert self.picture is not None, "only pictures are stressed"
        # Indexing copies, so a read-only mapping never reaches torch.
        return torch.from_numpy(self.packed[self.picture][keys.numpy()]).permute(0, 3, 1, 2).contiguous()

    def serve(
        self,
        keys: Int64[Tensor, "batch"],
        shown: UInt8[Tensor, "batch channels height width"] | None = None,
    ) -> dict[str, np.ndarray]:
        """Return copies of examples as a deployed file takes them.

        Args:
            keys: Numbers of the examples.
            shown: Pictures to take instead of their own.
        """
        own = {name: column[keys.numpy()] for name, column in self.packed.items()}
        if shown is None:
            return own
        assert self.picture is not None, "only pictures are stressed"
        return own | {self.picture: as_served(shown)}

    def draw(self, key: int) -> np.ndarray:
        """Return an example as a picture, uint8 [height, width, channels]."""
        return draw({name: column[key] for name, column in self.packed.items()}, self.facts)


def boxes_of(
    targets: Mapping[str, Tensor], fields: Mapping[str, Field]
) -> Float[Tensor, "examples boxes 4"] | None:
    """Return the boxes of a truth, as `Pool.boxes` holds them; None if it has none.

    Args:
        targets: Columns of the truth, [examples, ...].
        fields: What they contain.
    """
    found = [
        targets[name] * (targets[f"{name}{VALID}"] == PRESENT)[..., None]
        for name in sorted(by_layout(fields, "boxes"))
    ]
    return torch.cat(found, dim=1) if found else None


def as_served(images: UInt8[Tensor, "batch channels height width"]) -> np.ndarray:
    """Convert images to the form that a deployed file takes: uint8 [batch, height, width, channels]."""
    return np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())

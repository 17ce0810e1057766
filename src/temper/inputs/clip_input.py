"""Clips: a few frames in order, of a short film or of a scan in slices."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from temper.fields import Field
from temper.inputs.image_input import ImageInput, Pixels, read_lists

if TYPE_CHECKING:
    from torch import Tensor

_SHOWN = 3
"""Number of frames in a drawn clip."""
_AT_ONCE = 32
"""Number of clips that are described at once."""


@dataclass(frozen=True)
class ClipInput(Pixels):
    """Clips of the same number of frames.

    Packed and sent: uint8 [batch, frames, height, width, channels]; in networks: [batch, frames, channels,
    height, width].
    """

    frames: int = field(kw_only=True)
    """Number of frames that a network sees of a clip."""
    input: Literal["clip"] = "clip"

    picture: ClassVar[bool] = False
    from_file: ClassVar[bool] = True

    @classmethod
    def of(cls, image: Pixels, frames: int) -> "ClipInput":
        """Return clips whose frames are such images."""
        return cls(**_pixels(image), frames=frames)

    @property
    def frame(self) -> ImageInput:
        """What is known of one frame, as an image."""
        return ImageInput(**_pixels(self))

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.frames, *self.frame.shape)

    @property
    def words(self) -> str:
        return f"clips of {self.frames} frames of {self.look}"

    @property
    def needs(self) -> str:
        return f"{self.frames} frames, {self.frame.needs}"

    @property
    def free(self) -> Mapping[int, str]:
        return {0: "batch", 2: "height", 3: "width"}

    def example(self, batch: int, *, longer: int = 0) -> np.ndarray:
        """Return clips without content; only their height and width may be longer."""
        flat = self.frame.example(batch * self.frames, longer=longer)
        return flat.reshape(batch, self.frames, *flat.shape[1:])

    def decode(self, value: Any) -> np.ndarray:
        """Return pixels of the number and size of frames that networks see; others are read only as files."""
        return read_lists(value, self.shape)

    def arrange(self, packed: "Tensor") -> "Tensor":
        return packed.permute(0, 1, 4, 2, 3)

    def preprocess(self, sent: "Tensor") -> "Tensor":
        """Return clips of the size at which the network was trained: each frame as an image.

        The frames of a clip become channels meanwhile, so that the graph needs no arithmetic with its batch.
        """
        as_channels = sent.permute(0, 2, 3, 1, 4).flatten(3)
        return self.frame.preprocess(as_channels).unflatten(1, (self.frames, self.channels))

    def as_sent(
        self, answer: "Mapping[str, Tensor]", fields: Mapping[str, Field], sent: "Tensor"
    ) -> "dict[str, Tensor]":
        return {}

    def describe(self, packed: np.ndarray) -> "dict[str, Tensor]":
        """Return what an image is described by, as its mean over the frames, and the motion.

        The motion is the mean absolute difference of the brightness of each pixel in frames that follow each
        other, 0..1.
        """
        import torch

        starts = range(0, max(1, len(packed)), _AT_ONCE)
        parts = [self._describe(packed[start : start + _AT_ONCE]) for start in starts]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _describe(self, packed: np.ndarray) -> "dict[str, Tensor]":
        import torch

        flat = packed.reshape(-1, *packed.shape[2:])
        found = {
            name: value.view(-1, self.frames).mean(dim=1) for name, value in self.frame.describe(flat).items()
        }
        grey = torch.from_numpy(np.array(packed)).double().mean(dim=4) / 255
        return found | {"motion": (grey[:, 1:] - grey[:, :-1]).abs().mean(dim=(1, 2, 3))}

    def draw(self, packed: np.ndarray) -> np.ndarray:
        """Return some frames, evenly spread, side by side."""
        places = spread(self.frames, min(self.frames, _SHOWN))
        return np.concatenate(packed[places], axis=1)


def spread(count: int, wanted: int) -> list[int]:
    """Return the numbers of frames that are evenly spread over all, with the first and the last.

    If there are fewer than wanted, each repeats about equally often.

    Args:
        count: Number of frames that there are.
        wanted: Number of frames, at least 2.

    Example:
        >>> spread(9, 3), spread(3, 6), spread(1, 4)
        ([0, 4, 8], [0, 0, 1, 1, 2, 2], [0, 0, 0, 0])
    """
    last = wanted - 1
    return [(2 * place * (count - 1) + last) // (2 * last) for place in range(wanted)]


def count_frames(facts: Mapping[str, object]) -> int:
    """Return the number of frames of an example: 1 of an image, or if there is none."""
    return next((each.frames for each in facts.values() if isinstance(each, ClipInput)), 1)


def _pixels(given: Pixels) -> dict[str, Any]:
    return {each.name: getattr(given, each.name) for each in fields(Pixels)}

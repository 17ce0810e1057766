"""Images: uint8 pixels of one size, grey or in colour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from temper.fields import Field, Fit
from temper.maths.geometry import BORDER, place_on_canvas

if TYPE_CHECKING:
    from torch import Tensor

_EDGES = (3, 5)
"""By how much a try is higher and wider than packed images, so that no size of it is another's."""


@dataclass(frozen=True)
class Pixels:
    """Size of the images, or of the frames of clips, their statistics, and how they were read."""

    height_px: int
    width_px: int
    channels: int
    mean: tuple[float, ...] = ()
    """Mean of the pixels (0..255) of each channel over the training split."""
    std: tuple[float, ...] = ()
    """Standard deviation of the pixels (0..255) of each channel over the training split."""
    levels: tuple[float, float] | Literal["full", "per-image"] = "full"
    """Range of levels of more than 8 bits that became 0..255."""
    background: Literal["white", "black", "checker"] = "white"
    """What shows through transparent pixels."""
    fit: Fit = "stretch"

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width."""
        return (self.height_px, self.width_px)

    @property
    def look(self) -> str:
        """Size and colour as text, e.g. `24 x 24 px in colour`."""
        return f"{self.height_px} x {self.width_px} px in {'grey' if self.channels == 1 else 'colour'}"


@dataclass(frozen=True)
class ImageInput(Pixels):
    """Images.

    Packed and sent: uint8 [batch, height, width, channels]; in networks: [batch, channels, height, width].
    """

    input: Literal["image"] = "image"

    picture: ClassVar[bool] = True
    from_file: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.height_px, self.width_px, self.channels)

    @property
    def words(self) -> str:
        return f"images of {self.look}"

    @property
    def needs(self) -> str:
        return f"{self.channels} channel{'s' if self.channels > 1 else ''}"

    @property
    def free(self) -> Mapping[int, str]:
        return {0: "batch", 1: "height", 2: "width"}

    def example(self, batch: int, *, longer: int = 0) -> np.ndarray:
        height, width = (side + longer * edge for side, edge in zip(self.size_px, _EDGES, strict=True))
        return np.zeros((batch, height, width, self.channels), np.uint8)

    def decode(self, value: Any) -> np.ndarray:
        """Return pixels of the size that networks see; other sizes are resized only as files."""
        return read_lists(value, self.shape)

    def arrange(self, packed: "Tensor") -> "Tensor":
        return packed.permute(0, 3, 1, 2)

    def preprocess(self, sent: "Tensor") -> "Tensor":
        """Return images of the size at which the network was trained, perhaps with borders."""
        import torch
        from torch.nn import functional

        pixels = sent.permute(0, 3, 1, 2).float()
        if self.fit != "stretch":
            size = pixels.shape[2:]
            canvas = place_on_canvas(size[0], size[1], self.size_px, self.fit, torch.sym_max)
            pixels = _add_borders(pixels, *canvas)
        return functional.interpolate(
            pixels, size=self.size_px, mode="bilinear", align_corners=False, antialias=True
        )

    def as_sent(
        self, answer: "Mapping[str, Tensor]", fields: Mapping[str, Field], sent: "Tensor"
    ) -> "dict[str, Tensor]":
        """Return what lies in the images with borders as it lies in the images that were sent."""
        import torch

        if self.fit == "stretch":
            return {}
        size = sent.shape[1:3]
        canvas = place_on_canvas(size[0], size[1], self.size_px, self.fit, torch.sym_max)
        return _without_borders(answer, fields, size, *canvas)

    def describe(self, packed: np.ndarray) -> "dict[str, Tensor]":
        """Return brightness, contrast, sharpness and, of images in colour, colourfulness."""
        import torch

        pixels = torch.from_numpy(np.array(packed)).double() / 255
        grey = pixels.mean(dim=3)
        edges = (
            4 * grey[:, 1:-1, 1:-1]
            - grey[:, :-2, 1:-1]
            - grey[:, 2:, 1:-1]
            - grey[:, 1:-1, :-2]
            - grey[:, 1:-1, 2:]
        )
        found = {
            "brightness": grey.mean(dim=(1, 2)),
            "contrast": grey.std(dim=(1, 2)),
            "sharpness": edges.pow(2).mean(dim=(1, 2)).sqrt(),
        }
        if pixels.shape[3] == 3:
            found["colourfulness"] = (pixels.amax(dim=3) - pixels.amin(dim=3)).mean(dim=(1, 2))
        return found

    def draw(self, packed: np.ndarray) -> np.ndarray:
        return packed


def pixels_of(facts: Mapping[str, object]) -> Pixels | None:
    """Return the images or clips among the inputs of a problem; None if there are none."""
    return next((each for each in facts.values() if isinstance(each, Pixels)), None)


def image_of(facts: Mapping[str, object]) -> ImageInput:
    """Return the images among the inputs of a problem that has some."""
    return next(each for each in facts.values() if isinstance(each, ImageInput))


def read_lists(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return pixels that were sent as nested lists, uint8.

    Args:
        value: The lists.
        shape: Their required shape.

    Raises:
        ValueError: If they have another shape, or are no whole numbers from 0 to 255.
    """
    try:
        found = np.asarray(value)
    except ValueError:
        raise ValueError("pixels must be lists of equal lengths") from None
    if found.dtype.kind not in "iu" or found.shape != shape:
        size = "][".join(map(str, shape))
        raise ValueError(f"pixels must be whole numbers, [{size}]; send another size as a file, in base64")
    if found.min() < 0 or found.max() > 255:
        raise ValueError("pixels must be from 0 to 255")
    return found.astype(np.uint8)


def _add_borders(pixels: "Tensor", canvas: Sequence[int], corner: Sequence[int]) -> "Tensor":
    """Return images on a larger canvas. Sizes may be those of a graph, which differ by image."""
    import torch

    inside = None
    for axis, size, start in zip((2, 3), canvas, corner, strict=True):
        least = pixels.shape[axis]
        places = torch.arange(size) - start
        pixels = pixels.index_select(axis, places.clamp(0, least - 1))
        within = ((places >= 0) & (places < least)).view(1, 1, *((-1, 1) if axis == 2 else (1, -1)))
        inside = within if inside is None else inside & within
    assert inside is not None
    return torch.where(inside, pixels, float(BORDER))


def _without_borders(
    answer: "Mapping[str, Tensor]",
    fields: Mapping[str, Field],
    sent: Sequence[int],
    canvas: Sequence[int],
    corner: Sequence[int],
) -> "dict[str, Tensor]":
    """Return what lies on a canvas as it lies in the images on it, which were sent."""
    import torch

    (down, tall), (across, wide) = (
        tuple(torch.scalar_tensor(each) / torch.scalar_tensor(whole) for each in (start, side))
        for side, whole, start in zip(sent, canvas, corner, strict=True)
    )
    found = {}
    for name, column in answer.items():
        layout = fields[name].layout if name in fields else "value"
        if layout in ("boxes", "points"):
            first, scale = torch.stack([across, down]), torch.stack([wide, tall])
            ends = column.unflatten(-1, (-1, 2))
            found[name] = ((ends - first) / scale).clamp(0, 1).flatten(-2)
        elif layout == "map":
            for axis, start, share in ((1, down, tall), (2, across, wide)):
                size = column.shape[axis]
                places = (start + (torch.arange(size) + 0.5) / size * share) * size
                column = column.index_select(axis, places.floor().long().clamp(0, size - 1))
            found[name] = column
    return found

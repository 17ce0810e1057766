"""Images stored encoded, in their own sizes: a file with all bytes, and two arrays of positions and sizes.

`images.bin` contains the files one after another. `offsets.npy` (int64 [images + 1]) contains the position
of each file, and `sizes.npy` (int32 [images, 2]) the heights and widths. Bytes are read by position
(`pread`), not mapped, so that they do not count as memory of the process.

A file (JPEG, PNG and the like) is stored unchanged if the decoder of training makes the same pixels from it
as prepare. Any other image (rotated by EXIF, transparent, of 16 bits, from an array) is stored as PNG of
its upright 8-bit pixels.
"""

import io
import os
from array import array
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from temper.data.images.decoding import Undecodable, decode, decode_part
from temper.data.images.reading import Raw
from temper.fields import Fit
from temper.maths.geometry import place_on_canvas

FOLDER = "encoded"
BYTES, OFFSETS, SIZES = "images.bin", "offsets.npy", "sizes.npy"
_QUALITY = 95
"""Quality of JPEGs that were shrunk: the highest one that Pillow's documentation recommends."""


@final
class EncodedWriter:
    """Writes encoded images to a folder, one after another; use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder, self._stream = folder, (folder / BYTES).open("wb")
        self._offsets, self._sizes = array("q", [0]), array("i")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        if kind is None:
            np.save(self._folder / OFFSETS, np.frombuffer(self._offsets, np.int64))
            np.save(self._folder / SIZES, np.frombuffer(self._sizes, np.int32).reshape(-1, 2))

    def add(self, content: bytes, size: tuple[int, int]) -> None:
        """Append the bytes of an image; `size` is its height and width."""
        self._stream.write(content)
        self._offsets.append(self._offsets[-1] + len(content))
        self._sizes.extend(size)


@final
class Encoded:
    """A folder of encoded images, read image by image; several threads may share it.

    Args:
        folder: Folder that `EncodedWriter` wrote.
        height_px: Height of the returned images.
        width_px: Width of the returned images.
        channels: 1 for grey, 3 for RGB.
        fit: How images of other proportions are brought to this size.
    """

    def __init__(
        self, folder: Path, *, height_px: int, width_px: int, channels: int, fit: Fit = "stretch"
    ) -> None:
        self._folder, self._fit = folder, fit
        self.shape = (height_px, width_px, channels)
        self._stored: Int32[np.ndarray, "images 2"] = np.load(folder / SIZES)
        heights, widths = self._stored.T
        sides, _ = place_on_canvas(heights, widths, (height_px, width_px), fit, np.maximum)
        self.sizes: Int32[np.ndarray, "images 2"] = np.stack(sides, axis=1)
        """Heights and widths of the images with their borders, if they get any."""
        self._offsets = np.load(folder / OFFSETS)
        self._file = os.open(folder / BYTES, os.O_RDONLY | os.O_CLOEXEC)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments only: another process opens the files itself."""
        return _open_encoded, (self._folder, *self.shape, self._fit)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, numbers: Any) -> UInt8[np.ndarray, "... height width channels"]:
        """Return whole images resized to the size, by number or by an array of numbers."""
        if np.ndim(numbers):
            return np.stack([self[number] for number in numbers])
        height, width = self.sizes[numbers].tolist()
        return self.part(int(numbers), (0, 0, height, width))

    def part(
        self,
        number: int,
        box: tuple[int, int, int, int],
        out: UInt8[np.ndarray, "height width channels"] | None = None,
    ) -> UInt8[np.ndarray, "height width channels"]:
        """Return a part of an image, resized to the size, or to that of `out`.

        Args:
            number: Number of the image.
            box: Top, left, height and width of the part, in pixels of the image itself with its borders.
            out: Array for the result; None creates one.

        Raises:
            Undecodable: If the image cannot be read.
        """
        _, _, channels = self.shape
        height_px, width_px = self.shape[:2] if out is None else out.shape[:2]
        size = (int(self._stored[number, 0]), int(self._stored[number, 1]))
        _, (down, right) = place_on_canvas(*size, self.shape[:2], self._fit)
        return decode_part(
            self.read(number),
            size,
            (box[0] - down, box[1] - right, box[2], box[3]),
            height_px=height_px,
            width_px=width_px,
            channels=channels,
            out=out,
        )

    def read(self, number: int) -> bytes:
        """Return the bytes of an image.

        Raises:
            Undecodable: If the file ends before the image does.
        """
        start, end = int(self._offsets[number]), int(self._offsets[number + 1])
        content = os.pread(self._file, end - start, start)
        if len(content) < end - start:
            raise Undecodable(
                f"{self._folder / BYTES} ends at byte {start + len(content)}, before the image does"
            )
        return content


def _open_encoded(folder: Path, height_px: int, width_px: int, channels: int, fit: Fit) -> Encoded:
    return Encoded(folder, height_px=height_px, width_px=width_px, channels=channels, fit=fit)


def reads_the_same(raw: Raw, image: Image.Image) -> bool:
    """Return whether the decoder of training makes the same pixels from a file as prepare did."""
    if isinstance(raw, np.ndarray):
        return False
    try:
        decoded = decode(raw, 3)
    except Undecodable:
        return False
    pixels = np.asarray(image)
    return decoded.shape[:2] == pixels.shape[:2] and bool(
        (decoded == (pixels if pixels.ndim == 3 else pixels[..., None])).all()
    )


def encode(image: Image.Image, *, lossy: bool, shrink_px: int) -> tuple[bytes, tuple[int, int]]:
    """Encode an image as JPEG (if `lossy`) or PNG; return the bytes, and height and width.

    Args:
        image: Grey or RGB image.
        lossy: Whether to encode it as JPEG.
        shrink_px: Largest length of the longer side; a larger image is shrunk. 0 keeps the size.
    """
    if shrink_px and max(image.size) > shrink_px:
        share = shrink_px / max(image.size)
        width, height = (max(1, round(side * share)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    target = io.BytesIO()
    image.save(
        target, "JPEG" if lossy else "PNG", **({"quality": _QUALITY} if lossy else {"compress_level": 1})
    )
    return target.getvalue(), (image.height, image.width)

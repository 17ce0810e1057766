"""Images kept encoded, in their own sizes: one file of all their bytes, and two arrays that say where and how large each is.

`images.bin` holds the files end to end; `offsets.npy` (int64 [images + 1]) where each begins; `sizes.npy`
(int32 [images, 2]) their heights and widths. Bytes are read by position (`pread`), not mapped, so that what was read does
not count as memory of the process.

A file (JPEG, PNG and the like) is kept as it came where the decoder of training makes the same pixels of it as prepare did.
Anything else (turned by EXIF, transparent, of 16 bits, out of an array) is kept as PNG of its upright 8-bit pixels.
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

FOLDER = "encoded"
BYTES, OFFSETS, SIZES = "images.bin", "offsets.npy", "sizes.npy"
_QUALITY = 95
"""Of JPEGs that were shrunk; Pillow's highest without waste, by its documentation."""


@final
class EncodedWriter:
    """Writes a folder of encoded images, one after another; use as a context manager."""

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
        """Append an image's bytes; `size` is its height and width."""
        self._stream.write(content)
        self._offsets.append(self._offsets[-1] + len(content))
        self._sizes.extend(size)


@final
class Encoded:
    """A folder of encoded images, read image by image; threads may share it.

    Args:
        folder: Where `EncodedWriter` wrote.
        height_px: Of the images it gives out.
        width_px: Of the images it gives out.
        channels: 1 for grey, 3 for RGB.
    """

    def __init__(self, folder: Path, *, height_px: int, width_px: int, channels: int) -> None:
        self._folder = folder
        self.shape = (height_px, width_px, channels)
        self.sizes: Int32[np.ndarray, "images 2"] = np.load(folder / SIZES)
        self._offsets = np.load(folder / OFFSETS)
        self._file = os.open(folder / BYTES, os.O_RDONLY | os.O_CLOEXEC)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens the files anew."""
        return _open_encoded, (self._folder, *self.shape)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, numbers: Any) -> UInt8[np.ndarray, "... height width channels"]:
        """Whole images, stretched to the size, by number or by an array of numbers."""
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
        """A part of an image (top, left, height, width in its own pixels), stretched to the size; into `out`, if there is one.

        Raises:
            Undecodable: If the image cannot be read.
        """
        height_px, width_px, channels = self.shape
        size = (int(self.sizes[number, 0]), int(self.sizes[number, 1]))
        return decode_part(
            self.read(number), size, box, height_px=height_px, width_px=width_px, channels=channels, out=out
        )

    def read(self, number: int) -> bytes:
        """The bytes of an image.

        Raises:
            Undecodable: If the file ends before.
        """
        start, end = int(self._offsets[number]), int(self._offsets[number + 1])
        content = os.pread(self._file, end - start, start)
        if len(content) < end - start:
            raise Undecodable(
                f"{self._folder / BYTES} ends at byte {start + len(content)}, before the image does"
            )
        return content


def _open_encoded(folder: Path, height_px: int, width_px: int, channels: int) -> Encoded:
    return Encoded(folder, height_px=height_px, width_px=width_px, channels=channels)


def reads_the_same(raw: Raw, image: Image.Image) -> bool:
    """Whether the decoder of training makes of a file the pixels that prepare made of it."""
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
    """An image as JPEG (if `lossy`) or PNG, with its height and width.

    Args:
        image: Grey or RGB.
        lossy: Whether it came as JPEG.
        shrink_px: Its longer side is shrunk to this; 0 keeps its size.
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

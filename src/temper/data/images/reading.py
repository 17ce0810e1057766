"""Raw images of ingest's artifact, opened, and unified to grey or RGB of one size.

A row's path says where its image lies: `images.zip/cat/a.jpg` in an archive, `images.npy#3` or `images.gz#3` in an array
(NumPy or gzipped IDX). Archives and arrays are opened once.

Unified means: EXIF orientation applied; transparency laid over white; palettes, CMYK and the like turned into RGB; 16 bits
scaled to 8; stretched to the wanted size by an antialiased bilinear filter, or by nearest neighbour for masks. Float pixels are
refused, since nothing says what range they have. Of an animation the first image is taken.
"""

import gzip
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from temper.data.images.zip_archive import Archive

Raw = bytes | np.ndarray


class Unreadable(Exception):
    """An image that cannot be used, with the reason as text; goes on the list of bad ones."""


class TooLarge(Unreadable):
    """An image with more pixels, or a longer side, than is allowed."""


class Store:
    """Everything ingest left, by path; containers are opened once.

    Args:
        files: By name.
        find: Where the members of an archive lie that nobody has made yet; None if there is one.
    """

    def __init__(self, files: Mapping[str, Path], find: Callable[[str], Path] | None = None) -> None:
        self._files, self._find = files, find
        self._archives: dict[str, Archive] = {}
        self._arrays: dict[str, np.ndarray] = {}

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        for archive in self._archives.values():
            archive.close()

    def open(self, path: str) -> None:
        """Open the container of a path, so that `read` may be called from several threads afterwards."""
        name = split_path(path)[0]
        if name.endswith((".npy", ".gz")):
            self.array(name)
        elif name.endswith(".zip") and name not in self._archives and self._find is None:
            self._archives[name] = Archive(self._files[name])

    def array(self, name: str) -> np.ndarray:
        """A whole array of images, uint8 [images, height, width] or [images, height, width, 3]."""
        if name not in self._arrays:
            file = self._files[name]
            self._arrays[name] = (
                parse_idx(gzip.decompress(file.read_bytes()))
                if name.endswith(".gz")
                else np.load(file, mmap_mode="r")
            )
        return self._arrays[name]

    def read(self, path: str) -> Raw:
        """One image: the bytes of a file, or its pixels where it lies in an array."""
        name, inner = split_path(path)
        if name.endswith((".npy", ".gz")):
            return self.array(name)[int(inner)]
        if not inner:
            return self._files[name].read_bytes()
        if self._find is not None:
            try:
                return self._find(inner).read_bytes()
            except OSError as error:
                raise Unreadable(f"it cannot be read: {error.strerror}") from error
        try:
            return self._archives[name].read(inner)
        except ValueError as error:
            raise Unreadable(f"damaged in {name}: {error}") from error


def split_path(path: str) -> tuple[str, str]:
    """The container of a path and the place in it; an empty place where the file is the image."""
    first, _, inner = path.partition("/")
    if first.endswith(".zip") and inner:
        return first, inner
    name, _, index = path.rpartition("#")
    return (name, index) if name.endswith((".npy", ".gz")) else (path, "")


def parse_idx(content: bytes) -> np.ndarray:
    """An array in the IDX format of the MNIST family: 0, 0, type (8: uint8), dimensions, then big-endian sizes.

    Raises:
        ValueError: If it is no IDX of uint8 or its size does not fit.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(f"not an IDX file of unsigned bytes: it begins with {content[:4].hex(' ')}")
    dims = content[3]
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", count=dims, offset=4))
    body = np.frombuffer(content, np.uint8, offset=4 + 4 * dims)
    if body.size != np.prod(shape):
        raise ValueError(f"an IDX file of shape {shape} holds {body.size} bytes; it is cut off or damaged")
    return body.reshape(shape)


def unify(
    raw: Raw, *, height_px: int, width_px: int, max_pixels: int, max_side_px: int
) -> tuple[UInt8[np.ndarray, "height width ..."], tuple[int, int]]:
    """An image as grey [height, width] or RGB [height, width, 3], and its own width and height.

    Raises:
        Unreadable: If it is no image, damaged, or too large.
    """
    image = open_plain(raw, max_pixels=max_pixels, max_side_px=max_side_px)
    return stretch(image, height_px, width_px), image.size


def open_plain(raw: Raw, *, max_pixels: int, max_side_px: int) -> Image.Image:
    """An image in its own size, upright, grey or RGB of 8 bits, without transparency; raises as `unify`."""
    image = _eight_bits(_open(raw, max_pixels=max_pixels, max_side_px=max_side_px))
    if image.mode not in ("L", "RGB") or "transparency" in image.info:
        image = _flatten(image)
    return image


def fit_channels(pixels: np.ndarray, channels: int) -> UInt8[np.ndarray, "height width channels"]:
    """Grey [height, width] or RGB pixels with a number of channels, 1 or 3."""
    if pixels.ndim == 2:
        return np.broadcast_to(pixels[..., None], (*pixels.shape, channels))
    if channels == 3:
        return pixels
    from temper.data.images.decoding import to_grey

    return to_grey(pixels)


def stretch(image: Image.Image, height_px: int, width_px: int) -> UInt8[np.ndarray, "height width ..."]:
    """Pixels of an image brought to a size by an antialiased bilinear filter."""
    if image.size != (width_px, height_px):
        image = image.resize((width_px, height_px), Image.Resampling.BILINEAR)
    return np.asarray(image)


def unify_mask(
    raw: Raw, size: tuple[int, int], *, height_px: int, width_px: int, max_pixels: int, max_side_px: int
) -> UInt8[np.ndarray, "height width"]:
    """A mask as class numbers; those of a palette are its indices, whatever their colours.

    `size` is the width and height of its image, which it must share.

    Raises:
        Unreadable: If it is no mask, or of another size than its image.
    """
    mask = _open(raw, max_pixels=max_pixels, max_side_px=max_side_px)
    if mask.size != size:
        raise Unreadable(f"its mask is {mask.width}x{mask.height} px, the image {size[0]}x{size[1]} px")
    numbers = np.asarray(mask)
    if numbers.ndim != 2 or numbers.dtype.kind not in "bui":
        raise Unreadable(f"its mask has pixels of mode {mask.mode}; one class number per pixel is expected")
    if numbers.size and (int(numbers.max()) > 255 or int(numbers.min()) < 0):
        raise Unreadable(
            f"its mask holds class number {int(numbers.max())}; 0..254 are possible, 255 is ignored"
        )
    numbers = numbers.astype(np.uint8)
    if size != (width_px, height_px):
        numbers = np.asarray(Image.fromarray(numbers).resize((width_px, height_px), Image.Resampling.NEAREST))
    return numbers


def _open(raw: Raw, *, max_pixels: int, max_side_px: int) -> Image.Image:
    """Decode, with the size checked from the header first, and turn upright."""
    if isinstance(raw, np.ndarray):
        return Image.fromarray(np.ascontiguousarray(raw))
    if not raw:
        raise Unreadable("the file is empty (0 bytes)")
    # Pillow's own limits only warn, or raise at another number; ours is checked right below.
    Image.MAX_IMAGE_PIXELS = None
    try:
        image = Image.open(io.BytesIO(raw))
        width, height = image.size
        if width * height > max_pixels:
            raise TooLarge(f"{width}x{height} px are more than prepare.max_pixels = {max_pixels}")
        if max(width, height) > max_side_px:
            raise TooLarge(
                f"{width}x{height} px: one side is longer than prepare.max_side_px = {max_side_px}"
            )
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return image
    except UnidentifiedImageError:
        raise Unreadable("not an image in a known format") from None
    except Unreadable:
        raise
    except Exception as error:
        # Pillow's plugins raise nearly anything on damaged files: OSError, SyntaxError, struct.error, IndexError, ...
        raise Unreadable(f"damaged: {' '.join(str(error).split()) or type(error).__name__}") from error


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise Unreadable("its pixels are floats without an agreed range")
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        if levels.size and (levels.max() > 65535 or levels.min() < 0):
            raise Unreadable("its pixels have more than 16 bits")
        # Mode I may hold 8 or 16 bits; only 16 exceed 255. Mode I;16 always means 16.
        wide = image.mode != "I" or levels.max(initial=0) > 255
        return Image.fromarray((np.rint(levels / 257) if wide else levels).astype(np.uint8))
    return image


def _flatten(image: Image.Image) -> Image.Image:
    """Any mode of 8 bits as L or RGB; what is transparent becomes white."""
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        solid = image.convert("RGBA")
        white = Image.new("RGBA", solid.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, solid).convert("RGB")
    return image.convert("RGB")

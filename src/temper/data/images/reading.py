"""Reading of raw images from ingest's artifact, and unifying them to grey or RGB of one size.

Unifying means: EXIF orientation is applied; transparent pixels are blended with a background
(`transparency.py`); palettes, CMYK and the like become RGB; a range of the levels of more than 8 bits becomes
8 bits (`levels.py`); and the image is resized by an antialiased bilinear filter. Of an animation, the first
image is used.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from temper.data.images.levels import CLIPPED, Levels, as_eight_bits, is_clipped, is_measured, is_wide
from temper.data.images.orientation import keep_turned, read_orientation, turn, turned
from temper.data.images.other_formats import explain_format
from temper.data.images.png_texts import SIGNATURE, without_texts
from temper.data.images.transparency import Background, flatten, shows_background
from temper.data.images.wide_colour import as_colours, read_wide_colour
from temper.data.remark import Note
from temper.fields import Fit, Frame
from temper.maths.geometry import BORDER, frame_of, place_on_canvas

Raw = bytes | np.ndarray
warnings.filterwarnings("ignore", module="PIL")  # they name no file, and the pixels were decoded
_NOTES = "temper.notes"
"""Key of `Image.info` with what `open_plain` changed."""
_WIDE = "temper.wide"
"""Key of `Image.info` with whether the file has more than 8 bits."""
_OTHER_COLOURS = frozenset({"CMYK", "LAB", "YCbCr", "HSV"})


class Unreadable(Exception):
    """Raised for an image that cannot be used. The text is the reason in the list of bad images."""


class TooLarge(Unreadable):
    """Raised for an image with more pixels, or a longer side, than is allowed."""


def unify(
    raw: Raw,
    *,
    height_px: int,
    width_px: int,
    max_pixels: int,
    max_side_px: int,
    levels: Levels = "full",
    background: Background = "white",
    fit: Fit = "stretch",
) -> tuple[UInt8[np.ndarray, "height width ..."], Frame]:
    """Return an image as grey [height, width] or RGB [height, width, 3], and where it lies in the whole one.

    Raises:
        Unreadable: If it is not an image, is damaged, or is too large.
    """
    image = open_plain(
        raw, max_pixels=max_pixels, max_side_px=max_side_px, levels=levels, background=background
    )
    frame = frame_of(image.height, image.width, (height_px, width_px), fit)
    return resize(image, height_px, width_px, fit, max_pixels=max_pixels), frame


def open_plain(
    raw: Raw,
    *,
    max_pixels: int,
    max_side_px: int,
    levels: Levels = "full",
    background: Background = "white",
) -> Image.Image:
    """Return an image in its original size, upright, grey or RGB of 8 bits, without transparency.

    Raises:
        Unreadable: As for `unify`.
    """
    whole = open_upright(raw, max_pixels=max_pixels, max_side_px=max_side_px)
    try:
        wide = read_wide_colour(raw) if isinstance(raw, bytes) else None
    except ValueError as error:
        raise Unreadable(str(error)) from error
    return as_plain(whole, wide, levels, background)


def as_plain(
    whole: Image.Image, wide: np.ndarray | None, levels: Levels = "full", background: Background = "white"
) -> Image.Image:
    """Return an upright image as `open_plain` does; `wide` are its levels if it has colours of 16 bits."""
    image = _eight_bits(whole, levels)
    if wide is not None:
        image = turn(as_colours(wide, levels), turned(image))
    notes = ["are turned upright, as their EXIF says"] if turned(image) > 1 else []
    if whole.mode == "F" and not is_measured(np.asarray(whole)).all():
        notes.append("have pixels without a measurement (NaN, -9999), which become the lowest level")
    if image.mode in _OTHER_COLOURS:
        notes.append(f"in {image.mode} become RGB")
    if image.mode not in ("L", "RGB") or "transparency" in image.info:
        if shows_background(image):
            notes.append(f"show {background} where they are transparent (prepare.background)")
        image = keep_turned(flatten(image, background), image)
    converted = tuple(Note("converted", f"images {text}") for text in notes)
    seen = wide if wide is not None else np.asarray(whole) if is_wide(whole.mode) else None
    clipped = (CLIPPED,) if seen is not None and is_clipped(seen, levels) else ()
    image.info |= {_NOTES: converted + clipped, _WIDE: seen is not None}
    return image


def fit_channels(pixels: np.ndarray, channels: int) -> UInt8[np.ndarray, "height width channels"]:
    """Convert grey [height, width] or RGB [height, width, 3] pixels to 1 or 3 channels."""
    if pixels.ndim == 2:
        return np.broadcast_to(pixels[..., None], (*pixels.shape, channels))
    if channels == 3:
        return pixels
    from temper.data.images.decoding import to_grey

    return to_grey(pixels)


def resize(
    image: Image.Image, height_px: int, width_px: int, fit: Fit, *, max_pixels: int
) -> UInt8[np.ndarray, "height width ..."]:
    """Return the pixels of an image, resized by an antialiased bilinear filter, perhaps with borders.

    Raises:
        TooLarge: If it has more pixels than `max_pixels` with its borders, as a very long image may.
    """
    (tall, wide), (top, left) = place_on_canvas(image.height, image.width, (height_px, width_px), fit)
    if (wide, tall) != image.size:
        if tall * wide > max_pixels:
            raise TooLarge(
                f"{image.width}x{image.height} px: with borders (prepare.fit = {fit}), {wide}x{tall} px, "
                f"more pixels than prepare.max_pixels = {max_pixels}"
            )
        padded = Image.new(image.mode, (wide, tall), (BORDER,) * len(image.getbands()))
        padded.paste(image, (left, top))
        image = padded
    if image.size != (width_px, height_px):
        image = image.resize((width_px, height_px), Image.Resampling.BILINEAR)
    return np.asarray(image)


def notes_on(image: Image.Image) -> tuple[Note, ...]:
    """Return what `open_plain` changed in an image; size, palette and levels apart."""
    return tuple(image.info[_NOTES])


def was_wide(image: Image.Image) -> bool:
    """Return whether the file that `open_plain` read has more than 8 bits, of which eight are left."""
    return bool(image.info[_WIDE])


def open_upright(raw: Raw, *, max_pixels: int, max_side_px: int) -> Image.Image:
    """Check the size in the header, then decode the image and rotate it upright."""
    if isinstance(raw, np.ndarray):
        return Image.fromarray(np.ascontiguousarray(raw))
    if not raw:
        raise Unreadable("the file is empty (0 bytes)")
    with reasons(raw):
        image = identify(raw)
        check_size(*image.size, max_pixels=max_pixels, max_side_px=max_side_px)
        image.load()
        return turn(image, read_orientation(image))


def check_size(width: int, height: int, *, max_pixels: int, max_side_px: int) -> None:
    """Refuse an image that is too large.

    Raises:
        TooLarge: Names its size and the limit.
    """
    if width * height > max_pixels:
        raise TooLarge(f"{width}x{height} px: more pixels than prepare.max_pixels = {max_pixels}")
    if max(width, height) > max_side_px:
        raise TooLarge(f"{width}x{height} px: one side is longer than prepare.max_side_px = {max_side_px}")


@contextmanager
def reasons(raw: bytes) -> Iterator[None]:
    """Turn whatever Pillow raises for a file into `Unreadable`, with the reason."""
    # Pillow's own limit only warns, or raises at another number. Ours is checked by `check_size`.
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    except UnidentifiedImageError:
        raise Unreadable(f"not an image in a known format{explain_format(raw)}") from None
    except Unreadable:
        raise
    except Exception as error:
        # Pillow's plugins raise almost any type of error for damaged files: OSError, SyntaxError,
        # struct.error, IndexError, ...
        raise Unreadable(f"damaged: {' '.join(str(error).split()) or type(error).__name__}") from error


def identify(raw: bytes) -> Image.Image:
    """Open a file. Texts and colour profiles of a PNG that Pillow finds too large are left out."""
    try:
        return Image.open(io.BytesIO(raw))
    except (ValueError, UnidentifiedImageError):
        if raw[:8] != SIGNATURE:
            raise
        return Image.open(io.BytesIO(without_texts(raw)))


def _eight_bits(image: Image.Image, levels: Levels) -> Image.Image:
    """Return an image of 8 bits per channel; `levels` is the range of wider ones that becomes 0..255."""
    if not is_wide(image.mode):
        return image
    values = np.asarray(image)
    if levels == "full":
        if image.mode == "F":
            raise Unreadable("its pixels are floats of unknown range; set prepare.range")
        if values.size and (int(values.max()) > 65535 or int(values.min()) < 0):
            raise Unreadable("its pixels have more than 16 bits; set prepare.range")
        # Mode I may contain 8 or 16 bits; only values of 16 bits exceed 255. Mode I;16 always means 16 bits.
        if image.mode == "I" and int(values.max(initial=0)) <= 255:
            return keep_turned(Image.fromarray(values.astype(np.uint8)), image)
    return keep_turned(Image.fromarray(as_eight_bits(values, levels)), image)

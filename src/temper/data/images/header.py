"""Size and orientation of an image from the beginning of its file; no pixel is decoded."""

from pathlib import Path

from PIL import Image

from temper.data.images.orientation import read_orientation
from temper.data.images.reading import identify
from temper.fields import QUARTER_TURN


def read_header(path: Path) -> tuple[tuple[int, int], int] | None:
    """Return width and height of the stored pixels, and the EXIF orientation; None if the file has no header.

    prepare says what is wrong with such a file.
    """
    Image.MAX_IMAGE_PIXELS = None  # prepare has its own limit
    try:
        with Image.open(path) as image:
            return image.size, read_orientation(image)
    except Exception:  # Pillow raises almost any type of error for damaged files, and for some that decode
        pass
    try:
        whole = identify(path.read_bytes())
        return whole.size, read_orientation(whole)
    except Exception:
        return None


def shown_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return width and height of the image as it is shown.

    Example:
        >>> shown_size((40, 30), 6), shown_size((40, 30), 3)
        ((30, 40), (40, 30))
    """
    return size[::-1] if orientation >= QUARTER_TURN else size

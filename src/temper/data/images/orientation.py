"""How a camera was turned, as EXIF says, and how an image becomes upright."""

from PIL import Image

_ORIENTATION = 0x0112
_TURNED = "temper.turned"
"""Key of `Image.info` with the orientation that was applied."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the image upright."""


def read_orientation(image: Image.Image) -> int:
    """Return how the camera was turned, 1 to 8 as in EXIF; 1 if the file does not say or its EXIF is odd."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow raises almost any type of error for odd EXIF, which says nothing of the pixels
        return 1


def turn(image: Image.Image, orientation: int) -> Image.Image:
    """Return the image upright, with its orientation in `info`."""
    turned = image.transpose(_TURNS[orientation]) if orientation in _TURNS else image
    turned.info[_TURNED] = orientation if orientation in _TURNS else 1
    return turned


def turned(image: Image.Image) -> int:
    """Return the EXIF orientation from which `turn` made an image upright; 1 if it was upright."""
    return int(image.info.get(_TURNED, 1))


def keep_turned(made: Image.Image, image: Image.Image) -> Image.Image:
    """Return an image that was made of another one, with the other's record of how it was turned."""
    made.info[_TURNED] = turned(image)
    return made

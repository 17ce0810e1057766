import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from temper.data.images.idx import parse_idx
from temper.data.images.mask_values import Meaning
from temper.data.images.masks import MaskRules, read_mask, resize_mask
from temper.data.images.reading import Unreadable, unify
from temper.data.images.store import Store, split_path

AT_MOST = {"max_pixels": 10_000, "max_side_px": 200}
LIMITS = {"height_px": 4, "width_px": 4, **AT_MOST}


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def filled(mode: str, colour: object, size: tuple[int, int] = (4, 4)) -> Image.Image:
    return Image.new(mode, size, colour)


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (filled("L", 7), "PNG", 7),
        (filled("1", 1), "PNG", 255),
        (filled("RGB", (1, 2, 3)), "PNG", (1, 2, 3)),
        (filled("P", 0), "GIF", (0, 0, 0)),
        (filled("RGBA", (200, 0, 0, 0)), "PNG", (255, 255, 255)),
        (filled("RGBA", (200, 0, 0, 255)), "PNG", (200, 0, 0)),
        (filled("LA", (9, 255)), "PNG", (9, 9, 9)),
        (filled("CMYK", (0, 255, 255, 0)), "TIFF", (255, 0, 0)),
        (Image.fromarray(np.full((4, 4), 257 * 40, np.uint16)), "PNG", 40),
    ],
    ids=["L", "1", "RGB", "P", "clear", "opaque", "LA", "CMYK", "16-bit"],
)
def test_every_mode_becomes_grey_or_rgb_of_eight_bits(
    image: Image.Image, kind: str, expected: object
) -> None:
    pixels, frame = unify(encoded(image, kind), **LIMITS)
    assert pixels.dtype == np.uint8
    assert (frame.width_px, frame.height_px) == (4, 4)
    assert (pixels == np.array(expected)).all()


def test_exif_orientation_is_applied() -> None:
    image = filled("RGB", (0, 0, 0), (4, 2))
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: a viewer must rotate the image by 90 degrees clockwise
    pixels, frame = unify(encoded(image, exif=exif), height_px=4, width_px=2, max_pixels=100, max_side_px=100)
    assert (frame.width_px, frame.height_px) == (2, 4)
    assert pixels[0, 1].tolist() == [255, 0, 0]


def test_images_are_stretched_smoothly_and_masks_by_nearest_neighbour() -> None:
    halves = np.zeros((8, 8), np.uint8)
    halves[:, 4:] = 200
    pixels, _ = unify(
        encoded(Image.fromarray(halves)), height_px=8, width_px=3, max_pixels=100, max_side_px=100
    )
    assert 0 < pixels[0, 1] < 200
    mask = read_mask(encoded(Image.fromarray(halves)), (8, 8), **AT_MOST)
    assert set(np.unique(resize_mask(mask, 8, 3, "stretch"))) == {0, 200}


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"this is no image", "not an image in a known format"),
        (encoded(filled("L", 0, (300, 2))), r"300x2 px: .*longer than prepare\.max_side_px = 200"),
        (encoded(filled("L", 0, (150, 150))), r"150x150 px: more .* than prepare\.max_pixels = 10000"),
        (
            encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90), np.uint8)))[:-900],
            "damaged: ",
        ),
        (encoded(filled("F", 0.5), "TIFF"), "pixels are floats"),
    ],
    ids=["empty", "text", "wide", "large", "truncated", "floats"],
)
def test_bad_images_say_why(raw: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        unify(raw, **LIMITS)


def test_the_size_is_checked_before_anything_is_decoded() -> None:
    header = encoded(filled("L", 0, (4, 4)))
    sizes = header[12:16] + struct.pack(">II", 30_000, 30_000) + header[24:29]
    huge = header[:12] + sizes + struct.pack(">I", zlib.crc32(sizes)) + header[33:]
    with pytest.raises(Unreadable, match=r"30000x30000 px: more .*prepare\.max_pixels"):
        unify(huge, **LIMITS)


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (filled("L", 0, (5, 4)), "mask has 5x4 px, the image 4x4 px"),
        (
            filled("RGB", (0, 9, 0)),
            r"colours #000900 \(16 px\); name the class of each in prepare.mask_values",
        ),
        (Image.fromarray(np.full((4, 4), 300, np.uint16)), "class number 300"),
    ],
    ids=["size", "colour", "number"],
)
def test_bad_masks_say_why(mask: Image.Image, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        read_mask(encoded(mask), (4, 4), **AT_MOST)


def test_a_palette_mask_means_its_indices() -> None:
    mask = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4))
    mask = mask.convert("P")
    mask.putpalette([255, 0, 0] * 256)
    assert read_mask(encoded(mask), (4, 4), **AT_MOST).ravel().tolist() == list(range(16))


def test_paths_point_into_containers() -> None:
    assert split_path("images.zip/a/b#1.jpg") == ("images.zip", "a/b#1.jpg")
    assert split_path("images.npy#12") == ("images.npy", "12")
    assert split_path("x-idx3-ubyte.gz#0") == ("x-idx3-ubyte.gz", "0")
    assert split_path("a.jpg") == ("a.jpg", "")


def test_idx_arrays_are_read_by_place(tmp_path: Path) -> None:
    content = b"\x00\x00\x08\x03" + struct.pack(">III", 2, 1, 3) + bytes(range(6))
    (tmp_path / "a.gz").write_bytes(gzip.compress(content))
    with Store({"a.gz": tmp_path / "a.gz"}) as store:
        assert store.read("a.gz#1").tolist() == [[3, 4, 5]]
    with pytest.raises(ValueError, match="cut off"):
        parse_idx(content[:-1])
    with pytest.raises(ValueError, match="not an IDX file"):
        parse_idx(b"\x89PNG")


def test_a_png_with_a_huge_text_or_profile_is_read() -> None:
    image = filled("RGB", (1, 2, 3))
    text = PngInfo()
    text.add_text("notes", "x" * 5_000_000, zip=True)
    for raw in (encoded(image, pnginfo=text), encoded(image, icc_profile=bytes(5_000_000))):
        pixels, _ = unify(raw, **LIMITS)
        assert (pixels == (1, 2, 3)).all()


def test_odd_exif_does_not_spoil_the_pixels() -> None:
    # Orientation 6, and a rational number x/0, with which Pillow cannot write the EXIF again.
    entries = struct.pack("<HHHII", 2, 0x0112, 3, 1, 6) + struct.pack("<HHII", 0x011A, 5, 1, 38)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + entries + struct.pack("<I", 0) + struct.pack("<II", 1, 0)
    pixels, frame = unify(encoded(filled("RGB", (9, 9, 9), (4, 2)), "JPEG", exif=exif), **LIMITS)
    assert (frame.width_px, frame.height_px) == (2, 4) and np.abs(pixels.astype(int) - 9).max() < 3


def test_a_mask_of_the_stored_pixels_is_turned_with_its_image() -> None:
    mask = np.arange(8, dtype=np.uint8).reshape(2, 4)
    upright = np.rot90(mask, -1)  # what EXIF orientation 6 asks for
    for numbers in (mask, upright):
        found = read_mask(encoded(Image.fromarray(numbers)), (2, 4), orientation=6, **AT_MOST)
        assert (found == upright).all()
    with pytest.raises(Unreadable, match="mask has 4x2 px, the image 2x4 px"):
        read_mask(encoded(Image.fromarray(mask)), (2, 4), orientation=1, **AT_MOST)


@pytest.mark.parametrize("stored", [True, False])
def test_of_equal_sizes_the_parameter_decides(stored: bool) -> None:
    mask = np.arange(16, dtype=np.uint8).reshape(4, 4)
    found = read_mask(
        encoded(Image.fromarray(mask)), (4, 4), orientation=3, rules=MaskRules(stored=stored), **AT_MOST
    )
    assert (found == (mask[::-1, ::-1] if stored else mask)).all()


def test_numbers_of_masks_can_be_named() -> None:
    mask = Image.fromarray(np.array([[0, 255], [128, 255]], np.uint8).repeat(2, 0).repeat(2, 1))
    found = read_mask(encoded(mask), (4, 4), rules=MaskRules(Meaning({255: 1, 128: 2})), **AT_MOST)
    assert found[::2, ::2].tolist() == [[0, 1], [2, 1]]
    wide = Image.fromarray(np.full((4, 4), 1000, np.uint16))
    assert (read_mask(encoded(wide), (4, 4), rules=MaskRules(Meaning({1000: 1})), **AT_MOST) == 1).all()


@pytest.mark.parametrize(
    ("values", "kind", "levels"),
    [
        (np.array([[0, 1023]], np.uint16), "PNG", (0, 1023)),
        (np.array([[29000, 31000]], np.uint16), "PNG", (29000, 31000)),
        (np.array([[29000, 31000]], np.uint16), "PNG", "per-image"),
        (np.array([[-40.5, 85.5]], np.float32), "TIFF", (-40.5, 85.5)),
        (np.array([[-1000, 3000]], np.int32), "TIFF", (-1000, 3000)),
        (np.array([[np.nan, 7.0]], np.float32), "TIFF", (0.0, 7.0)),
    ],
)
def test_a_range_of_levels_becomes_eight_bits(values: np.ndarray, kind: str, levels: object) -> None:
    raw = encoded(Image.fromarray(values.repeat(2, 0).repeat(2, 1)), kind)
    pixels, _ = unify(raw, **LIMITS, levels=levels)
    assert set(np.unique(pixels)) >= {0, 255} and pixels.shape == (4, 4)

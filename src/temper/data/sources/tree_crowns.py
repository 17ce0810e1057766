"""Crowns of trees in images from the air: 951 boxes that people drew, in tiles of about 256 px.

The images are those of the package `deepforest`, of which nothing is run: two of Yellowstone, one of Ordway-
Swisher in Florida, one of Soaproot Saddle in California, all sites of NEON. Three ways to get them are tried
in order: a folder named in params.yaml, with the files or the package's wheel; the installed package; the
wheel, fetched with `pip download`.

An image is cut into equal tiles, none of which overlaps another one. Of an image with four rows of tiles or
more, the lowest quarter of the rows is the test split and the row above it the validation split; a crown on
the border of two tiles is seen in part in both. Only Soaproot's boxes tell dead trees from living ones, so
all are called `tree`.

Source: Weinstein et al. 2020, doi:10.1111/2041-210X.13472; the package has the MIT licence.
"""

import importlib.util
import json
import math
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from temper.data.images.zip_archive import NAME, write_archive
from temper.data.source_params import TreeCrowns
from temper.data.sources.published_files import Way, fetch_files, run_command, verify_files
from temper.data.sources.voc import read_annotation
from temper.fields import ABSENT, PRESENT, UNDECIDED, Field
from temper.maths.geometry import cut
from temper.problem import Row

LABEL = "tree"
TILE_PX = 256
"""Side of a tile, as nearly as the size of the image allows."""
PACKAGE, VERSION = "deepforest", "2.1.0"
FOLDER = f"{PACKAGE}/data"
"""Folder of the files in the wheel."""
FILES = {
    "2019_YELL_2_528000_4978000_image_crop2.png": (
        "a9bdb0f4447fdd899d22f567e0e20ba8320c5413b2ad0cd0ac8d9f3b6e0f9767"
    ),
    "2019_YELL_2_528000_4978000_image_crop2.xml": (
        "bd431af6a5086d721eb731b22f5ea28cd8a8eab06883efc1c665391acbc68e11"
    ),
    "2019_YELL_2_541000_4977000_image_crop.png": (
        "178e58a23cc2642226a364a30f71bd9258ddc1b012c826f12250914a90c7a131"
    ),
    "2019_YELL_2_541000_4977000_image_crop.xml": (
        "cefe4b96888bacbf8af1674f000082e549aa707aa6590d545effb23e43f26631"
    ),
    "OSBS_029.png": "d9477c6a00e4902c7bee487d4c5582c3b8b9a2f77f3908a29628b816b291e6ee",
    "OSBS_029.xml": "1f68c4011d7b351c29ca755072e77f3d16e6fd1f995bd05a9dd4eb952b55373c",
    "SOAP_061.png": "256508f1a62149bec4a80879077a865caf50e8cace095e6564c76befa480d424",
    "SOAP_061.xml": "4833280af75fd9c47965a93e38945282835e9e725cac412bdb9469d63480947c",
}
"""File -> SHA-256 of its content in deepforest 2.1.0."""
_FIRST_PIXEL = 1
"""Boxes count pixels from 1, as VOC's own."""
_QUARTER = 4
_PATIENCE_S = 180


def fetch(params: TreeCrowns, project: Path, out: Path) -> list[Row]:
    """Write the tiles as PNG files in an archive.

    Raises:
        ValueError: If no way to get the images worked; the message lists the attempts and the ways out.
    """
    named = [] if params.folder is None else [_named(params.folder, project)]
    wheel = f"{PACKAGE}=={VERSION}"
    ways = [
        *named,
        Way(f"the installed package {PACKAGE}", lambda scratch: _find_installed()),
        Way(f"`pip download {wheel}`", _download),
    ]
    return fetch_files(
        "tree-crowns",
        ways,
        lambda folder: _write_tiles(folder, out),
        f"run `pip download --no-deps {wheel}`, here or on a machine with a network, and set ingest.folder "
        f"to the folder that holds the wheel; or install it (`pip install --no-deps {wheel}`)",
    )


def _named(folder: str, project: Path) -> Way:
    path = project / folder
    return Way(
        f"ingest.folder = {folder!r}",
        lambda scratch: _unpack(path, scratch) if any(path.glob(f"{PACKAGE}-*.whl")) else path,
    )


def _find_installed() -> Path:
    """Return the folder of the installed package's data, without importing the package."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ValueError("it is not installed")
    return Path(found.origin).parent / "data"


def _download(scratch: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries=1", "--timeout=20"]
    run_command([*pip, "download", "--quiet", "--no-deps", f"{PACKAGE}=={VERSION}"], scratch, _PATIENCE_S)
    return _unpack(scratch, scratch)


def _unpack(folder: Path, scratch: Path) -> Path:
    """Unpack the files of the wheel in a folder."""
    wheel = max(folder.glob(f"{PACKAGE}-*.whl"), default=None)
    if wheel is None:
        raise ValueError(f"{folder} holds no wheel of {PACKAGE}")
    try:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(scratch, [f"{FOLDER}/{name}" for name in FILES])
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{wheel} is damaged, or not version {VERSION} ({error})") from error
    return scratch / FOLDER


def _write_tiles(folder: Path, out: Path) -> list[Row]:
    verify_files(folder, FILES)
    with tempfile.TemporaryDirectory(prefix="temper-") as scratch:
        rows = [row for name in FILES if name.endswith(".png") for row in _cut(folder / name, Path(scratch))]
        write_archive([row.id for row in rows], Path(scratch).joinpath, out / NAME)
    return rows


def _cut(path: Path, folder: Path) -> Iterator[Row]:
    """Write the tiles of an image to a folder, and yield their rows."""
    name = path.with_suffix(".xml").name
    annotation = read_annotation(path.with_suffix(".xml"), name)
    if annotation is None:
        raise ValueError(f"{name} is no annotation of VOC")
    boxes = np.array([sides for _, sides, _ in annotation.boxes]) - (_FIRST_PIXEL, _FIRST_PIXEL, 0, 0)
    with Image.open(path) as image:
        downs, acrosses = _edges(image.height), _edges(image.width)
        splits = split_rows(len(downs) - 1)
        for down, (split, (top, bottom)) in enumerate(zip(splits, pairwise(downs), strict=True), 1):
            for across, (left, right) in enumerate(pairwise(acrosses), 1):
                tile = (left, top, right, bottom)
                member = f"{path.stem}-{down:02d}-{across:02d}.png"
                image.crop(tile).save(folder / member)
                seen = boxes_in(boxes, tile)
                labels = (LABEL,) if seen else ()
                truth = json.dumps({"boxes": seen})
                yield Row(member, f"{NAME}/{member}", labels=labels, split=split, truth=truth)


def _edges(size_px: int) -> list[int]:
    """Return where tiles begin and end along a side of an image."""
    count = max(1, round(size_px / TILE_PX))
    return [round(number * size_px / count) for number in range(count + 1)]


def split_rows(count: int) -> list[str]:
    """Return the split of each row of tiles of an image, from above.

    Example:
        >>> split_rows(5)
        ['train', 'train', 'validation', 'test', 'test']
    """
    if count < _QUARTER:
        return ["train"] * count
    tests = math.ceil(count / _QUARTER)
    return ["train"] * (count - tests - 1) + ["validation"] + ["test"] * tests


def boxes_in(boxes: np.ndarray, tile: tuple[int, int, int, int]) -> list[dict[str, object]]:
    """Return what a tile shows of boxes, as a row holds them.

    Boxes are cut at its edges; one of which less than a quarter is left is neither right nor wrong.

    Args:
        boxes: Left, top, right and bottom in pixels of the image, [boxes, 4].
        tile: Left, top, right and bottom of the tile.
    """
    origin, size = np.array([*tile[:2], *tile[:2]]), np.array([tile[2] - tile[0], tile[3] - tile[1]] * 2)
    places, valid = cut(Field("boxes"), (boxes - origin) / size, np.full(len(boxes), PRESENT))
    return [
        {"label": LABEL, "box": np.rint(place * size).astype(int).tolist()}
        | ({"crowd": True} if state == UNDECIDED else {})
        for place, state in zip(places, valid, strict=True)
        if state != ABSENT
    ]

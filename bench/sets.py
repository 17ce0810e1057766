"""Makes folders of class folders with real images, for benchmarks, from data beside the repository.

    python bench/sets.py [--data ../shared/data] [--work data/sets] [--sets cells wbc pets ...]

The folders are never committed.

`--data` names a folder with `bccd` (the BCCD data set: Annotations, ImageSets, JPEGImages), `cifar10.zip`
(`train` and `test` with a folder of JPEGs per class) and `membrane` (ISBI 2012: PNGs in `image` and `label`).

| set | classes | from |
|---|---|---|
| `cells` | 3 kinds of blood cells, cropped by their boxes (4,155 : 372 : 361), official splits | BCCD, MIT |
| `wbc` | white cells and all others, the same crops | BCCD, MIT |
| `pets` | cats and dogs, 32 px, official test split | CIFAR-10, research use |
| `cifar10` | all ten classes, official test split | CIFAR-10, research use |
| `membrane` | is the centre of a 64 px tile a membrane? 30 slices, each in one split | ISBI 2012, MIT |
| `clipart` | drawings by subject, 175 of each, no splits | Debian's `openclipart-png`, public domain |
"""

import argparse
import shutil
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

LEAST_PX = 4
"""Least side of a crop: BCCD has empty boxes, and boxes beyond the image's edge, which are clipped first."""
TILE_PX = 64
TILES_PER_SLICE = 160
CLIPART_COUNT, CLIPART_PX = 175, 128
SPLITS = {"train": "train", "val": "validation", "test": "test"}
"""Official name of a split -> name of the folder that holds its class folders."""


def crop_cells(data: Path, out: Path, rest: str | None = None) -> None:
    """Cut out BCCD's boxes, by official split; with `rest`, that is the class of all but white cells."""
    source = data / "bccd"
    for theirs, ours in SPLITS.items():
        for name in (source / "ImageSets" / "Main" / f"{theirs}.txt").read_text().split():
            with Image.open(source / "JPEGImages" / f"{name}.jpg") as opened:
                image = opened.convert("RGB")
            for number, (kind, box) in enumerate(_boxes(source / "Annotations" / f"{name}.xml", image.size)):
                label = kind if rest is None or kind == "WBC" else rest
                folder = out / ours / label
                folder.mkdir(parents=True, exist_ok=True)
                image.crop(box).save(folder / f"{name}-{number:03d}.png")


def _boxes(path: Path, size: tuple[int, int]) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Yield the kind and the clipped box of every object in a VOC file."""
    for item in ElementTree.parse(path).getroot().iter("object"):
        corners = [
            int(float(item.findtext(f"bndbox/{key}", "0"))) for key in ("xmin", "ymin", "xmax", "ymax")
        ]
        left, upper = max(corners[0], 0), max(corners[1], 0)
        right, lower = min(corners[2], size[0]), min(corners[3], size[1])
        if min(right - left, lower - upper) >= LEAST_PX:
            yield item.findtext("name", ""), (left, upper, right, lower)


def unpack_cifar(data: Path, out: Path, classes: tuple[str, ...] = ()) -> None:
    """Unpack CIFAR-10's images of some classes, or of all, into `train` and `test`."""
    with zipfile.ZipFile(data / "cifar10.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
        wanted = [name for name in names if not classes or name.split("/")[-2] in classes]
        archive.extractall(out, wanted)


def cut_membrane(data: Path, out: Path) -> None:
    """Cut tiles out of the slices, labelled by what their centre shows, equally many of both classes.

    Slices 20 to 23 are the validation split, slices 24 to 29 the test split.
    """
    rng = np.random.default_rng(0)
    for number in range(30):
        image = np.asarray(Image.open(data / "membrane" / "image" / f"{number}.png").convert("L"))
        mask = np.asarray(Image.open(data / "membrane" / "label" / f"{number}.png").convert("L")) < 128
        split = "train" if number < 20 else "validation" if number < 24 else "test"
        half = TILE_PX // 2
        inside = np.zeros_like(mask)
        inside[half:-half, half:-half] = True
        for label, where in (("membrane", mask & inside), ("inside", ~mask & inside)):
            rows, columns = np.nonzero(where)
            folder = out / split / label
            folder.mkdir(parents=True, exist_ok=True)
            for each in rng.permutation(len(rows))[: TILES_PER_SLICE // 2]:
                top, left = rows[each] - half, columns[each] - half
                tile = image[top : top + TILE_PX, left : left + TILE_PX]
                Image.fromarray(tile).save(folder / f"{number:02d}-{rows[each]:03d}-{columns[each]:03d}.png")


def draw_clipart(data: Path, out: Path) -> None:
    """Make class folders of drawings on white ground, which `bench/transfer.py` fetches from Debian."""
    from transfer import choose, fetch, unify

    out.mkdir(parents=True)
    chosen = unify(choose(fetch(None, out.parent), CLIPART_COUNT), CLIPART_COUNT, CLIPART_PX, out)
    (out / "images.json").unlink()
    for folder in out.iterdir():
        if folder.name not in chosen:
            shutil.rmtree(folder)


MAKERS = {
    "cells": crop_cells,
    "wbc": lambda data, out: crop_cells(data, out, rest="other"),
    "pets": lambda data, out: unpack_cifar(data, out, ("cat", "dog")),
    "cifar10": unpack_cifar,
    "membrane": cut_membrane,
    "clipart": draw_clipart,
}


def make(name: str, data: Path, work: Path) -> Path:
    """Return the folder of a set, and make it if it does not exist.

    Raises:
        SystemExit: If the folder with the data does not exist.
    """
    out = work / name
    if not out.is_dir():
        if not data.is_dir():
            sys.exit(
                f"--data {data}: the folder does not exist; name the folder that holds bccd, membrane and "
                "cifar10.zip"
            )
        partial = work / f"{name}.part"
        shutil.rmtree(partial, ignore_errors=True)
        MAKERS[name](data, partial)
        partial.rename(out)
    return out


def main() -> None:
    """Make the requested sets and print how many images each class has."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the data")
    parser.add_argument("--work", type=Path, default=Path("data/sets"), help="folder for the sets")
    parser.add_argument("--sets", nargs="+", choices=MAKERS, default=list(MAKERS))
    options = parser.parse_args()
    for name in options.sets:
        folder = make(name, options.data.resolve(), options.work)
        folders = sorted({path.parent for path in folder.rglob("*") if path.is_file()})
        counts = {str(path.relative_to(folder)): len(list(path.iterdir())) for path in folders}
        print(f"{folder}: " + ", ".join(f"{where} {count}" for where, count in counts.items()))


if __name__ == "__main__":
    main()

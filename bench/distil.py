"""How much does distillation add to a student's accuracy, with 2, 3, 5 and 10 classes?

    python bench/distil.py [--classes 2 3 5 10] [--seeds 3] [--images 500] [--data ../shared/data]
        [--work data/distil]

The images are those of CIFAR-10: `--images` training images per class, of the first classes in the list
below. The validation split is drawn from them and selects the epoch; accuracy is measured on the official
test images. For every number of classes and every seed, one teacher is trained, and from it three students
with the same network, length and learning rate: `alone` (share 0: labels only, the control), `raw` and
`z-scored` (share 0.9). The table also shows the calibration temperature and the standard deviation of the
student's logits, since a student whose logits no loss term constrains is visible there. Every result is a
line in WORK/results.jsonl and is not computed again. Takes about two hours on two idle cores, less with
fewer images.
"""

import argparse
import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sets import make
from temper import artifacts
from temper.data.dataset.packed import held_out
from temper.progress import Bar
from temper.stages.load_trained import read_network
from transfer import run_stage, spread

CLASSES = ("cat", "dog", "deer", "bird", "frog", "horse", "airplane", "ship", "automobile", "truck")
"""Class names, animals first: among few classes they are the hard ones."""
ARMS = {
    "alone": "{share: 0.0}",
    "raw": "{share: 0.9, temperature: 2.0, logits: raw}",
    "z-scored": "{share: 0.9, temperature: 2.0, logits: z-scored}",
}
PARAMS = """
project: distil
seed: {seed}
problem: {{kind: multiclass}}
ingest: {{source: table, file: images.csv, labels: label, split: split}}
prepare: {{height_px: 32, width_px: 32, validation_share: 0.1}}
augment: {{balance: {{method: none}}}}
train:
  ranks: 1
  backbone: {{family: small-vgg, widths: [32, 64, 96], depths: [2, 2, 2]}}
  views: {{flip: true, crop_px: 3}}
  fit: {{epochs: 30, batch_size: 128, optimizer: muon, lr: 0.05, momentum: 0.6, label_smoothing: 0.1,
         average_decay: 0.98}}
distill:
  ranks: 1
  backbone: {{family: small-vgg, widths: [16, 32, 48], depths: [1, 1, 1]}}
  views: {{flip: true, crop_px: 3}}
  fit: {{epochs: 40, batch_size: 128, optimizer: muon, lr: 0.05, momentum: 0.6, average_decay: 0.98}}
  terms: {terms}
quantize: {{}}
evaluate: {{}}
gate: {{rules: [{{metric: headline, max_drop: 0.05}}]}}
"""


def write_table(folder: Path, project: Path, *, num_classes: int, images: int) -> None:
    """Write images.csv: the rows of the first classes, with `images` training images of each."""
    rows = []
    for label in CLASSES[:num_classes]:
        for split, most in (("train", images), ("test", None)):
            paths = sorted((folder / split / label).iterdir())[:most]
            rows += [(path.resolve(), label, split) for path in paths]
    with (project / "images.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label", "split"), *rows])


def score(project: Path, stage: str) -> dict[str, float]:
    """Measure the accuracy on the test images and the standard deviation of the logits."""
    prepare, trained = (artifacts.load(name, project / "artifacts" / name) for name in ("prepare", stage))
    network, columns = read_network(trained, prepare), held_out(prepare)
    images = torch.from_numpy(np.array(columns["image"])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        logits = torch.cat([network({"image": part})["logits"].float() for part in images.split(256)])
    right = logits.argmax(1) == torch.from_numpy(np.array(columns["label"], np.int64))
    return {
        "accuracy": round(float(right.double().mean()), 5),
        "temperature": trained.facts["temperature"],
        "logits_sd": round(float((logits - logits.mean(1, keepdim=True)).std()), 3),
    }


def run_all(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Train what results.jsonl does not contain yet; returns all requested results."""
    record = options.work / "results.jsonl"
    known = [json.loads(line) for line in record.read_text().splitlines()] if record.is_file() else []
    by_key = {
        (one["classes"], one["seed"], one["arm"]): one for one in known if one["images"] == options.images
    }
    jobs = [(classes, seed) for seed in range(options.seeds) for classes in options.classes]
    with Bar("students", len(jobs) * len(ARMS)) as bar:
        for classes, seed in jobs:
            missing = [arm for arm in ("teacher", *ARMS) if (classes, seed, arm) not in by_key]
            project = options.work / "project"
            if missing:
                shutil.rmtree(project, ignore_errors=True)
                project.mkdir(parents=True)
                write_table(folder, project, num_classes=classes, images=options.images)
            for arm in missing and ("teacher", *ARMS):
                (project / "params.yaml").write_text(PARAMS.format(seed=seed, terms=ARMS.get(arm, "{}")))
                for stage in ("ingest", "prepare", "augment", "train") if arm == "teacher" else ("distill",):
                    run_stage(project, stage)
                found = {"classes": classes, "seed": seed, "arm": arm, "images": options.images}
                found |= score(project, "train" if arm == "teacher" else "distill")
                by_key[classes, seed, arm] = found
                with record.open("a") as stream:
                    stream.write(json.dumps(found) + "\n")
                if arm in ARMS:
                    bar.advance(note=f"{classes} classes, seed {seed}, {arm}: {found['accuracy']:.4f}")
    return [by_key[classes, seed, arm] for classes, seed in jobs for arm in ("teacher", *ARMS)]


def table(results: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """Return a Markdown table with a row per number of classes and arm; gains are between equal seeds."""
    lines = [
        f"{options.images} training images per class, {options.seeds} seeds; "
        "test accuracy: mean ± standard deviation",
        "",
        "| classes | network | accuracy | gain over alone | temperature | logits' deviation |",
        "|--:|---|--:|--:|--:|--:|",
    ]
    for classes in options.classes:
        alone = [row["accuracy"] for row in results if (row["classes"], row["arm"]) == (classes, "alone")]
        for arm in ("teacher", *ARMS):
            rows = [row for row in results if (row["classes"], row["arm"]) == (classes, arm)]
            accuracy = spread([row["accuracy"] for row in rows])
            gain = spread([100 * (row["accuracy"] - other) for row, other in zip(rows, alone, strict=True)])
            gained = "" if arm in ("teacher", "alone") else f"{gain[0]:+.2f} ± {gain[1]:.2f}"
            temperature, deviation = (
                spread([row[key] for row in rows])[0] for key in ("temperature", "logits_sd")
            )
            lines.append(
                f"| {classes} | {arm} | {accuracy[0]:.2%} ± {accuracy[1]:.2%} | {gained} "
                f"| {temperature:.2f} | {deviation:.2f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with cifar10.zip")
    parser.add_argument(
        "--work", type=Path, default=Path("data/distil"), help="folder for the project and the results"
    )
    parser.add_argument(
        "--classes", type=int, nargs="+", choices=range(2, 11), default=[2, 3, 5, 10], metavar="N"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=500, help="training images per class")
    options = parser.parse_args()
    if options.seeds < 1 or not 20 <= options.images <= 5000:
        parser.error("--seeds: at least 1; --images: 20 to 5000")
    options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    folder = make("cifar10", options.data.resolve(), Path("data/sets").resolve())
    print(f"\n{table(run_all(options, folder), options)}")


if __name__ == "__main__":
    main()

"""A folder of real images, out of the box: `make init`, nothing edited, `make pipeline`; beside it what peers reach in the same minutes.

    python bench/folder.py [--sets cells wbc pets membrane] [--seeds 3] [--minutes 10] [--peers timm torchvision] [--out bench/folder.jsonl]

For each set (`bench/sets.py`) a project is written once by init; for further seeds only `seed` differs. Measured: whether the chain ends with a
registered model and what it computes in; test accuracy of teacher, student and quantized model; seconds of each stage beside the estimate. A
student that stays more than a point below its teacher is trained once more without one (`distill.terms.share: 0`), as the control.
Each peer (`bench/finetune.py`) gets the seconds that the teacher's stage took, the same images, splits and size; the teacher's own backbone and weights
where it started from pretrained ones, else timm's resnet18 from scratch. Every result is a line of --out and is not measured again. One
set and seed takes about 20 minutes; nothing else may compute meanwhile.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from sets import MAKERS, make
from temper import artifacts
from temper.params import load
from temper.progress import Bar
from temper.stages.measure import describe_machine
from transfer import run_stage, spread

SETS = ("cells", "wbc", "pets", "membrane")
PEERS = ("timm", "torchvision")
SCRATCH = "resnet18"
_POINT = 0.01


def call(command: list[str], log: Path) -> float:
    """Run a command, its output into a file; returns its seconds, ends the bench if it fails."""
    started = time.perf_counter()
    with log.open("w") as stream:
        done = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.exit(f"`{' '.join(command)}` ended with {done.returncode}; see {log}\n{log.read_text()[-1500:]}")
    return time.perf_counter() - started


def run_chain(folder: Path, project: Path, seed: int, minutes: float) -> dict[str, Any]:
    """Write the project, run it, and read what came out."""
    python = sys.executable
    shutil.rmtree(project, ignore_errors=True)
    log = project.with_suffix(".log")
    init = [python, "-m", "temper", "init", str(folder), "--project", str(project), "--minutes", str(minutes)]
    found: dict[str, Any] = {"init_s": round(call(init, log), 1)}
    if seed:
        path = project / "params.yaml"
        text, count = re.subn(r"(?m)^seed: 0\b", f"seed: {seed}", path.read_text())
        assert count == 1
        path.write_text(text)
    found["wall_s"] = round(call([python, "-m", "flows.pipeline", "--project", str(project)], log), 1)
    summary = json.loads((project / "reports" / "summary.json").read_text())
    estimates = artifacts.read_sealed(project / ".temper" / "estimate.json")
    quantize = artifacts.load("quantize", project / "artifacts" / "quantize").facts
    found |= {name: entry[summary["headline"]]["value"] for name, entry in summary["candidates"].items()}
    found |= {
        "headline": summary["headline"],
        "registered": summary["registered"]["version"],
        "precision": quantize["quantization"]["precision"],
        "bytes": summary["candidates"]["quantized"]["bytes"],
        "seconds": summary["seconds"],
        "estimated_s": {name: round(entry["estimate"]["seconds"], 1) for name, entry in estimates.items()},
        "notes": [note for name in ("train", "distill") for note in facts_of(project, name).get("notes", [])],
    }
    return found


def facts_of(project: Path, stage: str) -> dict[str, Any]:
    """What a stage left on record."""
    return dict(artifacts.load(stage, project / "artifacts" / stage, check_files=False).facts)


def run_alone(project: Path) -> float:
    """Test accuracy of the student trained without a teacher, for as long."""
    from distil import score

    control = project.with_name(f"{project.name}-alone")
    shutil.rmtree(control, ignore_errors=True)
    shutil.copytree(project, control, ignore=shutil.ignore_patterns("mlruns", ".temper", ".dvc"), symlinks=False)
    yaml, path = YAML(), control / "params.yaml"
    yaml.preserve_quotes = True
    tree = yaml.load(path.read_text())
    tree["distill"]["terms"]["share"] = 0.0
    with path.open("w") as stream:
        yaml.dump(tree, stream)
    run_stage(control, "distill")
    found = score(control, "distill")["accuracy"]
    shutil.rmtree(control)
    return found


def run_peer(recipe: str, folder: Path, project: Path, seed: int, seconds: float) -> dict[str, Any]:
    """A peer on the same images, from the same weights if there are any."""
    params = load(project)
    backbone, weights = getattr(params.train.backbone, "name", SCRATCH), params.train.transfer.weights
    command = [sys.executable, "bench/finetune.py", str(folder), "--recipe", recipe, "--backbone", backbone]
    command += ["--splits", str(project / "artifacts" / "prepare" / "rows.parquet"), "--seconds", str(seconds)]
    command += ["--size", str(params.prepare.height_px), str(params.prepare.width_px), "--seed", str(seed)]
    done = subprocess.run(
        command + (["--weights", weights] if weights else []), capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{recipe} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure what is not on record yet; returns all results asked for."""
    known = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.is_file() else []
    by_key = {(one["set"], one["seed"]): one for one in known if one["minutes"] == options.minutes}
    jobs = [(name, seed) for seed in range(options.seeds) for name in options.sets]
    with Bar("folders", len(jobs)) as bar:
        for name, seed in jobs:
            if (name, seed) not in by_key:
                folder = make(name, options.data.resolve(), options.work / "sets")
                project = options.work / f"{name}-{seed}"
                found = {"set": name, "seed": seed, "minutes": options.minutes, "machine": describe_machine()}
                found |= run_chain(folder, project, seed, options.minutes)
                if found["student"] < found["teacher"] - _POINT:
                    found["alone"] = run_alone(project)
                for recipe in options.peers:
                    found[recipe] = run_peer(recipe, folder, project, seed, found["seconds"]["train"])
                by_key[name, seed] = found
                with options.out.open("a") as stream:
                    stream.write(json.dumps(found) + "\n")
            bar.advance(note=f"{name}, seed {seed}: {by_key[name, seed]['quantized']:.4f}")
    return [by_key[key] for key in jobs]


def table(results: list[dict[str, Any]], sets: list[str], peers: list[str]) -> str:
    """Markdown: a row for every set; mean ± standard deviation over seeds, in per cent."""
    head = [
        "set",
        "teacher",
        *peers,
        "student",
        "alone",
        "quantized",
        "kB",
        "computes in",
        "minutes",
        "took / estimated",
        "n",
    ]
    lines = [f"| {' | '.join(head)} |", f"|---|{'--:|' * (len(head) - 1)}"]
    for name in sets:
        rows = [row for row in results if row["set"] == name]

        def percent(values: list[float]) -> str:
            return f"{100 * spread(values)[0]:.2f} ± {100 * spread(values)[1]:.2f}" if values else ""

        ratios = [row["seconds"][stage] / row["estimated_s"][stage] for row in rows for stage in ("train", "distill")]
        cells = [name, percent([row["teacher"] for row in rows])]
        cells += [percent([row[peer]["test"] for row in rows if peer in row]) for peer in peers]
        cells += [percent([row["student"] for row in rows]), percent([row["alone"] for row in rows if "alone" in row])]
        cells += [percent([row["quantized"] for row in rows]), f"{spread([row['bytes'] / 1e3 for row in rows])[0]:.0f}"]
        cells += ["; ".join(sorted({row["precision"].split(",")[0] for row in rows}))]
        cells += [f"{spread([row['wall_s'] / 60 for row in rows])[0]:.1f}", f"{min(ratios):.2f}-{max(ratios):.2f}"]
        lines.append(f"| {' | '.join([*cells, str(len(rows))])} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=MAKERS, default=list(SETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the data")
    work = Path(tempfile.gettempdir()) / "temper-folders"  # DVC refuses projects that git ignores, as it does data/
    parser.add_argument("--work", type=Path, default=work, help="folder for sets and projects")
    parser.add_argument("--out", type=Path, default=Path("bench/folder.jsonl"), help="results, a line each")
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error("--seeds: at least 1")
    options.work = options.work.resolve()
    print(f"\n{table(measure(options), options.sets, options.peers)}")


if __name__ == "__main__":
    main()

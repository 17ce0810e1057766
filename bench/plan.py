"""How long `make plan` takes to find that nothing has changed, beside `dvc status` on the same project.

    python bench/plan.py [--images 100000] [--source imagefolder|table] [--runs 5]

A project of small images is made in a temporary folder, all its stages run once, and then both commands are
timed in turns, as processes, without changes in between.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.project import make_project  # noqa: E402

CLASSES = 10


def fill(project: Path, images: int, source: str) -> None:
    """Write images of 16 px, each another one, and the parameters that read them."""
    lines = ["path,labels"]
    for number in range(images):
        path = project / "images" / f"c{number % CLASSES}" / f"{number:07}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16), np.uint8)
        Image.fromarray(pixels).save(path, compress_level=0)
        lines.append(f"{path.relative_to(project)},c{number % CLASSES}")
    (project / "t.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    chosen = {"imagefolder": "folder: images", "table": "file: t.csv"}[source]
    params = project / "params.yaml"
    text = params.read_text(encoding="utf-8").splitlines()
    text = [
        f"ingest: {{source: {source}, {chosen}}}" if each.startswith("ingest:") else each for each in text
    ]
    params.write_text("\n".join(text) + "\n", encoding="utf-8")


def run(command: list[str], folder: Path) -> float:
    """Return the seconds that a command takes; stop if it fails."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100_000, help="number of images (default 100000)")
    parser.add_argument("--source", choices=("imagefolder", "table"), default="imagefolder")
    parser.add_argument("--runs", type=int, default=5, help="how often each command runs (default 5)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder) / "project", "multiclass", epochs=1, families="occlusion")
        fill(project, asked.images, asked.source)
        whole = run([sys.executable, "-m", "flows", "pipeline", "--project", str(project)], ROOT)
        print(f"the whole pipeline, once: {whole:.0f} s")
        commands = {
            "plan": ([sys.executable, "-m", "temper", "plan", "--project", str(project)], ROOT),
            "dvc status": ([sys.executable, "-m", "dvc", "status"], project),
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(asked.runs + 1):
            for name, (command, where) in commands.items():
                times[name].append(run(command, where))
    for name, seconds in times.items():
        warm = seconds[1:]
        print(
            f"{name}: {statistics.median(warm):.2f} s ({min(warm):.2f} to {max(warm):.2f}; n = {len(warm)}, "
            f"{asked.images:,} images, {asked.source})"
        )


if __name__ == "__main__":
    main()

"""Which recipe reaches an accuracy soonest? An ablation of the teacher's training, on the validation split.

    python bench/recipe.py VARIANTS [--project .] [--seeds 3] [--levels 92,93,94] [--threads N]
        [--out reports/recipe.json]

VARIANTS is a YAML or JSON list of named changes to the section `train` of the project's params.yaml, by
dotted keys:

    - name: as it is
    - name: no smoothing
      set: {fit.label_smoothing: 0.0}
    - name: wider, fewer epochs
      set: {backbone.widths: [16, 64, 128], fit.epochs: 6}

Each training is the stage `train` in a separate process. Variants take turns within a seed, so that a busy
moment of the machine affects all of them. Seconds are those of training, after a warm-up and without
validation. Prints a table for docs/log.md. Every finished training is stored in `--out`. The same command
continues where it stopped, and does not repeat a training that is stored for this code, data and variant. The
test split is never opened. Needs the artifacts of prepare and augment (`make pipeline` makes them).
"""

import os
import sys
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from peers.job import Job
from peers.table import markdown, read_levels, seconds_to, spread
from peers.turns import Kept, Turn
from temper import artifacts
from temper.progress import Bar


def read_variants(path: Path) -> dict[str, dict[str, Any]]:
    """Read the variants' names and changes, in the order of the file.

    Raises:
        ValueError: If the file does not exist, if an entry is not `{name: ..., set: {...}}`, or if a name is
            used twice.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist; bench/ablation.yaml is an example")
    entries = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path} must be a list of variants, each {{name: ..., set: {{fit.lr: 0.2}}}}")
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if not isinstance(entry, dict) or "name" not in entry or not entry.keys() <= {"name", "set"}:
            raise ValueError(f"{path}: {entry!r} is not a variant; write {{name: ..., set: {{fit.lr: 0.2}}}}")
        name = str(entry["name"])
        if name in found:
            raise ValueError(f"{path}: the name {name!r} is used twice; give each variant a different name")
        found[name] = dict(entry.get("set") or {})
    return found


def table(variants: dict[str, list[Turn]], levels: list[float]) -> str:
    """Return a Markdown table with a row for each variant that has been trained."""
    head = [
        "variant",
        "images/s",
        "seconds",
        "accuracy, mean ± sd",
        *(f"s to {level:g} %" for level in levels),
        "n",
    ]
    rows = []
    for name, turns in variants.items():
        scores = [100 * turn.epochs[-1]["score"] for turn in turns]
        deviation = f" ± {stdev(scores):.2f}" if len(scores) > 1 else ""
        row = [
            name,
            spread([turn.images_per_s for turn in turns]),
            spread([turn.seconds for turn in turns], 1),
        ]
        row += [f"{fmean(scores):.2f}{deviation}", *(seconds_to(turns, level / 100) for level in levels)]
        rows.append([*row, str(len(turns))])
    return markdown(head, rows)


def main(
    variants: Annotated[
        Path, typer.Argument(help="YAML or JSON list of named changes to the section train.")
    ],
    project: Annotated[Path, typer.Option(help="Folder with params.yaml and artifacts.")] = Path(),
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each variant: seeds 0, 1, ...")] = 3,
    levels: Annotated[
        str, typer.Option(help="Accuracies in percent; the table shows the seconds to each.")
    ] = "92,93,94",
    threads: Annotated[int, typer.Option(min=1, help="Threads of a training.")] = len(
        os.sched_getaffinity(0)
    ),
    out: Annotated[
        Path | None,
        typer.Option(help="File for finished trainings; default PROJECT/reports/recipe.json."),
    ] = None,
) -> None:
    """Train every variant with every seed, and print the results on the validation split."""
    project, wanted, percents = project.resolve(), read_variants(variants), read_levels(levels)
    kept = Kept(out or project / "reports" / "recipe.json")
    jobs = [
        (name, Job(contestant="temper", project=str(project), overrides=changes, seed=seed, threads=threads))
        for seed in range(seeds)
        for name, changes in wanted.items()
    ]
    # This also checks all parameters before any training starts.
    num_epochs = sum(job.params().train.fit.epochs for _, job in jobs)
    turns: dict[str, list[Turn]] = {name: [] for name in wanted}
    with Bar("recipe", num_epochs) as bar:
        for name, job in jobs:
            note = f"{name}, seed {job.seed}"
            advance = lambda epoch: bar.advance(note=f"{note}: {epoch['score']:.4f}")  # noqa: B023, E731
            turns[name].append(kept.take(job, advance))
    count = artifacts.load("prepare", project / "artifacts" / "prepare", check_files=False).facts["examples"][
        "validation"
    ]
    print(
        f"Validation split of {count:,} images, {threads} threads; median (least-most) if n is more than 1.\n"
    )
    print(table(turns, percents))


if __name__ == "__main__":
    try:
        typer.run(main)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None

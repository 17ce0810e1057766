"""How fast is temper's training, compared with the loops that users would write instead, in one run?

    python bench/train.py [--project .] [--peers plain,timm,lightning,temper] [--runs 3] [--epochs 8]
        [--split validation]

Contestants take turns (A B C D, A B C D, ...). Each turn is a separate process, and each round has another
seed:

    plain      a PyTorch loop with a DataLoader, its workers, and albumentations image by image
    timm       timm's loader, augmentation, optimiser, schedule and average, combined as in its train.py
    lightning  Lightning's Trainer with the loader, optimiser and schedule of `plain`
    temper     temper's stage `train`, with the settings that all share
    recipe     (only if named) the same stage with the project's settings, epochs included

All share the packed splits, the network and its initial weights, batch size, peak learning rate, momentum,
weight decay, label smoothing, schedule, flips and shifts by 1 px. docs/peers.md lists the
differences. Seconds are those of training: the clock starts after a warm-up (the contestant's own loop over
10 batches) and is paused during validation, once per epoch. Each peer uses the number of loading workers and
computing threads that was fastest for it in a short trial (`--workers` sets the workers instead). Memory is
the proportional set size of the process and its children, sampled once a second.

Prints tables, and writes turns.json, table.md and accuracy.png into `--out`. Finished turns are stored there,
so the same command continues where it stopped (delete turns.json to measure again). By default scores are
taken on the validation split. `--split test` is for the published result, after all choices have been made.
Needs the artifacts of prepare and augment (`make pipeline` makes them).
"""

import itertools
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

import torch
import typer

from peers.job import CONTESTANTS, OWN_LOOP, Job, device, open_data
from peers.plot import draw
from peers.roofline import PASSES, multiply_adds, roof, time_layers
from peers.table import markdown, read_levels, seconds_to, spread, times_sooner
from peers.turns import Kept, Turn
from temper.artifacts import write_atomically
from temper.commands.latency import describe_machine
from temper.config import load
from temper.engine.precision import Mode, multiplies_bf16
from temper.progress import Bar

FIT = {
    "lr": 0.3,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "label_smoothing": 0.1,
    "average_decay": 0.99,
    "warmup_share": 0.2,
}
VIEWS = {"flip": True, "crop_px": 1}
TRIAL_BATCHES = 24


def find_workers(job: Job, kept: Kept, cores: int) -> Job:
    """Return the job with the numbers of loading workers and computing threads that train fastest.

    Each setting is measured by the second of two short epochs.
    """
    half = max(1, cores // 2)
    settings = dict.fromkeys([(0, cores), *itertools.product((1, half, cores), (cores, half))])
    batches = min(TRIAL_BATCHES, open_data(job).num_batches)
    trial = replace(
        job, overrides={**job.overrides, "fit.epochs": 2}, split="validation", batches=batches, seed=0
    )
    seconds = {}
    with Bar(f"{job.contestant}: workers", len(settings)) as bar:
        for workers, threads in settings:
            first, second = kept.take(replace(trial, workers=workers, threads=threads)).epochs
            seconds[workers, threads] = second["seconds"] - first["seconds"]
            bar.advance(note=f"{workers} workers, {threads} threads")
    workers, threads = min(seconds, key=lambda each: seconds[each])
    return replace(job, workers=workers, threads=threads)


def speed_table(jobs: Mapping[str, Job], turns: Mapping[str, list[Turn]], levels: list[float]) -> str:
    """Return the tables of speed, seconds to each level, final score and memory, and of temper's lead."""
    head = ["contestant", "workers + threads", "images/s", *(f"s to {level:g} %" for level in levels)]
    rows = []
    for name, own in turns.items():
        row = [
            name,
            f"{jobs[name].workers} + {jobs[name].threads}",
            spread([turn.images_per_s for turn in own]),
        ]
        row += [seconds_to(own, level / 100) for level in levels]
        row += [spread([100 * turn.epochs[-1]["score"] for turn in own], 2)]
        rows.append([*row, spread([turn.peak_bytes / 2**20 for turn in own]), str(len(own))])
    found = markdown([*head, "accuracy at the end, %", "peak memory, MiB", "n"], rows)
    ours = [name for name in turns if name in OWN_LOOP]
    theirs = [name for name in turns if name not in OWN_LOOP]
    if ours and theirs:
        rows = [
            [
                f"{name} before {other}",
                *(times_sooner(turns[name], turns[other], level / 100) for level in levels),
            ]
            for name in ours
            for other in theirs
        ]
        found += "\n\n" + markdown(
            ["times sooner, run by run", *(f"to {level:g} %" for level in levels)], rows
        )
    return found


def roofline_table(jobs: Mapping[str, Job], turns: Mapping[str, list[Turn]]) -> str:
    """Return a table of each contestant's multiply-adds per second, as a share of the machine's maximum."""
    roofs = {"fp32": roof(torch.float32), "bf16": roof(torch.bfloat16)}
    counts: dict[str, int] = {}
    rows = []
    for name, own in turns.items():
        backbone = repr(jobs[name].params().train.backbone)
        if backbone not in counts:
            counts[backbone] = multiply_adds(open_data(jobs[name]))
        rate = median(turn.images_per_s for turn in own) * counts[backbone] * PASSES
        shares = [f"{100 * rate / value:.1f} %" for value in roofs.values()]
        precision = own[0].facts.get("precision", jobs[name].precision)
        rows.append([name, precision, f"{counts[backbone] / 1e6:.1f} M", f"{2 * rate / 1e9:.1f}", *shares])
    head = [f"of the {key} roof, {2 * value / 1e9:,.0f} GFLOP/s" for key, value in roofs.items()]
    return markdown(["contestant", "precision", "multiply-adds per image", "GFLOP/s reached", *head], rows)


def layers_table(job: Job) -> str:
    """Return a table of a step's time, layer by layer, in the mode that temper chooses on this machine."""
    mode = Mode("bf16" if multiplies_bf16(device()) else "fp32", "channels-last")
    layers, whole = time_layers(open_data(job), mode)
    rows = []
    for layer in layers:
        seconds = layer.forward_s + layer.backward_s
        speeds = [2 * layer.macs / layer.forward_s, 2 * layer.backward_macs / max(layer.backward_s, 1e-9)]
        row = [layer.name, "x".join(map(str, layer.shape)), f"{layer.macs / 1e6:,.0f} M"]
        rows.append(
            [
                *row,
                *(f"{speed / 1e9:.0f}" for speed in speeds),
                f"{1e3 * seconds:.2f}",
                f"{100 * seconds / whole:.0f} %",
            ]
        )
    rest = whole - sum(layer.forward_s + layer.backward_s for layer in layers)
    rows.append(["all the rest", "", "", "", "", f"{1e3 * rest:.2f}", f"{100 * rest / whole:.0f} %"])
    head = ["output", "multiply-adds", "forward GFLOP/s", "backward GFLOP/s", "ms", "share"]
    return f"{mode.precision}, {mode.layout}:\n\n" + markdown(["layer", *head], rows)


def shared(project: Path, network: str, epochs: int, batch_size: int) -> dict[str, Any]:
    """Return the settings that replace the project's section `train` for all contestants but `recipe`."""
    params = load(project)
    backbone = asdict((params.train if network == "teacher" else params.distill).backbone)
    return {"backbone": backbone, "views": VIEWS, "fit": {**FIT, "epochs": epochs, "batch_size": batch_size}}


def main(
    project: Annotated[Path, typer.Option(help="Folder with params.yaml and artifacts.")] = Path(),
    peers: Annotated[
        str, typer.Option(help="Contestants, in the order of their turns.")
    ] = "plain,timm,lightning,temper",
    runs: Annotated[int, typer.Option(min=1, help="Turns per contestant: seeds 0, 1, ...")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each training.")] = 8,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples per step.")] = 256,
    network: Annotated[
        Literal["teacher", "student"], typer.Option(help="Model whose backbone all contestants train.")
    ] = "teacher",
    split: Annotated[
        Literal["validation", "test"], typer.Option(help="Where scores are taken.")
    ] = "validation",
    levels: Annotated[
        str, typer.Option(help="Accuracies in percent; the table shows the seconds to each.")
    ] = "92,93,94",
    precision: Annotated[
        Literal["fp32", "bf16"], typer.Option(help="Precision of the peers; temper chooses its own.")
    ] = "fp32",
    threads: Annotated[
        int,
        typer.Option(min=1, help="Computing threads; use `taskset` to keep all processes on fewer cores."),
    ] = len(os.sched_getaffinity(0)),
    workers: Annotated[
        int | None, typer.Option(min=0, help="Loading workers of every peer; by default found by a trial.")
    ] = None,
    batches: Annotated[
        int | None, typer.Option(min=1, help="Train on this many batches only, to try the benchmark.")
    ] = None,
    layers: Annotated[bool, typer.Option(help="Also time every layer separately.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; default PROJECT/reports/peers.")
    ] = None,
) -> None:
    """Train the same network in several ways, in turns, and print the results."""
    project, percents, names = project.resolve(), read_levels(levels), peers.split(",")
    if unknown := [name for name in names if name not in CONTESTANTS]:
        raise ValueError(
            f"peers = {peers!r}: no contestant is named {unknown[0]!r}; choose from {', '.join(CONTESTANTS)}"
        )
    folder = out or project / "reports" / "peers"
    kept = Kept(folder / "turns.json")
    torch.set_num_threads(threads)
    settings = shared(project, network, epochs, batch_size)
    jobs: dict[str, Job] = {}
    for name in names:
        overrides = {} if name == "recipe" else settings
        job = Job(
            contestant=name,
            project=str(project),
            overrides=overrides,
            split=split,
            threads=threads,
            batches=batches,
        )
        if name not in OWN_LOOP:
            job = replace(job, precision=precision, workers=workers or 0)
            job = find_workers(job, kept, threads) if workers is None else job
        jobs[name] = job
    turns: dict[str, list[Turn]] = {name: [] for name in names}
    with Bar("peers", runs * sum(job.params().train.fit.epochs for job in jobs.values())) as bar:
        for seed in range(runs):
            for name, job in jobs.items():
                note = f"{name}, seed {seed}"
                advance = lambda epoch: bar.advance(note=f"{note}: {epoch['score']:.4f}")  # noqa: B023, E731
                turns[name].append(kept.take(replace(job, seed=seed), advance))
    machine = describe_machine()
    parts = [
        f"{machine['cpu']}, {threads} of {machine['cores']} cores; torch {torch.__version__}; {network}, "
        f"{epochs} epochs of batches of {batch_size}; scores on the {split} split; median (least-most)"
    ]
    parts += [speed_table(jobs, turns, percents), roofline_table(jobs, turns)]
    if layers:
        parts.append(layers_table(jobs[names[0]]))
    draw(turns, percents, folder / "accuracy.png")
    write_atomically(folder / "table.md", "\n\n".join(parts) + "\n")
    print("\n\n".join(parts))


if __name__ == "__main__":
    try:
        typer.run(main)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None

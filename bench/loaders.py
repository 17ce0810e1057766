"""How many pictures a second does the data path alone deliver, for the same operations: shift, flip, normalise, batch?

    python bench/loaders.py [--project .] [--rounds 5] [--batches 60] [--workers 0 --workers 1 ...]

temper's loader (whole batches, no workers, with the normalisation that its networks do themselves) against a DataLoader with albumentations
picture by picture, for several numbers of workers, and against timm's loader with its own views. Nothing is trained meanwhile, so the
workers have all cores. Rounds alternate; each counts batches from the second on, so neither starting workers nor the first batch is in it. Prints pictures/s,
median (least-most), and how many times temper's is each. Needs the artifacts of prepare and augment (`make pipeline` makes them).
"""

import itertools
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer

from peers import plain, with_timm
from peers.job import Job, device, open_data
from peers.table import markdown, spread
from temper.data.loading import TrainLoader, to_tensors
from temper.data.packing import open_training
from temper.networks.backbones import Normalize
from temper.progress import Bar


def whole_batches(job: Job) -> Iterable[object]:
    """What temper's loader gives, epoch after epoch, normalised."""
    inputs, data = job.inputs(), open_data(job)
    columns, repeats, weights = open_training(inputs["prepare"], inputs["augment"])
    train, normalize = data.params.train, Normalize(data.facts.mean, data.facts.std).to(device())
    loader = TrainLoader(
        to_tensors(columns, device()),
        repeats,
        weights,
        batch_size=train.fit.batch_size,
        device=device(),
        views=train.views,
        spatial=data.problem.spatial,
        mean=data.facts.mean,
        seed=job.seed,
    )
    for epoch in itertools.count():
        for batch in loader.batches(epoch):
            yield normalize(batch.inputs["image"]), batch.targets["label"]


def rate(batches: Iterable[object], count: int, batch_size: int) -> float:
    """Pictures a second over some batches after the first."""
    iterator = iter(batches)
    next(iterator)
    started = time.perf_counter()
    taken = sum(1 for _ in itertools.islice(iterator, count))
    if device().type == "cuda":
        torch.cuda.synchronize()
    return taken * batch_size / (time.perf_counter() - started)


def main(
    project: Annotated[Path, typer.Option(help="Folder with params.yaml and artifacts.")] = Path(),
    rounds: Annotated[int, typer.Option(min=1, help="Measurements of each loader.")] = 5,
    batches: Annotated[int, typer.Option(min=1, help="Batches of a measurement, at most those of an epoch.")] = 60,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures of a batch.")] = 256,
    workers: Annotated[list[int], typer.Option(min=0, help="Of the DataLoaders; give it several times.")] = [0, 1, 2],  # noqa: B006
) -> None:
    """Time every loader by itself, in turns."""
    views = {"views": {"flip": True, "crop_px": 2}, "fit.batch_size": batch_size}
    job = Job(contestant="temper", project=str(project.resolve()), overrides=views)
    data = open_data(job)
    loaders: dict[str, Iterable[object]] = {"temper": whole_batches(job)}
    for count in workers:
        each = Job(contestant="plain", project=job.project, overrides=views, workers=count)
        loaders[f"DataLoader + albumentations, {count} workers"] = plain.load(data, each)
        loaders[f"timm, {count} workers"] = with_timm.load(data, each)
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    with Bar("loaders", rounds * len(loaders)) as bar:
        for _ in range(rounds):
            for name, loader in loaders.items():
                rates[name].append(rate(loader, batches, batch_size))
                bar.advance(note=name)
    ours = median(rates["temper"])
    rows = [[name, spread(own), f"{ours / median(own):.1f}"] for name, own in rates.items()]
    print(
        f"{len(os.sched_getaffinity(0))} cores, batches of {batch_size}, {rounds} rounds of {batches} batches at most\n"
    )
    print(markdown(["loader", "pictures/s", "temper is so many times as fast"], rows))


if __name__ == "__main__":
    try:
        typer.run(main)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None

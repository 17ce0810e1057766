"""A sample of a source's images, processed as in prepare, without copying or decoding the other images.

The images are decoded by the code of prepare. Published data sets would have to be fetched first, so the
sample contains noise of their size instead.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from temper.data.dataset.given_columns import declare_inputs
from temper.data.dataset.remarks import choose_levels
from temper.data.dataset.rows import Rows, read_rows, write_rows
from temper.data.dataset.scan import facts_of, look_over
from temper.data.dataset.write_encoded import keep_encoded
from temper.data.images.encoded import FOLDER, Encoded
from temper.data.images.store import Store
from temper.data.params import PrepareParams
from temper.data.source_params import AnySource, Toys
from temper.data.sources import LISTED, MADE, fashion_mnist, tree_crowns
from temper.inputs.facts import Facts, picture_of
from temper.inputs.image_input import ImageInput
from temper.problem import Problem, Row

COUNT = 64
"""Number of images to decode: about a batch, and well below a second for images of usual size."""
_FETCHED: Mapping[str, tuple[tuple[int, ...], Sequence[str]]] = {
    "fashion-mnist": ((28, 28), fashion_mnist.CLASSES),
    "tree-crowns": ((tree_crowns.TILE_PX, tree_crowns.TILE_PX, 3), [tree_crowns.LABEL]),
}
"""Source that would have to be fetched -> shape of its images, and its labels."""
_BOX = [4, 4, 24, 24]


@dataclass(frozen=True)
class Sample:
    """A sample of unified examples."""

    problem: Problem
    """The problem, bound to the classes of all examples."""
    facts: Facts
    """What is known about the inputs of the sampled examples."""
    columns: Mapping[str, np.ndarray]
    """Columns of the examples, without the images if they are stored encoded."""
    encoded: Encoded | None
    strata: list[frozenset[str]]


def list_source(source: AnySource, project: Path) -> Sequence[Row]:
    """Return all rows of a source that reads the user's files, or no rows for another source.

    The sizes of the other sources are known.

    Raises:
        ValueError: If the source is unusable, with the message that ingest would give.
    """
    return LISTED[source.source](source, project).rows if source.source in LISTED else ()


def take_sample(
    source: AnySource,
    problem: Problem,
    params: PrepareParams,
    project: Path,
    work: Path,
    *,
    count: int = COUNT,
) -> Sample:
    """Decode some examples, evenly spread over the rows.

    Args:
        source: Source of the images.
        problem: Problem to which the examples belong.
        params: How images are unified and stored.
        project: Folder to which the source's paths are relative.
        work: Empty folder for temporary files.
        count: Number of examples.

    Raises:
        ValueError: If the source or the problem rejects the data, or no sampled image can be read.
    """
    rows, store = _open(source, project, work, count)
    bound = problem.bind(rows)
    places = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), count)).round().astype(np.int64))
    some = _as_rows([rows[place] for place in places], work)
    with store:
        facts = declare_inputs(bound, some, params)
        picture = picture_of(facts)
        params, _ = choose_levels(params, some, store, facts)
        survey = look_over(some, store, bound, facts, params, work)
        good = np.setdiff1d(np.arange(len(some)), np.fromiter(survey.bad, np.int64))
        if not len(good):
            raise ValueError(f"none of {len(some)} sampled images can be read: {some[0].id}: {survey.bad[0]}")
        encoded, measured = None, {**facts, **survey.given.measured(good)}
        if picture is not None and survey.images is None:
            measured[picture] = image = facts_of(survey, good, params)
            keep_encoded(some, good, store, survey, params, work / FOLDER)
            shape = {name: getattr(image, name) for name in ("height_px", "width_px", "channels", "fit")}
            encoded = Encoded(work / FOLDER, **shape)
    held = {**survey.given.columns, **survey.truth.columns}
    columns = {name: column[good] for name, column in held.items()}
    if picture is not None and survey.images is not None:
        columns[picture] = np.array(survey.images[good])
        measured[picture] = replace(_measure(columns[picture]), fit=params.fit)
    return Sample(bound, measured, columns, encoded, [survey.truth.strata[number] for number in good])


def _open(source: AnySource, project: Path, work: Path, count: int) -> tuple[Sequence[Row], Store]:
    if source.source in LISTED:
        listing = LISTED[source.source](source, project)
        return listing.rows, Store({}, find=listing.find, draw=listing.draw)
    raw = work / "raw"
    raw.mkdir()
    if source.source in _FETCHED:
        rows: Sequence[Row] = _draw_noise(*_FETCHED[source.source], count, raw)
    else:
        few = replace(source, count=max(20, count)) if isinstance(source, Toys) else source
        fetch: Callable[..., list[Row]] = MADE[source.source]
        rows = fetch(few, project, raw)
    return rows, Store({path.name: path for path in raw.iterdir()})


def _draw_noise(shape: tuple[int, ...], labels: Sequence[str], count: int, folder: Path) -> list[Row]:
    """Write noise, and return rows with a label and a box for each image."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    np.save(folder / "images.npy", pixels)
    rows = []
    for number in range(count):
        label = labels[number % len(labels)]
        truth = json.dumps({"boxes": [{"label": label, "box": _BOX}]})
        rows.append(Row(f"{number}", f"images.npy#{number}", labels=(label,), truth=truth))
    return rows


def _as_rows(rows: list[Row], work: Path) -> Rows:
    """Return the rows in the form in which prepare gets them."""
    path = work / "sampled.parquet"
    write_rows(rows, path)
    return read_rows(path)


def _measure(images: np.ndarray) -> ImageInput:
    flat = images.reshape(-1, images.shape[-1]).astype(np.float32)
    mean, std = (tuple(map(float, values)) for values in (flat.mean(axis=0), flat.std(axis=0)))
    height, width, channels = images.shape[1:]
    return ImageInput(height, width, channels, mean, std)

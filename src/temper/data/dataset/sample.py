"""A few images of a source as prepare would make them, without copying or decoding the others.

What is decoded, and how, is prepare's own code. Fashion-MNIST must be fetched before anything of it can be
seen, so noise of its size stands in for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from temper.data.dataset.rows import Rows, read_rows, write_rows
from temper.data.dataset.scan import facts_of, look_over
from temper.data.dataset.write_encoded import keep_encoded
from temper.data.images.encoded import FOLDER, Encoded
from temper.data.images.reading import Store
from temper.data.params import AnySource, FashionMnist, PrepareParams, Toys
from temper.data.sources import LISTED, SOURCES
from temper.data.sources.fashion_mnist import CLASSES
from temper.problem import Facts, Problem, Row

COUNT = 64
"""Images that are decoded: a batch's worth, in well under a second where they are of usual size."""
_FASHION_PX = 28


@dataclass(frozen=True)
class Sample:
    """Some examples, unified."""

    problem: Problem
    """Bound to the classes of all examples."""
    facts: Facts
    """Of the sampled images."""
    columns: Mapping[str, np.ndarray]
    """Without `image` where images are kept encoded."""
    encoded: Encoded | None
    strata: list[frozenset[str]]


def list_source(source: AnySource, project: Path) -> Sequence[Row]:
    """Every row of a source whose files are the user's; none for the others, whose number is known.

    Raises:
        ValueError: If the source is not as it should be, as ingest would say.
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
    """Look at some examples, evenly spread over the rows.

    Args:
        source: Where they come from.
        problem: What is asked of them.
        params: How they are unified and kept.
        project: Where the source's paths begin.
        work: An empty folder for what is written.
        count: How many.

    Raises:
        ValueError: If the source or the problem refuses, or none of them can be read.
    """
    rows, store = _open(source, project, work, count)
    bound = problem.bind(rows)
    places = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), count)).round().astype(np.int64))
    some = _as_rows([rows[place] for place in places], work)
    with store:
        survey = look_over(some, store, bound, params, work)
        good = np.setdiff1d(np.arange(len(some)), np.fromiter(survey.bad, np.int64))
        if not len(good):
            raise ValueError(f"none of {len(some)} sampled images can be read: {some[0].id}: {survey.bad[0]}")
        encoded = None
        if survey.images is None:
            facts = facts_of(survey, good, params)
            keep_encoded(some, good, store, survey, params, work / FOLDER)
            shape = {"height_px": facts.height_px, "width_px": facts.width_px, "channels": facts.channels}
            encoded = Encoded(work / FOLDER, **shape)
    columns = {name: column[good] for name, column in survey.truth.columns.items()}
    if survey.images is not None:
        columns["image"] = np.array(survey.images[good])
        facts = _measure(columns["image"])
    return Sample(bound, facts, columns, encoded, [survey.truth.strata[number] for number in good])


def _open(source: AnySource, project: Path, work: Path, count: int) -> tuple[Sequence[Row], Store]:
    if source.source in LISTED:
        listing = LISTED[source.source](source, project)
        return listing.rows, Store({}, find=listing.find)
    raw = work / "raw"
    raw.mkdir()
    if isinstance(source, FashionMnist):
        rows: Sequence[Row] = _draw_noise(count, raw)
    else:
        few = replace(source, count=max(20, count)) if isinstance(source, Toys) else source
        fetch: Callable[..., list[Row]] = SOURCES[source.source]
        rows = fetch(few, project, raw)
    return rows, Store({path.name: path for path in raw.iterdir()})


def _draw_noise(count: int, folder: Path) -> list[Row]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, _FASHION_PX, _FASHION_PX), dtype=np.uint8)
    np.save(folder / "images.npy", pixels)
    return [Row(f"{i}", f"images.npy#{i}", labels=(CLASSES[i % len(CLASSES)],)) for i in range(count)]


def _as_rows(rows: list[Row], work: Path) -> Rows:
    """The same rows in the shape in which prepare gets them."""
    path = work / "sampled.parquet"
    write_rows(rows, path)
    return read_rows(path)


def _measure(images: np.ndarray) -> Facts:
    flat = images.reshape(-1, images.shape[-1]).astype(np.float32)
    mean, std = (tuple(map(float, values)) for values in (flat.mean(axis=0), flat.std(axis=0)))
    height, width, channels = images.shape[1:]
    return Facts(height, width, channels, mean, std)

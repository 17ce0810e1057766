"""Inspect a folder or table of images through the source with which ingest will read it.

Names, labels and splits are read for all examples; sizes, colour and damage for a sample. Nothing is copied.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from temper.data.dataset.splits import check_strata, count_strata
from temper.data.images.other_formats import holds_several
from temper.data.images.reading import Unreadable, open_plain
from temper.data.images.store import Store
from temper.data.params import PrepareParams
from temper.data.remark import Remark, remark_on
from temper.data.source_params import ImageFolder, Table
from temper.data.sources import LISTED
from temper.data.sources.listing import Listing
from temper.fields import by_layout
from temper.problem import SHARE, Problem, Row
from temper.problems import dump
from temper.problems.suggesting import suggest_mask_values, suggest_problem
from temper.recipe.finding_source import find_source
from temper.recipe.mask_numbers import Mask, judge_numbers, read_mask_numbers

MOST_SAMPLED = 500
_LEAST_SAMPLED = 50
_SAMPLED_BYTES = 300_000_000
"""Largest total size of the files that are decoded: this takes a minute on two cores."""
_MOST_UNREADABLE = 0.5
"""Largest share of sampled files that cannot be read. Above it, the folder holds something else."""
_MOST_UP = 2
"""Largest number of folders that a relative path may climb up from the project."""
LEAST_IN_ALL = 60
"""Smallest number of images. Fewer give a training split of one or two small batches, and nothing can be
measured."""
LEAST_OF_CLASS = 6
"""Smallest number of images of a class: two in each split."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Properties of a dataset."""

    source: ImageFolder | Table
    problem: Mapping[str, Any]
    """The problem as params.yaml has it, with classes only if the data do not contain their names."""
    num_classes: int
    maps: bool
    """Whether the answer is a map with the size of the image, not one answer for the whole image."""
    num_examples: int
    counts: Mapping[str, int]
    """Examples by label; empty if there are only masks."""
    official: Mapping[str, int]
    """Examples by split; empty if the source fixes no split."""
    num_groups: int
    height_px: int
    """Median height of the sampled images."""
    width_px: int
    """Median width of the sampled images."""
    least_px: int
    """Shortest side of all sampled images."""
    most_px: int
    """Longest side of all sampled images."""
    grey_share: float
    """Share of the sampled images without colour."""
    num_sampled: int
    unreadable: tuple[str, ...]
    """Name and reason of each sampled image that cannot be read."""
    scores: tuple[str, ...] = ()
    """Names of the problem's scores."""
    remarks: tuple[Remark, ...] = ()
    """What was guessed, left out or converted."""
    mask_values: Mapping[int, int] = field(default_factory=dict)
    """Number in the masks -> class number, where they are written otherwise."""
    hidden_share: float = 0.0
    """Share of the sampled images of which a white background leaves nothing: white drawings."""
    why_kind: str = ""
    """Why the problem has another kind than most labels suggest."""
    smooths: bool = True
    """Whether label smoothing is defined for the problem."""
    unit: str = SHARE
    """What the headline is measured in."""
    scale: float = 1.0
    """Headline of the best answer that looks at no image if it is an error in a unit; 1 for shares."""

    @property
    def channels(self) -> int:
        """1 if every sampled image is grey, as prepare keeps it; else 3."""
        return 1 if self.grey_share == 1 else 3

    @property
    def short_px(self) -> int:
        """The shorter of the median sides."""
        return min(self.height_px, self.width_px)


def inspect_data(data: Path) -> Findings:
    """Inspect a folder of class folders, or a CSV or Parquet table. The path of the found source is absolute.

    Raises:
        ValueError: If training is impossible: no images, no classes or only one, too few images, or none that
            can be read.
    """
    source = find_source(data)
    listing = LISTED[source.source](source, Path())
    rows = listing.rows
    counts = Counter(label for row in rows for label in row.labels)
    _check_counts(data, len(rows), counts)
    _check_splits(rows)
    seen = _sample(listing)
    readable = [each for each in seen if each.reason is None]
    unreadable = [each for each in seen if each.reason is not None]
    if len(unreadable) > _MOST_UNREADABLE * len(seen):
        raise ValueError(
            f"{len(unreadable)} of {len(seen)} sampled files of {data} cannot be read as an image, "
            f"e.g. {unreadable[0].name}: {unreadable[0].reason}; name the folder of the images, or remove "
            "what is no image"
        )
    numbers, doubts = judge_numbers([each.mask for each in readable if each.mask is not None])
    problem = suggest_problem(rows, numbers=numbers)
    several = [each.name for each in readable if each.several]
    unit = problem.headline.unit
    return Findings(
        source=source,
        problem=_without_labels(problem, counts),
        num_classes=len(problem.classes),
        maps=bool(by_layout(problem.answer, "map")),
        num_examples=len(rows),
        counts=dict(sorted(counts.items())),
        official=dict(sorted(Counter(row.split or "train" for row in rows).items()))
        if any(row.split for row in rows)
        else {},
        num_groups=len({row.group for row in rows if row.group}),
        height_px=round(median(each.size[0] for each in readable)),
        width_px=round(median(each.size[1] for each in readable)),
        least_px=min(min(each.size) for each in readable),
        most_px=max(max(each.size) for each in readable),
        grey_share=sum(each.grey for each in readable) / len(readable),
        num_sampled=len(seen),
        unreadable=tuple(f"{each.name}: {each.reason}" for each in unreadable),
        scores=problem.scores,
        remarks=(*listing.remarks, *doubts, *remark_on("noticed", _CLIPS, several)),
        why_kind=_why_kind(rows, source),
        smooths="smoothing" in problem.emphases,
        unit=unit,
        scale=1.0 if unit == SHARE else (problem.constant({}) or ("", {}))[1].get(problem.headline.name, 1.0),
        mask_values=suggest_mask_values(numbers),
        hidden_share=sum(each.hidden for each in readable) / len(readable),
    )


def _without_labels(problem: Problem, counts: Mapping[str, int]) -> dict[str, Any]:
    """Return a problem as params.yaml has it. Classes are left out if the labels name them."""
    found = dump(problem)
    return {
        name: value for name, value in found.items() if name == "kind" or (name == "classes" and not counts)
    }


def seen_from(found: Findings, project: Path) -> Findings:
    """Return the findings with the source's path as the project writes it.

    The path is relative if source and project are near each other, so that they can be moved together.
    """
    source = found.source
    path = Path(source.folder if isinstance(source, ImageFolder) else source.file)
    relative = os.path.relpath(path, project.resolve())
    written = str(path) if relative.count("..") > _MOST_UP else relative
    return replace(
        found,
        source=replace(source, folder=written)
        if isinstance(source, ImageFolder)
        else replace(source, file=written),
    )


def _check_counts(data: Path, total: int, counts: Mapping[str, int]) -> None:
    if total < LEAST_IN_ALL:
        raise ValueError(
            f"{data} holds {total} images; at least {LEAST_IN_ALL} are needed for training, validation and "
            "test, and a few hundred of each class for a good model; add images"
        )
    few = {name: count for name, count in counts.items() if count < LEAST_OF_CLASS}
    if few:
        name, count = min(few.items(), key=lambda item: item[1])
        raise ValueError(
            f"class {name!r} has {count} images (classes with fewer than {LEAST_OF_CLASS}: {len(few)}); each "
            f"split needs two, so at least {LEAST_OF_CLASS} are needed: add images of it, or remove the class"
        )


def _check_splits(rows: Sequence[Row]) -> None:
    """Check that every class has an example in every split that the source fixes, and in training."""
    official = {row.split for row in rows if row.split}
    if not official:
        return
    splits = [row.split or "train" for row in rows]
    if "train" not in splits:
        raise ValueError(
            f"all {len(rows):,} images are in the splits {', '.join(sorted(official))}; some must be in train"
        )
    strata = [frozenset(row.labels) for row in rows]
    counts = count_strata(splits, strata)
    named = {name: found for name, found in counts.items() if name in official or name == "train"}
    check_strata(named, official=frozenset(official))


def _why_kind(rows: Sequence[Row], source: ImageFolder | Table) -> str:
    """Return why rows are multilabel although most have one label; empty if there is nothing to explain."""
    if isinstance(source, Table) and source.values:
        return (
            f"the column {source.values[0]!r} holds numbers; set problem.unit, or, if they are classes, "
            "ingest.labels and problem.kind: multiclass"
        )
    several, none = (
        sum(holds(len(row.labels)) for row in rows) for holds in (lambda n: n > 1, lambda n: n < 1)
    )
    if any(row.mask for row in rows) or not several + none:
        return ""
    parts = [f"{several:,} images have several labels"] if several else []
    parts += [f"{none:,} have none"] if none else []
    return f"{' and '.join(parts)}; if that is a mistake, correct it and set problem.kind to multiclass"


_CLIPS = (
    "of the sampled files hold several images, of which only the first is used; if they are films or scans, "
    "set problem.inputs: [clip]"
)


@dataclass(frozen=True)
class _Seen:
    """Properties of one file."""

    name: str
    size: tuple[int, int] = (0, 0)
    """Height and width in pixels."""
    grey: bool = False
    mask: Mask | None = None
    """Numbers in its mask."""
    hidden: bool = False
    """Whether it is blank on a white background, but not on a black one."""
    several: bool = False
    """Whether the file holds several images."""
    reason: str | None = None
    """Why the file cannot be read; None if it can."""


def _sample(listing: Listing) -> list[_Seen]:
    """Decode some images, evenly spread over the rows; fewer if the files are large."""
    rows, store = listing.rows, Store({}, find=listing.find, draw=listing.draw)
    sizes = [_size(listing.find, row) for row in _spread(rows, _LEAST_SAMPLED)]
    count = int(_SAMPLED_BYTES / max(1.0, sum(sizes) / len(sizes)))
    some = _spread(rows, min(MOST_SAMPLED, max(_LEAST_SAMPLED, count)))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(lambda row: _see(store, row), some))


def _spread(rows: Sequence[Row], count: int) -> list[Row]:
    places = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), count)).round().astype(np.int64))
    return [rows[place] for place in places]


def _size(find: Callable[[str], Path], row: Row) -> int:
    try:
        return find(row.path.partition("/")[2]).stat().st_size
    except OSError:
        return 0


def _see(store: Store, row: Row) -> _Seen:
    limits = PrepareParams(height_px=8, width_px=8)
    shown = partial(
        open_plain, max_pixels=limits.max_pixels, max_side_px=limits.max_side_px, levels="per-image"
    )
    try:
        raw = store.read(row.path)
        image = shown(raw)
        hidden = _is_blank(image) and not _is_blank(shown(raw, background="black"))
        mask = None if row.mask is None else read_mask_numbers(store, row.mask)
    except Unreadable as error:
        return _Seen(row.id, reason=str(error))
    pixels = np.asarray(image)
    grey = pixels.ndim == 2 or bool((pixels[..., :1] == pixels[..., 1:]).all())
    return _Seen(row.id, (image.height, image.width), grey, mask, hidden, holds_several(raw))


def _is_blank(image: Image.Image) -> bool:
    pixels = np.asarray(image)
    return bool((pixels == pixels[:1, :1]).all())

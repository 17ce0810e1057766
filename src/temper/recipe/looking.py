"""Inspect a folder or table of images through the source with which ingest will read it.

Names, labels and splits are read for all examples; sizes, colour and damage for a sample. Nothing is copied.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from statistics import median
from typing import Any, cast

from temper.data.dataset.splits import check_strata, count_strata
from temper.data.remark import Remark, remark_on
from temper.data.source_params import AnySource, Table
from temper.data.sources import LISTED
from temper.fields import by_layout
from temper.problem import SHARE, Problem, Row
from temper.problems import dump
from temper.problems.suggesting import suggest_mask_values, suggest_problem
from temper.recipe.finding_source import find_source
from temper.recipe.mask_numbers import judge_numbers
from temper.recipe.object_sizes import measure_objects
from temper.recipe.sampled_files import sample_files

_MOST_UNREADABLE = 0.5
"""Largest share of sampled files that cannot be read. Above it, the folder holds something else."""
_MOST_UP = 2
"""Largest number of folders that a relative path may climb up from the project."""
LEAST_IN_ALL = 60
"""Smallest number of images. Fewer give a training split of one or two small batches, and nothing can be
measured."""
LEAST_WITH_MASKS = 20
"""The same for images with masks, each of which says something of all its pixels."""
LEAST_OF_CLASS = 6
"""Smallest number of images of a class: two in each split."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Properties of a dataset."""

    source: AnySource
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
    mask_values: Mapping[int | str, int | str] = field(default_factory=dict)
    """Number or colour in the masks -> name of its class, where they are written otherwise."""
    why_source: str = ""
    """What kind of folder was found, if it is not the usual one."""
    objects: Mapping[str, float] = field(default_factory=dict)
    """Class -> median side of its boxes as a share of the image's side, if there are boxes."""
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
    recognised = find_source(data)
    source = recognised.source
    listing = LISTED[source.source](source, Path())
    rows = listing.rows
    counts = Counter(label for row in rows for label in row.labels)
    _check_counts(data, rows, counts)
    _check_splits(rows)
    seen = sample_files(listing)
    readable = [each for each in seen if each.reason is None]
    unreadable = [each for each in seen if each.reason is not None]
    if len(unreadable) > _MOST_UNREADABLE * len(seen):
        raise ValueError(
            f"{len(unreadable)} of {len(seen)} sampled files of {data} cannot be read as an image, "
            f"e.g. {unreadable[0].name}: {unreadable[0].reason}; name the folder of the images, or remove "
            "what is no image"
        )
    # Masks that ingest draws have no doubtful numbers: the rows say what they mean.
    masks = [each.mask for each in readable if each.mask is not None and listing.draw is None]
    numbers, doubts = judge_numbers(masks)
    suggested = suggest_problem(rows, numbers=numbers)
    problem = suggested.bind(rows)
    several = [each.name for each in readable if each.several]
    unit = problem.headline.unit
    return Findings(
        source=source,
        problem=_written(suggested),
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
        why_source=recognised.why,
        objects=measure_objects(rows, [each.size for each in readable]),
        hidden_share=sum(each.hidden for each in readable) / len(readable),
    )


def _written(problem: Problem) -> dict[str, Any]:
    """Return a problem as params.yaml has it: its kind, and what differs from the defaults."""
    usual = {item.name: item.default for item in fields(cast(Any, problem))}
    return {name: value for name, value in dump(problem).items() if getattr(problem, name) != usual.get(name)}


def seen_from(found: Findings, project: Path) -> Findings:
    """Return the findings with the source's path as the project writes it.

    The path is relative if source and project are near each other, so that they can be moved together.
    """
    source: Any = found.source
    key = "file" if isinstance(source, Table) else "folder"
    path = Path(getattr(source, key))
    relative = os.path.relpath(path, project.resolve())
    written = str(path) if relative.count("..") > _MOST_UP else relative
    return replace(found, source=replace(source, **{key: written}))


def _check_counts(data: Path, rows: Sequence[Row], counts: Mapping[str, int]) -> None:
    least = LEAST_WITH_MASKS if any(row.mask for row in rows) else LEAST_IN_ALL
    if len(rows) < least:
        raise ValueError(
            f"{data} holds {len(rows)} images; at least {least} are needed for training, validation and "
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


def _why_kind(rows: Sequence[Row], source: AnySource) -> str:
    """Return why rows are multilabel although most have one label; empty if there is nothing to explain."""
    if isinstance(source, Table) and source.values:
        return (
            f"the column {source.values[0]!r} holds numbers; set problem.unit, or, if they are classes, "
            "ingest.labels and problem.kind: multiclass"
        )
    several, none = (
        sum(holds(len(row.labels)) for row in rows) for holds in (lambda n: n > 1, lambda n: n < 1)
    )
    if any(row.mask or row.truth for row in rows) or not several + none:
        return ""
    parts = [f"{several:,} images have several labels"] if several else []
    parts += [f"{none:,} have none"] if none else []
    return f"{' and '.join(parts)}; if that is a mistake, correct it and set problem.kind to multiclass"


_CLIPS = (
    "of the sampled files hold several images, of which only the first is used; if they are films or scans, "
    "set problem.inputs: [clip]"
)

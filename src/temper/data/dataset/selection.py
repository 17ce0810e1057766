"""Which rows are used: without unusable images, equal ones and, if wanted, nearly equal ones."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from temper.data.dataset.duplicates import CONTRADICTION, IN_TEST, find_duplicates, find_equal
from temper.data.dataset.kept_splits import read_kept
from temper.data.dataset.near_duplicates import find_pairs, group
from temper.data.dataset.rows import Rows
from temper.data.dataset.scan import Survey
from temper.data.params import PrepareParams
from temper.data.remark import Remark, remark_on

NEAR = "near_duplicates.csv"


@dataclass(frozen=True)
class Selection:
    """The rows that are used."""

    rows: Rows
    """All rows, also those that are not used; nearly equal ones have a group in common if that is wanted."""
    dropped: dict[int, str]
    """Number of the row -> why it is not used."""
    others: dict[int, int]
    """Number of a row that is not used -> number of the row that has the same, or nearly the same, image."""
    kept: Int64[np.ndarray, "kept"]
    """Numbers of the rows that are used."""
    splits: list[str | None] | None
    """Split that each of these was in before, or must join; None if no split is known."""
    pairs: Int64[np.ndarray, "pairs 2"]
    """Numbers of rows with nearly equal images."""


def select(rows: Rows, survey: Survey, params: PrepareParams, recorded: Path) -> Selection:
    """Choose the rows that are used.

    Args:
        rows: All rows.
        survey: Results of the pass over the images.
        params: What happens to nearly equal images.
        recorded: File with the splits of known images; it need not exist.
    """
    digests = survey.digests.copy()
    for number in survey.bad:
        digests[number] = f"bad {number}"  # Unique, so that an unusable image has no duplicate.
    equal = find_duplicates(rows, digests, survey.truth.digests)
    others = {number: each.other for number, each in equal.items()}
    dropped = {**{number: each.reason for number, each in equal.items()}, **survey.bad}
    kept = _without(rows, dropped)
    visible = kept[~survey.blank[kept]]
    pairs = np.empty((0, 2), np.int64)
    if survey.channels:
        pairs = visible[find_pairs(survey.cosines[visible])]
    splits = read_kept(recorded, rows, survey.digests)
    if params.near_duplicates == "group" and len(pairs):
        official = rows.table["split"].to_pylist()
        drawn = {"test", "validation"} - set(official)
        known = [
            its if its in ("test", "validation") else before if before in {"train", *drawn} else None
            for its, before in zip(official, splits or [None] * len(rows), strict=True)
        ]
        found = group(pairs, known, rows.table["group"].to_pylist(), drawn=drawn)
        rows, splits, dropped = rows.regrouped(found.groups), found.splits, {**dropped, **found.dropped}
        others |= found.others
        kept = _without(rows, dropped)
    return Selection(
        rows,
        dict(sorted(dropped.items())),
        others,
        kept,
        None if splits is None else [splits[number] for number in kept],
        pairs,
    )


def _without(rows: Rows, dropped: Mapping[int, str]) -> Int64[np.ndarray, "kept"]:
    return np.setdiff1d(np.arange(len(rows)), np.fromiter(dropped, np.int64))


def remark_on_equal(rows: Rows, selection: Selection, survey: Survey) -> list[Remark]:
    """Return remarks on equal images with other labels, and on equal images that stay in a test split.

    Args:
        rows: All rows.
        selection: The rows that are used.
        survey: Results of the pass over the images.
    """
    truths, dropped = survey.truth.digests, selection.dropped
    unlike = [
        (i, other)
        for i, other in selection.others.items()
        if dropped[i] == CONTRADICTION or (dropped[i] == IN_TEST and truths[i] != truths[other])
    ]
    staying = [selection.kept[each].tolist() for each in find_equal(survey.digests[selection.kept])]
    torn = [numbers for numbers in staying if len({truths[i] for i in numbers}) > 1]
    twice = [numbers for numbers in staying if numbers not in torn]

    def names(sets: Iterable[Sequence[int]]) -> list[str]:
        return [" = ".join(rows[i].id for i in numbers) for numbers in sets]

    return [
        *remark_on(
            "noticed",
            "images were dropped, since the same pixels have other labels elsewhere; correct one of the two",
            names(unlike),
        ),
        *remark_on(
            "noticed",
            "images occur several times in the test split with different labels, so no model can be right on "
            "all; correct them or remove all but one",
            names(torn),
        ),
        *remark_on(
            "noticed",
            "images occur several times in the test split, and count so often; an official test split is not "
            "changed",
            names(twice),
        ),
    ]


def list_pairs(
    path: Path, rows: Rows, selection: Selection, splits: Sequence[str], strata: Sequence[frozenset[str]]
) -> list[Remark]:
    """Write the nearly equal images as a CSV list, and return remarks on those in two splits or classes.

    Args:
        path: File to write.
        rows: All rows.
        selection: The rows that are used.
        splits: Split of each row that is used.
        strata: Strata of each row.
    """
    split_of = dict(zip(selection.kept.tolist(), splits, strict=True))
    ids = rows.table["id"]
    across: dict[str, None] = {}
    unlike: dict[str, None] = {}
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", "split", "labels", "other_id", "other_split", "other_labels"])
        for pair in selection.pairs.tolist():
            names = [ids[number].as_py() for number in pair]
            where = [split_of.get(number, "dropped") for number in pair]
            labels = [strata[number] for number in pair]
            writer.writerow(
                value
                for each in zip(names, where, (";".join(sorted(each)) for each in labels), strict=True)
                for value in each
            )
            if len({*where}) > 1 and "dropped" not in where:
                across[names[where.index("train")] if "train" in where else names[0]] = None
            if len({*labels}) > 1:
                unlike[names[0]] = None
    listed = f"artifacts/prepare/{NEAR} lists all"
    return [
        *remark_on(
            "noticed",
            "images are nearly equal to one in another split (copies, or frames of a film?), so results on "
            f"the test split may be too good; {listed}, and prepare.near_duplicates: group keeps them "
            "together",
            across,
        ),
        *remark_on("noticed", f"images are nearly equal to one of another class; {listed}", unlike),
    ]

"""Check, split and pack the pictures: from raw files to a few large arrays and a readable table of rows."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from temper.artifacts import Artifact
from temper.data.duplicates import digest_pixels, find_duplicates
from temper.data.packing import TABLE, Truth, measure, pack_truth, write_split, write_table
from temper.data.pictures import Store
from temper.data.report import DROPPED, write_dropped, write_report
from temper.data.rows import FILE, as_found, read_rows
from temper.data.sheet import tint, write_sheet
from temper.data.space import require_space
from temper.data.splits import SPLITS, assign_splits, check_strata, count_strata
from temper.data.unified import Unified, check_bad_share, unify_all
from temper.problem import Problem, Row
from temper.problems import dump

_SHEET_COLUMNS = 12
_SHEET_LINES = 40


def run(
    params: SimpleNamespace, inputs: Mapping[str, Artifact], out: Path, *, project: Path, work: Path
) -> dict[str, Any]:
    """Write `train/`, `validation/` and `test/`, the tables of rows and of what was dropped, and a data report.

    Returns:
        The bound problem, facts of the training pictures, examples per split, counts per split and stratum, and how many were
        dropped for which reason.
    """
    ingest = inputs["ingest"]
    rows = read_rows(ingest.path(FILE))
    named = as_found(rows, ingest.facts["origin"])
    problem: Problem = params.problem.bind(named)
    # Twice: once in `work` while the splits are not known yet, once packed.
    pixels = params.prepare.height_px * params.prepare.width_px
    require_space(
        out, 2 * len(rows) * pixels * (4 if any(row.mask for row in rows) else 3), f"{len(rows)} unified pictures"
    )
    with Store({name: ingest.path(name) for name in ingest.files}) as store:
        unified = unify_all(rows, store, params.prepare, work)
    check_bad_share(named, unified.bad, params.prepare.max_bad_share)
    truth = pack_truth(rows, unified, problem, work)
    check_bad_share(named, unified.bad, params.prepare.max_bad_share)
    pixel_digests = digest_pixels(unified.images)
    dropped = _dropped(rows, unified, truth, pixel_digests)
    kept = [i for i in range(len(rows)) if i not in dropped]
    strata = [truth.strata[i] for i in kept]
    _check_classes(problem, strata, dropped)
    splits = assign_splits(
        [rows[i] for i in kept],
        strata,
        validation_share=params.prepare.validation_share,
        test_share=params.prepare.test_share,
        seed=params.seed,
    )
    counts = count_strata(splits, strata)
    check_strata(counts, official=frozenset(row.split for row in rows if row.split))
    examples = {name: splits.count(name) for name in SPLITS}
    columns = {"image": unified.images, **truth.columns}
    for name in SPLITS:
        write_split(out / name, columns, [i for i, split in zip(kept, splits, strict=True) if split == name])
    _write_rows(out / TABLE, rows, kept, splits, truth, pixel_digests)
    write_dropped(rows, dropped, out / DROPPED)
    if dropped:
        text = f"{len(dropped)} of {len(rows)} pictures were dropped; artifacts/prepare/{DROPPED} says which, and why"
        print(text, file=sys.stderr)
    facts = measure(out / "train")
    _write_sheet(out, [each for each, split in zip(strata, splits, strict=True) if split == "train"], problem)
    sheet = out / "sheet.png"
    write_report(
        out / "report.html", counts=counts, examples=examples, facts=facts, rows=rows, dropped=dropped, sheet=sheet
    )
    for path in work.glob("*.npy"):
        path.unlink()
    return {
        "problem": dump(problem),
        "facts": asdict(facts),
        "examples": examples,
        "counts": counts,
        "dropped": dict(sorted(Counter(_summary(i, reason, unified) for i, reason in dropped.items()).items())),
    }


def _dropped(rows: Sequence[Row], unified: Unified, truth: Truth, pixel_digests: Sequence[str]) -> dict[int, str]:
    """Numbers of the rows that are left out -> why, in order."""
    good = [i for i in range(len(rows)) if i not in unified.bad]
    repeated = find_duplicates(
        [rows[i] for i in good], [pixel_digests[i] for i in good], [truth.digests[i] for i in good]
    )
    return dict(sorted({**unified.bad, **{good[i]: reason for i, reason in repeated.items()}}.items()))


def _summary(number: int, reason: str, unified: Unified) -> str:
    return "cannot be used" if number in unified.bad else reason


def _check_classes(problem: Problem, strata: Sequence[frozenset[str]], dropped: Mapping[int, str]) -> None:
    """Every class has an example left.

    Raises:
        ValueError: Names the first class that has none.
    """
    left = {name for each in strata for name in each}
    for name in problem.classes:
        if name not in left:
            raise ValueError(
                f"class {name!r} has no example among the {len(strata)} usable ones ({len(dropped)} were dropped, because they "
                "are damaged or because equal pictures carry different labels); add pictures of it, or remove the class"
            )


def _write_rows(
    path: Path, rows: Sequence[Row], kept: Sequence[int], splits: Sequence[str], truth: Truth, digests: Sequence[str]
) -> None:
    seen: Counter[str] = Counter()
    index = []
    for split in splits:
        index.append(seen[split])
        seen[split] += 1
    columns: dict[str, list[Any]] = {
        "id": [rows[i].id for i in kept],
        "split": list(splits),
        "index": index,
        "path": [rows[i].path for i in kept],
        "labels": [list(rows[i].labels) for i in kept],
        "strata": [sorted(truth.strata[i]) for i in kept],
        "group": [rows[i].group for i in kept],
        "digest": [digests[i] for i in kept],
    }
    write_table(path, columns)


def _write_sheet(out: Path, strata: Sequence[frozenset[str]], problem: Problem) -> None:
    """A line of pictures per class, evenly picked from the training split."""
    columns = {path.stem: np.load(path, mmap_mode="r") for path in sorted((out / "train").glob("*.npy"))}
    lines = []
    for name in sorted({name for each in strata for name in each})[:_SHEET_LINES]:
        members = [i for i, each in enumerate(strata) if name in each]
        picked = members[:: max(1, len(members) // _SHEET_COLUMNS)][:_SHEET_COLUMNS]
        examples = [{key: value[i] for key, value in columns.items()} for i in picked]
        lines.append((name, [tint(each["image"], each, problem.spatial) for each in examples]))
    write_sheet(lines, out / "sheet.png")

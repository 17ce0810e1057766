"""Rebalance the training split and make views of it, before training starts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from temper.artifacts import Artifact
from temper.data import balance
from temper.data.materialize import Draw, materialize, seed_of
from temper.data.packing import TABLE, open_split, read_rows_of, write_table
from temper.data.sheet import tint, write_sheet
from temper.data.space import require_space
from temper.problem import Problem
from temper.problems import load

_SHEET_LINES = 16
_SHEET_VIEWS = 8


def run(
    params: SimpleNamespace, inputs: Mapping[str, Artifact], out: Path, *, project: Path, work: Path
) -> dict[str, Any]:
    """Write `rows.parquet` (an entry per example and per view) and, where views are wanted, `views/` and `sheet.png`.

    Returns:
        Emphasis for the loss, counts per stratum before and after (as an epoch draws them), and views per example.
    """
    prepare = inputs["prepare"]
    problem = load(prepare.facts["problem"])
    rows = read_rows_of(prepare, "train")
    strata = [frozenset(names) for names in rows["strata"]]
    repeats = balance.draw_repeats(strata, params.augment.balance, seed=params.seed)
    weights = balance.weigh(strata, params.augment.balance)
    emphasis = balance.emphasize(strata, params.augment.balance, problem.classes)
    num_views = params.augment.views
    # Examples that are never drawn need no views.
    drawn = [i for i in range(len(strata)) if repeats[i]] if num_views else []
    plan = [(i, view) for view in range(1, num_views + 1) for i in drawn]
    seeds = [seed_of(params.seed, rows["id"][i], view) for i, view in plan]
    _write_rows(out / TABLE, rows, plan, seeds, repeats, weights)
    if plan:
        columns = open_split(prepare, "train")
        example_bytes = sum(column[:1].nbytes for column in columns.values())
        require_space(out, len(plan) * example_bytes, f"{len(plan)} augmented pictures")
        materialize(
            prepare.path("train/image.npy").parent,
            out / "views",
            policy=params.augment.policy,
            spatial=problem.spatial,
            draws=[Draw(i, seed) for (i, _), seed in zip(plan, seeds, strict=True)],
            workers=params.augment.workers,
        )
        _write_sheet(out, columns, strata, plan, problem)
    before = balance.count(strata)
    after = {name: _drawn(strata, repeats, name) * (1 + num_views) for name in before}
    _print_counts(before, after, {name: _mean_weight(strata, weights, name) for name in before})
    return {"emphasis": emphasis, "counts": {"before": before, "after": after}, "views": num_views}


def _drawn(strata: Sequence[frozenset[str]], repeats: np.ndarray, name: str) -> int:
    return int(sum(int(times) for each, times in zip(strata, repeats, strict=True) if name in each))


def _mean_weight(strata: Sequence[frozenset[str]], weights: np.ndarray, name: str) -> float:
    return float(np.mean([weight for each, weight in zip(strata, weights, strict=True) if name in each]))


def _write_rows(
    path: Path,
    rows: Mapping[str, Sequence[Any]],
    plan: Sequence[tuple[int, int]],
    seeds: Sequence[int],
    repeats: np.ndarray,
    weights: np.ndarray,
) -> None:
    """An entry per example, then per view; a view is drawn as often, and counts as much, as its original."""
    sources = [*range(len(repeats)), *(i for i, _ in plan)]
    columns: dict[str, list[Any]] = {
        "id": [rows["id"][i] for i in sources],
        "index": list(range(len(sources))),
        "view": [0] * len(repeats) + [view for _, view in plan],
        "strata": [rows["strata"][i] for i in sources],
        "weight": weights[sources].tolist(),
        "repeats": repeats[sources].tolist(),
        "seed": [None] * len(repeats) + list(seeds),
    }
    write_table(path, columns)


def _write_sheet(
    out: Path,
    columns: Mapping[str, np.ndarray],
    strata: Sequence[frozenset[str]],
    plan: Sequence[tuple[int, int]],
    problem: Problem,
) -> None:
    """Lines of an original and its views, spread over the training split."""
    views = {path.stem: np.load(path, mmap_mode="r") for path in sorted((out / "views").glob("*.npy"))}
    places: dict[int, list[int]] = {}
    for place, (i, _) in enumerate(plan):
        places.setdefault(i, []).append(place)
    lines = []
    for i in list(places)[:: max(1, len(places) // _SHEET_LINES)][:_SHEET_LINES]:
        examples = [{name: column[i] for name, column in columns.items()}]
        examples += [{name: column[place] for name, column in views.items()} for place in places[i][:_SHEET_VIEWS]]
        lines.append((" + ".join(sorted(strata[i])), [tint(each["image"], each, problem.spatial) for each in examples]))
    write_sheet(lines, out / "sheet.png")


def _print_counts(before: Mapping[str, int], after: Mapping[str, int], weights: Mapping[str, float]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("class", title="training examples")
    for name in ("before", "drawn per epoch", "mean weight"):
        table.add_column(name, justify="right")
    for name, number in before.items():
        table.add_row(name, f"{number:,}", f"{after[name]:,}", f"{weights[name]:.3f}")
    Console(stderr=True).print(table)

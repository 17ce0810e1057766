"""augment: rebalance the training split and write augmented copies of it, before training starts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from temper.artifacts import Artifact
from temper.data.augmentation import class_balance
from temper.data.augmentation.materialize import Draw, materialize, seed_of
from temper.data.dataset.contact_sheet import mark, write_sheet
from temper.data.dataset.packed import TABLE, open_encoded, open_split, read_rows_of, read_strata, write_table
from temper.data.disk import require_space
from temper.inputs.facts import Facts, draw, picture_of
from temper.inputs.stored import read_record
from temper.problem import Problem
from temper.problems import load

_SHEET_LINES = 16
_SHEET_COPIES = 8


def run(
    params: SimpleNamespace, inputs: Mapping[str, Artifact], out: Path, *, project: Path, work: Path
) -> dict[str, Any]:
    """Write `rows.parquet` (one entry per example and per copy).

    If copies are wanted, also write `copies/` and `sheet.png`.

    Returns:
        The emphasis for the loss, the counts per stratum before and after (as one epoch draws them), and the
        number of copies per example.

    Raises:
        ValueError: If copies are wanted but prepare stores encoded images.
    """
    prepare = inputs["prepare"]
    problem = load(prepare.facts["problem"])
    ids, strata = read_rows_of(prepare, "train", ["id"])["id"], read_strata(prepare, "train")
    repeats = class_balance.draw_repeats(strata, params.augment.balance, seed=params.seed)
    weights = class_balance.weigh(strata, params.augment.balance)
    emphasis = class_balance.emphasize(strata, params.augment.balance, problem.classes)
    num_copies = params.augment.copies
    if num_copies and open_encoded(prepare) is not None:
        raise ValueError(
            f"augment.copies = {num_copies}: copies are made of packed pixels, but prepare.keep = encoded "
            "packs none; set prepare.keep to pixels, or set augment.copies to 0 and name the transforms in "
            "train.views.policy, which draws them for every image in every epoch"
        )
    facts = read_record(prepare.facts["inputs"])
    # Examples that are never drawn need no copies.
    drawn = [i for i in range(len(strata)) if repeats[i]] if num_copies else []
    plan = [(i, copy) for copy in range(1, num_copies + 1) for i in drawn]
    seeds = [seed_of(params.seed, ids[i], copy) for i, copy in plan]
    _write_rows(out / TABLE, ids, strata, plan, seeds, repeats, weights)
    if plan:
        picture = picture_of(facts)
        assert picture is not None, "params.yaml allows copies of images only"
        columns = open_split(prepare, "train")
        example_bytes = sum(column[:1].nbytes for column in columns.values())
        require_space(out, len(plan) * example_bytes, f"{len(plan)} augmented images")
        materialize(
            prepare.folder / "train",
            out / "copies",
            policy=params.augment.policy,
            truth=problem.truth,
            draws=[Draw(i, seed) for (i, _), seed in zip(plan, seeds, strict=True)],
            workers=params.augment.workers,
            picture=picture,
        )
        _write_sheet(out, columns, facts, strata, plan, problem)
    before = class_balance.count(strata)
    drawn_of, weight_of = _sum(strata, repeats), _sum(strata, weights)
    after = {name: int(drawn_of[name]) * (1 + num_copies) for name in before}
    _print_counts(before, after, {name: weight_of[name] / number for name, number in before.items()})
    return {"emphasis": emphasis, "counts": {"before": before, "after": after}, "copies": num_copies}


def _sum(strata: Sequence[frozenset[str]], values: np.ndarray) -> Counter[str]:
    """Return the sum of the examples' values by stratum."""
    totals: Counter[str] = Counter()
    for each, value in zip(strata, values.tolist(), strict=True):
        for name in each:
            totals[name] += value
    return totals


def _write_rows(
    path: Path,
    ids: Sequence[str],
    strata: Sequence[frozenset[str]],
    plan: Sequence[tuple[int, int]],
    seeds: Sequence[int],
    repeats: np.ndarray,
    weights: np.ndarray,
) -> None:
    """Write one entry per example, then one per copy with the repeats and the weight of its original."""
    sources = [*range(len(repeats)), *(i for i, _ in plan)]
    lists = {each: sorted(each) for each in set(strata)}
    columns: dict[str, list[Any]] = {
        "id": [ids[i] for i in sources],
        "index": list(range(len(sources))),
        "copy": [0] * len(repeats) + [copy for _, copy in plan],
        "strata": [lists[strata[i]] for i in sources],
        "weight": weights[sources].tolist(),
        "repeats": repeats[sources].tolist(),
        "seed": [None] * len(repeats) + list(seeds),
    }
    write_table(path, columns)


def _write_sheet(
    out: Path,
    columns: Mapping[str, np.ndarray],
    facts: Facts,
    strata: Sequence[frozenset[str]],
    plan: Sequence[tuple[int, int]],
    problem: Problem,
) -> None:
    """Write lines of an original and its copies. The originals are spread over the training split."""
    copies = {path.stem: np.load(path, mmap_mode="r") for path in sorted((out / "copies").glob("*.npy"))}
    places: dict[int, list[int]] = {}
    for place, (i, _) in enumerate(plan):
        places.setdefault(i, []).append(place)
    lines = []
    for i in list(places)[:: max(1, len(places) // _SHEET_LINES)][:_SHEET_LINES]:
        examples = [{name: column[i] for name, column in columns.items()}]
        examples += [
            {name: column[place] for name, column in copies.items()} for place in places[i][:_SHEET_COPIES]
        ]
        lines.append(
            (
                " + ".join(sorted(strata[i])),
                [mark(draw(each, facts), each, problem.truth) for each in examples],
            )
        )
    write_sheet(lines, out / "sheet.png")


def _print_counts(before: Mapping[str, int], after: Mapping[str, int], weights: Mapping[str, float]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("class", title="training examples")
    for name in ("before", "drawn per epoch", "mean weight"):
        table.add_column(name, justify="right")
    for name, number in before.items():
        table.add_row(Text(name), f"{number:,}", f"{after[name]:,}", f"{weights[name]:.3f}")
    Console(stderr=True).print(table)

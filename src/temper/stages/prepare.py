"""prepare: check, split and pack the examples: from raw files to a few large arrays and a table of rows."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from jaxtyping import Int64

from temper.artifacts import Artifact
from temper.data.dataset.contact_sheet import mark, write_sheet
from temper.data.dataset.given_columns import declare_inputs
from temper.data.dataset.kept_splits import keep_settings
from temper.data.dataset.packed import GROUPED, TABLE, measure, open_columns, write_split, write_table
from temper.data.dataset.remarks import choose_levels, remark_on_images, remark_on_sizes
from temper.data.dataset.report import DROPPED, write_dropped, write_report
from temper.data.dataset.resize import check_bad_share, has_masks
from temper.data.dataset.rows import FILE, Rows, as_found, read_rows
from temper.data.dataset.scan import Survey, facts_of, look_over
from temper.data.dataset.selection import NEAR, Selection, list_pairs, remark_on_equal, select
from temper.data.dataset.shortcuts import find_shortcuts
from temper.data.dataset.splits import SPLITS, assign_splits
from temper.data.dataset.write_encoded import keep_encoded, write_unified
from temper.data.disk import require_space
from temper.data.images.encoded import FOLDER
from temper.data.images.store import Store
from temper.data.params import PrepareParams
from temper.data.remark import Remark, remark_on
from temper.inputs.clip_input import count_frames
from temper.inputs.facts import Facts, draw, picture_of
from temper.inputs.stored import as_record
from temper.problem import Problem
from temper.problems import dump
from temper.problems.classes import find_misspelt, merged_labels
from temper.stages.class_checks import check_classes, count_classes

_SHEET_COLUMNS = 12
_SHEET_LINES = 40


def run(
    params: SimpleNamespace, inputs: Mapping[str, Artifact], out: Path, *, project: Path, work: Path
) -> dict[str, Any]:
    """Write `train/`, `validation/` and `test/`, the tables of rows and of dropped images, and a data report.

    Returns:
        The bound problem, the facts of the inputs, the examples per split, the counts per split and stratum,
        and the number of dropped images by reason.
    """
    ingest = inputs["ingest"]
    rows = read_rows(ingest.path(FILE))
    problem: Problem = params.problem.bind(as_found(rows, ingest.facts["origin"]))
    rows, remarks = _merge_spellings(rows, problem, ingest)
    named = as_found(rows, ingest.facts["origin"])
    with Store({name: ingest.path(name) for name in ingest.files}) as store:
        settings = keep_settings(params.prepare, project / params.prepare.splits)
        inputs_seen = declare_inputs(problem, rows, settings)
        _require_space(rows, ingest, params.prepare, out, frames=count_frames(inputs_seen))
        settings, wide = choose_levels(settings, rows, store, inputs_seen)
        survey = look_over(rows, store, problem, inputs_seen, settings, work)
        remarks += _say([*wide, *_remarks(named, survey, problem, params.prepare)])
        check_bad_share(named, survey.bad, params.prepare.max_bad_share)
        selection = select(rows, survey, params.prepare, project / params.prepare.splits)
        rows, dropped, kept = selection.rows, selection.dropped, selection.kept
        strata = [survey.truth.strata[i] for i in kept]
        check_classes(problem, strata, dropped, survey.truth.ignored_share)
        splits = assign_splits(
            rows.take(kept),
            strata,
            validation_share=params.prepare.validation_share,
            test_share=params.prepare.test_share,
            seed=params.seed,
            kept=selection.splits,
        )
        counts, unknown = count_classes(rows, splits, strata, problem)
        examples = {name: splits.count(name) for name in SPLITS}
        facts = _write_splits(out, rows, kept, splits, store, survey, settings, inputs_seen)
    problem, found = _settle(problem, survey, kept[np.array(splits) == "train"], facts)
    remarks += _say([*unknown, *found, *remark_on_equal(rows, selection, survey)])
    remarks += _say(list_pairs(out / NEAR, rows, selection, splits, survey.truth.strata))
    _write_rows(out / TABLE, rows, kept, splits, survey)
    _list_dropped(rows, selection, out / DROPPED)
    in_training = [each for each, split in zip(strata, splits, strict=True) if split == "train"]
    _write_sheet(out, facts, in_training, problem)
    write_report(
        out / "report.html",
        counts=counts,
        examples=examples,
        facts=facts,
        rows=rows,
        dropped=dropped,
        others=selection.others,
        sheet=out / "sheet.png",
        remarks=remarks,
    )
    for path in work.glob("*.npy"):
        path.unlink()
    return {
        "problem": dump(problem),
        "inputs": as_record(facts),
        "examples": examples,
        "counts": counts,
        "dropped": _summarise(dropped, survey),
        **_mark_groups(rows.take(kept).table["group"]),
    }


def _merge_spellings(rows: Rows, problem: Problem, ingest: Artifact) -> tuple[Rows, list[Remark]]:
    """Replace other spellings of classes; return the rows, and all remarks about the data so far."""
    remarks = [Remark(**each) for each in ingest.facts["remarks"]]
    merged = merged_labels(problem.classes, ingest.facts["labels"])
    text = "labels are other spellings of a class in problem.classes"
    return (rows.relabelled(merged) if merged else rows), [*remarks, *remark_on("converted", text, merged)]


def _remarks(rows: Rows, survey: Survey, problem: Problem, params: PrepareParams) -> list[Remark]:
    """Return the remarks on images and masks, and on classes that may be a misspelling of another one."""
    counts = Counter(name for strata in survey.truth.strata for name in strata)
    text = "pairs of classes have similar names; rename their folders or labels if they mean the same"
    alike = remark_on("noticed", text, find_misspelt(counts))
    long = remark_on(
        "converted",
        f"texts are longer than {params.text_bytes} bytes, and are cut there (prepare.text_bytes)",
        [rows[number].id for number in survey.given.cut],
    )
    if not survey.channels:
        clips = survey.given.clips.remarks(rows, survey.bad, params)
        sizes = remark_on_sizes(rows, survey, params) if survey.given.clips.sizes else []
        return [*long, *clips, *sizes, *alike]
    images = [*remark_on_images(rows, survey, problem.classes, params), *find_shortcuts(rows, survey)]
    return [*long, *images, *alike]


def _say(remarks: list[Remark]) -> list[Remark]:
    for remark in remarks:
        print(f"prepare: {remark}", file=sys.stderr)
    return remarks


def _require_space(rows: Rows, ingest: Artifact, params: PrepareParams, out: Path, *, frames: int) -> None:
    """Check that the disk has room for the output, as far as it is known before the splits are."""
    pixels = frames * params.height_px * params.width_px * (4 if has_masks(rows) else 3)
    if params.keep == "encoded":
        held_share = params.validation_share + params.test_share
        needed = sum(ingest.path(name).stat().st_size for name in ingest.files) + int(
            len(rows) * pixels * held_share
        )
        require_space(out, needed, f"{len(rows)} images")
    else:
        # The images are written twice: to `work` while the splits are not known yet, then packed.
        require_space(out, 2 * len(rows) * pixels, f"{len(rows)} unified images")


def _write_splits(
    out: Path,
    rows: Rows,
    kept: Int64[np.ndarray, "kept"],
    splits: Sequence[str],
    store: Store,
    survey: Survey,
    params: PrepareParams,
    facts: Facts,
) -> Facts:
    """Write inputs and truth of each split; return the facts of the inputs of the training split."""
    members = {name: kept[[split == name for split in splits]] for name in SPLITS}
    picture = picture_of(facts)
    columns = {**survey.given.columns, **survey.truth.columns}
    if picture is not None and survey.images is not None:
        columns[picture] = survey.images
    for name in SPLITS:
        write_split(out / name, columns, members[name])
    measured = {**facts, **survey.given.measured(members["train"])}
    if picture is None:
        return measured
    if survey.images is not None:
        image = measure(np.load(out / "train" / f"{picture}.npy", mmap_mode="r"))
    else:
        for name in SPLITS:
            if name != "train":
                write_unified(rows, members[name], store, survey, params, out / name / f"{picture}.npy")
        keep_encoded(rows, members["train"], store, survey, params, out / FOLDER)
        image = facts_of(survey, members["train"], params)
    measured[picture] = replace(image, levels=params.levels, background=params.background, fit=params.fit)
    return measured


def _settle(
    problem: Problem, survey: Survey, members: Int64[np.ndarray, "members"], facts: Facts
) -> tuple[Problem, list[Remark]]:
    """Return the problem, completed by what the training split shows, and what is said about it."""
    shown = {name: column[members] for name, column in survey.truth.columns.items()}
    settled, said = problem.settle(shown, facts)
    return settled, [Remark("noticed", text) for text in said]


def _list_dropped(rows: Rows, selection: Selection, path: Path) -> None:
    """Write the list of images that are left out, and say how many there are."""
    write_dropped(rows, selection.dropped, selection.others, path)
    if selection.dropped:
        text = f"{len(selection.dropped)} of {len(rows)} images were dropped"
        print(f"{text}; artifacts/prepare/{DROPPED} lists them with the reasons", file=sys.stderr)


def _mark_groups(group: Any) -> dict[str, bool]:
    """Return the mark of data with groups: measurements read the table of rows only if there are any."""
    return {GROUPED: True} if group.null_count < len(group) else {}


def _summarise(dropped: Mapping[int, str], survey: Survey) -> dict[str, int]:
    """Return how many images were dropped for each reason."""
    reasons = ("cannot be used" if i in survey.bad else reason for i, reason in dropped.items())
    return dict(sorted(Counter(reasons).items()))


def _write_rows(
    path: Path, rows: Rows, kept: Int64[np.ndarray, "kept"], splits: Sequence[str], survey: Survey
) -> None:
    import pyarrow as pa

    seen: Counter[str] = Counter()
    index = []
    for split in splits:
        index.append(seen[split])
        seen[split] += 1
    table = rows.take(kept).table
    strata = [survey.truth.strata[i] for i in kept]
    unlike = {each: number for number, each in enumerate(dict.fromkeys(strata))}
    columns = {
        "id": table["id"],
        "split": list(splits),
        "index": index,
        "path": table["path"],
        "labels": table["labels"],
        "strata": pa.array([sorted(each) for each in unlike]).take(
            pa.array([unlike[each] for each in strata])
        ),
        "group": table["group"],
        "digest": pa.array(survey.digests[kept], pa.binary()).cast(pa.string()),
        "truth": pa.array(survey.truth.digests[kept], pa.binary()).cast(pa.string()),
    }
    write_table(path, columns)


def _write_sheet(out: Path, facts: Facts, strata: Sequence[frozenset[str]], problem: Problem) -> None:
    """Write one line of images per class, picked evenly from the training split."""
    columns = open_columns(out, facts)
    lines = []
    for name in sorted({name for each in strata for name in each})[:_SHEET_LINES]:
        members = [i for i, each in enumerate(strata) if name in each]
        picked = members[:: max(1, len(members) // _SHEET_COLUMNS)][:_SHEET_COLUMNS]
        examples = [{key: value[i] for key, value in columns.items()} for i in picked]
        lines.append((name, [mark(draw(each, facts), each, problem.truth) for each in examples]))
    write_sheet(lines, out / "sheet.png")

"""Test whether recent examples are still like those that the champion was trained for, and draw a plot.

The reference is the validation split: it is like the training split, but nothing was fitted to it. The tests
compare properties of the inputs (e.g. brightness, contrast, sharpness of images), the confidence of the
champion, and its answers as vectors. If the model's file also outputs embeddings, they are compared, too. The
probability that any of the tests raises a false alarm is at most `false_alarms` (Holm's correction).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from temper import artifacts
from temper.config import LEAST_RECENT, load
from temper.data.dataset.packed import open_split
from temper.data.examples import list_examples, read_example
from temper.data.images.reading import Unreadable
from temper.fields import PRESENT, Field, valid_column
from temper.gate.significance import holm
from temper.inputs.facts import Facts, count_examples
from temper.maths.two_samples import energy_test, ks_test
from temper.networks.onnx_model import Deployed
from temper.problems.deployed_answer import read_answer
from temper.stages.load_trained import read_facts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERS, PLOT = "drift.json", "drift.png"
_MOST_RECENT, _MOST_REFERENCE, _BATCH = 500, 1000, 64
_MAX_PIXELS, _MAX_SIDE_PX = 100_000_000, 50_000


@dataclass(frozen=True)
class Finding:
    """Result of one test."""

    name: str
    statistic: float
    p: float
    adjusted: float
    """p-value after Holm's correction. If it is at most `false_alarms`, it is an alarm."""
    reference: float | None
    """Median of the reference images; None for vectors."""
    recent: float | None
    """Median of the recent images; None for vectors."""


def measure_drift(
    project: Path, model: Path, files: Sequence[Path], out: Path, *, false_alarms: float
) -> dict[str, Any]:
    """Compare recent images with the reference; write `drift.json` and `drift.png`.

    Args:
        project: Folder with params.yaml and the artifact of prepare.
        model: File of the champion.
        files: Recent images, the newest last; the newest 500 are used.
        out: Folder for the results.
        false_alarms: Largest allowed probability of a false alarm in all tests together.

    Returns:
        The content of `drift.json`.

    Raises:
        ValueError: If fewer than 30 of the images can be read.
    """
    prepare, deployed = (
        artifacts.load("prepare", project / "artifacts" / "prepare"),
        Deployed(model, part=_BATCH),
    )
    facts, held = read_facts(prepare), open_split(prepare, "validation")
    recent, unreadable = read_recent(files[-_MOST_RECENT:], facts)
    count = count_examples(recent)
    if count < LEAST_RECENT:
        lost = (
            f" ({len(unreadable)} cannot be read, the first because: {unreadable[0]})" if unreadable else ""
        )
        raise ValueError(
            f"{count} recent examples can be read{lost}, at least {LEAST_RECENT} are needed; add recent ones"
        )
    total = count_examples(held)
    chosen = np.sort(np.random.default_rng(load(project).seed).permutation(total)[:_MOST_REFERENCE])
    reference = {name: held[name][chosen] for name in facts}
    ours, theirs = (describe(given, facts, deployed) for given in (reference, recent))
    findings = run_tests(ours, theirs)
    alarms = [finding.name for finding in findings if finding.adjusted <= false_alarms]
    value = {
        "images": count,
        "unreadable": len(unreadable),
        "reference": len(chosen),
        "false_alarms": false_alarms,
        "alarms": alarms,
        "tests": [asdict(finding) for finding in findings],
    }
    out.mkdir(parents=True, exist_ok=True)
    artifacts.write_atomically(out / NUMBERS, json.dumps(value, indent=2) + "\n")
    from temper.stress.plots import save

    save(draw(ours, theirs, findings, false_alarms), out / PLOT)
    return value


def read_recent(paths: Sequence[Path], facts: Facts) -> tuple[dict[str, np.ndarray], list[str]]:
    """Read recent examples as the model sees them, as prepare reads them.

    Returns:
        The packed inputs, [examples, ...], and for each example that cannot be read the reason.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in facts}
    unreadable = []
    for example in list_examples(paths, facts):
        try:
            packed, _ = read_example(example, facts, max_pixels=_MAX_PIXELS, max_side_px=_MAX_SIDE_PX)
        except (ValueError, Unreadable) as error:
            unreadable.append(str(error))
            continue
        for name, value in packed.items():
            found[name].append(value)
    columns = {name: np.stack(each) if each else facts[name].example(0) for name, each in found.items()}
    return columns, unreadable


def describe(given: Mapping[str, np.ndarray], facts: Facts, model: Deployed) -> dict[str, Tensor]:
    """Return the tested properties of examples by name: numbers [examples], vectors [examples, features]."""
    found: dict[str, Tensor] = {}
    for name, each in facts.items():
        own = each.describe(given[name])
        found |= own if len(facts) == 1 else {f"{name}: {what}": value for what, value in own.items()}
    answers, features = [], []
    for start in range(0, count_examples(given), _BATCH):
        shown = {name: column[start : start + _BATCH] for name, column in given.items()}
        answers.append(model(shown))
        features.append(model.look(shown))
    fields = read_answer(model.metadata)
    for name, field in fields.items():
        value = torch.cat([answer[name] for answer in answers])
        valid = valid_column(name, answers[0])
        counts = None if valid is None else torch.cat([answer[valid] for answer in answers]) == PRESENT
        own = describe_answer(field, value, counts)
        found |= own if len(fields) == 1 else {f"{name}: {what}": each for what, each in own.items()}
    for name in features[0]:
        value = torch.cat([each[name] for each in features]).double()
        found[name] = value.flatten(2).mean(dim=2) if value.dim() > 2 else value
    return found


def describe_answer(field: Field, value: Tensor, counts: Tensor | None = None) -> dict[str, Tensor]:
    """Return the tested properties of one output of a model, [images, ...]: numbers and vectors.

    They are the confidence and the probabilities, or the share of each class, or each measurement, or the
    places of named points; of boxes and other points how many there are and their mean, and of a sequence
    the share of each name or the mean.

    Args:
        field: What the output contains.
        value: The output.
        counts: Which entries of a ragged output count, [images, entries]; None if all do.
    """
    if field.layout == "points" and field.names:
        return {"places": value.double().flatten(1)}
    if field.layout not in ("value", "map"):
        there = torch.ones(value.shape[:2]) if counts is None else counts
        weights = there.double()[..., None] / there.sum(dim=1).clamp(min=1)[:, None, None]
        if field.names:
            value = torch.nn.functional.one_hot(value.long(), len(field.names))
        means = (value.double().reshape(*weights.shape[:2], -1) * weights).sum(dim=1)
        number = {} if field.layout == "sequence" else {"number": there.sum(dim=1).double()}
        return number | {"mean": means[:, 0] if means.shape[1] == 1 else means}
    if field.names and not value.is_floating_point():
        shares = [(value == number).flatten(1).double().mean(dim=1) for number in range(len(field.names))]
        return {"answers": torch.stack(shares, dim=1)}
    if field.layout == "map":
        value = value.flatten(2).mean(dim=2)
    vectors = value.double().flatten(1)
    if field.unit is not None:
        return {name: vectors[:, place] for place, name in enumerate(field.names)}
    return {"confidence": vectors.amax(dim=1), "answers": vectors} if field.names else {"answers": vectors}


def run_tests(reference: Mapping[str, Tensor], recent: Mapping[str, Tensor]) -> list[Finding]:
    """Run every test; return the p-values, both raw and corrected for the number of tests."""
    generator = torch.Generator().manual_seed(0)
    raw: list[tuple[str, float, float, float | None, float | None]] = []
    for name, ours in reference.items():
        theirs = recent[name]
        if ours.dim() == 1:
            raw.append((name, *ks_test(ours, theirs), float(ours.median()), float(theirs.median())))
        else:
            # Vectors are divided by the standard deviation over both samples, which no permutation changes:
            # no direction dominates the others, and the level of the test stays exact.
            scale = torch.cat([ours, theirs]).std(dim=0).clamp(min=1e-9)
            raw.append((name, *energy_test(ours / scale, theirs / scale, generator=generator), None, None))
    adjusted = holm([p for _, _, p, _, _ in raw])
    return [
        Finding(name, value, p, fixed, *medians)
        for (name, value, p, *medians), fixed in zip(raw, adjusted, strict=True)
    ]


def draw(
    reference: Mapping[str, Tensor],
    recent: Mapping[str, Tensor],
    findings: Sequence[Finding],
    false_alarms: float,
) -> "Figure":
    """Draw one panel per test: both distributions of a number, or two principal directions of vectors."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from temper.stress.plots import PALETTE, STYLE

    columns = min(3, len(findings))
    rows = -(-len(findings) // columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(3.4 * columns, 2.6 * rows + 0.4), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).flat
        for finding, axis in zip(findings, axes, strict=False):
            ours, theirs = reference[finding.name], recent[finding.name]
            if ours.dim() == 1:
                edges = np.histogram_bin_edges(torch.cat([ours, theirs]).numpy(), bins=30)
                for values, name, colour in ((ours, "reference", PALETTE[0]), (theirs, "recent", PALETTE[1])):
                    axis.hist(
                        values.numpy(),
                        edges,
                        density=True,
                        histtype="step",
                        color=colour,
                        label=name,
                        linewidth=1.6,
                    )
            else:
                centre = ours.mean(dim=0)
                directions = torch.linalg.svd(ours - centre, full_matrices=False).Vh[:2]
                for values, name, colour in ((ours, "reference", PALETTE[0]), (theirs, "recent", PALETTE[1])):
                    points = ((values - centre) @ directions.T).numpy()
                    second = points[:, 1] if points.shape[1] > 1 else np.zeros(len(points))
                    axis.plot(points[:, 0], second, ".", color=colour, label=name, markersize=2, alpha=0.6)
            alarm = finding.adjusted <= false_alarms
            axis.set_title(
                f"{finding.name}{': ALARM' if alarm else ''} (p {finding.adjusted:.2g})",
                color="#D55E00" if alarm else "#333333",
            )
            axis.set_yticks([])
        for axis in axes:
            axis.set_visible(False)
        figure.legend(
            *next(iter(figure.axes)).get_legend_handles_labels(), loc="outside upper center", ncols=2
        )
    return figure

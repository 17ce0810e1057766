"""evaluate: measure every candidate on the test split: clean, under stress and by stratum.

Each candidate is measured from the file that would be deployed. No other stage opens the test split. The
artifact contains no times and no facts about the machine, so equal files give equal artifacts.
`temper.commands.latency` measures the speed and writes the model card again with it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from temper.artifacts import DEPLOYED, Artifact
from temper.data.dataset.contact_sheet import mark
from temper.gate.rating import write_rating
from temper.problem import Problem, Targets
from temper.stages.card_content import fill_card, find_warnings
from temper.stages.holdout import HeldOut, make_ratings, open_test
from temper.stress.card import Plot, write_card, write_record
from temper.stress.evaluation import Candidate, Evaluation, evaluate
from temper.stress.pool import Pool
from temper.stress.scores import Score, figures, tabulate, write
from temper.stress.worst_examples import Example, find_worst

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WORST, _WORST_OF_SEVERAL = 24, 12
"""Number of the worst mistakes on a sheet: if a problem has one way to be wrong, and if it has several."""
RATINGS = "ratings"
"""Folder with the ratings of the candidates, which the gate compares."""
_SAMPLE_FROM = 64


def run(
    params: SimpleNamespace,
    inputs: Mapping[str, Artifact],
    out: Path,
    *,
    project: Path,
    work: Path,
    checkpoints: Path,
) -> dict[str, Any]:
    """Measure all candidates; write the long table of scores, the plots and the model card.

    Raises:
        ValueError: If the test split is empty.
    """
    prepare, quantize, test = inputs["prepare"], inputs["quantize"], open_test(inputs["prepare"])
    problem, examples = test.problem, test.examples
    # Largest first: teacher, student, quantized student.
    costs = dict(sorted(quantize.facts["candidates"].items(), key=lambda item: (-item[1]["bytes"], item[0])))
    candidates = {name: test.open(quantize.path(found["file"])) for name, found in costs.items()}
    evaluation = evaluate(
        problem,
        candidates,
        examples,
        targets=test.targets,
        strata=test.strata,
        units=test.units,
        params=params.evaluate,
        seed=params.seed,
        checkpoints=checkpoints,
    )
    scores = tabulate(evaluation.cells, confidence=params.evaluate.confidence)
    write(scores, out)
    (out / RATINGS).mkdir()
    ratings = make_ratings(evaluation, problem, prepare, params.evaluate, seed=params.seed, costs=costs)
    for name, rating in ratings.items():
        write_rating(out / RATINGS / f"{name}.safetensors", rating)
    mistakes = _find_mistakes(test, candidates[DEPLOYED], evaluation)
    plots = _draw(problem, evaluation, scores, mistakes, examples, test.targets, out, seed=params.seed)
    headline = problem.headline.name
    facts = {
        "headline": headline,
        "greater_is_better": problem.headline.greater_is_better,
        "unit": problem.headline.unit,
        "headline_title": problem.headline.title,
        "candidates": {
            name: {**figures(scores, candidate=name, headline=headline), **_cost(found)}
            for name, found in costs.items()
        },
        "images": {"clean": len(examples), "stress": len(evaluation.subset), **test.groups},
        "constant": problem.constant(prepare.facts["counts"]["test"]),
    }
    facts["warnings"] = find_warnings(facts, scores, quantize)
    card = fill_card(problem, facts, evaluation, scores, inputs, plots, confidence=params.evaluate.confidence)
    write_record(out, card)
    write_card(out, card)
    return facts


def _find_mistakes(test: HeldOut, candidate: Candidate, evaluation: Evaluation) -> dict[str, list[Example]]:
    """Return the worst examples of the deployed candidate, by the way in which it was wrong."""
    return {
        name: find_worst(
            test.problem,
            candidate,
            test.examples,
            targets=test.targets,
            errors=errors,
            count=_WORST if len(test.problem.mistakes) == 1 else _WORST_OF_SEVERAL,
            names=test.names,
            mark=mark,
        )
        for name, errors in evaluation.errors[DEPLOYED].items()
    }


def _cost(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in ("file", "bytes", "params", "macs", "digest")}


def _draw(
    problem: Problem,
    evaluation: Evaluation,
    scores: Sequence[Score],
    mistakes: Mapping[str, Sequence[Example]],
    examples: Pool,
    targets: Targets,
    out: Path,
    *,
    seed: int,
) -> tuple[Plot, ...]:
    """Write the plots and return those written. Plots without anything to show are left out."""
    from temper.stress import plots, sheets

    (out / "plots").mkdir()
    written: list[Plot] = []

    def keep(name: str, figure: "Figure", title: str, text: str) -> None:
        plots.save(figure, out / "plots" / f"{name}.png")
        written.append(Plot(f"plots/{name}.png", title, text))

    headline, conditions = problem.headline, evaluation.conditions
    if conditions:
        families = list(dict.fromkeys(item.family for item in conditions))
        text = "The mean over each family's conditions. Bands: bootstrap intervals over test images."
        keep(
            "families",
            plots.draw_families(scores, headline=headline, families=families),
            "Under stress",
            text,
        )
        figure = plots.draw_conditions(scores, headline=headline, conditions=conditions)
        keep("conditions", figure, "Under each condition", "Bands: bootstrap intervals over test images.")
    if (counts := evaluation.confusions.get(DEPLOYED)) is not None:
        figure = plots.draw_confusion(counts.numpy(), classes=problem.classes, candidate=DEPLOYED)
        keep("confusion", figure, "Confusions", "Rows add up to 100; a dot is less than half a per cent.")
    for column, found in evaluation.measured[DEPLOYED].items():
        true, field = targets[column].double().numpy(), problem.answer[column]
        figure = plots.draw_measured(true, found.numpy(), field=field, candidate=DEPLOYED)
        keep(column, figure, "Predicted and true", "One point per clean test image.")
    for name, mistake in problem.mistakes.items():
        if mistakes[name]:
            text = mistake.text.format(candidate=DEPLOYED)
            keep(name, sheets.draw_mistakes(mistakes[name]), mistake.title, text)
    if conditions:
        key = _richest(examples, evaluation)
        figure = sheets.draw_samples(examples, key=key, conditions=conditions, seed=seed)
        keep(
            "samples",
            figure,
            "What the stress looks like",
            "One test image under every condition; below each variant is the condition's strength.",
        )
    return tuple(written)


def _richest(examples: Pool, evaluation: Evaluation) -> int:
    """Return the key of the image, among the first stressed ones, whose shades are spread most evenly.

    Such an image shows best what the conditions do. Where the truth has boxes, it shows objects, if any does.
    """
    keys = evaluation.subset
    if examples.boxes is not None and (shown := examples.boxes[keys].flatten(1).any(dim=1)).any():
        keys = keys[shown]
    keys = keys[:_SAMPLE_FROM]
    shades = torch.stack(
        [torch.bincount(image.flatten() // 16, minlength=16) for image in examples.take(keys)]
    )
    return int(keys[torch.special.entr(shades / shades.sum(dim=1, keepdim=True)).sum(dim=1).argmax()])

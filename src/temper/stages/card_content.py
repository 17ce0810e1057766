"""The content of a model card: what `evaluate` knows about its data, candidates, scores and deployed file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from temper.artifacts import DEPLOYED, Artifact
from temper.networks.onnx_model import Deployed
from temper.problem import Problem
from temper.stages.load_trained import read_facts
from temper.stress.card import CLASSES, STRATA, Card, Plot
from temper.stress.cells import CLEAN, PART_OF_TRUTH, STRATUM
from temper.stress.evaluation import Evaluation
from temper.stress.scores import Score, pick

_SPLITS = ("train", "validation", "test")


def fill_card(
    problem: Problem,
    facts: Mapping[str, Any],
    evaluation: Evaluation,
    scores: Sequence[Score],
    inputs: Mapping[str, Artifact],
    plots: tuple[Plot, ...],
    *,
    confidence: float,
) -> Card:
    """Fill the model card of an evaluation.

    Args:
        problem: Problem that the candidates answer.
        facts: Facts of `evaluate`: headline, candidates, numbers of images.
        evaluation: All measurements.
        scores: The same as a table, with intervals.
        inputs: Artifacts of `prepare` and `quantize`.
        plots: Plots that were written.
        confidence: Confidence of the intervals.
    """
    prepare, quantize = inputs["prepare"], inputs["quantize"]
    headline, names = problem.headline, list(facts["candidates"])
    examples, counts = (prepare.facts[key] for key in ("examples", "counts"))
    inputs_seen = read_facts(prepare).values()
    return Card(
        kind=problem.kind,
        headline=headline.name,
        greater_is_better=headline.greater_is_better,
        unit=headline.unit,
        confidence=confidence,
        images=facts["images"],
        data={
            "digest": prepare.digest,
            "size": " + ".join(each.words for each in inputs_seen),
            "splits": {split: examples[split] for split in _SPLITS},
            "classes": len(problem.classes),
            "strata": {
                name: {split: counts[split].get(name, 0) for split in _SPLITS} for name in counts["train"]
            },
            "words": list(CLASSES if set(counts["train"]) <= set(problem.classes) else STRATA),
        },
        candidates=facts["candidates"],
        strata={
            row.condition: {name: _clean(scores, name, headline.name, row) for name in names}
            for row in scores
            if row.family == STRATUM
        },
        parts={
            row.condition: {name: _clean(scores, name, headline.name, row) for name in names}
            for row in scores
            if row.family == PART_OF_TRUTH
        },
        conditions=tuple(
            {"name": item.name, "family": item.family, "unit": item.unit, "strengths": list(item.strengths)}
            for item in evaluation.conditions
        ),
        contract=_read_contract(
            quantize.path(facts["candidates"][DEPLOYED]["file"]), facts["candidates"][DEPLOYED]
        ),
        lineage={**dict(sorted(quantize.made_from.items())), "quantize": quantize.digest},
        training={**quantize.facts.get("training", {}), **_describe_precision(quantize)},
        plots=plots,
        warnings=tuple(facts["warnings"]),
    )


def find_warnings(facts: Mapping[str, Any], scores: Sequence[Score], quantize: Artifact) -> list[str]:
    """Return what is wrong with the candidates: notes about their trainings, and scores that show nothing.

    Args:
        facts: Facts of `evaluate`: headline, candidates, and the best constant answer with its scores.
        scores: All measurements as a table.
        quantize: Artifact of `quantize`.
    """
    trained = quantize.facts.get("training", {})
    found = list(dict.fromkeys(note for each in trained.values() for note in each.get("notes", ())))
    if not facts["constant"]:
        return found
    (answer, floors), headline = facts["constant"], facts["headline"]
    sign = 1 if facts["greater_is_better"] else -1
    clean: dict[str, Any] = {"family": CLEAN, "condition": CLEAN, "severity": 0}
    for name in facts["candidates"]:
        rows = {metric: pick(scores, candidate=name, metric=metric, **clean) for metric in floors}
        score, floor = rows[headline], floors[headline]
        if sign * (score.value - floor) > 0 and not score.low <= floor <= score.high:
            continue
        verb = "cannot be told from" if sign * (score.value - floor) > 0 else "is no better than"
        others = [
            f"; its {metric} {row.value:.4f} ({row.low:.4f} to {row.high:.4f}) is better than the "
            f"{floors[metric]:.4f} of that answer"
            for metric, row in rows.items()
            if metric != headline and sign * ((row.low if sign > 0 else row.high) - floors[metric]) > 0
        ]
        found.append(
            f"{name}: the {headline} {score.value:.4f} ({score.low:.4f} to {score.high:.4f}) {verb} "
            f"that of always answering {answer!r}, {floor:.4f}{''.join(others)}"
        )
    return found


def _describe_precision(quantize: Artifact) -> dict[str, Any]:
    """Return the number format in which the quantized model computes, and the reason for it."""
    found = quantize.facts.get("quantization", {})
    return {DEPLOYED: {key: found[key] for key in ("precision", "why")}} if found else {}


def _clean(scores: Sequence[Score], candidate: str, headline: str, like: Score) -> dict[str, float]:
    """Return a candidate's headline for the stratum, or the part of the truth, of a row."""
    row = pick(
        scores, candidate=candidate, metric=headline, family=like.family, condition=like.condition, severity=0
    )
    return {"value": row.value, "low": row.low, "high": row.high}


def _read_contract(path: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Read the inputs, outputs and metadata that the deployed file declares."""
    deployed = Deployed(path)

    def describe(values: Sequence[Any]) -> list[dict[str, Any]]:
        return [
            {"name": item.name, "type": item.type, "shape": [str(size) for size in item.shape]}
            for item in values
        ]

    return {
        "file": path.name,
        "digest": facts["digest"],
        "inputs": describe(deployed.session.get_inputs()),
        "outputs": describe(deployed.session.get_outputs()),
        "metadata": dict(sorted(deployed.metadata.items())),
    }

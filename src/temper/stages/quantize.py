"""quantize: export teacher and student as fp32 ONNX files, and the student as an int8 file.

The fp32 files are compared with torch, the int8 file with the float student.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from temper.artifacts import DEPLOYED, Artifact
from temper.compress.cost import measure_cost
from temper.compress.export import Deployable, export
from temper.data.dataset.packed import open_inputs, open_split
from temper.inputs.facts import Facts, count_examples, count_values
from temper.inputs.image_input import Pixels
from temper.inputs.stored import write_inputs
from temper.maths.batching import fit_batch
from temper.maths.random import derive
from temper.networks.features import check_names
from temper.networks.onnx_model import FEATURES, Deployed
from temper.problem import Problem
from temper.problems import load as load_problem
from temper.problems.deployed_answer import write_answer
from temper.stages.int8_comparison import Comparison
from temper.stages.int8_student import quantize_student
from temper.stages.load_trained import read_facts, read_network
from temper.stages.units import read_units

_PARENTS = {"teacher": ("train",), "student": ("train", "distill"), DEPLOYED: ("train", "distill")}


def run(
    params: SimpleNamespace, inputs: Mapping[str, Artifact], out: Path, *, project: Path, work: Path
) -> dict[str, Any]:
    """Export the float networks and search for an int8 student that is no worse than the float one.

    An int8 student that is worse neither stops the stage nor is published. If no int8 network holds, the
    float student with fp16 weights is the candidate.

    Raises:
        ValueError: If a float file's answers differ from torch's by more than the parameters allow.
    """
    settings, prepare = params.quantize, inputs["prepare"]
    problem, facts = load_problem(prepare.facts["problem"]), read_facts(prepare)
    columns = open_split(prepare, "validation")
    features: dict[str, tuple[str, ...]] = {"teacher": (), "student": settings.features}
    deployables = {
        name: _deployable(name, inputs, problem, facts, wanted) for name, wanted in features.items()
    }
    gaps: dict[str, float] = {}
    for name, deployable in deployables.items():
        path = out / f"{name}.onnx"
        export(deployable, facts, path, _metadata(name, problem, facts, inputs, deployable.features))
        some = {key: columns[key][: settings.parity_images] for key in facts}
        gaps[name] = _gap(path, deployable, some, facts)
        _check(name, gaps[name], settings.max_parity_gap)
    given = open_inputs(prepare)
    total = count_examples(given)
    chosen = np.random.default_rng(derive(params.seed, "calibration")).permutation(total)
    chosen = np.sort(chosen[: settings.calibration_images])
    found = quantize_student(
        out,
        {key: np.asarray(column[chosen]) for key, column in given.items()},
        Comparison(
            out / "student.onnx",
            problem,
            columns,
            facts,
            settings,
            seed=derive(params.seed, "int8"),
            units=read_units(prepare, "validation"),
        ),
        settings,
        headline=problem.headline.name,
        metadata=_metadata(DEPLOYED, problem, facts, inputs, settings.features),
    )
    gaps[DEPLOYED] = found["gap"]
    costs = {name: asdict(measure_cost(out / f"{name}.onnx", facts)) for name in gaps}
    return {
        "candidates": {
            name: {"file": f"{name}.onnx", **costs[name], "gap": round(gaps[name], 7)} for name in gaps
        },
        "quantization": found,
        "training": {name: dict(inputs[_PARENTS[name][-1]].facts) for name in deployables},
    }


def _deployable(
    name: str, inputs: Mapping[str, Artifact], problem: Problem, facts: Facts, features: tuple[str, ...]
) -> Deployable:
    made = inputs[_PARENTS[name][-1]]
    network = read_network(made, inputs["prepare"])
    try:
        return Deployable(
            network, problem, facts, made.facts["temperature"], check_names(network, features)
        ).eval()
    except ValueError as error:
        raise ValueError(f"quantize.features: {error}") from error


def _metadata(
    name: str, problem: Problem, facts: Facts, inputs: Mapping[str, Artifact], features: tuple[str, ...]
) -> dict[str, str]:
    return {
        "temper.candidate": name,
        **write_answer(problem),
        **write_inputs(_as_normalised(facts, inputs[_PARENTS[name][-1]].facts.get("transfer", {}))),
        "temper.data": inputs["prepare"].digest,
        "temper.parents": json.dumps({parent: inputs[parent].digest for parent in _PARENTS[name]}),
        **({FEATURES: json.dumps(features)} if features else {}),
    }


def _as_normalised(facts: Facts, started: Mapping[str, Any]) -> Facts:
    """Return the inputs as the network normalises them.

    A network that started from pretrained weights uses the mean and standard deviation of their images.
    """
    known: dict[str, Any] = {key: tuple(started[key]) for key in ("mean", "std") if started.get(key)}
    return {
        name: replace(each, **known) if isinstance(each, Pixels) else each for name, each in facts.items()
    }


def _gap(path: Path, deployable: Deployable, given: Mapping[str, np.ndarray], facts: Facts) -> float:
    """Return the largest difference of a file's answers from torch's."""
    deployed, largest, total = Deployed(path), [], count_examples(given)
    size = fit_batch([count_values(facts)], total)
    for start in range(0, total, size):
        # torch needs writable memory, so the packed inputs, which are mapped read-only, are copied.
        batch = {name: np.array(column[start : start + size]) for name, column in given.items()}
        with torch.inference_mode():
            # The deployable returns features after the answers. `outputs` names answers only: zip drops them.
            found = deployable(*map(torch.from_numpy, batch.values()))
            wanted = dict(zip(deployed.outputs, found, strict=False))
        largest.append(float(deployable.problem.gap(deployed(batch), wanted).max()))
    return float(np.max(largest))  # unlike max, it does not lose a NaN


def _check(name: str, gap: float, most: float) -> None:
    if not gap <= most:
        raise ValueError(
            f"quantize.max_parity_gap = {most:.2g}: the answers of {name}.onnx differ from torch's by "
            f"{gap:.2g}; nothing was published. If you accept this difference, raise quantize.max_parity_gap"
        )

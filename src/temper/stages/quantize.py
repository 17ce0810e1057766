"""quantize: teacher and student as fp32 ONNX files, the student as an int8 one, each held against torch on real pictures."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from temper.artifacts import Artifact
from temper.compress.cost import measure_cost
from temper.compress.export import Deployable, export
from temper.compress.quantize import quantize
from temper.data.packing import open_pictures, open_split
from temper.maths.random import derive
from temper.networks.deployed import FEATURES, Deployed
from temper.networks.features import check_names
from temper.problem import Answer, Facts, Problem
from temper.problems import load as load_problem
from temper.stages.trained import read_facts, read_network

_PARENTS = {"teacher": ("train",), "student": ("train", "distill"), "quantized": ("train", "distill")}


def run(
    params: SimpleNamespace, inputs: Mapping[str, Artifact], out: Path, *, project: Path, work: Path
) -> dict[str, Any]:
    """Export and quantize; a file whose answers leave torch's is an error and nothing is published.

    Raises:
        ValueError: If a file's answers differ from torch's by more than the parameters allow.
    """
    settings, prepare = params.quantize, inputs["prepare"]
    problem, facts = load_problem(prepare.facts["problem"]), read_facts(prepare)
    held = open_split(prepare, "validation")["image"][: settings.parity_images]
    features: dict[str, tuple[str, ...]] = {"teacher": (), "student": settings.features}
    deployables = {name: _deployable(name, inputs, problem, facts, wanted) for name, wanted in features.items()}
    gaps: dict[str, float] = {}
    for name, deployable in deployables.items():
        path = out / f"{name}.onnx"
        export(deployable, facts, path, _metadata(name, problem, facts, inputs, deployable.features))
        gaps[name] = _gap(path, deployable, held)
        _check(name, gaps[name], settings.max_parity_gap, "quantize.max_parity_gap")
    images = open_pictures(prepare)
    chosen = np.random.default_rng(derive(params.seed, "calibration")).permutation(len(images))
    calibration = images[np.sort(chosen[: settings.calibration_images])]
    metadata = _metadata("quantized", problem, facts, inputs, settings.features)
    quantize(out / "student.onnx", out / "quantized.onnx", calibration, method=settings.calibration, metadata=metadata)
    gaps["quantized"] = _gap(out / "quantized.onnx", deployables["student"], held, mean=True)
    _check("quantized", gaps["quantized"], settings.max_int8_gap, "quantize.max_int8_gap")
    costs = {name: asdict(measure_cost(out / f"{name}.onnx", facts)) for name in gaps}
    return {
        "candidates": {name: {"file": f"{name}.onnx", **costs[name], "gap": round(gaps[name], 7)} for name in gaps},
        "training": {name: dict(inputs[_PARENTS[name][-1]].facts) for name in deployables},
    }


def _deployable(
    name: str, inputs: Mapping[str, Artifact], problem: Problem, facts: Facts, features: tuple[str, ...]
) -> Deployable:
    made = inputs[_PARENTS[name][-1]]
    network = read_network(made, inputs["prepare"])
    try:
        return Deployable(network, problem, facts, made.facts["temperature"], check_names(network, features)).eval()
    except ValueError as error:
        raise ValueError(f"quantize.features: {error}") from error


def _metadata(
    name: str, problem: Problem, facts: Facts, inputs: Mapping[str, Artifact], features: tuple[str, ...]
) -> dict[str, str]:
    # A network that was started from others' weights normalises pixels as those are used to.
    started = inputs[_PARENTS[name][-1]].facts.get("transfer", {})
    return {
        "temper.candidate": name,
        "temper.kind": problem.kind,
        "temper.classes": json.dumps(problem.classes),
        "temper.input": json.dumps(["N", "H", "W", facts.channels]),
        "temper.size_px": json.dumps([facts.height_px, facts.width_px]),
        "temper.mean": json.dumps(started.get("mean") or facts.mean),
        "temper.std": json.dumps(started.get("std") or facts.std),
        "temper.data": inputs["prepare"].digest,
        "temper.parents": json.dumps({parent: inputs[parent].digest for parent in _PARENTS[name]}),
        **({FEATURES: json.dumps(features)} if features else {}),
    }


def _gap(path: Path, deployable: Deployable, images: np.ndarray, *, mean: bool = False) -> float:
    """How far a file's answers are from torch's: the largest difference, or the mean over pictures of the largest."""
    # A copy: the packed pictures are mapped read-only, and torch wants to own what it is given.
    deployed, batch = Deployed(path), np.array(images)
    with torch.inference_mode():
        # Features come after the answers; what is registered is what is answered.
        wanted = dict(zip(deployed.outputs, deployable(torch.from_numpy(batch)), strict=False))
    gaps = _differences(deployed(batch), wanted)
    return float(gaps.mean() if mean else gaps.max())


def _differences(said: Answer, wanted: Mapping[str, Tensor]) -> Tensor:
    """Per picture: the largest difference of a probability; for whole numbers (classes of pixels) the share that differs."""
    found = []
    for name, value in wanted.items():
        if value.is_floating_point():
            found.append((said[name] - value).abs().flatten(1).amax(dim=1))
        else:
            found.append((said[name] != value).flatten(1).float().mean(dim=1))
    return torch.stack(found).amax(dim=0).double()


def _check(name: str, gap: float, most: float, rule: str) -> None:
    if not gap <= most:
        raise ValueError(
            f"{name}.onnx answers other than torch does: the gap is {gap:.2g}, {rule} allows {most:.2g}; "
            f"nothing was published. Raise {rule} if you accept that, or take more quantize.calibration_images"
        )

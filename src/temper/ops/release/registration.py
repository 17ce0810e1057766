"""Registers the quantized model in MLflow as a version; the gate decides about the champion (`promotion.py`).

Registration is idempotent by the SHA-256 of the ONNX file: a model that is already registered is not changed,
and an interrupted registration is completed. The registry stores exactly the bytes that were measured.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import mlflow.onnx
import numpy as np
import onnx
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import Schema, TensorSpec

from temper import artifacts
from temper.artifacts import DEPLOYED, Artifact, digest_file
from temper.config import Params
from temper.ops import dvc
from temper.ops.candidates import CANDIDATES
from temper.ops.mlflow import model_versions
from temper.ops.mlflow.model_versions import Registered
from temper.ops.project import Project
from temper.ops.release import promotion, provenance, split_history

_REQUIREMENTS = ("onnx", "onnxruntime", "numpy")
_FILE = "model.onnx"
_NOTE = "registered_model_meta"
"""File that MLflow writes again whenever the version is loaded, so its digest is not checked."""


def register(client: MlflowClient, project: Project, params: Params, run: str) -> tuple[Registered, str]:
    """Make the quantized model a version of the registered model, with its aliases.

    Args:
        client: MLflow client of the project's store.
        project: Project whose model is registered.
        params: Parameters of the project: `project` is the registered model's name, `gate` has the rules.
        run: Id of the quantized candidate's child run.

    Returns:
        The version, and the gate's verdict in one line.

    Raises:
        ValueError: If the file in the artifacts is not the one that was evaluated.
    """
    evaluated = artifacts.load("evaluate", project.artifacts / "evaluate", check_files=False)
    facts = evaluated.facts["candidates"][DEPLOYED]
    name, digest = params.project, facts["digest"]
    found = model_versions.find(project, name, digest)
    if found is not None and not found.loadable:
        found = None  # MLflow's files of the version are damaged, so a new version gets the same bytes
    if found is not None and not found.whole:
        _restore_file(found, project)
    if found is not None and found.finished:
        return found, "it was registered before"
    if found is None:
        _create(client, project, params, evaluated, run)
        found = model_versions.find(project, name, digest)
    if found is None:
        raise AssertionError(f"MLflow made a version of {name}, but its database does not show it")
    provenance.keep(client, project, params, run)
    client.set_registered_model_alias(name, promotion.CHALLENGER, str(found.version))
    sentence = promotion.decide(client, project, params, found)
    done = model_versions.find(project, name, digest)
    return done or found, sentence


def _restore_file(version: Registered, project: Project) -> None:
    """Restore a version's missing or damaged ONNX file from quantize's artifact, which has the same bytes."""
    quantized = artifacts.load("quantize", project.artifacts / "quantize", check_files=False)
    for name in quantized.files:
        if digest_file(quantized.path(name)) == version.digest:
            version.file.parent.mkdir(parents=True, exist_ok=True)
            temporary = version.file.with_name(f".{version.file.name}")
            shutil.copyfile(quantized.path(name), temporary)
            temporary.replace(version.file)
            return
    raise ValueError(
        f"{version.file} is missing or damaged, and artifacts/quantize does not contain it; delete "
        f"artifacts/quantize and run `{project.make('pipeline')}`"
    )


def _create(
    client: MlflowClient, project: Project, params: Params, evaluated: Artifact, run: str
) -> ModelVersion:
    facts, headline = evaluated.facts["candidates"][DEPLOYED], evaluated.facts["headline"]
    quantized = artifacts.load("quantize", project.artifacts / "quantize", check_files=False)
    file = quantized.path(facts["file"])
    if digest_file(file) != facts["digest"]:
        raise ValueError(f"{file} is not the file that was evaluated; run `{project.make('pipeline')}` again")
    model_id, beside = _log_model(client, project, file, run)
    score = facts[headline]
    tags = {
        "digest": facts["digest"],
        "data": _data(project),
        "candidate": DEPLOYED,
        "files": json.dumps(beside),
        "dvc": str(dvc.out_digest(project, "quantize")),
        "headline": headline,
        headline: repr(score["value"]),
    }
    try:
        client.create_registered_model(
            params.project, description=f"Models of the project {params.project}, int8 ONNX."
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    experiment = client.get_run(run).info.experiment_id
    description = (
        f"{headline} {score['value']:.4f} ({100 * params.evaluate.confidence:g} % interval "
        f"{score['low']:.4f} to {score['high']:.4f}) on the test split, {facts['bytes']:,} bytes, "
        f"{facts['macs']:,} multiply-adds. "
        f"[Model card](#/experiments/{experiment}/runs/{run}/artifacts/card.html). "
        "Input `image`: uint8 pixels [N, H, W, C]."
    )
    source = f"models:/{model_id}"
    made = client.create_model_version(
        params.project, source, run, tags=tags, description=description, model_id=model_id
    )
    # The version's number distinguishes the candidates of several pipeline runs in MLflow's lists.
    client.update_run(run, name=f"{DEPLOYED}, version {made.version}")
    return made


def _log_model(client: MlflowClient, project: Project, file: Path, run: str) -> tuple[str, dict[str, str]]:
    """Log an ONNX file, byte for byte, as a model of a run, with the weights of the networks behind it.

    Returns:
        The model's id, and the other files of the stored model with their SHA-256.
    """
    network = onnx.load(file)
    info = mlflow.onnx.log_model(
        network,
        name=DEPLOYED,
        signature=read_signature(network),
        input_example=_example(network),
        pip_requirements=[f"{package}=={_version(package)}" for package in _REQUIREMENTS],
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
        run_id=run,
        model_type=DEPLOYED,
    )
    with tempfile.TemporaryDirectory() as name:
        # MLflow parses the network and writes it again, but the released bytes must be the measured ones.
        shutil.copyfile(file, Path(name) / _FILE)
        for candidate, stage in CANDIDATES.items():
            # The float networks behind the model, from which another training may start.
            made = artifacts.load(stage, project.artifacts / stage, check_files=False)
            if artifacts.WEIGHTS in made.files:
                shutil.copyfile(made.path(artifacts.WEIGHTS), Path(name) / f"{candidate}.safetensors")
        split_history.write_trained(project, Path(name) / split_history.TRAINED)
        client.log_model_artifacts(info.model_id, name)
    stored = Path(mlflow.artifacts.download_artifacts(info.model_uri))
    others = sorted(path for path in stored.iterdir() if path.is_file() and path.name not in (_FILE, _NOTE))
    return str(info.model_id), {path.name: digest_file(path) for path in others}


def read_signature(network: onnx.ModelProto) -> ModelSignature:
    """Return the input and output tensors of a network; dynamic axes are -1."""
    return ModelSignature(
        inputs=Schema([_spec(value) for value in network.graph.input]),
        outputs=Schema([_spec(value) for value in network.graph.output]),
    )


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    return TensorSpec(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), _shape(tensor, -1), value.name)


def _shape(tensor: Any, dynamic: int) -> tuple[int, ...]:
    return tuple(axis.dim_value if axis.HasField("dim_value") else dynamic for axis in tensor.shape.dim)


def _example(network: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return a grey image for every input; it fits the signature and contains no user's data."""
    example = {}
    for value in network.graph.input:
        shape = _shape(value.type.tensor_type, 32)
        example[value.name] = np.full((1, *shape[1:]), 128, _spec(value).type)
    return example


def _data(project: Project) -> str:
    return str(dvc.out_digest(project, "prepare"))


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)

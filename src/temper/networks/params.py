"""Parameters of networks: which backbone, how wide, how deep."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

Positive = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class SmallResNet:
    """Residual network for pictures up to about 64 px: no early stride; one stage per width, halving the size between stages."""

    family: Literal["small-resnet"]
    widths: tuple[Positive, ...]
    """Channels of each stage."""
    depths: tuple[Positive, ...]
    """Residual blocks of each stage."""


@dataclass(frozen=True, kw_only=True)
class Timm:
    """Any backbone of timm that can give feature maps."""

    family: Literal["timm"]
    name: str
    """As in `timm.list_models()`."""
    weights: str | None = None
    """A safetensors file with weights to start from, relative to the project; null starts at random."""


AnyBackbone = Annotated[SmallResNet | Timm, Field(discriminator="family")]

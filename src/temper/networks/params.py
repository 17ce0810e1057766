"""Parameters of networks: which backbone, how wide, how deep; what it starts from, and how that is unfrozen."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from temper.problem import Attention

Positive = Annotated[int, Field(ge=1)]
Some = Annotated[tuple[Positive, ...], Field(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class SmallResNet:
    """Residual network for images up to about 64 px: no early stride; one stage per width, halving the size between stages."""

    family: Literal["small-resnet"]
    widths: Some
    """Channels of each stage."""
    depths: Some
    """Residual blocks of each stage."""
    attention: Attention = "none"
    """At the end of each block, before its shortcut is added."""


@dataclass(frozen=True, kw_only=True)
class StemParams:
    """The first layer of a small-vgg."""

    channels: Positive = 18
    size_px: Positive = 3
    """Side of its filters."""
    stride: Positive = 1
    """Above 1 it takes the place of the halving in the first stage."""
    whitened: bool = True
    """Its filters are computed from training images (principal directions of patches, each with its negative), and stay as they are."""


@dataclass(frozen=True, kw_only=True)
class SmallVGG:
    """Plain stacks of 3x3 convolutions for images up to about 64 px, behind a first layer without training: soonest trained on processors."""

    family: Literal["small-vgg"]
    stem: StemParams = field(default_factory=StemParams)
    widths: Some
    """Channels of each stage; each begins by halving the size."""
    depths: Some
    """Convolutions of each stage."""


@dataclass(frozen=True, kw_only=True)
class Timm:
    """Any backbone of timm that can give feature maps."""

    family: Literal["timm"]
    name: str
    """As in `timm.list_models()`."""
    head_layers: bool = False
    """Keep the layers between the coarsest feature maps and the classifier, where there are any (EfficientNet's last convolution)."""


AnyBackbone = Annotated[SmallResNet | SmallVGG | Timm, Field(discriminator="family")]

MLFLOW = "models:/"
"""How a reference to a version in MLflow's registry begins."""
PACKAGE = "package:"
"""How the name of an installed package that brings weights begins."""
HUB = "timm"
"""The weights that timm's hub has of the backbone; `timm@REVISION` pins them."""
NEWEST = "main"
"""The branch on the hub that is meant where no revision is named."""
_REVISION = re.compile(r"(?!.*\.\.)[\w.-]+(/[\w.-]+)*")


def hub_revision(weights: str) -> str | None:
    """The revision of a backbone's repository on timm's hub that a reference names; None for all other references.

    Example:
        >>> hub_revision("timm@v1.0"), hub_revision("timm"), hub_revision("timm/weights.pth")
        ('v1.0', 'main', None)
    """
    if weights == HUB:
        return NEWEST
    return weights.removeprefix(f"{HUB}@") if weights.startswith(f"{HUB}@") else None


@dataclass(frozen=True, kw_only=True)
class TransferParams:
    """What the network starts from, and how it is unfrozen. A layer is a block of the backbone, or its stem."""

    weights: str | None = None
    """A `.safetensors` or `.pth` file, relative to the project or absolute; `package:NAME` of an installed package; `timm`, what timm's hub
    has of this backbone, or `timm@REVISION`; or a file of a version in MLflow, `models:/NAME@ALIAS/FILE` or `models:/NAME/VERSION/FILE`.
    null starts at random."""
    least_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the backbone's weights that must be found in them."""
    keep_head: bool = False
    """Take what stands behind the backbone, too, where its shape agrees; right only for the same classes in the same order."""
    head_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs in which the backbone is frozen and the head learns alone."""
    unfreeze_epochs: Positive | None = 1
    """Epochs over which the backbone's layers are then unfrozen, from the head down; 1 unfreezes all at once, null none ever."""
    lr_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Learning rate of a layer as a share of that of the layer above it; the head has the whole."""
    freeze_statistics: bool = False
    """Batch normalisation of the backbone keeps the statistics it came with."""

    def __post_init__(self) -> None:
        if self.weights is None and (self.freezes or self.freeze_statistics or self.keep_head):
            raise ValueError(
                "head_epochs, unfreeze_epochs, freeze_statistics and keep_head keep what pretrained weights know, but weights is "
                "null; name some, or leave these out"
            )
        revision = hub_revision(self.weights or "")
        if revision is not None and not _REVISION.fullmatch(revision):
            raise ValueError(
                f"weights = {self.weights!r}: after timm@ comes a revision of the backbone's repository on the hub, a commit, branch or tag; "
                "or leave out the @"
            )

    @property
    def freezes(self) -> bool:
        """Whether any layer is ever frozen."""
        return self.head_epochs > 0 or self.unfreeze_epochs != 1

    def check(self, epochs: int, backbone: AnyBackbone | None = None) -> None:
        """Raise ValueError if a training of so many epochs ends before all is unfrozen that is to be, or the hub has no such backbone."""
        if (
            hub_revision(self.weights or "") is not None
            and backbone is not None
            and not isinstance(backbone, Timm)
        ):
            raise ValueError(
                f"transfer.weights = {self.weights!r} takes the weights that timm's hub has of this section's backbone, but backbone.family = "
                f"{backbone.family!r}; set backbone.family to timm and backbone.name to one of timm's, or name other weights"
            )
        if self.unfreeze_epochs is not None and self.head_epochs + self.unfreeze_epochs > epochs:
            raise ValueError(
                f"head_epochs = {self.head_epochs} and unfreeze_epochs = {self.unfreeze_epochs} are more than the {epochs} epochs of fit; "
                "lower them, or raise fit.epochs, or set unfreeze_epochs to null to leave the backbone frozen"
            )


FROM_SCRATCH = TransferParams()


def watched_file(weights: str) -> str | None:
    """The file of pretrained weights that DVC can watch, relative to the project (or absolute); None for a package's or the hub's.

    A version in MLflow is laid there by the flow before a stage runs: its alias may move, and a stage does not know MLflow.

    Example:
        >>> watched_file("models:/clothes@champion/teacher.safetensors")
        'artifacts/weights/clothes@champion/teacher.safetensors'
    """
    if weights.startswith(PACKAGE) or hub_revision(weights) is not None:
        return None
    return f"artifacts/weights/{weights.removeprefix(MLFLOW)}" if weights.startswith(MLFLOW) else weights

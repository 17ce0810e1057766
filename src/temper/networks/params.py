"""Parameters of networks: the backbone and its size, the weights it starts from, and how it is unfrozen."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from temper.networks.head_params import Attention

Positive = Annotated[int, Field(ge=1)]
Some = Annotated[tuple[Positive, ...], Field(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class SmallResNet:
    """Residual network for images up to about 64 px, without an early stride. It has one stage per width, and
    the size is halved between stages.
    """

    family: Literal["small-resnet"]
    widths: Some
    """Channels of each stage."""
    depths: Some
    """Number of residual blocks of each stage."""
    attention: Attention = "none"
    """Attention block at the end of each residual block, before the shortcut is added."""


@dataclass(frozen=True, kw_only=True)
class StemParams:
    """The first layer of a small-vgg."""

    channels: Positive = 18
    size_px: Positive = 3
    """Side length of the filters."""
    stride: Positive = 1
    """Stride of the filters; a stride above 1 replaces the halving in the first stage."""
    whitened: bool = True
    """Whether the filters are computed from training images (principal directions of patches, each with its
    negative) and then stay fixed."""


@dataclass(frozen=True, kw_only=True)
class SmallVGG:
    """Plain stacks of 3x3 convolutions for images up to about 64 px, after a first layer that is not trained.
    It is the fastest backbone to train on a CPU.
    """

    family: Literal["small-vgg"]
    stem: StemParams = field(default_factory=StemParams)
    widths: Some
    """Channels of each stage; each stage starts by halving the size."""
    depths: Some
    """Number of convolutions of each stage."""


@dataclass(frozen=True, kw_only=True)
class Timm:
    """Any backbone of timm that can give feature maps."""

    family: Literal["timm"]
    name: str
    """Name of the backbone, as in `timm.list_models()`."""
    head_layers: bool = False
    """Keep the layers between the coarsest feature maps and the classifier, if there are any (EfficientNet's
    last convolution)."""


@dataclass(frozen=True, kw_only=True)
class TextConvolutions:
    """Convolutions along the bytes of a text, each of which halves its length. For the input `text`."""

    family: Literal["text-convolutions"]
    widths: Some = (32, 64, 64)
    """Channels of each convolution."""


@dataclass(frozen=True, kw_only=True)
class Perceptron:
    """Fully connected layers over the numbers of a row. For the input `table`."""

    family: Literal["perceptron"]
    widths: Some = (32, 32)
    """Channels of each layer."""


AnyBackbone = Annotated[
    SmallResNet | SmallVGG | Timm | TextConvolutions | Perceptron, Field(discriminator="family")
]

MLFLOW = "models:/"
"""Prefix of a reference to a model version in MLflow's registry."""
PACKAGE = "package:"
"""Prefix of a reference to an installed package with weights."""
HUB = "timm"
"""Reference to the weights of the backbone on timm's hub; `timm@REVISION` pins them."""
NEWEST = "main"
"""Branch on the hub that is used if no revision is named."""
_REVISION = re.compile(r"(?!.*\.\.)[\w.-]+(/[\w.-]+)*")


def hub_revision(weights: str) -> str | None:
    """Return the revision that a reference to timm's hub names; None for all other references.

    The revision is that of the backbone's repository on the hub.

    Example:
        >>> hub_revision("timm@v1.0"), hub_revision("timm"), hub_revision("timm/weights.pth")
        ('v1.0', 'main', None)
    """
    if weights == HUB:
        return NEWEST
    return weights.removeprefix(f"{HUB}@") if weights.startswith(f"{HUB}@") else None


@dataclass(frozen=True, kw_only=True)
class TransferParams:
    """The weights that the network starts from, and how it is unfrozen. A layer is a block of the backbone,
    or its stem.
    """

    weights: str | None = None
    """Pretrained weights: a `.safetensors` or `.pth` file, relative to the project or absolute;
    `package:NAME` for an installed package; `timm` or `timm@REVISION` for the weights of this backbone on
    timm's hub; or a file of a model version in MLflow, `models:/NAME@ALIAS/FILE` or
    `models:/NAME/VERSION/FILE`. null starts from random weights."""
    least_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Smallest share of the backbone's weights that must be found in the pretrained weights."""
    keep_head: bool = False
    """Also take the weights after the backbone, where their shapes agree; this is right only for the same
    classes in the same order."""
    head_epochs: Annotated[int, Field(ge=0)] = 0
    """Number of epochs in which the backbone is frozen and only the head is trained."""
    unfreeze_epochs: Positive | None = 1
    """Number of epochs over which the backbone's layers are then unfrozen, from the head down. 1 unfreezes
    all layers at once; null never unfreezes any."""
    lr_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Learning rate of a layer as a share of the rate of the layer above it (nearer the head); the head has
    the full rate."""
    freeze_statistics: bool = False
    """Whether the backbone's batch normalisation keeps the statistics of the pretrained weights."""

    def __post_init__(self) -> None:
        if self.weights is None and (self.freezes or self.freeze_statistics or self.keep_head):
            raise ValueError(
                "weights = null: head_epochs, unfreeze_epochs, freeze_statistics and keep_head need "
                "pretrained weights; set weights, or leave these keys out"
            )
        revision = hub_revision(self.weights or "")
        if revision is not None and not _REVISION.fullmatch(revision):
            raise ValueError(
                f"weights = {self.weights!r}: timm@ must be followed by a revision of the backbone's "
                "repository on the hub (a commit, branch or tag); correct the revision, or leave out the @"
            )

    @property
    def freezes(self) -> bool:
        """Whether any layer is ever frozen."""
        return self.head_epochs > 0 or self.unfreeze_epochs != 1

    def check(self, epochs: int, backbone: AnyBackbone | None = None) -> None:
        """Check the parameters against the number of training epochs and the backbone.

        Raises:
            ValueError: If training ends before all layers that should be unfrozen are unfrozen, or if the
                weights come from timm's hub and the backbone is not one of timm's.
        """
        if (
            hub_revision(self.weights or "") is not None
            and backbone is not None
            and not isinstance(backbone, Timm)
        ):
            raise ValueError(
                f"transfer.weights = {self.weights!r} and backbone.family = {backbone.family!r}: "
                "timm's hub has weights for timm's backbones only; "
                "set backbone.family to timm and backbone.name to one of timm's, or name other weights"
            )
        if self.unfreeze_epochs is not None and self.head_epochs + self.unfreeze_epochs > epochs:
            raise ValueError(
                f"head_epochs = {self.head_epochs} and unfreeze_epochs = {self.unfreeze_epochs}: "
                f"their sum is more than fit.epochs = {epochs}; lower them, raise fit.epochs, "
                "or set unfreeze_epochs to null to leave the backbone frozen"
            )


FROM_SCRATCH = TransferParams()


def watched_file(weights: str) -> str | None:
    """Return the file of pretrained weights that DVC can watch, relative to the project (or absolute).

    For weights of a package or the hub, return None. The flow copies a file of a model version in MLflow to
    this path before a stage runs, because its alias may move and a stage does not use MLflow.

    Example:
        >>> watched_file("models:/clothes@champion/teacher.safetensors")
        'artifacts/weights/clothes@champion/teacher.safetensors'
    """
    if weights.startswith(PACKAGE) or hub_revision(weights) is not None:
        return None
    return f"artifacts/weights/{weights.removeprefix(MLFLOW)}" if weights.startswith(MLFLOW) else weights

"""Parameters of rebalancing and augmentation before the training."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

Transforms = tuple[dict[str, Any], ...]


def known_transforms(where: str) -> Callable[[Transforms], Transforms]:
    """Return a check of a policy, which `where` names in params.yaml."""

    def check(policy: Transforms) -> Transforms:
        # Imported late: albumentations takes seconds to import, and most projects have no policy.
        if policy:
            from temper.data.augmentation.albumentations_policy import build

            build(policy, where)
        return policy

    return check


Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, kw_only=True)
class BalanceParams:
    """Settings for balancing classes of different size."""

    method: Literal[
        "none", "oversample", "undersample", "repeat-factor", "weights", "costs", "logit-adjustment"
    ] = "none"
    """`repeat-factor` is for images that show several classes, most of them frequent ones: an image is drawn
    as often as the rarest class that it shows asks for, by the root of how rare that is."""
    strength: Share = 1.0
    """For `oversample` and `undersample`: 0 leaves the counts as they are, 1 makes them equal. For
    `logit-adjustment`: factor of the offsets."""
    frequency: Annotated[float, Field(gt=0, le=1)] = 0.5
    """For `repeat-factor`: share of the images below which a class is rare. Images of a class that a quarter
    of that share shows are drawn twice as often."""
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """For `weights`: beta in the effective number (1 - beta^n) / (1 - beta) of a class with n examples."""
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    """For `costs`: `{true class: {predicted class: cost}}`. Pairs that are not named cost 0."""


@dataclass(frozen=True, kw_only=True)
class AugmentParams:
    """Rebalancing of classes, and augmented images that are made before training starts."""

    balance: BalanceParams = field(default_factory=BalanceParams)
    copies: Count = 0
    """Number of augmented copies to make and store per training image."""
    policy: Annotated[Transforms, AfterValidator(known_transforms("augment.policy"))] = ()
    """albumentations transforms in order, each `{name: ..., <argument>: ...}`."""
    workers: Count = 0
    """Number of worker processes; 0 means one per core. The images do not depend on it."""

    def __post_init__(self) -> None:
        if self.copies and not self.policy:
            raise ValueError(
                f"copies = {self.copies}, but the policy is empty, so the copies would not be augmented; "
                "name transforms in augment.policy or set augment.copies to 0"
            )

"""Augmentation policies: lists in params.yaml become albumentations transforms and are checked when parsed.

albumentations only warns about an unknown argument and then ignores it. Here an unknown argument is an
error that names the nearest known one.
"""

import difflib
import inspect
import os
import random
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np


def albumentations() -> ModuleType:
    """Import the library, late (it takes seconds), without its check for updates and without torch."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    if "albumentations" not in sys.modules:
        # The package imports torch if torch is installed, but needs it only for a transform that makes
        # tensors. None means "not installed", which the package handles.
        sys.modules["albumentations.pytorch"] = None  # type: ignore[assignment]
    import albumentations

    return albumentations


def build(policy: Sequence[Mapping[str, Any]], where: str = "augment.policy") -> list[Any]:
    """Return the transforms of a policy, in order; `{name: OneOf, transforms: [...]}` nests transforms.

    Args:
        policy: Transforms as in params.yaml.
        where: Key of the policy in params.yaml.

    Raises:
        ValueError: If a transform or an argument is unknown (the message names the nearest), or a value is
            not allowed.
    """
    return [_transform(step, f"{where}[{index}]") for index, step in enumerate(policy)]


def compose(policy: Sequence[Mapping[str, Any]], spatial: frozenset[str], where: str) -> Any:
    """Return a policy as one transform, for images and those `spatial` columns that an example has.

    Only one thread at a time may use it.
    """
    library = albumentations()
    import cv2

    cv2.setNumThreads(1)  # the processes share the cores already
    return library.Compose(build(policy, where), additional_targets=dict.fromkeys(sorted(spatial), "mask"))


def apply(
    transform: Any, example: Mapping[str, np.ndarray], spatial: frozenset[str], seed: int, where: str
) -> dict[str, np.ndarray]:
    """Transform one example. All random numbers come from `seed`; columns that do not move are copied.

    Compose.set_random_seed would give *each* transform the same stream, so that, for example, every flipped
    image would also be rotated. set_random_state shares one stream among all transforms, in order, so their
    draws are independent.

    Raises:
        ValueError: If the policy (`where` in params.yaml) fails, or changes the size or type of the image.
    """
    moving = sorted(({"image"} | spatial) & set(example))
    transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
    try:
        made = transform(**{name: example[name] for name in moving})
    except (ValueError, TypeError, RuntimeError) as error:
        shape = "x".join(map(str, example["image"].shape))
        raise ValueError(
            f"{where} fails on an image of shape {shape}: {' '.join(str(error).split())}"
        ) from error
    result = dict(example)
    for name in moving:
        result[name] = _same_kind(name, made[name], example[name], where)
    return result


def _same_kind(name: str, made: np.ndarray, given: np.ndarray, where: str) -> np.ndarray:
    if made.shape == given.shape[:2] and given.shape[2:] == (1,):
        made = made[..., None]
    if made.shape != given.shape:
        raise ValueError(
            f"{where} turns {name} of shape {given.shape} into {made.shape}, but views must keep their size; "
            "end the policy with {name: Resize, height: ..., width: ...}"
        )
    if made.dtype != given.dtype:
        raise ValueError(
            f"{where} turns {name} of type {given.dtype} into {made.dtype}; remove transforms like Normalize "
            "and ToFloat, because the network normalises its input itself"
        )
    return made


def _transform(step: Mapping[str, Any], where: str) -> Any:
    library = albumentations()
    if not isinstance(step, Mapping) or not isinstance(step.get("name"), str):
        raise ValueError(f"{where} = {step!r} names no transform; write {{name: HorizontalFlip, p: 0.5}}")
    name = step["name"]
    known = _names(library)
    if name not in known:
        raise ValueError(f"{where}: {name!r} is not a transform of albumentations{_nearest(name, known)}")
    kind = getattr(library, name)
    arguments = {key: value for key, value in step.items() if key != "name"}
    allowed = [
        key
        for key in inspect.signature(kind).parameters
        if key not in ("self", "args", "kwargs", "seed", "strict")
    ]
    for key in arguments:
        if key not in allowed:
            raise ValueError(
                f"{where}: {name} has no argument {key!r}{_nearest(key, allowed)}; "
                f"it takes {', '.join(allowed)}"
            )
    if "transforms" in arguments:
        inner = arguments["transforms"]
        if not isinstance(inner, Sequence) or isinstance(inner, str):
            raise ValueError(f"{where}.transforms = {inner!r}; expected a list of transforms")
        arguments["transforms"] = [
            _transform(each, f"{where}.transforms[{i}]") for i, each in enumerate(inner)
        ]
    try:
        return kind(**arguments)
    except (ValueError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines()[1:] if "https://" not in line]
        raise ValueError(f"{where}: {name} refuses its arguments: {' '.join(lines) or error}") from None


def _names(library: ModuleType) -> list[str]:
    """Return the names of the transforms and compositions that a policy may use."""
    roots = (library.BasicTransform, library.BaseCompose)
    return sorted(
        name
        for name, value in vars(library).items()
        if inspect.isclass(value) and issubclass(value, roots) and value not in roots
    )


def _nearest(word: str, known: Sequence[str]) -> str:
    folded = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), list(folded), n=1, cutoff=0.4)
    return f"; the nearest is {folded[near[0]]!r}" if near else ""

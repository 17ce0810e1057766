"""Policies of augmentation: a list in params.yaml becomes albumentations transforms, checked when it is parsed.

albumentations only warns about an argument it does not know and then ignores it; here that is an error that names the
nearest known one.
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
    """The library, imported late (it takes seconds), without its look for updates and without torch."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    if "albumentations" not in sys.modules:
        # Its package imports torch wherever torch is installed, only for a transform that makes tensors. A None here
        # reads as "not installed", which it expects.
        sys.modules["albumentations.pytorch"] = None  # type: ignore[assignment]
    import albumentations

    return albumentations


def build(policy: Sequence[Mapping[str, Any]], where: str = "augment.policy") -> list[Any]:
    """The transforms of a policy, in order; `{name: OneOf, transforms: [...]}` nests. `where` it stands in params.yaml.

    Raises:
        ValueError: If a transform or an argument is unknown (names the nearest), or a value is not allowed.
    """
    return [_transform(step, f"{where}[{index}]") for index, step in enumerate(policy)]


def compose(policy: Sequence[Mapping[str, Any]], spatial: frozenset[str], where: str) -> Any:
    """A policy as one transform, for images with the `spatial` columns that are there; not for several threads at once."""
    library = albumentations()
    import cv2

    cv2.setNumThreads(1)  # the processes share the cores already
    return library.Compose(build(policy, where), additional_targets=dict.fromkeys(sorted(spatial), "mask"))


def apply(
    transform: Any, example: Mapping[str, np.ndarray], spatial: frozenset[str], seed: int, where: str
) -> dict[str, np.ndarray]:
    """One example transformed, all that is random from `seed`; columns that do not move are copied.

    Compose.set_random_seed would hand *each* transform the same stream (one that flips then always also rotates);
    set_random_state shares one stream among all, in order, so their draws are independent.

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
            f"{where} turns {name} of shape {given.shape} into {made.shape}; views must keep their size: "
            "end the policy with {name: Resize, height: ..., width: ...}"
        )
    if made.dtype != given.dtype:
        raise ValueError(
            f"{where} turns {name} of type {given.dtype} into {made.dtype}; leave out transforms like Normalize and "
            "ToFloat: normalisation is part of the network"
        )
    return made


def _transform(step: Mapping[str, Any], where: str) -> Any:
    library = albumentations()
    if not isinstance(step, Mapping) or not isinstance(step.get("name"), str):
        raise ValueError(f"{where} = {step!r} names no transform; write {{name: HorizontalFlip, p: 0.5}}")
    name = step["name"]
    known = _names(library)
    if name not in known:
        raise ValueError(f"{where}: {name!r} is no transform of albumentations{_nearest(name, known)}")
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
                f"{where}: {name} has no argument {key!r}{_nearest(key, allowed)}; it takes {', '.join(allowed)}"
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
    """Transforms and compositions a policy may name."""
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

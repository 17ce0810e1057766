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

from temper.fields import VALID, Field, by_layout
from temper.maths.geometry import cut, placed, rename

_CORNERS = np.array([[0, 1], [2, 1], [0, 3], [2, 3]])
"""Places of across and down of a box's corners among its four numbers."""
_IMAGE = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
_MOVED = "image"
"""What the library calls the image that it transforms."""


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


def compose(policy: Sequence[Mapping[str, Any]], truth: Mapping[str, Field], where: str) -> Any:
    """Return a policy as one transform, for images and the columns of the truth that move with them.

    Only one thread at a time may use it.
    """
    library = albumentations()
    import cv2

    cv2.setNumThreads(1)  # the processes share the cores already
    points = (
        {"keypoint_params": library.KeypointParams("xy", remove_invisible=False)} if placed(truth) else {}
    )
    maps = dict.fromkeys(sorted(by_layout(truth, "map")), "mask")
    return library.Compose(build(policy, where), additional_targets=maps, **points)


def apply(
    transform: Any,
    example: Mapping[str, np.ndarray],
    truth: Mapping[str, Field],
    seed: int,
    where: str,
    *,
    picture: str,
) -> dict[str, np.ndarray]:
    """Transform one example. All random numbers come from `seed`; columns that do not move are copied.

    Compose.set_random_seed would give *each* transform the same stream, so that, for example, every flipped
    image would also be rotated. set_random_state shares one stream among all transforms, in order, so their
    draws are independent.

    Args:
        transform: What `compose` returned.
        example: Columns of the example.
        truth: What the columns of the truth contain.
        seed: Seed of the random numbers.
        where: Name of the policy in params.yaml.
        picture: Name of the image's column.

    Raises:
        ValueError: If the policy (`where` in params.yaml) fails, or changes the size or type of the image.
    """
    maps, size = sorted(by_layout(truth, "map") & set(example)), example[picture].shape[1::-1]
    points = _as_points(example, truth, size)
    transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
    try:
        made = transform(
            **{_MOVED: example[picture]},
            **{name: example[name] for name in maps},
            **({} if points is None else {"keypoints": points}),
        )
    except (ValueError, TypeError, RuntimeError) as error:
        shape = "x".join(map(str, example[picture].shape))
        raise ValueError(
            f"{where} fails on an image of shape {shape}: {' '.join(str(error).split())}"
        ) from error
    result = dict(example)
    for name, moved in ((picture, made[_MOVED]), *((name, made[name]) for name in maps)):
        result[name] = _same_kind(name, moved, example[name], where)
    if points is not None:
        if len(made["keypoints"]) != len(points):
            raise ValueError(
                f"{where} mirrors the image at its edges, so that boxes and points occur twice; set "
                "border_mode to 0 (a plain border) in transforms that shift, scale or rotate"
            )
        result |= _from_points(np.asarray(made["keypoints"])[:, :2], example, truth, size)
    return result


def _as_points(
    example: Mapping[str, np.ndarray], truth: Mapping[str, Field], size: tuple[int, ...]
) -> np.ndarray | None:
    """Return all that lies in an image as points in pixels, [points, 2]; None if nothing does.

    Boxes are their four corners. The last three points are corners of the image, which show a mirror.
    """
    if placed(truth).isdisjoint(example):
        return None
    parts = [
        (example[name] if truth[name].layout == "points" else example[name][:, _CORNERS]).reshape(-1, 2)
        for name in sorted(by_layout(truth, "boxes", "points") & example.keys())
    ]
    # Coordinates of pixels are those of their centres.
    return np.concatenate([*parts, _IMAGE]) * np.array(size) - 0.5


def _from_points(
    points: np.ndarray,
    example: Mapping[str, np.ndarray],
    truth: Mapping[str, Field],
    size: tuple[int, ...],
) -> dict[str, np.ndarray]:
    """Return the columns of an example whose points (`_as_points`) were moved."""
    places = ((points + 0.5) / size).astype(np.float32)
    origin, right, down = places[-3:]
    across, along = right - origin, down - origin
    mirrored = np.array([across[0] * along[1] < across[1] * along[0]])
    batch = {name: example[name][None] for name in placed(truth) & example.keys()}
    # What a mirror renames keeps its place until then: points change their order after they were moved.
    start = 0
    for name in sorted(by_layout(truth, "boxes", "points") & example.keys()):
        count = len(example[name]) * (1 if truth[name].layout == "points" else len(_CORNERS))
        own = places[start : start + count].reshape(len(example[name]), -1, 2)
        start += count
        lies = own[:, 0] if truth[name].layout == "points" else np.hstack([own.min(axis=1), own.max(axis=1)])
        valid = f"{name}{VALID}"
        batch[name], batch[valid] = cut(truth[name], lies[None], batch[valid])
    return {name: column[0] for name, column in rename(batch, truth, mirrored).items()}


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

"""Nearly equal images: resized, re-encoded or slightly edited copies, and neighbouring frames of a film.

An image is described by its low frequencies: the coefficients of the discrete cosine transform of the
unified grey image, up to 16 by 16, without the mean, and 4 by 4 of red and blue minus grey; scaled by the
length of the grey ones, minus the dataset's average. So brightness and contrast do not count, nor what all
images have in common, for example the view of a fixed camera.

Two images are nearly equal if their descriptions differ by less than a tenth of their length. Comparing all
pairs would take too long, so candidates are sought in several rounds: each takes some of the coefficients
that vary most, sorts the images by the signs of these, and compares each image with those that follow it
(locality-sensitive hashing; the signs are those of a perceptual hash, after Zauner 2010, "Implementation and
benchmarking of perceptual image hash functions").
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float16, Float32, Int64, UInt8

from temper.data.params import PrepareParams

_HELD = ("test", "validation")
"""Splits that nothing nearly equal may be outside of; the first decides."""
_SIDE = 16
"""Largest number of frequencies in each direction."""
_COLOUR_SIDE = 4
"""Number of frequencies of colour in each direction."""
_NEAR = 0.1
"""Largest difference of nearly equal images, as a share of the length of their descriptions."""
_LITTLE_CONTRAST = 4.0
"""Standard deviation of grey values, 0..255, below which contrast counts."""
_AT_ONCE = 1 << 24
"""Number of values that are converted to floats at once."""
_ROUNDS, _BITS = 8, 12
_NEIGHBOURS = 16
_CHUNK = 1 << 18


def count_cosines(params: PrepareParams, channels: int) -> int:
    """Return the number of coefficients that describe an image."""
    colours = 2 * _COLOUR_SIDE**2 if channels == 3 else 0
    return _count(params.height_px) * _count(params.width_px) - 1 + colours


def to_cosines(
    images: UInt8[np.ndarray, "rows height width channels"],
) -> Float16[np.ndarray, "rows cosines"]:
    """Return the low frequencies of images: grey ones without the mean, then those of two colours.

    They are divided by the length of the grey ones, or by that of little contrast if an image has less.
    """
    step = max(1, _AT_ONCE // max(1, images[0].size)) if len(images) else 1
    parts = [_describe(images[start : start + step]) for start in range(0, max(1, len(images)), step)]
    return np.concatenate(parts)


def _describe(images: UInt8[np.ndarray, "rows height width channels"]) -> Float16[np.ndarray, "rows cosines"]:
    pixels = images.astype(np.float32)
    grey = pixels.mean(axis=-1)
    down, across = (_basis(size) for size in grey.shape[1:])
    found = [(down @ grey @ across.T).reshape(len(images), len(down) * len(across))[:, 1:]]
    if images.shape[-1] == 3:
        down, across = down[:_COLOUR_SIDE], across[:_COLOUR_SIDE]
        for channel in (0, 2):  # red and blue
            colour = down @ (pixels[..., channel] - grey) @ across.T
            found.append(colour.reshape(len(images), _COLOUR_SIDE**2))
    lengths = np.linalg.norm(found[0], axis=1, keepdims=True)
    least = _LITTLE_CONTRAST * np.sqrt(grey[0].size) if len(grey) else 1.0
    return (np.concatenate(found, axis=1) / np.maximum(lengths, least)).astype(np.float16)


def _count(size: int) -> int:
    """Return the number of frequencies in a direction; copies of half the size still have them."""
    return min(_SIDE, size // 2)


def _basis(size: int) -> Float32[np.ndarray, "frequencies size"]:
    """Return the first rows of the orthonormal discrete cosine transform (type II)."""
    places = (2 * np.arange(size) + 1) * np.pi / (2 * size)
    waves = np.cos(np.arange(_count(size))[:, None] * places) * np.sqrt(2 / size)
    waves[0] /= np.sqrt(2)
    return waves.astype(np.float32)


def find_pairs(cosines: Float16[np.ndarray, "rows cosines"]) -> Int64[np.ndarray, "pairs 2"]:
    """Return pairs of nearly equal images, by number. Of many equal ones, each is in a few pairs."""
    if len(cosines) < 2:
        return np.zeros((0, 2), np.int64)
    centred = cosines.astype(np.float32)
    centred -= centred.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=1)
    by_spread = np.argsort(-centred.std(axis=0), kind="stable")
    found = [np.zeros((0, 2), np.int64)]
    for turn in range(_ROUNDS):
        chosen = centred[:, by_spread[turn::_ROUNDS][:_BITS]]
        signs = (chosen > np.median(chosen, axis=0)) @ (1 << np.arange(chosen.shape[1]))
        order = np.lexsort((chosen[:, 0], signs))
        chosen, signs, most = chosen[order], signs[order], _NEAR * lengths[order]
        for step in range(1, min(_NEIGHBOURS, len(order) - 1) + 1):
            # The difference in some of the coefficients is a lower bound of the whole difference.
            gaps = np.linalg.norm(chosen[step:] - chosen[:-step], axis=1)
            near = (signs[step:] == signs[:-step]) & (gaps < np.minimum(most[step:], most[:-step]))
            pairs = np.stack([order[:-step][near], order[step:][near]], axis=1)
            found.append(pairs[_gaps(centred, pairs) < _NEAR * lengths[pairs].min(axis=1)])
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _gaps(
    centred: Float32[np.ndarray, "rows cosines"], pairs: Int64[np.ndarray, "pairs 2"]
) -> Float32[np.ndarray, "pairs"]:
    parts = [pairs[start : start + _CHUNK].T for start in range(0, max(1, len(pairs)), _CHUNK)]
    return np.concatenate([np.linalg.norm(centred[a] - centred[b], axis=1) for a, b in parts])


@dataclass(frozen=True)
class Grouped:
    """What keeps nearly equal images in one split, by number of the row."""

    dropped: dict[int, str]
    """Rows that are left out, with the reason: the counterpart is in a split that they cannot join."""
    others: dict[int, int]
    """Their counterparts."""
    splits: list[str | None]
    """Split of each row; None if it is to be drawn."""
    groups: list[str | None]
    """Group of each row. Nearly equal rows whose split is to be drawn have one in common."""


def group(
    pairs: Int64[np.ndarray, "pairs 2"],
    splits: Sequence[str | None],
    groups: Sequence[str | None],
    *,
    drawn: Collection[str],
) -> Grouped:
    """Keep nearly equal images, and all images of their groups, in one split.

    Args:
        pairs: Numbers of nearly equal images.
        splits: Split of each image that is known already; None for others.
        groups: Group of each image, None if it has none.
        drawn: Splits that new images may join.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second = np.concatenate([pairs, _within_groups(groups)]).T
    joined = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(splits), len(splits)))
    components = connected_components(joined, directed=False)[1].tolist()
    targets: dict[int, str] = {}
    for component, split in sorted(zip(components, splits, strict=True), key=lambda each: _rank(each[1])):
        if split is not None:
            targets.setdefault(component, split)
    joinable = {component: split for component, split in targets.items() if split in {"train", *drawn}}
    found = [split or joinable.get(component) for component, split in zip(components, splits, strict=True)]
    dropped: dict[int, str] = {}
    others: dict[int, int] = {}
    for pair in pairs.tolist():
        kept, other = sorted(pair, key=lambda number: _rank(found[number]))
        if found[kept] in _HELD and found[other] != found[kept]:
            dropped.setdefault(other, f"nearly the same image is in the {found[kept]} split")
            others.setdefault(other, kept)
    names = {component: name for component, name in zip(components, groups, strict=True) if name is not None}
    for number in np.unique(pairs).tolist():
        names.setdefault(components[number], f"nearly equal to {number}")
    return Grouped(
        dropped,
        others,
        found,
        [
            names.get(component) if split is None else name
            for component, split, name in zip(components, found, groups, strict=True)
        ],
    )


def _rank(split: str | None) -> int:
    """Return a number that is lower for a split that decides where nearly equal images belong."""
    return _HELD.index(split) if split in _HELD else len(_HELD) + (split is None)


def _within_groups(groups: Sequence[str | None]) -> Int64[np.ndarray, "edges 2"]:
    """Return edges that join the members of each group in a chain."""
    last: dict[str, int] = {}
    edges = []
    for number, name in enumerate(groups):
        if name is not None:
            edges.append((last.setdefault(name, number), number))
            last[name] = number
    return np.array(edges, np.int64).reshape(-1, 2)

"""Boxes of the truth and of an answer, with what became of each, to be drawn over an image."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from temper.fields import Field, about_boxes, by_layout
from temper.mistakes import Verdict


@dataclass(frozen=True)
class Look:
    """How boxes of a sort are drawn, and what the legend calls them."""

    words: str
    colour: str
    width: float = 1.2
    """Width of the line in points."""
    dashed: bool = False
    is_true: bool = False
    """Whether the boxes are those of the truth."""


_IGNORED = Look("does not count", "#a0a0a0", dashed=True)
_TRUE = {
    Verdict.RIGHT: Look("true, found", "#ffffff", is_true=True),
    Verdict.WRONG: Look("true, not found", "#ffd21f", width=2.2, is_true=True),
    Verdict.EXCUSED: _IGNORED,
}
_ANSWERED = {
    Verdict.RIGHT: Look("answered, right", "#40b4ff"),
    Verdict.WRONG: Look("answered, on no object", "#ff4a3d", width=2.2),
    Verdict.CONFUSED: Look("answered, wrong class or twice", "#ff86e1", width=1.4),
    Verdict.UNSURE: Look("answered, but not sure", "#40b4ff", width=1.0, dashed=True),
    Verdict.EXCUSED: _IGNORED,
}
_SILENT = (_TRUE[Verdict.RIGHT], _IGNORED)
"""Looks without a text: the answer on what was found says the class."""
_LEGEND = [look for look in (*_TRUE.values(), *_ANSWERED.values()) if look != _IGNORED] + [_IGNORED]
"""All looks, in the order of the legend."""


@dataclass(frozen=True)
class Outline:
    """A box over an image."""

    box: tuple[float, float, float, float]
    """Left, top, right and bottom, as shares of the image's width and height."""
    look: Look
    text: str
    """Its class, and the score of an answered one; empty if it need not be said."""


def outline(
    truth: tuple[Mapping[str, np.ndarray], Mapping[str, Field], np.ndarray],
    answer: tuple[Mapping[str, np.ndarray], Mapping[str, Field], np.ndarray],
) -> list[Outline]:
    """Return the boxes of an example that are shown, mistakes last, so that they are drawn over others.

    Args:
        truth: Columns of the example, what they contain, and the verdict on each entry.
        answer: The same of what was answered.
    """
    found = [*_read(*truth, _TRUE), *_read(*answer, _ANSWERED)]
    return sorted(found, key=lambda each: each.look.width)


def _read(
    columns: Mapping[str, np.ndarray],
    fields: Mapping[str, Field],
    verdicts: np.ndarray,
    looks: Mapping[Verdict, Look],
) -> Iterator[Outline]:
    for name in sorted(by_layout(fields, "boxes") & columns.keys()):
        about = about_boxes(name, fields, columns)
        for number, verdict in enumerate(verdicts.tolist()):
            if verdict == Verdict.HIDDEN:
                continue
            look = looks[Verdict(verdict)]
            words = [_word(fields[each], columns[each][number].item()) for each in about.values()]
            left, top, right, bottom = columns[name][number].tolist()
            yield Outline((left, top, right, bottom), look, "" if look in _SILENT else " ".join(words))


def _word(field: Field, value: int | float) -> str:
    return field.names[int(value)] if field.names else f"{value:.2f}"


def looks_of(outlines: Sequence[Sequence[Outline]]) -> list[Look]:
    """Return the looks that occur on a sheet, in the order of the legend."""
    found = {each.look for some in outlines for each in some}
    return [look for look in _LEGEND if look in found]

"""What the columns of a truth or an answer contain: classes, boxes, points, maps.

Whatever moves, hides, serves or tests such a column looks at its `Field`, and never at the kind of problem.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

Fit = Literal["stretch", "letterbox", "keep-height"]
"""How images of other proportions are brought to one size.

- `stretch`: each side by itself.
- `letterbox`: with their proportions, in the middle, between grey borders.
- `keep-height`: with their proportions and the full height, at the left, and grey beside them; only an image
  that is too wide for that is squeezed across.
"""
Layout = Literal["value", "map", "boxes", "points", "sequence"]
"""How a column of the truth or of the answers is arranged, for one example.

- `value`: numbers that belong to the whole image.
- `map`: [height, width], one number per pixel.
- `boxes`: [n, 4], left, top, right and bottom; `points`: [n, 2], across and down; both as shares of the
  image's width and height, so that resizing does not move them.
- `sequence`: [n].

Ragged columns are padded. The column `<name>_valid` [n] then says which entries count.
"""
InputName = Literal["image", "text", "table", "clip"]
"""What an example may consist of: pixels, a text, a row of numbers, frames in order."""
View = Literal["flip", "shift", "crop", "scale", "mosaic", "cutout", "mixup", "cutmix"]
"""Ways to change images during training (`ViewParams`)."""
VIEWS: frozenset[View] = frozenset({"flip", "shift", "crop", "scale", "mosaic", "cutout", "mixup", "cutmix"})
VALID = "_valid"
"""End of the name of the column that says which entries of a ragged column count: `ABSENT`, ..."""
ABSENT, PRESENT, UNDECIDED = 0, 1, 2
"""Values of such a column. An undecided entry is neither right nor wrong: a crowd, or something hidden."""

QUARTER_TURN = 5
"""From this EXIF orientation on, width and height of an image are swapped."""


@dataclass(frozen=True)
class Field:
    """What a column of the truth or of the answers contains."""

    layout: Layout = "value"
    names: tuple[str, ...] = ()
    """What its whole numbers are called or, if it contains fractions, the places of its last axis."""
    threshold: float | None = None
    """Smallest value with which a name of the last axis counts; None if exactly one does, the largest."""
    mirrored: tuple[int, ...] = ()
    """Number that each whole number, or point, becomes in a mirror: a left hand becomes a right one. Empty if
    a mirror changes none."""
    unit: str | None = None
    """What the places of its last axis are measured in, empty if that is not known; None if they are no
    measurements but probabilities or numbers of names."""


@dataclass(frozen=True)
class Frame:
    """Where the image that a network sees lies in the image that was sent, which is upright."""

    height_px: int
    """Height of the sent image."""
    width_px: int
    """Width of the sent image."""
    scale: tuple[float, float] = (1.0, 1.0)
    """A place p of the sent image, as shares across and down, is p * scale + offset in the seen one."""
    offset: tuple[float, float] = (0.0, 0.0)
    orientation: int = 1
    """EXIF orientation of the image whose pixels the places of the truth count; 1 if they count upright
    ones."""

    @property
    def aspect(self) -> float:
        """Width of the seen image by its height, both in pixels of the sent one."""
        return (self.width_px / self.scale[0]) / (self.height_px / self.scale[1])


def valid_column(name: str, columns: Collection[str]) -> str | None:
    """Return the name of the column that says which entries of a ragged column count; None if none does.

    A column without one of its own shares the only one.

    Example:
        >>> valid_column("scores", ["boxes", "boxes_valid", "scores"]), valid_column("scores", ["scores"])
        ('boxes_valid', None)
    """
    found = [each for each in columns if each.endswith(VALID)]
    return f"{name}{VALID}" if f"{name}{VALID}" in found else found[0] if len(found) == 1 else None


def by_layout(fields: Mapping[str, Field], *layouts: Layout) -> frozenset[str]:
    """Return the names of the columns with one of some layouts."""
    return frozenset(name for name, field in fields.items() if field.layout in layouts)


def listed(fields: Mapping[str, Field]) -> frozenset[str]:
    """Return the names of the ragged columns, of whose entries only some count, and of those that say which.

    Example:
        >>> sorted(listed({"boxes": Field("boxes"), "area": Field()}))
        ['boxes', 'boxes_valid']
    """
    names = by_layout(fields, "boxes", "points", "sequence")
    return names | {f"{name}{VALID}" for name in names}


def about_boxes(boxes: str, fields: Mapping[str, Field], columns: Collection[str]) -> dict[str, str]:
    """Return what is known of each box besides its place: what it is called, and the column it is in.

    A sequence belongs to boxes if the same column says which entries of both count. The only one with names
    is the `class`, and the only one of fractions is the `score`; others keep their names.

    Args:
        boxes: Name of the column with the boxes.
        fields: What the columns contain.
        columns: Names of all columns.

    Example:
        >>> fields = {"boxes": Field("boxes"), "labels": Field("sequence", names=("a", "b"))}
        >>> about_boxes("boxes", fields, ["boxes", "labels", "boxes_valid"])
        {'class': 'labels'}
    """
    valid = valid_column(boxes, columns)
    sequences = [] if valid is None else sorted(by_layout(fields, "sequence") & set(columns))
    found = [name for name in sequences if valid_column(name, columns) == valid]
    named = [name for name in found if fields[name].names]
    scores = [name for name in found if not fields[name].names and fields[name].unit is None]
    keys = {each[0]: key for key, each in (("class", named), ("score", scores)) if len(each) == 1}
    return {keys.get(name, name): name for name in (*named, *scores, *found)}

"""Keypoints: where in the image are certain points of one object, such as the joints of a hand?"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import pydantic

from temper.fields import PRESENT, UNDECIDED, VALID, VIEWS, Field, Frame, InputName, View
from temper.networks.head_params import PyramidParams
from temper.problem import (
    PLAIN,
    Answer,
    Backbone,
    Columns,
    Emphasis,
    Headline,
    Outputs,
    Row,
    Targets,
)
from temper.problems.defaults import Defaults

if TYPE_CHECKING:
    from torch import Tensor, nn

_NOTHING = "(no point)"
"""Stratum of examples without any known point."""
_SIDES = (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT"))
_LETTER = {side: re.compile(rf"(?<![^\W_])[{side}{side.upper()}](?![^\W_])") for side in "lr"}
"""A letter that stands alone: `l_eye`, `eye.L`."""
_NOTICEABLE = 0.02
"""Distance of two points, as a share of the image, from which on they count as different."""
_FLAT = 0.25
"""Smallest side of the box round the points, as a share of its other side: points may lie in a line."""
_AREA_SHARE = 0.53
"""Area of an object as a share of the box round its points, as COCO's tools estimate it without a mask."""


@dataclass(frozen=True, kw_only=True)
class Keypoints(Defaults):
    """Named points of one object per image.

    The target and answer `points` are [batch, points, 2], shares of the image's width and height. A point
    that the data do not give is neither right nor wrong. The outputs are `heat` [batch, points, rows,
    columns], logits of the cells of a grid, and `offset` [batch, points, 2, rows, columns] in cells.
    """

    head: ClassVar[type[PyramidParams]] = PyramidParams
    inputs: ClassVar[tuple[InputName, ...]] = ("image",)
    kind: Literal["keypoints"]
    points: tuple[str, ...] = ()
    """Names of the points. If left out, they are the names in `ingest.points`."""
    mirrored: Mapping[str, str] | None = None
    """Which points a mirror exchanges, e.g. `{left eye: right eye}`. If left out, they are those whose names
    differ in `left` and `right` only, or in a letter for the side (`l_eye`, `r_eye`)."""
    cell_px: Annotated[int, pydantic.Field(ge=1)] = 4
    """Side in pixels of the cells of the heat maps."""
    within: Annotated[float, pydantic.Field(gt=0, le=1)] = 0.1
    """Largest distance of a correct point, as a share of the longer side of the box round all true points;
    with fewer than two known points, of the longer side of the image."""
    falloff: Annotated[float, pydantic.Field(gt=0)] = 0.1
    """COCO's constant k of the object keypoint similarity: its values are 0.05 (eyes) to 0.21 (hips)."""

    def __post_init__(self) -> None:
        both = (*(self.mirrored or {}), *(self.mirrored or {}).values())
        unknown = [name for name in both if self.points and name not in self.points]
        if unknown or len(set(both)) < len(both):
            raise ValueError(
                f"mirrored = {dict(self.mirrored or {})}: it names {unknown[0]!r}, which is no point"
                if unknown
                else f"mirrored = {dict(self.mirrored or {})}: it names a point twice; write each pair once"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """Nothing: points are no classes."""
        return ()

    @property
    def headline(self) -> Headline:
        return Headline("pck")

    @property
    def scores(self) -> tuple[str, ...]:
        """Correct points (PCK), similarity (OKS), and the correct ones of each point."""
        return ("pck", "oks", *(f"pck_{name}" for name in self.points))

    @property
    def truth(self) -> Mapping[str, Field]:
        places = Field("points", names=self.points, mirrored=self._mirror())
        return {"points": places, "aspect": Field()}

    @property
    def keeps(self) -> frozenset[View]:
        return VIEWS - {"mosaic", "mixup", "cutmix"}

    @property
    def answer(self) -> Mapping[str, Field]:
        places = Field("points", names=self.points, mirrored=self._mirror())
        return {"points": places, "confidence": Field(names=self.points, unit="")}

    def bind(self, rows: Sequence[Row]) -> "Keypoints":
        names, seen = self.points, set[str]()
        for row in rows:
            places = json.loads(row.truth or "{}").get("points")
            if places is None:
                raise ValueError(
                    f"{row.path} has no points, but this problem needs them: set ingest.source: table and "
                    "ingest.points to the columns that hold them or, for annotations, ingest.truth: points"
                )
            names = names or tuple(places)
            seen.update(name for name, place in places.items() if place is not None)
            if missing := [name for name in names if name not in places]:
                raise ValueError(f"{row.path} has no point {missing[0]!r}; add it to ingest.points")
        if never := [name for name in names if name not in seen]:
            raise ValueError(
                f"no image gives the point {never[0]!r}; fill in its columns, or remove the point"
            )
        if self.mirrored is None and (alone := _unpaired(names)):
            raise ValueError(
                f"the point {alone!r} has no counterpart on the other side among {', '.join(names)}; set "
                "problem.mirrored to the pairs that a mirror exchanges ({} if there are none)"
            )
        return replace(self, points=names)

    def pack(self, row: Row, images: Mapping[str, np.ndarray], frame: Frame) -> Columns:
        from temper.maths.geometry import as_seen

        given = json.loads(row.truth or "{}")["points"]
        places, valid = np.zeros((len(self.points), 2)), np.full(len(self.points), UNDECIDED, np.uint8)
        for number, name in enumerate(self.points):
            if given[name] is not None:
                places[number], valid[number] = as_seen(np.array(given[name], float), frame), PRESENT
        return {
            "points": places.astype(np.float32),
            f"points{VALID}": valid,
            "aspect": np.array(frame.aspect, np.float32),
        }

    def strata(self, columns: Columns) -> frozenset[str]:
        """Return the names of the known points."""
        known = np.flatnonzero(columns[f"points{VALID}"] == PRESENT)
        return frozenset(self.points[number] for number in known) or frozenset({_NOTHING})

    def network(self, encoders: Mapping[str, Backbone], head: PyramidParams | None = None) -> "nn.Module":
        from temper.networks.heads import Pointer

        params = head or PyramidParams()
        return Pointer(encoders, num_points=len(self.points), cell_px=self.cell_px, params=params)

    def loss(self, outputs: Outputs, targets: Targets, emphasis: Emphasis = PLAIN) -> "Tensor":
        """Return the mean loss of each example's known points; 0 if none is known."""
        from temper.maths.heatmaps import point_loss
        from temper.maths.losses import mean_over_space

        if emphasis != PLAIN:
            raise ValueError("label smoothing, logit adjustment and costs are defined for classes only")
        found = point_loss(outputs["heat"], outputs["offset"], targets["points"].float())
        return mean_over_space(found, targets[f"points{VALID}"] == PRESENT)

    def distance(self, outputs: Outputs, reference: Outputs, *, temperature: float = 1.0) -> "Tensor":
        """Return the divergence of the heat maps, and of the offsets where the reference sees the points."""
        from temper.maths.distances import softmax_kl
        from temper.maths.losses import mean_over_space

        heat, theirs = (each["heat"].flatten(2).transpose(1, 2) for each in (outputs, reference))
        apart = (outputs["offset"] - reference["offset"].detach()).float().square().sum(dim=2).flatten(2)
        share = (theirs.detach().float() / temperature).softmax(dim=1).transpose(1, 2)
        return softmax_kl(heat, theirs, temperature=temperature) + mean_over_space((share * apart).sum(2))

    def soften(self, outputs: Outputs, temperature: float) -> Outputs:
        return {**outputs, "heat": outputs["heat"] / temperature}

    def read(self, outputs: Outputs) -> Answer:
        from temper.maths.heatmaps import read_points

        places, confidence = read_points(outputs["heat"], outputs["offset"])
        return {"points": places, "confidence": confidence}

    def tally(self, answer: Answer, targets: Targets) -> "Tensor":
        """Return sums for each example, [batch, counts].

        They are, by point, whether it is correct and whether it is known; then the example's similarity,
        and whether any point is known.
        """
        import torch

        apart, size, _ = self._apart(answer, targets)
        known = (targets[f"points{VALID}"] == PRESENT).double()
        right = (apart <= self.within * size[:, None]) * known
        similarity, any_known = self._similarity(answer, targets)
        counts = [right, known, (similarity * any_known)[:, None], any_known[:, None].double()]
        return torch.cat(counts, dim=1)

    def score(self, totals: "Tensor") -> "dict[str, Tensor]":
        from temper.maths.tallies import share

        right, known = (totals[..., start * len(self.points) :][..., : len(self.points)] for start in (0, 1))
        found = {"pck": share(right.sum(-1), known.sum(-1)), "oks": share(totals[..., -2], totals[..., -1])}
        each = share(right, known)
        return found | {f"pck_{name}": each[..., i] for i, name in enumerate(self.points)}

    def constant(self, counts: Mapping[str, int]) -> tuple[str, dict[str, float]] | None:
        """Return None: the strata do not say where points are."""

    def error(self, answer: Answer, targets: Targets) -> "Tensor":
        """Return 1 minus the similarity (OKS); 0 without a known point."""
        similarity, any_known = self._similarity(answer, targets)
        return (1 - similarity) * any_known

    def gap(self, ours: Answer, theirs: Answer) -> "Tensor":
        """Return the mean distance of the points in shares of the image, or the gap of their confidences."""
        import torch

        apart = (ours["points"] - theirs["points"]).double().norm(dim=2).mean(dim=1)
        surer = (ours["confidence"] - theirs["confidence"]).double().abs().mean(dim=1)
        return torch.maximum(apart, surer).clamp(max=1)

    def changed(self, ours: Answer, theirs: Answer) -> "Tensor":
        """Return the share of the points that are apart by more than a fiftieth of the image."""
        apart = (ours["points"] - theirs["points"]).double().norm(dim=2)
        return (apart > _NOTICEABLE).double().mean(dim=1)

    def caption(self, answer: Answer, targets: Targets) -> str:
        counts = self.tally(answer, targets)[0]
        right, known = (int(each.sum()) for each in counts[:-2].chunk(2))
        similarity = 1 - float(self.error(answer, targets)[0])
        return f"{right} of {known} points within {self.within:.0%}, OKS {similarity:.2f}"

    def _mirror(self) -> tuple[int, ...]:
        """Return which point each becomes in a mirror; nothing if it exchanges none."""
        pairs = _pairs(self.points) if self.mirrored is None else dict(self.mirrored)
        pairs = {one: other for one, other in pairs.items() if {one, other} <= set(self.points)}
        becomes = pairs | {other: one for one, other in pairs.items()}
        numbers = tuple(self.points.index(becomes.get(name, name)) for name in self.points)
        return numbers if becomes else ()

    def _apart(self, answer: Answer, targets: Targets) -> "tuple[Tensor, Tensor, Tensor]":
        """Return, in heights of the image: distances of the points, and longer side and area of their box."""
        import torch

        aspect = targets["aspect"].double()
        sides = torch.stack([aspect, torch.ones_like(aspect)], dim=1)
        true = targets["points"].double() * sides[:, None]
        apart = (answer["points"].double() * sides[:, None] - true).norm(dim=2)
        known = targets[f"points{VALID}"] == PRESENT
        first = true.masked_fill(~known[..., None], float("inf")).amin(dim=1)
        last = true.masked_fill(~known[..., None], -float("inf")).amax(dim=1)
        box = (last - first).where((known.sum(dim=1) > 1)[:, None], sides)
        box = box.where((box.amax(dim=1) > 0)[:, None], sides)
        box = box.clamp(min=_FLAT * box.amax(dim=1, keepdim=True))
        return apart, box.amax(dim=1), box.prod(dim=1)

    def _similarity(self, answer: Answer, targets: Targets) -> "tuple[Tensor, Tensor]":
        """Return the object keypoint similarity of each example, and whether any of its points is known."""
        from temper.maths.losses import mean_over_space

        apart, _, area = self._apart(answer, targets)
        known = targets[f"points{VALID}"] == PRESENT
        scale = (_AREA_SHARE * area).clamp(min=1e-12)[:, None] * (2 * self.falloff**2)
        return mean_over_space((-apart.square() / scale).exp(), known), known.any(dim=1)


def _pairs(names: Sequence[str]) -> dict[str, str]:
    """Return the points whose names say that they are on the left, and what the other side is called."""
    found = {name: name.replace(*sides) for sides in _SIDES for name in names if sides[0] in name}
    return found | {name: _other_side(name, "lL", "rR") for name in names if _LETTER["l"].search(name)}


def _other_side(name: str, ours: str, theirs: str) -> str:
    """Return a name whose single letter for a side is that of the other side."""
    letter = _LETTER[ours[0]]
    return letter.sub(lambda found: theirs[ours.index(found[0])], name)


def _unpaired(names: Sequence[str]) -> str | None:
    """Return the first point on one side whose counterpart is missing; None if there is none."""
    left = _pairs(names)
    right = {name: name.replace(*sides[::-1]) for sides in _SIDES for name in names if sides[1] in name}
    right |= {name: _other_side(name, "rR", "lL") for name in names if _LETTER["r"].search(name)}
    return next((name for name, other in {**left, **right}.items() if other not in names), None)

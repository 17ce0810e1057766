"""Detection: which objects does the image show, and where is the box round each of them?"""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import pydantic

from temper.fields import ABSENT, PRESENT, UNDECIDED, VALID, VIEWS, Field, Frame, InputName, View
from temper.networks.head_params import DetectorParams
from temper.problem import (
    PLAIN,
    Answer,
    Backbone,
    Columns,
    Emphasis,
    Option,
    Outputs,
    Row,
    Targets,
)
from temper.problems.box_scores import BoxScores
from temper.problems.classes import bind_classes, merged_labels

if TYPE_CHECKING:
    from torch import Tensor, nn

_NOTHING = "(no object)"
"""Stratum of examples without any object."""
_SIZES = tuple(4 * 2 ** (step / 3) for step in range(3))
_FITTED = 3
"""Number of fitted anchors of a cell."""
SHAPES: Mapping[str, Sequence[tuple[float, float]]] = {
    "yolo": [(4.0, 4.0)],
    "ssd": [(size * wide**0.5, size / wide**0.5) for size in _SIZES for wide in (0.5, 1.0, 2.0)],
}
"""Method -> width and height of the anchors of a cell, in cells (ssd: Lin et al. 2017, arXiv:1708.02002)."""


@dataclass(frozen=True, kw_only=True)
class Detection(BoxScores):
    """Objects of named classes, each with a box.

    The target and answer `boxes` are [batch, boxes, 4], left, top, right and bottom as shares of the image's
    width and height; `labels` [batch, boxes] are class numbers, and `boxes_valid` says which entries count.
    The answer's `scores` [batch, boxes] fall. The outputs are those of `temper.networks.detector.Detector`.
    """

    head: ClassVar[type[DetectorParams]] = DetectorParams
    inputs: ClassVar[tuple[InputName, ...]] = ("image",)
    kind: Literal["detection"]
    classes: tuple[str, ...] = ()
    """Names of the classes. If left out, they are the labels of the data, sorted."""
    method: Literal["yolo", "ssd"] = "yolo"
    """How objects are found. `yolo`: each cell has one anchor, a square, and those anchors shall find an
    object that do it best already. `ssd`: each cell has anchors of several shapes, and those shall find an
    object that lie on it."""
    cells_px: Annotated[tuple[Annotated[int, pydantic.Field(ge=1)], ...], pydantic.Field(min_length=1)] = (
        8,
        16,
        32,
    )
    """Side in pixels of the cells of each grid, finest first, each twice as large as the one before. Objects
    of four to eight cells' size are found best."""
    anchors: Literal["customary", "fitted"] = "customary"
    """Shapes of the anchors of `ssd`: nine per cell as in RetinaNet, or three that prepare fits to the boxes
    of the training split, where it says how well both overlap them."""
    shapes: tuple[tuple[tuple[float, float], ...], ...] = ()
    """Widths and heights of the fitted anchors of each grid, as shares of the image; found in the data."""
    most: Annotated[int, pydantic.Field(ge=1, le=1000)] = 100
    """Largest number of boxes in an answer."""
    least: Annotated[float, pydantic.Field(ge=0.001, lt=1)] = 0.01
    """Smallest score of a box in an answer."""
    most_overlap: Annotated[float, pydantic.Field(gt=0, le=1)] = 0.6
    """Largest overlap (intersection over union) of two boxes of a class in an answer."""
    room: Annotated[int, pydantic.Field(ge=0)] = 0
    """Largest number of objects in an image; found in the data."""

    @property
    def truth(self) -> Mapping[str, Field]:
        """Boxes, their classes, and how many pixels of the sent image the seen one stands for."""
        return {"boxes": Field("boxes"), "labels": Field("sequence", names=self.classes), "area_px": Field()}

    @property
    def keeps(self) -> frozenset[View]:
        return VIEWS - {"cutmix"}

    @property
    def emphases(self) -> frozenset[Option]:
        """Logit adjustment."""
        return frozenset({"offsets"})

    @property
    def answer(self) -> Mapping[str, Field]:
        told = {name: field for name, field in self.truth.items() if name != "area_px"}
        return {**told, "scores": Field("sequence")}

    def __post_init__(self) -> None:
        if any(2 * fine != coarse for fine, coarse in itertools.pairwise(self.cells_px)):
            raise ValueError(
                f"cells_px = {list(self.cells_px)}: each grid must have cells twice as large as the one "
                "before, such as [8, 16, 32]"
            )
        if self.anchors == "fitted" and self.method != "ssd":
            raise ValueError(
                f"anchors = fitted: method {self.method} has one anchor per cell and fits none; leave "
                "anchors out, or set method to ssd"
            )

    def bind(self, rows: Sequence[Row]) -> "Detection":
        if missing := next((row for row in rows if "boxes" not in json.loads(row.truth or "{}")), None):
            raise ValueError(
                f"{missing.path} has no boxes, but this problem needs them: an image without any object has "
                "an empty list (for annotations, set ingest.truth: boxes)"
            )
        fullest = max(rows, key=lambda row: len(_boxes(row)))
        most = len(_boxes(fullest))
        if most > self.most:
            raise ValueError(
                f"problem.most = {self.most}, but {fullest.path} shows {most} objects, and an answer must "
                f"have room for them; raise it to {most} or more"
            )
        return replace(self, classes=bind_classes(self.classes, rows, least=1), room=max(1, self.room, most))

    def pack(self, row: Row, images: Mapping[str, np.ndarray], frame: Frame) -> Columns:
        from temper.maths.geometry import as_seen

        boxes = np.zeros((self.room, 4), np.float32)
        labels, valid = np.zeros(self.room, np.int64), np.full(self.room, ABSENT, np.uint8)
        for number, found in enumerate(_boxes(row)):
            corners = np.array(found["box"], float).reshape(2, 2)
            if (corners[1] <= corners[0]).any():
                shown = ", ".join(f"{each:g}" for each in corners.ravel())
                raise ValueError(
                    f"the box ({shown}) has no area: it must be left, top, right and bottom in pixels; "
                    "correct or remove it"
                )
            ends = as_seen(corners, frame)
            boxes[number] = [*ends.min(axis=0), *ends.max(axis=0)]
            name = str(found["label"])
            labels[number] = self.classes.index(merged_labels(self.classes, [name]).get(name, name))
            valid[number] = UNDECIDED if found.get("crowd") else PRESENT
        area = np.array(frame.width_px * frame.height_px / (frame.scale[0] * frame.scale[1]), np.float32)
        return {"boxes": boxes, "labels": labels, f"boxes{VALID}": valid, "area_px": area}

    def settle(self, columns: Columns, facts: Mapping[str, Any]) -> "tuple[Detection, list[str]]":
        """Fit the shapes of the anchors, if that is asked for."""
        if self.anchors != "fitted":
            return self, []
        import torch

        from temper.maths.anchors import fit_shapes, judge_shapes

        there = columns["boxes"][columns[f"boxes{VALID}"] == PRESENT]
        sides = torch.from_numpy(there[:, 2:] - there[:, :2])
        (image,) = facts.values()
        usual = [
            (wide * cell / image.width_px, high * cell / image.height_px)
            for cell in self.cells_px
            for wide, high in SHAPES[self.method]
        ]
        shapes = fit_shapes(sides, _FITTED * len(self.cells_px))
        found = [
            f"{len(each)} {which} shapes of anchors overlap the {len(sides)} training boxes by {mean:.3f} on "
            f"average, and {share:.1%} of them by a half or more"
            for which, each in (("fitted", shapes), ("customary", usual))
            for mean, share in [judge_shapes(sides, each)]
        ]
        firsts = range(0, len(shapes), _FITTED)
        return replace(self, shapes=tuple(tuple(shapes[first : first + _FITTED]) for first in firsts)), found

    def strata(self, columns: Columns) -> frozenset[str]:
        """Return the classes of the objects."""
        shown = columns["labels"][columns[f"boxes{VALID}"] == PRESENT]
        return frozenset(self.classes[number] for number in shown.tolist()) or frozenset({_NOTHING})

    def network(self, encoders: Mapping[str, Backbone], head: DetectorParams | None = None) -> "nn.Module":
        from temper.networks.detector import Detector

        return Detector(
            encoders,
            num_classes=len(self.classes),
            cells_px=self.cells_px,
            shapes=self.shapes or [SHAPES[self.method]] * len(self.cells_px),
            in_cells=not self.shapes,
            params=head or DetectorParams(),
        )

    def loss(self, outputs: Outputs, targets: Targets, emphasis: Emphasis = PLAIN) -> "Tensor":
        import torch

        from temper.maths.anchors import decode
        from temper.maths.assignment import by_overlap, by_task
        from temper.maths.detections import detection_loss

        if emphasis.smoothing or emphasis.costs:
            raise ValueError("label smoothing and costs are not defined for boxes")
        # Mosaics leave room for the objects of four images, of which most is empty.
        there = (targets[f"boxes{VALID}"] != ABSENT).any(dim=0)
        used = max(1, int((there * torch.arange(1, len(there) + 1, device=there.device)).max()))
        boxes, labels, valid = (targets[name][:, :used] for name in ("boxes", "labels", f"boxes{VALID}"))
        boxes, anchors = boxes.float(), outputs["anchors"]
        if self.method == "ssd":
            assigned = by_overlap(anchors, boxes, valid)
        else:
            scores, found = (outputs[name].detach().float() for name in ("logits", "sides"))
            assigned = by_task(scores.sigmoid(), decode(found, anchors), anchors, boxes, labels, valid)
        if emphasis.offsets:
            outputs = {
                **outputs,
                "logits": outputs["logits"] + outputs["logits"].new_tensor(emphasis.offsets),
            }
        return detection_loss(outputs, assigned, boxes, labels)

    def distance(self, outputs: Outputs, reference: Outputs, *, temperature: float = 1.0) -> "Tensor":
        """Return how far classes and boxes are apart at all anchors, as `detection_distance` does."""
        from temper.maths.detections import detection_distance

        return detection_distance(outputs, reference, temperature=temperature)

    def soften(self, outputs: Outputs, temperature: float) -> Outputs:
        return {**outputs, "logits": outputs["logits"] / temperature}

    def set_decisions(
        self, network: "nn.Module", outputs: Sequence[Outputs], targets: Sequence[Targets]
    ) -> Mapping[str, float]:
        """Shift the scores so that F1 is best at 0.5: they mean how well a box fits, and would lie lower."""
        import torch

        tallies = [
            self.tally(self.read(said), true).sum(dim=0) for said, true in zip(outputs, targets, strict=True)
        ]
        best, f1 = self.best_threshold(torch.stack(tallies).sum(dim=0))
        if not f1:  # no box is right, whatever its score: no threshold is better than another
            return {}
        network.shift_scores(-math.log(best / (1 - best)))  # type: ignore[operator]
        return {"f1": f1}

    def read(self, outputs: Outputs) -> Answer:
        from temper.maths.detections import read_detections

        boxes, labels, scores, valid = read_detections(
            outputs, most=self.most, least=self.least, most_overlap=self.most_overlap
        )
        return {"boxes": boxes, "labels": labels, "scores": scores, f"boxes{VALID}": valid}


def _boxes(row: Row) -> list[dict[str, object]]:
    """Return the boxes of a row: `box` in pixels, `label`, and perhaps `crowd`."""
    found: list[dict[str, object]] = json.loads(row.truth or "{}")["boxes"]
    return found

"""Objects from the annotations of a COCO file: box, outline and points, and what of them cannot be used."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from temper.data.images.outlines import Polygon, Runs, as_polygon
from temper.data.remark import Remark, remark_on
from temper.data.source_params import Truth
from temper.data.sources.annotated import Thing
from temper.data.sources.coco_file import Categories, CocoFile, Id, read_id, read_numbers
from temper.data.sources.drawn_boxes import Drawn

_MANY = 8
"""Number of boxes from which on it is no chance that all have one property."""


def truths_of(annotation: Mapping[str, Any]) -> list[Truth]:
    """Return what an annotation has of an object.

    Example:
        >>> truths_of({"bbox": [1, 2, 3, 4], "segmentation": [], "keypoints": [0, 0, 0, 7, 8, 2]})
        ['boxes', 'points']
    """
    points = annotation.get("keypoints")
    found: dict[Truth, bool] = {
        "boxes": bool(annotation.get("bbox")),
        "masks": bool(annotation.get("segmentation")),
        "points": isinstance(points, list) and any(points[2::3]),
    }
    return [truth for truth, has in found.items() if has]


@dataclass
class CocoObjects:
    """Reads annotations, and counts those that cannot be used.

    Args:
        truth: What is read of an object; the rest is skipped.
    """

    truth: Truth
    categories: Categories = field(default_factory=Categories)
    used: set[str] = field(default_factory=set)
    """Labels that an annotation has."""
    unknown_image: list[str] = field(default_factory=list)
    unknown_category: list[str] = field(default_factory=list)
    no_box: list[str] = field(default_factory=list)
    no_points: list[str] = field(default_factory=list)
    odd_shapes: list[str] = field(default_factory=list)
    boxes: int = 0
    shares: int = 0
    """Boxes within 0 and 1."""
    corners: int = 0
    """Boxes whose width and height could as well be their right and bottom."""

    def read(self, file: CocoFile, images: Mapping[Id, str]) -> dict[Id, list[Thing]]:
        """Return the objects of each image.

        Args:
            file: File with the annotations.
            images: Name of each image, by its id.

        Raises:
            ValueError: If categories contradict each other.
        """
        categories = self.categories.read(file)
        found: dict[Id, list[Thing]] = {number: [] for number in images}
        for place, each in enumerate(file.annotations, 1):
            where = f"{file.name}: annotation {each.get('id', f'number {place}')}"
            image, category = read_id(each.get("image_id")), read_id(each.get("category_id"))
            if image is None or image not in images:
                self.unknown_image.append(f"{where} (image {each.get('image_id')})")
            elif category is None or category not in categories:
                self.unknown_category.append(f"{where} (category {each.get('category_id')})")
            else:
                label, names = categories[category]
                self.used.add(label)
                found[image].append(self._thing(each, label, names, f"{images[image]} ({label})", where))
        return found

    def check(self) -> None:
        """Check what only all boxes together show.

        Raises:
            ValueError: If boxes are shares of the image, not pixels.
        """
        if self.boxes > 1 and self.shares == self.boxes:
            raise ValueError(
                "all boxes of the annotations are within 0 and 1, so they are shares of the image; export "
                "them in pixels (x, y, width, height), as COCO's form has them"
            )

    def remarks(self) -> list[Remark]:
        """Return what cannot be used, and what is odd about the categories."""
        categories = self.categories
        flipped = self.boxes >= _MANY and self.corners == self.boxes
        return [
            *remark_on(
                "left out", "annotations are of images that are not in their file", self.unknown_image
            ),
            *remark_on("left out", "annotations have an unknown category", self.unknown_category),
            *remark_on("left out", "boxes are missing, or are not four numbers", self.no_box),
            *remark_on("left out", "lists of points are not three numbers for each point", self.no_points),
            *remark_on("left out", "outlines are neither polygons nor runs", self.odd_shapes),
            *(
                [
                    Remark(
                        "noticed",
                        "all boxes are as wide and high as if they were left, top, right and bottom; COCO's "
                        "form is left, top, width and height: look at artifacts/prepare/sheet.png",
                    )
                ]
                if flipped
                else []
            ),
            *remark_on("converted", "categories have several ids, and are one class each", categories.merged),
            *remark_on(
                "guessed",
                "files name no categories, so that classes are called by their numbers",
                categories.numbered,
            ),
            *remark_on(
                "guessed",
                "objects have points that their category does not name, which are called by their numbers; "
                "set problem.mirrored to the pairs that a mirror exchanges",
                categories.unnamed_points,
            ),
            *remark_on(
                "noticed",
                "categories are never used, and are no classes",
                [label for label in categories.order if label not in self.used],
            ),
        ]

    def _thing(self, each: Mapping[str, Any], label: str, names: list[str], name: str, where: str) -> Thing:
        crowd = bool(each.get("iscrowd"))
        if self.truth == "points":
            return Thing(label, points=self._points(each.get("keypoints"), names, name), crowd=crowd)
        box = self._box(each.get("bbox"), label, crowd)
        if self.truth == "masks":
            return Thing(label, box, self._shape(each.get("segmentation"), f"{where}, {name}"), crowd=crowd)
        if box is None:
            self.no_box.append(f"{where}, {name}")
        return Thing(label, box, crowd=crowd)

    def _box(self, written: Any, label: str, crowd: bool) -> Drawn | None:
        numbers = read_numbers(written)
        if numbers is None or len(numbers) != 4:
            return None
        left, top, width, height = numbers
        self.boxes += 1
        self.shares += all(0 <= side <= 1 for side in numbers)
        self.corners += width > left and height > top and left > 1 and top > 1
        return Drawn(label, (left, top, left + width, top + height), numbers, crowd)

    def _points(self, written: Any, names: list[str], name: str) -> dict[str, tuple[float, float] | None]:
        """Return the places of points that are marked as known, whether they are visible or hidden."""
        if written is None:
            return {}
        numbers = read_numbers(written)
        if numbers is None or len(numbers) % 3:
            self.no_points.append(name)
            return {}
        triples = [numbers[start : start + 3] for start in range(0, len(numbers), 3)]
        known = self.categories.name_points(names, len(triples), name)
        return {
            point: (across, down) if visible > 0 else None
            for point, (across, down, visible) in zip(known, triples, strict=True)
        }

    def _shape(self, written: Any, where: str) -> list[Polygon] | Runs | None:
        """Return polygons or runs; None if there is no outline, or one that cannot be read."""
        if written is None or written in ([], {}):
            return None
        if isinstance(written, dict):
            size, counts = read_numbers(written.get("size")), written.get("counts")
            plain = isinstance(counts, list) and all(type(count) is int for count in counts)
            if size is not None and len(size) == 2 and (plain or isinstance(counts, str)):
                return Runs(counts, (int(size[1]), int(size[0])))  # type: ignore[arg-type]
        elif isinstance(written, list):
            listed = [written] if read_numbers(written) is not None else written
            numbers = [read_numbers(each) for each in listed]
            polygons = [as_polygon(each) for each in numbers if each is not None]
            if len(polygons) == len(listed) and all(polygon is not None for polygon in polygons):
                return [polygon for polygon in polygons if polygon is not None]
        self.odd_shapes.append(where)
        return None

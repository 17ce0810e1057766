"""Mean average precision by COCO's own tool, for answers of any detector."""

import contextlib
import io
from collections.abc import Mapping, Sequence

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

_SCALE = 1000
"""Shares of the image become coordinates up to this: overlaps do not depend on it."""


def score(
    answers: Sequence[Mapping[str, np.ndarray]], truth: Mapping[str, np.ndarray], names: Sequence[str]
) -> dict[str, float]:
    """Return `map`, `map_50`, `map_75`, and the average precision of each class.

    Args:
        answers: `boxes` (left, top, right and bottom as shares), `labels` and `scores` of each image.
        truth: Packed columns `boxes`, `labels` and `boxes_valid` of the same images.
        names: Names of the classes.
    """
    annotations, results = [], []
    for number, said in enumerate(answers):
        for box, label, valid in zip(
            *(truth[name][number] for name in ("boxes", "labels", "boxes_valid")), strict=True
        ):
            if valid:
                annotations.append({**_box(box), "id": len(annotations) + 1, "image_id": number})
                annotations[-1] |= {"category_id": int(label), "iscrowd": int(valid == 2)}
        for box, label, sure in zip(*(said[name] for name in ("boxes", "labels", "scores")), strict=True):
            results.append({**_box(box), "image_id": number, "category_id": int(label), "score": float(sure)})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": number} for number in range(len(answers))],
            "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
            "annotations": annotations,
        }
        coco.createIndex()
        if not results:
            return dict.fromkeys(["map", "map_50", "map_75", *(f"ap_{name}" for name in names)], 0.0)
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # [overlaps, recalls, classes, sizes, most boxes]
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    each = {f"ap_{name}": float(precision[:, :, number].mean()) for number, name in enumerate(names)}
    return dict(zip(("map", "map_50", "map_75"), map(float, evaluation.stats[:3]), strict=True)) | each


def _box(box: np.ndarray) -> dict[str, object]:
    left, top, right, bottom = (np.asarray(box, float) * _SCALE).tolist()
    return {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}

"""Small data sets with annotations, for tests of the sources that read them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from temper.data.sources.listing import Listing

WIDE, HIGH = 40, 30


def image(path: Path, *, size: tuple[int, int] = (WIDE, HIGH), orientation: int = 1, seed: int = 0) -> Path:
    """Write a small image of noise, JPEG or PNG, with an EXIF orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def boxes(listing: Listing) -> dict[str, list[dict[str, Any]]]:
    """Return the boxes of each row."""
    return {name: truth["boxes"] for name, truth in truths(listing).items()}


def truths(listing: Listing) -> dict[str, dict[str, Any]]:
    """Return the truth of each row."""
    return {row.id: json.loads(row.truth or "") for row in listing.rows}


def said(listing: Listing) -> str:
    """Return all remarks, a line each."""
    return "\n".join(map(str, listing.remarks))


def coco(
    images: Mapping[int, str], *annotations: Mapping[str, Any], categories: Mapping[int, str] | None = None
) -> dict[str, Any]:
    """Return the content of a file in COCO's form; images are 40x30 px, ids of annotations count from 1."""
    return {
        "images": [
            {"id": number, "file_name": name, "width": WIDE, "height": HIGH}
            for number, name in images.items()
        ],
        "annotations": [{"id": place, **each} for place, each in enumerate(annotations, 1)],
        "categories": [
            {"id": number, "name": name, "supercategory": "thing"}
            for number, name in (categories or {0: "cat", 7: "dog"}).items()
        ],
    }


def of(image_id: int, category_id: int, *bbox: float, **more: Any) -> dict[str, Any]:
    """Return an annotation; without a box if there are no numbers."""
    return {"image_id": image_id, "category_id": category_id} | ({"bbox": list(bbox)} if bbox else {}) | more

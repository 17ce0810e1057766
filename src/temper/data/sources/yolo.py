"""A folder of images with a text file of rows for each, as YOLO's tools read them, and perhaps data.yaml.

The text file of `images/a.jpg` is `labels/a.txt`, or lies beside it. Rows count shares of the image, so that
the header of each image is read for its size; no pixel is decoded. As for YOLO's tools, an image without a
text file shows no object, unless none of the images in its folder has one.
"""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from temper.data.counted import PlacesIn
from temper.data.images.header import read_header, shown_size
from temper.data.remark import Remark, remark_on
from temper.data.source_params import Yolo
from temper.data.sources.annotated import AnnotatedImages, Thing
from temper.data.sources.image_names import ImageNames
from temper.data.sources.listing import Listing
from temper.data.sources.litter import is_image
from temper.data.sources.odd_labels import remark_on_labels
from temper.data.sources.split_names import split_in
from temper.data.sources.walk import list_files
from temper.data.sources.yolo_data import YoloData, read_data, read_text
from temper.data.sources.yolo_rows import YoloRows

_IMAGES, _LABELS = "images", "labels"


@dataclass
class _Found:
    """What was decided about the files."""

    background: list[str] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
    no_split: list[str] = field(default_factory=list)
    by_folder: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    without_image: list[str] = field(default_factory=list)

    def remarks(self) -> list[Remark]:
        return [
            *remark_on("guessed", "folders are splits, by their names", dict.fromkeys(self.by_folder)),
            *remark_on("left out", "images are in no split of data.yaml", self.no_split),
            *remark_on(
                "guessed",
                "images have no text file, and are taken to show no object, as YOLO's tools do; remove those "
                "that nobody looked at",
                self.background,
            ),
            *remark_on(
                "left out",
                "images have no text file, as all images of their folder; an empty file says that there is "
                "no object",
                self.unlabelled,
            ),
            *remark_on("noticed", "images share a text file with another image of their name", self.shared),
            *remark_on("left out", "text files have no image", self.without_image),
            *remark_on("noticed", "images have no size that can be read; prepare says why", self.unread),
        ]


@dataclass(frozen=True)
class YoloFolder:
    """A folder that was read."""

    listing: Listing
    data: YoloData
    """Names of classes and points, and lists of images."""
    texts: Mapping[str, str | None]
    """Image -> its text file, None if it shows no object."""
    numbers: Mapping[str, int]
    """Label -> its number in drawn masks."""


def list_rows(params: Yolo, project: Path) -> Listing:
    """List the images with their objects; of each image with objects, the header is read.

    Raises:
        ValueError: As for `read_folder`.
    """
    return read_folder(params, project).listing


def read_folder(params: Yolo, project: Path) -> YoloFolder:
    """Read the text files of a folder; of each image with objects, the header is read.

    Raises:
        ValueError: If the folder is missing, has no images or no text files, or one cannot be read.
    """
    root = project / params.folder
    if not root.is_dir():
        raise ValueError(
            f"ingest.folder = {params.folder!r}: {root} does not exist; name the folder that holds "
            "data.yaml, images and labels"
        )
    walk, found = list_files(str(root)), _Found()
    texts = {name for name in walk.companions if name.lower().endswith(".txt")}
    images = [name for name in walk.files if is_image(name)]
    data, names = read_data(root, sorted(texts)), ImageNames(images)
    splits = _split(data, images, names, found)
    labels = _pair(list(splits), texts, found)
    rows = YoloRows(data.names, data.points, data.point_names)
    read = {text: rows.read(read_text(root / text), text) for text in dict.fromkeys(labels.values()) if text}
    rows.check()
    seen = AnnotatedImages(params.truth, params.boxes_in, root.joinpath)
    for image, text in labels.items():
        things, size = list[Thing](), None
        header = read_header(root / image) if text is not None and read[text] else None
        if header is not None and text is not None:
            size = size_in(header, params.boxes_in)
            things = rows.things(read[text], size, text)
        elif text is not None and read[text]:
            found.unread.append(image)
        seen.add(image, things, size, splits[image])
    listed = seen.rows(order=rows.order, points=data.point_names)
    if not listed:
        raise ValueError(
            f"{root}: none of its {len(images)} images can be used with ingest.truth = {params.truth}; rows "
            "lie in a .txt file of the image's name, in labels/ or beside it" + _hint(params, data)
        )
    remarks = [
        *data.remarks(),
        *names.remarks(),
        *found.remarks(),
        *rows.remarks(),
        *seen.remarks(crowds="boxes are marked as crowds"),
        *remark_on_labels(
            {label for row in listed for label in row.labels}, apart="rename them in data.yaml"
        ),
    ]
    listing = seen.listing(listed, root, remarks, [*data.read, *(root / text for text in read)])
    return YoloFolder(listing, data, labels, seen.numbers)


def size_in(header: tuple[tuple[int, int], int], places_in: PlacesIn) -> tuple[int, int]:
    """Return width and height of an image whose places are counted as it is shown, or as it is stored.

    Args:
        header: Width and height of the stored pixels, and the EXIF orientation.
        places_in: Value of `ingest.boxes_in`.
    """
    return header[0] if places_in == "stored" else shown_size(*header)


def _hint(params: Yolo, data: YoloData) -> str:
    return "; points need kpt_shape in data.yaml" if params.truth == "points" and data.points is None else ""


def _split(data: YoloData, images: list[str], names: ImageNames, found: _Found) -> dict[str, str | None]:
    """Return the images that are used, each with its split, which data.yaml or the names of folders say."""
    known = data.images(images, names)
    if known is not None:
        found.no_split += [image for image in images if image not in known]
        return {image: known[image] for image in images if image in known}
    splits = {image: split_in(posixpath.dirname(image)) for image in images}
    found.by_folder += [f"{posixpath.dirname(image)} ({split})" for image, split in splits.items() if split]
    return splits


def _pair(images: list[str], texts: set[str], found: _Found) -> dict[str, str | None]:
    """Return the text file of each image, None if it shows no object; other images are left out."""
    pairs = {image: next((name for name in texts_of(image) if name in texts), None) for image in images}
    labelled = {posixpath.dirname(image) for image, text in pairs.items() if text is not None}
    seen = dict[str, str]()
    for image, text in list(pairs.items()):
        if text is not None:
            if seen.setdefault(text, image) != image:
                found.shared.append(image)
        elif posixpath.dirname(image) in labelled:
            found.background.append(image)
        else:
            found.unlabelled.append(image)
            del pairs[image]
    folders = {posixpath.dirname(text) for text in seen}
    found.without_image += sorted(
        name
        for name in texts - {*seen}
        if (posixpath.dirname(name) in folders or _LABELS in name.split("/"))
        and posixpath.basename(name) not in ("classes.txt", "README.txt", "notes.txt")
        and "/" in name
    )
    return pairs


def texts_of(image: str) -> list[str]:
    """Return where the text file of an image may be, the likeliest place first.

    Example:
        >>> texts_of("images/train/a.jpg")
        ['labels/train/a.txt', 'images/train/a.txt', 'images/labels/a.txt']
        >>> texts_of("a.jpg")
        ['a.txt', 'labels/a.txt']
    """
    *folders, last = posixpath.splitext(image)[0].split("/")
    listed = []
    if _IMAGES in folders:
        place = len(folders) - 1 - folders[::-1].index(_IMAGES)
        listed.append([*folders[:place], _LABELS, *folders[place + 1 :], last])
    listed += [[*folders, last], [*folders[:-1], _LABELS, last]]
    return list(dict.fromkeys("/".join(parts) + ".txt" for parts in listed))

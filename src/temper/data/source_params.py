"""Parameters of the sources: where examples and what is true of them come from."""

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field

from temper.data.counted import PlacesIn
from temper.fields import InputName

Truth = Literal["boxes", "masks", "points"]
"""What is read of objects in files of annotations."""
_CLIP: InputName = "clip"


class Source:
    """A source of examples."""

    @property
    def gives(self) -> tuple[InputName, ...]:
        """Inputs that the source gives for each example."""
        return ("image",)

    @property
    def may_be_clips(self) -> bool:
        """Whether examples are files of the user, which `problem.inputs` may name as images or as clips."""
        return False

    @property
    def origin(self) -> str | None:
        """The folder of the user to which ids of rows are relative paths; None if there is none."""
        return None


@dataclass(frozen=True, kw_only=True)
class FashionMnist(Source):
    """70,000 grey images of clothes, 28x28, with an official test split."""

    source: Literal["fashion-mnist"]
    folder: str | None = None
    """Folder with the four gzipped IDX files. It is tried before the other ways to get the dataset."""


@dataclass(frozen=True, kw_only=True)
class Digits(Source):
    """scikit-learn's 1,797 grey handwritten digits, 8x8. They need no network."""

    source: Literal["digits"]


@dataclass(frozen=True, kw_only=True)
class TreeCrowns(Source):
    """Tiles of about 256 px from four aerial images, with a box round each of 951 trees and fixed splits."""

    source: Literal["tree-crowns"]
    folder: str | None = None
    """Folder with the images and their .xml files, or with the wheel of `deepforest` 2.1.0 that holds them.
    It is tried before the other ways to get the dataset."""


@dataclass(frozen=True, kw_only=True)
class ImageFolder(Source):
    """A folder with a subfolder of images per class, optionally below `train/`, `validation/` and `test/`."""

    source: Literal["imagefolder"]
    folder: str
    """Path of the folder, relative to the project or absolute."""
    splits: Literal["auto", "none"] = "auto"
    """`auto`: folders called like splits (train, val, Testing, ...) that contain folders are splits. `none`:
    the folders in `folder` are the classes, whatever they are called."""

    @property
    def may_be_clips(self) -> bool:
        """All files may be clips."""
        return True

    @property
    def origin(self) -> str | None:
        """The folder itself."""
        return self.folder


@dataclass(frozen=True, kw_only=True)
class Table(Source):
    """A CSV, TSV or Parquet file with a row per image: path, labels or mask, optionally split and group."""

    source: Literal["table"]
    file: str
    """Path of the table, relative to the project or absolute. Image paths in the table are relative to the
    table's folder."""
    path: str | None = "path"
    """Name of the column with the paths of the images or clips, or null if there are none; `problem.inputs`
    says which of both they are."""
    text: str | None = None
    """Name of the column with the texts, for the input `text`, or null."""
    numbers: tuple[str, ...] = ()
    """Names of the columns with numbers that are given, for the input `table`. Empty cells are missing."""
    labels: str | None = "labels"
    """Name of the column with the labels, or null if `one_hot`, `values`, `points` or `mask` is set."""
    joined_by: Annotated[str, Field(min_length=1)] | None = None
    """Text that joins several labels in a cell. null: `;`, or `|`, `,` or a blank if the labels show it. A
    text that does not occur keeps the cells whole."""
    one_hot: tuple[str, ...] = ()
    """Names of columns with 0 or 1, one per class, that take the place of `labels`."""
    separator: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Character between the cells of a CSV file. null: a comma, or a semicolon, tab or `|` if only that gives
    all lines equally many cells."""
    values: tuple[str, ...] = ()
    """Names of the columns with numbers that shall be predicted (`problem.kind: regression`)."""
    points: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Name of a point -> names of the columns with its places across and down, in pixels of the image
    (`problem.kind: keypoints`), e.g. `{nose: [nose_x, nose_y]}`. Empty cells mean that it is not known."""
    boxes: str | None = None
    """Name of the column with the boxes of objects (`problem.kind: detection`), or null. A cell is JSON,
    `[{"label": "cat", "box": [left, top, right, bottom]}]` in pixels of the image, or empty."""
    boxes_in: PlacesIn = "upright"
    """How boxes and points are counted in images that EXIF turns: in the image as it is shown (`upright`), or
    as its pixels are `stored`."""
    mask: str | None = None
    """Name of the column with the paths of the masks, or null."""
    split: str | None = None
    """Name of the column with the splits (train, validation, test), or null."""
    group: str | None = None
    """Name of the column with the groups, or null. All images of a group are in the same split."""

    @property
    def gives(self) -> tuple[InputName, ...]:
        """Inputs whose columns are named."""
        named: dict[InputName, object] = {"image": self.path, "text": self.text, "table": self.numbers}
        return tuple(name for name, column in named.items() if column)

    @property
    def may_be_clips(self) -> bool:
        """Whether there is a column with paths."""
        return self.path is not None

    @property
    def origin(self) -> str | None:
        """The folder of the table."""
        return str(PurePosixPath(self.file).parent)


@dataclass(frozen=True, kw_only=True)
class Masks(Source):
    """A folder with images and their masks, which lie in folders of their own or beside the images."""

    source: Literal["masks"]
    folder: str
    """Path of the folder that holds both, relative to the project or absolute."""
    images: str | None = None
    """Folder of the images within it, which may be below or above folders that are splits. null: `images`,
    `image`, `JPEGImages` and other usual names."""
    masks: str | None = None
    """Folder of the masks within it. null: `masks`, `label`, `SegmentationClass` and other usual names or, if
    there is none, beside the images (`1_mask.png`)."""
    splits: Literal["auto", "none"] = "auto"
    """`auto`: folders called like splits (train, val, Testing, ...) are splits. `none`: they are not."""

    @property
    def origin(self) -> str | None:
        """The folder itself."""
        return self.folder


@dataclass(frozen=True, kw_only=True)
class Voc(Source):
    """A folder in the form of PASCAL VOC: `Annotations`, `JPEGImages`, and splits in `ImageSets/Main`."""

    source: Literal["voc"]
    folder: str
    """Path of the folder, relative to the project or absolute."""
    first_pixel: Literal[0, 1] | None = None
    """Number of the first pixel in the annotations. 1, as in VOC itself, means that the last pixel belongs to
    a box. null: 0 if any box begins there, and otherwise 1."""
    boxes_in: PlacesIn = "upright"
    """How boxes are counted in images that EXIF turns: in the image as it is shown (`upright`), or as its
    pixels are `stored`."""

    @property
    def origin(self) -> str | None:
        """The folder itself."""
        return self.folder


@dataclass(frozen=True, kw_only=True)
class Annotations(Source):
    """What is common to images with annotations of objects in files beside them."""

    folder: str
    """Path of the folder with the images and the annotations, relative to the project or absolute."""
    truth: Truth = "boxes"
    """What is read of the objects: their `boxes` (detection); their outlines, drawn as `masks` of classes
    from 0, the background (segmentation); or the `points` of images that show one object with points
    (keypoints)."""
    boxes_in: PlacesIn = "upright"
    """How places are counted in images that EXIF turns: in the image as it is shown (`upright`), or as its
    pixels are `stored`."""

    @property
    def origin(self) -> str | None:
        """The folder itself."""
        return self.folder


@dataclass(frozen=True, kw_only=True)
class Coco(Annotations):
    """Images with annotations in COCO's JSON: one file, or one for each split."""

    source: Literal["coco"]
    annotations: str | dict[str, str] | None = None
    """Path of the JSON file in the folder, or split -> path, e.g. `{train: a.json, test: b.json}`. null: they
    are looked for, and names of files or folders (`instances_train2017.json`, `valid/`) say the splits."""


@dataclass(frozen=True, kw_only=True)
class Yolo(Annotations):
    """Images with a text file of rows for each, as YOLO reads them, and perhaps `data.yaml`."""

    source: Literal["yolo"]


@dataclass(frozen=True, kw_only=True)
class Toys(Source):
    """Generated examples of simple shapes, for trying the pipeline without data."""

    source: Literal["toys"]
    truth: Literal["class", "item", "labels", "mask", "value", "points", "boxes"] = "class"
    """Ground truth of each image: its only shape (`class`), that shape and its colour (`item`), all its
    shapes (`labels`), a mask of them (`mask`), the side of its only shape in px (`value`), two corners and
    the middle of the square round it (`points`), or a box round each of its shapes (`boxes`)."""
    count: Annotated[int, Field(ge=20)] = 300
    size_px: Annotated[int, Field(ge=12)] = 24
    channels: Literal[1, 3] = 3
    inputs: tuple[InputName, ...] = ("image",)
    """What is made of each example: its image, a text that describes it, a row of numbers about it. In a
    clip, in place of an image, a shape moves left, right, up or down, and that is the class."""
    seed: int = 0

    def __post_init__(self) -> None:
        if _CLIP in self.inputs and self.truth != "class":
            raise ValueError(
                f"truth = {self.truth!r}: clips of toys have truth = class only; set it to class"
            )

    @property
    def gives(self) -> tuple[InputName, ...]:
        """All of them."""
        return self.inputs


AnySource = Annotated[
    FashionMnist | Digits | TreeCrowns | ImageFolder | Table | Masks | Voc | Coco | Yolo | Toys,
    Field(discriminator="source"),
]

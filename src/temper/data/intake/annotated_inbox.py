"""What the inbox must know of a dataset whose truth lies in files beside its images.

Each such source has a small class that reads its files; `into_files.py` decides what becomes of them.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Protocol

from temper.data.intake.offer import Arrival, Contents, Draw, Offer, Write, place_in
from temper.problem import Row


@dataclass
class Dropped:
    """A new image with what is true of it."""

    row: Row
    """Its labels and truth; paths are those in an archive of the new files."""
    files: tuple[str, ...]
    """Names of the files that leave the inbox with it: the image first."""
    told_by: tuple[str, ...] = ()
    """Names of other files that say what is true of it, and perhaps of other images."""
    rewritten: bool = False
    """Whether what belongs to the image is written anew, and only the image itself is moved."""
    renamed: dict[str, str] = field(default_factory=dict)
    """Label in these files -> how the dataset spells it."""

    @property
    def name(self) -> str:
        """Name of the image."""
        return self.files[0]


@dataclass
class Inbox:
    """What a source reads in the inbox."""

    dropped: list[Dropped] = field(default_factory=list)
    lone: list[str] = field(default_factory=list)
    """Names of files that belong to nothing."""
    missing: list[str] = field(default_factory=list)
    """Images that a file of annotations names, but that are not there, as `file: image`."""
    refused: list[Arrival] = field(default_factory=list)
    """Files that cannot be read, and why."""


Decided = Sequence[tuple[Dropped, Arrival]]
"""Images, and what becomes of them."""


class AnnotatedSet(Protocol):
    """A dataset whose truth lies in files beside its images."""

    truth: ClassVar[str]
    """What else a dataset may say of an equal image: another `mask`."""
    counted_as: ClassVar[str]
    """What new examples are counted as: `with boxes`."""
    unsorted: ClassVar[tuple[str, str]]
    """What is wrong with files that belong to nothing, and the way out."""
    endings: ClassVar[frozenset[str]]
    """Endings of files with truth that are no images."""
    rows: Sequence[Row]
    """All examples of the dataset."""

    def __init__(self, params: Any, project: Path) -> None: ...

    @property
    def draw(self) -> Draw | None:
        """What draws the masks of new images, after `spell`; None if masks are files."""

    def files(self, row: Row) -> tuple[Path, ...]:
        """Return the image of an example of the dataset, and what `said` needs."""

    def read(self, offer: Offer, images: Sequence[str], others: Sequence[str]) -> Inbox:
        """Read the inbox.

        Args:
            offer: What is in it.
            images: Names of its files, apart from notes and the like.
            others: Names of its files with one of the `endings`.
        """

    def spell(self, row: Row, renamed: Mapping[str, str]) -> Row:
        """Return a row whose truth spells labels otherwise."""

    def said(self, row: Row, files: Sequence[Path]) -> str:
        """Return what is true of an image, as a text that is equal if that is equal."""

    def places(self, new: Dropped, image: Path, offer: Offer, contents: Contents) -> tuple[Path, ...]:
        """Return where the files of a new example go, as far as they are not written anew.

        Raises:
            ValueError: If the dataset could not find them there.
        """

    def writes_before(self, decided: Decided, offer: Offer) -> list[Write]:
        """Return the files that are written before any image is in its place.

        Args:
            decided: The images that are taken or put aside. All others stay in the inbox.
            offer: What is in the inbox.

        Raises:
            ValueError: If a file of the dataset cannot be written.
        """

    def writes(self, decided: Decided, offer: Offer) -> list[Write]:
        """Return the files that are written once all images are in their places, in this order.

        The arguments and errors are those of `writes_before`.
        """

    def notes(self, taken: Sequence[Dropped]) -> list[str]:
        """Return what else is said of the examples that are taken, each as a line."""


def first_for_training(rows: Iterable[Row]) -> Row:
    """Return the first row for training: new examples go where it is, never into the folder of a test split.

    Raises:
        ValueError: If there is none.
    """
    found = next((row for row in rows if row.split in (None, "train")), None)
    if found is None:
        raise ValueError(
            "the dataset has no annotated image for training, beside which new ones could go; add some to it"
        )
    return found


def pair_by_name(images: Iterable[str], others: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Return the other file of each image with the same name, and the files without one.

    Files in one folder belong together; others only if no second file has their name.

    Example:
        >>> pair_by_name(["a/1.jpg", "img/2.jpg", "b/3.jpg"], ["a/1.xml", "xml/2.xml"])
        ({'a/1.jpg': 'a/1.xml', 'img/2.jpg': 'xml/2.xml'}, ['b/3.jpg'])
    """
    left, right, pairs = list(images), list(others), dict[str, str]()
    for key in (lambda name: name.rpartition(".")[0], lambda name: PurePosixPath(name).stem):
        counts = Counter(map(key, left)), Counter(map(key, right))
        place = {key(name): name for name in right}
        found = {name: place[key(name)] for name in left if counts[0][key(name)] == counts[1][key(name)] == 1}
        pairs |= found
        left = [name for name in left if name not in found]
        used = {*found.values()}
        right = [name for name in right if name not in used]
    return dict(sorted(pairs.items())), sorted([*left, *right])


def places_of_pair(
    image: Path,
    image_folder: Path,
    other: Path,
    other_folder: Path,
    contents: Contents,
    *,
    added: str = "",
    content: bytes | None = None,
) -> tuple[Path, Path]:
    """Return the places of an image and of the file that belongs to it, which have one name.

    Args:
        image: The image.
        image_folder: Folder of the dataset for it.
        other: The file that belongs to it.
        other_folder: Folder for that.
        contents: The images of the dataset.
        added: What the name of the other file has in addition.
        content: What the other file contains there; None if it is not changed.
    """
    content = other.read_bytes() if content is None else content
    first = place_in(image_folder, image, contents)
    second = other_folder / f"{first.stem}{added}{other.suffix.lower()}"
    if second.is_file() and second.read_bytes() != content:  # somebody edited or left it there
        digest = hashlib.sha256(f"{contents.digest(image)} {contents.digest(other)}".encode()).hexdigest()
        first = place_in(image_folder, image, contents, digest)
        second = other_folder / f"{first.stem}{added}{other.suffix.lower()}"
    return first, second

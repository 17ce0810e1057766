"""Takes new images, `inbox/labelled/CLASS/FILE`, into the class folders of a folder of images."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from temper.data.images.zip_archive import NAME
from temper.data.intake.offer import (
    MIN_IMAGES,
    Arrival,
    Contents,
    Fate,
    Intake,
    Offer,
    place_aside,
    place_in,
)
from temper.data.source_params import ImageFolder
from temper.data.sources.split_names import split_of
from temper.data.sources.walk import list_files
from temper.problem import Row


@dataclass(frozen=True)
class _Dataset:
    """The data folder."""

    data: Path
    target: Path
    """Folder of the class folders that take new images."""
    has_splits: bool
    classes: list[str]
    contents: Contents

    def class_of(self, path: Path) -> str:
        """Return the class of a file; empty for a file that lies beside the class folders."""
        folders, depth = path.relative_to(self.data).parent.parts, int(self.has_splits)
        return folders[depth] if len(folders) > depth else ""


def take_in(params: ImageFolder, project: Path, offer: Offer) -> Intake:
    """Decide which images go into which class folder.

    Raises:
        ValueError: If the inbox is inside the data folder.
    """
    intake = Intake("class", ("are in no class folder, or in two", "move them into labelled/CLASS/"))
    found = offer.found
    intake.leave("litter", found.companions)
    intake.leave("unsorted", [f"labelled/{name}" for name in found.files if "/" not in name])
    names = [name for name in found.files if "/" in name]
    if not names:
        return intake
    data = project / params.folder
    offer.require_apart(project, params.folder)
    dataset = _look_at(data)
    intake.new_class = _explain_new_class(offer, dataset)
    counts = Counter(name.split("/")[0] for name in names)
    settled: dict[str, str] = {}
    for name in names:
        given = name.split("/")[0]
        kind = offer.find_class(given, dataset.classes)
        may_be_new = offer.new_classes and not dataset.has_splits
        if kind is None and not (may_be_new and counts[given] >= MIN_IMAGES):
            intake.arrivals.append(Arrival(name, "strange", given))
        elif _is_torn(name, dataset.classes, offer):
            intake.leave("unsorted", [f"labelled/{name}"])
        elif offer.is_fresh(offer.labelled / name):
            intake.leave("fresh", [name])
        else:
            settled[name] = kind or given
            if kind is not None and kind != given:
                intake.renamed[given] = kind
    rows = [Row(name, f"{NAME}/{name}") for name in settled]
    unusable = offer.find_unusable(rows, None, None)
    for number, (name, kind) in enumerate(settled.items()):
        intake.arrivals.append(_decide(name, kind, dataset, offer, unusable.get(number)))
    return intake


def _look_at(data: Path) -> _Dataset:
    children = [path for path in data.iterdir() if path.is_dir()] if data.is_dir() else []
    split = [
        path
        for path in children
        if split_of(path.name) == "train" and any(each.is_dir() for each in path.iterdir())
    ]
    target = split[0] if split else data
    files = list_files(str(data)).files if children else []
    classes = [path.name for path in target.iterdir() if path.is_dir()] if target.is_dir() else []
    return _Dataset(data, target, bool(split), classes, Contents(data / name for name in files))


def _is_torn(name: str, known: Iterable[str], offer: Offer) -> bool:
    """Return whether the folders of a file, `class/folder/file`, mean two classes."""
    folders, (first, *inner) = list(known), name.split("/")[:-1]
    meant = {offer.find_class(each, folders) for each in inner}
    return bool(meant - {None, offer.find_class(first, folders)})


def _explain_new_class(offer: Offer, dataset: _Dataset) -> str:
    if dataset.has_splits:
        return "The data folder has one folder per split: add the new class to each of them yourself"
    if not offer.new_classes:
        return (
            "Correct the folder's name, or set retrain.new_classes: allow, which makes them new classes; "
            f"each needs at least {MIN_IMAGES} images"
        )
    return f"A new class needs at least {MIN_IMAGES} images"


def _decide(name: str, kind: str, dataset: _Dataset, offer: Offer, unusable: str | None) -> Arrival:
    """Return what becomes of an image of a class that the dataset has or may have."""
    path = offer.labelled / name
    digest = dataset.contents.digest(path)

    def put_aside(fate: Fate, reason: str) -> Arrival:
        return Arrival(name, fate, kind, reason, (name,), (place_aside(offer, name, digest),))

    if unusable is not None:
        return put_aside("unusable", unusable)
    alike = dataset.contents.alike(path)
    if not alike:
        place = place_in(dataset.target / kind, path, dataset.contents)
        dataset.contents.add(place, path)
        return Arrival(name, "new", kind, files=(name,), places=(place,))
    other = next((each for each in alike if dataset.class_of(each) != kind), None)
    if other is None:
        return put_aside("known", f"the dataset contains it already: {alike[0]}")
    return put_aside("disputed", str(other.relative_to(dataset.data)))

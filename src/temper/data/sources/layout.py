"""Folders of images that are no classes: splits without classes, parts of a dataset, images beside masks."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from temper.data.sources.litter import is_image, is_litter
from temper.data.sources.mask_names import IMAGE_FOLDERS, TRUTH_FOLDERS, image_of, plain
from temper.data.sources.split_names import SPELLINGS, split_of
from temper.data.sources.table_file import ENDINGS
from temper.data.sources.walk import Walk

_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
"""Words in a name: `trainA`, `train_images` and `TrainImages` begin with the word train."""
_PARTS = frozenset({"query", "gallery", "pred", "predict", "holdout", "unlabeled", "unlabelled"})
"""Words in the names of parts of a dataset, besides those of splits."""
_NUMBERED = re.compile(
    r".*(?<![a-z])(part|batch|chunk|set|folder|images?|imgs?|photos?|pics?|data|vol|volume|disk|dump|export)"
    r"[ _-]*\d+",
    re.IGNORECASE,
)
"""Names of numbered parts of a dataset."""
_MASKS_SHARE = 0.1
"""Share of the files of a class that may be masks of others."""


def open_folder(folder: str, project: Path, rule: str) -> Path:
    """Return the path of a data folder.

    Args:
        folder: `ingest.folder`, relative to the project or absolute.
        project: Folder of the project.
        rule: What the folder must hold, for messages.

    Raises:
        ValueError: If it does not exist, or contains the project.
    """
    root = project / folder
    root = root.resolve() if ".." in root.parts else root  # messages name it
    if not root.is_dir():
        state = "is a file" if root.exists() else "does not exist"
        raise ValueError(f"ingest.folder = {folder!r}: {root} {state}; {rule}")
    if project.resolve().is_relative_to(root.resolve()) and project != Path():
        raise ValueError(
            f"ingest.folder = {folder!r}: {root.resolve()} contains the project's own files; move the data "
            "into a folder of their own and name that"
        )
    return root


def refuse_images_and_truth(root: Path, children: list[Path]) -> None:
    """Refuse a folder of images beside a folder of masks, boxes or other labels of these images.

    Raises:
        ValueError: Names both, and the way out.
    """
    names = {plain(child.name): child.name for child in children}
    images, truth = sorted(names.keys() & IMAGE_FOLDERS), sorted(names.keys() & TRUTH_FOLDERS)
    if images and truth:
        raise ValueError(
            f"the folders {names[images[0]]}/ and {names[truth[0]]}/ of {root} look like images and their "
            "truth, not like classes; set ingest.source: masks, or voc for boxes in .xml files. If "
            "they are classes, set ingest.splits: none"
        )


def refuse_equal_folders(root: Path, children: list[Path]) -> None:
    """Refuse folders that look like splits with unusual names: they contain equal subfolders.

    Raises:
        ValueError: Names the folders and the way out.
    """
    inner = [{folder.name for folder in folders_in(child)} for child in children if not has_images(child)]
    if len(children) < 2 or len(inner) < len(children):
        return
    common = set.intersection(*inner)
    if {plain(name) for name in common} & TRUTH_FOLDERS:
        raise ValueError(
            f"the folders of {root} ({', '.join(child.name for child in children[:4])}) each contain "
            f"{', '.join(sorted(common)[:4])}, which look like images and their truth; for classes, keep the "
            "images only; for masks, set ingest.source: masks"
        )
    if len(common) > 1 and all(len(common) >= len(names) / 2 for names in inner):
        listed = ", ".join(child.name for child in children[:4])
        equal = ", ".join(sorted(common)[:4])
        if all(split_of(name) for name in common):
            raise ValueError(
                f"the folders of {root} ({listed}) contain the splits ({equal}); splits must be above the "
                f"class folders: make it {root.name}/{sorted(common)[0]}/{children[0].name}"
            )
        raise ValueError(
            f"the folders of {root} ({listed}) contain equal subfolders ({equal}), so they are no classes; "
            f"splits must be called {SPELLINGS}: rename or merge them. If they are classes, set "
            "ingest.splits: none"
        )


def refuse_parts(root: Path, children: list[Path]) -> None:
    """Refuse folders that are all called like splits or numbered parts, and hold images without classes.

    Raises:
        ValueError: Names them and the way out.
    """
    if len(children) < 2:
        return
    names = [child.name for child in children]
    if all(_is_part(name) for name in names):
        what = "splits or other parts of a dataset"
    elif all(_NUMBERED.fullmatch(name) for name in names):
        what = "numbered parts of a dataset"
    else:
        return
    tables = name_tables(root) or name_tables(root.parent)
    way = f"or, if {tables} has the labels, set ingest.source: table" if tables else "or write a table"
    raise ValueError(
        f"the folders of {root} ({', '.join(names[:4])}) are called like {what}, not like classes; sort "
        f"their images into folders called like the classes, {way}. If they are classes, set ingest.splits: "
        "none"
    )


def _is_part(name: str) -> bool:
    words = {word.lower() for word in _WORDS.findall(name)}
    return split_of(name) is not None or any(split_of(word) or word in _PARTS for word in words)


def refuse_repeated(splits: list[Path]) -> None:
    """Refuse a split whose only folder is called like the split itself.

    Raises:
        ValueError: Names it.
    """
    for split in splits:
        inner = folders_in(split)
        if len(inner) == 1 and split_of(inner[0].name) == split_of(split.name):
            raise ValueError(
                f"{split} contains only a folder {inner[0].name!r}, which is called like the split; move "
                f"what is in {inner[0]} up into {split}"
            )


def refuse_masks_beside(kind: Path, names: list[str]) -> None:
    """Refuse a class folder in which many images have a mask beside them, `a.png` and `a_mask.png`.

    Raises:
        ValueError: Names one of them.
    """
    stems = {PurePosixPath(name).with_suffix("").as_posix() for name in names}
    found = sorted(stem for stem in stems if image_of(stem) in stems)
    if found and len(found) > _MASKS_SHARE * len(names):
        raise ValueError(
            f"{len(found)} of {len(names)} files of {kind} look like masks of other images there (for "
            f"example {found[0]}), which are no images of this class; move them elsewhere, or set "
            "ingest.source: masks if they shall be learned"
        )


def explain_empty(empty: Mapping[Path, Walk]) -> str:
    """Return what is wrong with class folders without images: they are empty, or hold other files."""
    several = len(empty) > 1
    first = next(iter(empty))
    which = f"{len(empty)} class folders are" if several else f"the class folder {first} is"
    names = f" ({', '.join(str(path) for path in list(empty)[:30])})" if several else ""
    companions = [name for walk in empty.values() for name in walk.companions]
    others = Counter(PurePosixPath(name).suffix for name in companions)
    held = ", ".join(f"{count} {ending}" for ending, count in others.most_common(3))
    if held:
        which = which.removesuffix(" is").removesuffix(" are")
        return f"{which}{names} {'hold' if several else 'holds'} only files that are not read ({held}); " + (
            "put images into it or remove it"
        )
    return f"{which} empty{names}; put images into it or remove it"


def name_tables(folder: Path) -> str:
    """Return the names of the tables in a folder, as text; empty if there are none."""
    found = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    return " or ".join(found[:2])


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder, without litter."""
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not is_litter(path.name, folder=True)
    )


def has_images(folder: Path) -> bool:
    """Return whether images lie directly in a folder."""
    return any(
        is_image(path.name) and path.is_file() and not is_litter(path.name) for path in folder.iterdir()
    )

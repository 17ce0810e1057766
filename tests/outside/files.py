"""What people's folders and tables look like: small generators, one per situation.

A generator adds its situation to a folder of images in class folders. Tests say what must come of it, and the
fuzzer combines them.
"""

import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from temper.data.source_params import ImageFolder, Table
from temper.data.sources import LISTED
from temper.data.sources.listing import Listing
from tests.project import make_project, run_until

CLASSES = ("cat", "dog")
COMPOSED = unicodedata.normalize("NFC", "Café")
DECOMPOSED = unicodedata.normalize("NFD", "Café")


def image(path: Path, seed: int = 0, *, side: int = 8) -> Path:
    """Write a small image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(path, "PNG")
    return path


def class_folders(root: Path, *, names: Iterable[str] = CLASSES, count: int = 3) -> Path:
    """Write class folders with some images each."""
    for number, name in enumerate(names):
        for each in range(count):
            image(root / name / f"{each}.png", 100 * number + each)
    return root


def split_folders(root: Path, *names: str) -> Path:
    """Write split folders with class folders in them."""
    for name in names:
        class_folders(root / name)
    return root


def list_folder(project: Path, **params: str) -> Listing:
    """List the folder `images` of a project."""
    return LISTED["imagefolder"](ImageFolder(source="imagefolder", folder="images", **params), project)  # type: ignore[arg-type]


def list_table(project: Path, text: str | bytes, *, name: str = "t.csv", **params: object) -> Listing:
    """Write a table and list it; the images `0.png` to `5.png` are beside it, as far as it names them."""
    raw = text if isinstance(text, bytes) else text.encode()
    plain = raw.replace(b"\0", b"").decode(errors="replace")
    for number in map(int, re.findall(r"(\d)\.(?:png|jpg)", plain) or range(6)):
        image(project / f"{number}.png", number)
    (project / name).write_bytes(raw)
    return LISTED["table"](Table(source="table", file=name, **params), project)  # type: ignore[arg-type]


def _synology(root: Path) -> None:
    image(root / "cat" / "@eaDir" / "0.png" / "SYNOPHOTO_THUMB_M.jpg", 7)


def _mac_zip(root: Path) -> None:
    image(root / "__MACOSX" / "cat" / "._0.png", 8)


def _windows(root: Path) -> None:
    for folder in (root, root / "cat"):
        (folder / "desktop.ini").write_text("[.ShellClassInfo]")
        (folder / "Thumbs.db").write_bytes(b"\xd0\xcf")


def _unfinished(root: Path) -> None:
    for name in ("1.png.part", "2.png.crdownload", "~$3.png", ".4.png.swp"):
        (root / "cat" / name).write_bytes(b"x")


def _pointer(root: Path) -> None:
    (root / "dog" / "photos.lnk").write_bytes(b"L")


def _dangling(root: Path) -> None:
    (root / "cat" / "gone.png").symlink_to(root / "nowhere.png")


def _loop(root: Path) -> None:
    (root / "dog" / "again").symlink_to(root / "dog", target_is_directory=True)


def _pipe(root: Path) -> None:
    os.mkfifo(root / "dog" / "pipe")


def _companions(root: Path) -> None:
    for name in ("0.xmp", "0.json", "0.AAE", "labels.txt"):
        (root / "cat" / name).write_text("x")


def _notes(root: Path) -> None:
    (root / "README.txt").write_text("words")
    image(root / "loose.png", 9)


LEFT_OUT: dict[str, tuple[Callable[[Path], None], str]] = {
    "thumbnails of a Synology": (_synology, "@eaDir"),
    "a zip made by macOS": (_mac_zip, "__MACOSX"),
    "Windows' files": (_windows, "desktop.ini"),
    "unfinished downloads": (_unfinished, "1.png.part"),
    "a shortcut": (_pointer, "photos.lnk"),
    "a dangling link": (_dangling, "gone.png"),
    "a loop of links": (_loop, "again"),
    "a pipe": (_pipe, "pipe"),
    "settings and labels beside images": (_companions, "0.AAE"),
    "notes and a loose image": (_notes, "loose.png"),
}
"""Situation -> its generator, and a name that a remark must contain. None of them adds a row."""


def _linked_class(root: Path) -> None:
    class_folders(root.parent / ".elsewhere", names=["owl"])
    (root / "owl").symlink_to(root.parent / ".elsewhere" / "owl", target_is_directory=True)


def _linked_images(root: Path) -> None:
    for number in range(2):
        target = image(root.parent / ".store" / f"{number}.png", 50 + number)
        (root / "cat" / f"linked-{number}.png").symlink_to(target)


def _deep(root: Path) -> None:
    image(root / "dog" / "2020" / "may" / "a.png", 70)


def _odd_names(root: Path) -> None:
    for number, name in enumerate(("a b.png", "a#1.png", "a%20.png", "$x$.png", "ä.png", "a;b,c|d.png")):
        image(root / "dog" / name, 80 + number)


ADDED: dict[str, tuple[Callable[[Path], None], int]] = {
    "a class folder that is a link": (_linked_class, 3),
    "images that are links": (_linked_images, 2),
    "folders in a class folder": (_deep, 1),
    "odd names": (_odd_names, 6),
}
"""Situation -> its generator, and the number of rows that it adds."""


def _two_forms(root: Path) -> None:
    class_folders(root, names=[COMPOSED, DECOMPOSED])


def _two_cases(root: Path) -> None:
    class_folders(root, names=["Cat"])


def _trailing_blank(root: Path) -> None:
    class_folders(root, names=["dog "])


LOOK_ALIKES: dict[str, tuple[Callable[[Path], None], str]] = {
    "two forms of Unicode": (_two_forms, r"'Caf\\xe9' and 'Cafe\\u0301'|'Cafe\\u0301' and 'Caf\\xe9'"),
    "two cases": (_two_cases, "'Cat' and 'cat'"),
    "a trailing blank": (_trailing_blank, "'dog' and 'dog '"),
}
"""Situation -> its generator, and the words in which both names are told."""


def masks_project(folder: Path, mask: Callable[[int], np.ndarray]) -> Path:
    """Make a project of 40 images of 16 px and their masks, with the classes background and cell."""
    project = make_project(folder, "segmentation")
    source = "{source: table, file: t.csv, labels: null, mask: mask}"
    set_lines(project, ingest=source, problem="{kind: segmentation, classes: [background, cell]}")
    for number in range(40):
        image(project / f"{number}.png", number, side=16)
        Image.fromarray(mask(number)).save(project / f"mask-{number}.png")
    lines = "".join(f"{number}.png,mask-{number}.png\n" for number in range(40))
    (project / "t.csv").write_text(f"path,mask\n{lines}")
    return project


def photographs_project(folder: Path) -> Path:
    """Make a project of 60 images of 16 px of two classes in folders."""
    project = make_project(folder, "multiclass")
    set_lines(project, ingest="{source: imagefolder, folder: images}")
    for number in range(60):
        image(place(project, number), number, side=16)
    return project


def place(project: Path, number: int) -> Path:
    """Return the path of one of these images."""
    return project / "images" / ("cat", "dog")[number % 2] / f"{number:02}.png"


def said_by_prepare(project: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run prepare; return what it says, each line of which must also be in the report."""
    run_until(project, "prepare")
    said = capsys.readouterr().err
    report = (project / "artifacts" / "prepare" / "report.html").read_text()
    assert all(
        line.split(": ")[2][:30].lstrip("0123456789 ") in report
        for line in said.splitlines()
        if "prepare: " in line
    )
    return said


def rectangle(lines: slice, value: int) -> np.ndarray:
    """Return a mask of 16 px that is 0 but for some lines of its left part."""
    mask = np.zeros((16, 16), np.uint8)
    mask[lines, :6] = value
    return mask


def set_lines(project: Path, **values: str) -> None:
    """Replace top-level lines of a project's params.yaml."""
    path = project / "params.yaml"
    for name, value in values.items():
        path.write_text(re.sub(f"^{name}:.*$", f"{name}: {value}", path.read_text(), flags=re.MULTILINE))

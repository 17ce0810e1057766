import gzip
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from temper.data.dataset.rows import read_rows, write_rows
from temper.data.source_params import FashionMnist
from temper.data.sources import fashion_mnist

Seen = list[str]


def fill(folder: Path) -> None:
    """Write the four files in small: 6 training images and 3 test images."""
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", 6), ("t10k", 3)):
        pixels = np.arange(count * 4, dtype=np.uint8).tobytes()
        images = b"\x00\x00\x08\x03" + struct.pack(">III", count, 2, 2) + pixels
        labels = b"\x00\x00\x08\x01" + struct.pack(">I", count) + bytes(i % 10 for i in range(count))
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels, mtime=0))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Seen]:
    """A machine without the package, for which the small files are the published ones.

    Commands and URLs fail and are recorded.
    """
    fill(tmp_path / "good")
    digests = {
        name: hashlib.sha256(gzip.decompress((tmp_path / "good" / name).read_bytes())).hexdigest()
        for name in fashion_mnist.FILES
    }
    seen: Seen = []

    def no_command(command: list[str], folder: Path, patience_s: float) -> None:
        seen.append(
            " ".join(word for word in command if word in ("apt-get", "download", "update", "dpkg-deb"))
        )
        raise ValueError("E: no such package")

    def no_network(url: str, timeout: float) -> None:
        seen.append(url)
        raise OSError("no network")

    monkeypatch.setattr(fashion_mnist, "FILES", digests)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "usr/share/datasets/fashion-mnist")
    monkeypatch.setattr(fashion_mnist, "run_command", no_command)
    monkeypatch.setattr(fashion_mnist, "urlopen", no_network)
    monkeypatch.setattr(fashion_mnist.shutil, "which", lambda name: f"/usr/bin/{name}")
    (tmp_path / "out").mkdir()
    return tmp_path, seen


def fetch(root: Path, folder: str | None = None) -> list[str]:
    rows = fashion_mnist.fetch(FashionMnist(source="fashion-mnist", folder=folder), root, root / "out")
    return [f"{row.id} {row.path} {row.labels[0]} {row.split}" for row in rows]


def test_a_named_folder_comes_first(world: tuple[Path, Seen]) -> None:
    root, seen = world
    rows = fetch(root, "good")
    assert len(rows) == 9
    assert rows[0] == "train-00000 train-images-idx3-ubyte.gz#0 T-shirt/top train"
    assert rows[8] == "test-00002 t10k-images-idx3-ubyte.gz#2 Pullover test"
    assert seen == []
    for name in fashion_mnist.FILES:
        assert (root / "out" / name).read_bytes() == (root / "good" / name).read_bytes()


def test_then_the_installed_package(world: tuple[Path, Seen], capsys: pytest.CaptureFixture[str]) -> None:
    root, seen = world
    fill(fashion_mnist.DEBIAN)
    assert len(fetch(root, "nowhere")) == 9
    assert seen == []
    assert "ingest.folder = 'nowhere'" in capsys.readouterr().err


def test_then_the_package_fetched_and_unpacked(
    world: tuple[Path, Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, seen = world
    monkeypatch.setattr(fashion_mnist, "run_command", package_server(seen, needs_update=False))
    monkeypatch.setattr(fashion_mnist, "DEBIAN", Path("/usr/share/datasets/fashion-mnist-not-installed"))
    assert len(fetch(root)) == 9
    assert seen == ["download", "-x"]


def test_package_lists_are_fetched_where_there_are_none(
    world: tuple[Path, Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, seen = world
    monkeypatch.setattr(fashion_mnist, "run_command", package_server(seen, needs_update=True))
    monkeypatch.setattr(fashion_mnist, "DEBIAN", Path("/usr/share/datasets/fashion-mnist-not-installed"))
    assert len(fetch(root)) == 9
    assert seen == ["download", "update", "download", "-x"]


def package_server(seen: Seen, *, needs_update: bool) -> Callable[[list[str], Path, float], None]:
    def run(command: list[str], folder: Path, patience_s: float) -> None:
        verb = next(word for word in command if word in ("download", "update", "-x"))
        if verb == "download" and needs_update and "update" not in seen:
            seen.append(verb)
            raise ValueError("E: Unable to locate package")
        seen.append(verb)
        if verb == "download":
            (folder / f"{fashion_mnist.PACKAGE}_1_all.deb").touch()
        if verb == "-x":
            fill(Path(command[-1]) / fashion_mnist.DEBIAN.relative_to("/"))

    return run


def test_then_the_mirror(world: tuple[Path, Seen], monkeypatch: pytest.MonkeyPatch) -> None:
    root, seen = world
    monkeypatch.setattr(
        fashion_mnist, "urlopen", lambda url, timeout: (root / "good" / url.rsplit("/", 1)[1]).open("rb")
    )
    assert len(fetch(root)) == 9
    assert seen[0] == "apt-get download"


def test_the_last_error_lists_all_that_was_tried_and_the_ways_out(world: tuple[Path, Seen]) -> None:
    root, seen = world
    with pytest.raises(ValueError, match="Fashion-MNIST could not be fetched") as caught:
        fetch(root, "nowhere")
    text = str(caught.value)
    order = [
        "(1) ingest.folder",
        "(2) the folder of the Debian package",
        "(3) `apt-get download",
        "(4) http://",
        "Ways out",
    ]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    assert "apt-get install dataset-fashion-mnist" in text
    assert "\n" not in text
    assert seen == [
        "apt-get download",
        "apt-get update",
        fashion_mnist.MIRRORS[0] + "train-images-idx3-ubyte.gz",
    ]
    assert list((root / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [("cut", "is damaged"), ("other", "not the published file"), ("gone", "good lacks t10k-labels")],
)
def test_damaged_files_are_refused(world: tuple[Path, Seen], damage: str, message: str) -> None:
    root, _ = world
    file = root / "good" / "t10k-labels-idx1-ubyte.gz"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    elif damage == "other":
        file.write_bytes(gzip.compress(b"something else"))
    else:
        file.unlink()
    with pytest.raises(ValueError, match=message):
        fetch(root, "good")


def test_rows_survive_writing_and_reading(world: tuple[Path, Seen]) -> None:
    root, _ = world
    rows = fashion_mnist.fetch(FashionMnist(source="fashion-mnist", folder="good"), root, root / "out")
    write_rows(rows, root / "rows.parquet")
    assert list(read_rows(root / "rows.parquet")) == rows

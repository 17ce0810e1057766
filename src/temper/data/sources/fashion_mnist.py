"""Fashion-MNIST: 70,000 grey images of clothes, 28x28, in ten classes; 60,000 to train, 10,000 to test.

Four ways to get the files are tried in order: a folder named in params.yaml; the folder of Debian's package
`dataset-fashion-mnist`; that package, fetched with `apt-get download` and unpacked without root;
torchvision's mirror. Debian compressed the same contents again, so the SHA-256 digests are those of the
decompressed files, which are equal for all four ways.

Source: Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747; names of the classes from its README (MIT licence).
"""

import gzip
import shutil
import zlib
from functools import partial
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from temper.data.images.idx import parse_idx
from temper.data.source_params import FashionMnist
from temper.data.sources.published_files import Way, fetch_files, run_command, verify_files
from temper.problem import Row

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FILES = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""File -> SHA-256 of its decompressed content, computed from Debian's 0.0~git20200523.55506a9-1."""
PACKAGE = "dataset-fashion-mnist"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
MIRRORS = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
"""As in torchvision 0.29, `torchvision.datasets.FashionMNIST.mirrors`."""
_PATIENCE_S = 30
_APT_PATIENCE_S = 180


def fetch(params: FashionMnist, project: Path, out: Path) -> list[Row]:
    """Write the four gzipped IDX files unchanged.

    Raises:
        ValueError: If no way worked; the message lists the attempts and the ways out.
    """
    named = [] if params.folder is None else [_named(params.folder, project)]
    ways = [
        *named,
        Way(f"the folder of the Debian package, {DEBIAN}", lambda scratch: DEBIAN),
        Way(f"`apt-get download {PACKAGE}`", _download_package),
        *(Way(url, partial(_download_mirror, url)) for url in MIRRORS),
    ]
    return fetch_files(
        "Fashion-MNIST",
        ways,
        lambda folder: _copy(folder, out),
        f"install it (`apt-get install {PACKAGE}`), or put its four files ({', '.join(FILES)}) into a folder "
        "and set ingest.folder to it, or try again with a network connection",
    )


def _named(folder: str, project: Path) -> Way:
    return Way(f"ingest.folder = {folder!r}", lambda scratch: project / folder)


def _copy(folder: Path, out: Path) -> list[Row]:
    verify_files(folder, FILES, _content)
    for name in FILES:
        shutil.copyfile(folder / name, out / name)
    return _rows(out)


def _rows(folder: Path) -> list[Row]:
    rows = []
    for split, prefix in (("train", "train"), ("test", "t10k")):
        labels = parse_idx(gzip.decompress((folder / f"{prefix}-labels-idx1-ubyte.gz").read_bytes()))
        names = [CLASSES[label] for label in labels.tolist()]
        rows += [
            Row(f"{split}-{i:05d}", f"{prefix}-images-idx3-ubyte.gz#{i}", labels=(name,), split=split)
            for i, name in enumerate(names)
        ]
    return rows


def _content(path: Path) -> bytes:
    """Return the decompressed content of a file.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        return gzip.decompress(path.read_bytes())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged ({error})") from error


def _download_package(scratch: Path) -> Path:
    """Fetch Debian's package and unpack it, both without root."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ValueError("this machine has no apt-get and dpkg-deb")
    download = [
        "apt-get",
        "-o",
        "APT::Sandbox::User=root",
        "-o",
        "Acquire::http::Timeout=20",
        "-o",
        "Acquire::Retries=1",
    ]
    try:
        run_command([*download, "-q", "download", PACKAGE], scratch, _APT_PATIENCE_S)
    except ValueError:
        # The machine has no package lists (usual in containers): fetch them into a temporary folder.
        for name in ("lists/partial", "cache/archives/partial"):
            (scratch / name).mkdir(parents=True)
        download += ["-o", f"Dir::State::lists={scratch / 'lists'}", "-o", f"Dir::Cache={scratch / 'cache'}"]
        run_command([*download, "-q", "update"], scratch, _APT_PATIENCE_S)
        run_command([*download, "-q", "download", PACKAGE], scratch, _APT_PATIENCE_S)
    found = sorted(scratch.glob(f"{PACKAGE}_*.deb"))
    if not found:
        raise ValueError("apt-get downloaded no package")
    run_command(["dpkg-deb", "-x", str(found[0]), str(scratch / "unpacked")], scratch, _APT_PATIENCE_S)
    return scratch / "unpacked" / DEBIAN.relative_to("/")


def _download_mirror(url: str, scratch: Path) -> Path:
    for name in FILES:
        try:
            with urlopen(url + name, timeout=_PATIENCE_S) as answer, (scratch / name).open("wb") as target:
                shutil.copyfileobj(answer, target, 1 << 20)
        except (URLError, OSError) as error:
            raise ValueError(f"{name}: {getattr(error, 'reason', error)}") from error
    return scratch

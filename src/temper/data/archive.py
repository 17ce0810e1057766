"""Many small files as one: an uncompressed zip whose bytes depend on names and contents alone.

DVC and file systems are slow with very many small files; a stored zip keeps each file byte for byte and gives it back
by name. Timestamps, owners and the order of the folder listing are left out, so equal files make equal archives.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from temper.data.space import require_space
from temper.progress import track

NAME = "pictures.zip"


def write_archive(files: Mapping[str, Path], path: Path) -> None:
    """Store files byte for byte under the given names, in the order of the names.

    Raises:
        ValueError: If the disk has no room for them, a file may not be read, or a name is not valid UTF-8.
    """
    for name, file in files.items():
        if not name.isprintable() or not _is_unicode(name):
            raise ValueError(f"the name of {str(file)!a} holds characters that are no printable text; rename the file")
    require_space(path.parent, sum(file.stat().st_size + 256 for file in files.values()), f"{len(files)} pictures")
    with ZipFile(path, "w", ZIP_STORED) as archive:
        for name in track(sorted(files), "ingest", len(files)):
            info = ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            info.create_system = 3
            info.file_size = files[name].stat().st_size
            with _readable(files[name]) as source, archive.open(info, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def _readable(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except PermissionError as error:
        raise ValueError(f"{file} may not be read by this user; make it readable (`chmod u+r`) or remove it") from error


def _is_unicode(name: str) -> bool:
    # File names that are not UTF-8 reach Python as surrogates.
    return not any("\ud800" <= letter <= "\udfff" for letter in name)

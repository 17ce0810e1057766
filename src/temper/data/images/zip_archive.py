"""An uncompressed zip for many small files, whose bytes depend only on the names and contents of the files.

DVC and file systems are slow with very many small files. An uncompressed zip stores each file byte for byte
and returns it by name. Timestamps, owners and the order of the folder listing are left out, so equal files
give equal archives.

Any zip program can read the archive. This module does not use Python's `zipfile`, which needs almost a
kilobyte of memory per member: with a million members, that is more than all other facts about the images.
Here a member needs about a hundred bytes during writing and 24 during reading, and several threads may
read.

Source: PKWARE's APPNOTE 6.3.10, sections 4.3 (records) and 4.5.3 (sizes beyond 32 bits).
"""

import os
import struct
import zlib
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, final

import numpy as np

from temper.data.disk import require_space
from temper.progress import track

NAME = "images.zip"
DRAWN = "masks.zip"
"""Name of the archive with files that a source makes."""
_DRAWN_BYTES = 1 << 14
"""Usual size of such a file, which is not known before."""
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_MOST_16, _MOST_32 = (1 << 16) - 1, (1 << 32) - 1
_DATE = (1 << 5) | 1
"""1 January 1980, the earliest date in a zip."""
_UTF8 = 0x800
_MODE = 0o644 << 16
_ON_UNIX = 3 << 8
_VERSION, _VERSION_64 = 20, 45


def write_archive(names: Sequence[str], find: Callable[[str], Path], path: Path) -> None:
    """Store files byte for byte, in the order of their names.

    Args:
        names: Names of the members.
        find: Returns the file of a name.
        path: Path of the archive.

    Raises:
        ValueError: If the disk has too little space, a file may not be read or is 4 GiB or larger, or a
            name is not valid, printable text.
    """
    needed = 0
    for name in names:
        file = find(name)
        if not name.isprintable() or not _is_unicode(name):
            raise ValueError(
                f"the name of {str(file)!a} contains characters that are not printable text; rename the file"
            )
        needed += file.stat().st_size + 256
    require_space(path.parent, needed, f"{len(names)} images")

    def read(name: str) -> bytes:
        content = _read(find(name))
        if len(content) >= _MOST_32:
            raise ValueError(
                f"{find(name)} has {len(content)} bytes, which is too large for an image; remove it"
            )
        return content

    _write(names, read, path)


def write_drawn(names: Sequence[str], draw: Callable[[str], bytes], path: Path) -> None:
    """Store what a function returns for each name, in the order of the names.

    Args:
        names: Names of the members, which those of files are part of.
        draw: Returns the content of a name, of less than 4 GiB.
        path: Path of the archive.

    Raises:
        ValueError: If the disk has too little space.
    """
    require_space(path.parent, len(names) * _DRAWN_BYTES, f"{len(names)} drawn masks")
    _write(names, draw, path)


def _write(names: Sequence[str], read: Callable[[str], bytes], path: Path) -> None:
    directory = bytearray()
    with path.open("wb") as archive:
        for name in track(sorted(names), "ingest", len(names)):
            offset, content = archive.tell(), read(name)
            try:
                encoded, flags = name.encode("ascii"), 0
            except UnicodeEncodeError:
                encoded, flags = name.encode(), _UTF8
            sum_and_sizes = (zlib.crc32(content), len(content), len(content))
            head = (flags, 0, 0, _DATE, *sum_and_sizes, len(encoded))
            archive.write(_LOCAL.pack(b"PK\x03\x04", _VERSION, *head, 0) + encoded)
            archive.write(content)
            far = struct.pack("<2HQ", 1, 8, offset) if offset >= _MOST_32 else b""
            version = _VERSION_64 if far else _VERSION
            place = (len(far), 0, 0, 0, _MODE, min(offset, _MOST_32))
            directory += (
                _CENTRAL.pack(b"PK\x01\x02", _ON_UNIX | version, version, *head, *place) + encoded + far
            )
        _finish(archive, len(names), directory)


def _finish(archive: BinaryIO, count: int, directory: bytearray) -> None:
    offset, write = archive.tell(), archive.write
    write(directory)
    if count > _MOST_16 or offset >= _MOST_32 or len(directory) >= _MOST_32:
        version = (_ON_UNIX | _VERSION_64, _VERSION_64)
        write(_END64.pack(b"PK\x06\x06", 44, *version, 0, 0, count, count, len(directory), offset))
        write(_LOCATOR.pack(b"PK\x06\x07", 0, offset + len(directory), 1))
    few = min(count, _MOST_16)
    write(_END.pack(b"PK\x05\x06", 0, 0, few, few, min(len(directory), _MOST_32), min(offset, _MOST_32), 0))


@final
class Archive:
    """Reader of an archive from `write_archive`, or of any zip of uncompressed members; threads may share it.

    Raises:
        ValueError: If the file is not a zip, is damaged, or has a compressed member.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._keys, self._offsets, self._sizes = self._read_directory()

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def read(self, name: str) -> bytes:
        """Return the content of a member.

        Raises:
            ValueError: If no member has this name, or the member is damaged.
        """
        encoded = name.encode()
        place = int(np.searchsorted(self._keys, _key(encoded)))
        if place == len(self._keys) or self._keys[place] != _key(encoded):
            raise ValueError(f"{self._path.name} has no member {name!r}")
        offset, size = int(self._offsets[place]), int(self._sizes[place])
        head = os.pread(self._file, _LOCAL.size + len(encoded), offset)
        if (
            len(head) < _LOCAL.size + len(encoded)
            or head[_LOCAL.size :] != encoded
            or head[:4] != b"PK\x03\x04"
        ):
            raise ValueError(f"{self._path.name} is damaged where {name!r} should start")
        *_, crc, _, _, name_size, extra = _LOCAL.unpack_from(head)
        content = os.pread(self._file, size, offset + _LOCAL.size + name_size + extra)
        # A zip written as a stream has the checksum behind the content, and 0 in the header.
        if len(content) < size or (crc and zlib.crc32(content) != crc):
            raise ValueError(f"bad checksum of {name!r} in {self._path.name}")
        return content

    def _read_directory(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return hash of the name, position and size of each member, sorted by the hash."""
        start, size, count = self._find_directory()
        directory = os.pread(self._file, size, start)
        keys = np.empty(count, np.uint64)
        places = np.empty((2, count), np.int64)
        at = 0
        for number in range(count):
            if directory[at : at + 4] != b"PK\x01\x02":
                raise ValueError(
                    f"{self._path} is damaged: its directory ends after {number} of {count} members"
                )
            fields = _CENTRAL.unpack_from(directory, at)
            method, stored, content, name_size, extra, comment = fields[4], *fields[8:13]
            if method or stored != content:
                raise ValueError(f"{self._path} has compressed members; they must be stored uncompressed")
            at += _CENTRAL.size
            offset = fields[16]
            if offset == _MOST_32:
                offset = struct.unpack_from("<Q", directory, at + name_size + 4)[0]
            keys[number] = _key(directory[at : at + name_size])
            places[:, number] = offset, content
            at += name_size + extra + comment
        order = np.argsort(keys)
        return keys[order], places[0, order], places[1, order]

    def _find_directory(self) -> tuple[int, int, int]:
        """Return the position and size of the directory, and the number of members in it."""
        whole = os.fstat(self._file).st_size
        tail = os.pread(self._file, _END.size, max(0, whole - _END.size))
        if tail[:4] != b"PK\x05\x06":
            raise ValueError(f"{self._path} is not a zip, or is cut off")
        count, size, start = _END.unpack(tail)[4:7]
        locator = os.pread(self._file, _LOCATOR.size, max(0, whole - _END.size - _LOCATOR.size))
        if locator[:4] == b"PK\x06\x07":
            end = os.pread(self._file, _END64.size, _LOCATOR.unpack(locator)[2])
            count, size, start = _END64.unpack(end)[7:10]
        return start, size, count


def _key(name: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(blake2b(name, digest_size=8).digest(), "little"))


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except PermissionError as error:
        raise ValueError(
            f"this user may not read {file}; make it readable (`chmod u+r`) or remove it"
        ) from error


def _is_unicode(name: str) -> bool:
    # File names that are not UTF-8 reach Python as surrogates.
    return not any("\ud800" <= letter <= "\udfff" for letter in name)

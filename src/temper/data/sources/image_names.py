"""Images that files of annotations name: by a path from one of several folders, or by their name alone."""

import posixpath
import unicodedata
from collections.abc import Iterable, Sequence

from temper.data.remark import Remark, remark_on


class ImageNames:
    """Finds images by names that were written on another computer.

    Args:
        names: Paths of all images below the user's folder.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {unicodedata.normalize("NFC", name): name for name in names}
        self._by_last: dict[str, list[str]] = {}
        for plain, name in self._names.items():
            self._by_last.setdefault(posixpath.basename(plain), []).append(name)
        self._elsewhere: list[str] = []
        self._ambiguous: list[str] = []
        self._missing: list[str] = []

    def find(self, written: str, folders: Sequence[str]) -> str | None:
        r"""Return the image that a name means; None, which is told, if there is none, or several.

        Args:
            written: The name in the annotation.
            folders: Folders to which it may be relative, below the user's folder, the likeliest first.

        Example:
            >>> names = ImageNames(["train/a.jpg", "test/a.jpg", "test/b.jpg"])
            >>> names.find("a.jpg", ["train", ""]), names.find("a.jpg", [])
            ('train/a.jpg', None)
            >>> names.find("C:\\data\\b.jpg", [""])
            'test/b.jpg'
        """
        plain = unicodedata.normalize("NFC", written.replace("\\", "/").strip())
        for folder in folders:
            if (found := self._names.get(posixpath.normpath(posixpath.join(folder, plain)))) is not None:
                return found
        parts = [part for part in plain.split("/") if part not in ("", ".", "..")]
        same = self._by_last.get(parts[-1], []) if parts else []
        # Of several images of this name, the one that shares most of the path with it.
        for length in range(len(parts), 0, -1):
            tail = "/".join(parts[-length:])
            ends = [name for name in same if f"/{unicodedata.normalize('NFC', name)}".endswith(f"/{tail}")]
            if len(ends) == 1:
                self._elsewhere.append(f"{written} is {ends[0]}")
                return ends[0]
            if ends:
                self._ambiguous.append(f"{written}: {ends[0]} or {ends[1]}")
                return None
        self._missing.append(written)
        return None

    def remarks(self) -> list[Remark]:
        """Return which images were found in another folder, and which were not found."""
        return [
            *remark_on(
                "guessed", "images are found by the end of their path, in another folder", self._elsewhere
            ),
            *remark_on("left out", "names of images fit several files; write their paths", self._ambiguous),
            *remark_on("left out", "images of the annotations are not there", self._missing),
        ]

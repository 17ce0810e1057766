"""New images with masks, for folders of masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from temper.artifacts import digest_file
from temper.data.images.zip_archive import NAME
from temper.data.intake.annotated_inbox import Decided, Dropped, Inbox, first_for_training, places_of_pair
from temper.data.intake.offer import Contents, Offer, Write
from temper.data.source_params import Masks
from temper.data.sources.litter import is_image
from temper.data.sources.mask_folders import list_rows
from temper.data.sources.mask_layout import find_pairs
from temper.problem import Row


class MaskFiles:
    """Folders of images and of masks.

    Args:
        params: Parameters of the source.
        project: Folder of the project.

    Raises:
        ValueError: If they cannot be read.
    """

    truth: ClassVar[str] = "mask"
    counted_as: ClassVar[str] = "with masks"
    unsorted: ClassVar[tuple[str, str]] = (
        "are images without a mask, or masks without an image, or have several",
        "put both into labelled/images/ and labelled/masks/ with one name, or call the mask NAME_mask.png",
    )
    endings: ClassVar[frozenset[str]] = frozenset()
    draw = None

    def __init__(self, params: Masks, project: Path) -> None:
        self._params, self._root = params, project / params.folder
        self._listing = list_rows(params, project)
        self.rows: Sequence[Row] = self._listing.rows
        first = first_for_training(self.rows)
        self._image, self._mask = first.id, str(first.mask).removeprefix(f"{NAME}/")
        self._has_splits = any(row.split for row in self.rows)

    def files(self, row: Row) -> tuple[Path, ...]:
        return self._listing.find(row.id), self._listing.find(str(row.mask).removeprefix(f"{NAME}/"))

    def read(self, offer: Offer, images: Sequence[str], others: Sequence[str]) -> Inbox:
        names = [name for name in images if is_image(name)]
        pairs = self._find_pairs(names)
        used = {name for pair in pairs for name in pair}
        dropped = [
            Dropped(Row(image, f"{NAME}/{image}", mask=f"{NAME}/{mask}"), (image, mask))
            for image, mask in pairs
        ]
        return Inbox(dropped, [name for name in images if name not in used])

    def _find_pairs(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Return the pairs of the inbox, whose folders are called as those of the dataset, or as usual."""
        for images, masks in ((self._params.images, self._params.masks), (None, None)):
            try:
                found = find_pairs(names, images, masks).pairs
            except ValueError:
                continue  # several folders may hold masks: all stay, and are named
            if found:
                return found
        return []

    def spell(self, row: Row, renamed: Mapping[str, str]) -> Row:
        return row

    def said(self, row: Row, files: Sequence[Path]) -> str:
        return digest_file(files[1])

    def places(self, new: Dropped, image: Path, offer: Offer, contents: Contents) -> tuple[Path, ...]:
        folders = (self._root / self._image).parent, (self._root / self._mask).parent
        beside = folders[0] == folders[1]
        mask = offer.labelled / new.files[1]
        pair = places_of_pair(image, folders[0], mask, folders[1], contents, added="_mask" if beside else "")
        names = [path.relative_to(self._root).as_posix() for path in pair]
        known = [self._image, self._mask]
        if (*names,) not in find_pairs([*known, *names], self._params.images, self._params.masks).pairs:
            raise ValueError(
                f"it would not be found by its name {names[0]}, which is like that of a mask; rename it and "
                "its mask"
            )
        return pair

    def writes_before(self, decided: Decided, offer: Offer) -> list[Write]:
        return []

    def writes(self, decided: Decided, offer: Offer) -> list[Write]:
        return []

    def notes(self, taken: Sequence[Dropped]) -> list[str]:
        if not self._has_splits:
            return []
        folder = Path(self._image).parent.as_posix()
        return [f"{len(taken)} new images went into {folder}, whose split is train"]

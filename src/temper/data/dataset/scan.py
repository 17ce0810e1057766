"""One pass over all images of a dataset: which can be used, their ground truth, and which are equal.

About 150 bytes per image stay in memory. The pixels are stored in a file if they are needed again.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float16, Int32, Int64, UInt8

from temper.data.dataset.duplicates import digest_pixels
from temper.data.dataset.given_columns import GivenColumns
from temper.data.dataset.near_duplicates import count_cosines, to_cosines
from temper.data.dataset.packed_truth import PackedTruth
from temper.data.dataset.resize import Chunk, count_channels, find_grey, has_masks, unify_chunks
from temper.data.images.mask_levels import UnnamedColours
from temper.data.images.mask_values import read_meaning
from temper.data.images.palettes import Palettes
from temper.data.images.reading import Unreadable
from temper.data.images.store import Store
from temper.data.params import PrepareParams
from temper.data.remark import Note
from temper.fields import Frame
from temper.inputs.facts import Facts, picture_of
from temper.inputs.image_input import ImageInput
from temper.problem import Problem, Row
from temper.progress import track

_FAINT_SPAN = 8
"""Largest difference of levels in an image that shows nearly nothing."""
_BLANK = "images are blank: all their pixels are equal"
_BLANK_NOTES = {
    True: Note("noticed", f"{_BLANK} in the range that becomes 0 to 255; see prepare.range"),
    False: Note(
        "noticed",
        f"{_BLANK}; if they are drawn on transparent ground, prepare.background: black or checker shows them",
    ),
}
"""Whether an image has more than 8 bits -> what is said if it is blank."""
_FAINT = "images are nearly blank: their levels hardly differ"
_FAINT_NOTES = {
    True: Note("noticed", f"{_FAINT} in the range that becomes 0 to 255; see prepare.range"),
    False: Note("noticed", _FAINT),
}


@dataclass
class Survey:
    """Results of the pass over the images, by number of the row."""

    bad: dict[int, str]
    """Number of the row -> why it cannot be used."""
    truth: PackedTruth
    digests: np.ndarray
    """Digests of the unified pixels, in hexadecimal, as bytes of type S32; of the file if an image is blank
    or has more than 8 bits, since different files may then be equal after unifying. If more than an image is
    given, of all that is."""
    channels: int
    """1 if no image has colour or colour is not wanted, otherwise 3; 0 without images."""
    given: GivenColumns
    """The inputs besides images."""
    images: UInt8[np.ndarray, "rows height width channels"] | None
    """Unified images, in a file; None if training images stay encoded, or there are none."""
    sizes: Int32[np.ndarray, "rows 2"]
    """Heights and widths before unifying."""
    plain: Bool[np.ndarray, "rows"]
    """Whether training may decode the unchanged file; False if this was not checked."""
    coloured: Bool[np.ndarray, "rows"]
    """Whether an image has colour that unifying removed."""
    grey: Bool[np.ndarray, "rows"]
    """Whether an image has no colour."""
    orientations: UInt8[np.ndarray, "rows"]
    """EXIF orientation of each image as it is stored; 0 if it was not decoded."""
    swapped: Bool[np.ndarray, "rows"]
    """Whether the sides of a mask are those of its turned image, swapped."""
    blank: Bool[np.ndarray, "rows"]
    """Whether all pixels of a unified image are equal."""
    cosines: Float16[np.ndarray, "rows cosines"]
    """Coarse content of the unified images, in a file (`near_duplicates.py`)."""
    palettes: Palettes
    """Palettes of the masks."""
    notes: dict[Note, list[int]]
    """What was changed in images, or is doubtful about them -> numbers of their rows."""
    renumbered: set[int]
    """Numbers or colours of `prepare.mask_values` that were found in masks."""
    unnamed: UnnamedColours
    """Colours of masks that have no class."""
    moments: Int64[np.ndarray, "rows 2 channels"]
    """Sums of the unified pixels and of their squares; empty if `images` contains the pixels."""


def look_over(
    rows: Sequence[Row], store: Store, problem: Problem, facts: Facts, params: PrepareParams, work: Path
) -> Survey:
    """Read every example once. Rows that cannot be decoded, or that the problem rejects, are bad.

    Args:
        rows: The examples.
        store: Files with their images.
        problem: Problem that packs the ground truth.
        facts: Its inputs.
        params: How images are unified and stored.
        work: Folder for temporary files.
    """
    survey = _begin(rows, store, problem, facts, params, work)
    picture, channels, images = picture_of(facts), survey.channels, survey.images
    if picture is None:
        survey.bad |= survey.given.read_files(rows, store, params)
        for number, size in survey.given.clips.sizes.items():
            survey.sizes[number] = size
        for number, row in enumerate(track(rows, "prepare", len(rows))):
            if number not in survey.bad:
                _pack_row(survey, number, row, {}, Frame(1, 1))
            survey.digests[number] = survey.given.digest(number, b"")
        return survey
    digests = {each: np.zeros(len(rows), "S32") for each in {1, channels}} | {channels: survey.digests}
    encoded = params.keep == "encoded"
    maybe_grey = params.mode == "auto" and channels == 3
    for chunk in unify_chunks(
        rows,
        store,
        params,
        channels=channels,
        masks=has_masks(rows),
        meaning=read_meaning(params.mask_values, problem.classes),
        check_plain=encoded and not params.shrink_px,
    ):
        place = slice(chunk.numbers.start, chunk.numbers.stop)
        _note(survey, rows, chunk)
        digests[channels][place] = digest_pixels(chunk.images)
        maybe_grey = maybe_grey and bool(survey.grey[place].all())
        if maybe_grey:
            digests[1][place] = digest_pixels(chunk.images[..., :1])
        # Different files may be equal in what is left of them.
        for number in chunk.wide | {*(chunk.numbers.start + np.flatnonzero(survey.blank[place])).tolist()}:
            digests[1][number] = digests[channels][number] = _digest_file(rows[number], store)
        survey.cosines[place] = to_cosines(chunk.images)
        if images is not None:
            images[place] = chunk.images
        else:
            survey.moments[place] = _moments(chunk.images)
        _pack_truth(survey, rows, chunk, picture)
        for number in chunk.numbers if survey.given.facts else ():
            for each in digests.values():
                each[number] = survey.given.digest(number, each[number])
    if maybe_grey:
        survey.channels, survey.digests, survey.moments = 1, digests[1], survey.moments[..., :1]
        survey.images = None if images is None else images[..., :1]
    return survey


def _begin(
    rows: Sequence[Row], store: Store, problem: Problem, facts: Facts, params: PrepareParams, work: Path
) -> Survey:
    """Return a survey of which nothing is filled in yet."""
    picture, num_rows = picture_of(facts), len(rows)
    channels = 0 if picture is None else count_channels(rows, store, params)
    encoded, shape = params.keep == "encoded", (num_rows, params.height_px, params.width_px, channels)
    images = (
        None
        if encoded or picture is None
        else np.lib.format.open_memmap(work / "images.npy", "w+", np.uint8, shape)
    )
    return Survey(
        {},
        PackedTruth(problem, num_rows, work),
        np.zeros(num_rows, "S32"),
        channels,
        GivenColumns.create(facts, num_rows, params, work),
        images,
        np.zeros((num_rows, 2), np.int32),
        np.zeros(num_rows, bool),
        np.zeros(num_rows, bool),
        np.zeros(num_rows, bool),
        np.zeros(num_rows, np.uint8),
        np.zeros(num_rows, bool),
        np.zeros(num_rows, bool),
        np.lib.format.open_memmap(
            work / "cosines.npy",
            "w+",
            np.float16,
            (num_rows, 0 if picture is None else count_cosines(params, channels)),
        ),
        Palettes(),
        {},
        set(),
        UnnamedColours(),
        np.zeros((num_rows if encoded else 0, 2, channels), np.int64),
    )


def _note(survey: Survey, rows: Sequence[Row], chunk: Chunk) -> None:
    """Note what was found in the images and masks of a chunk."""
    place = slice(chunk.numbers.start, chunk.numbers.stop)
    survey.bad |= chunk.bad
    for number, palette in chunk.palettes.items():
        survey.palettes.add(rows[number].mask or "", palette)
    survey.sizes[place], survey.plain[place] = chunk.sizes, chunk.plain
    survey.coloured[place], survey.orientations[place] = chunk.coloured, chunk.orientations
    survey.grey[place] = ~chunk.coloured & find_grey(chunk.images)
    survey.swapped[place] = chunk.swapped
    survey.renumbered |= chunk.renumbered
    for counts in chunk.unnamed.values():
        survey.unnamed.add(counts)
    spans = np.ptp(chunk.images, axis=(1, 2)).max(axis=1)
    survey.blank[place] = spans == 0
    for number, span in zip(chunk.numbers, spans.tolist(), strict=True):
        notes = chunk.notes.get(number, [])
        if span <= _FAINT_SPAN:
            notes = [*notes, (_FAINT_NOTES if span else _BLANK_NOTES)[number in chunk.wide]]
        for note in notes:
            survey.notes.setdefault(note, []).append(number)


def _digest_file(row: Row, store: Store) -> str:
    try:
        raw = store.read(row.path)
    except Unreadable:
        return ""  # it is one of the bad images
    return hashlib.blake2b(raw if isinstance(raw, bytes) else raw.tobytes(), digest_size=16).hexdigest()


def _pack_truth(survey: Survey, rows: Sequence[Row], chunk: Chunk, picture: str) -> None:
    """Pack the ground truth of the rows of a chunk."""
    for i, number in enumerate(chunk.numbers):
        if number in survey.bad:
            continue
        row, images = rows[number], {picture: chunk.images[i]}
        if chunk.masks is not None and row.mask is not None:
            images["mask"] = chunk.masks[i]
        _pack_row(survey, number, row, images, chunk.frames[i], orientation=int(chunk.orientations[i]))


def _pack_row(
    survey: Survey,
    number: int,
    row: Row,
    images: Mapping[str, np.ndarray],
    frame: Frame,
    *,
    orientation: int = 1,
) -> None:
    """Pack the ground truth of a row, and what it gives besides an image. A row that is rejected is bad."""
    try:
        survey.given.pack(number, row)
        survey.truth.pack(number, row, images, frame, orientation=orientation)
    except ValueError as error:
        survey.bad[number] = str(error)


def _moments(images: UInt8[np.ndarray, "rows height width channels"]) -> Int64[np.ndarray, "rows 2 channels"]:
    flat = images.reshape(len(images), -1, images.shape[-1])
    squares = [np.einsum("pc,pc->c", each, each, dtype=np.int64) for each in flat]
    return np.stack([flat.sum(axis=1, dtype=np.int64), np.stack(squares)], axis=1)


def facts_of(survey: Survey, numbers: Sequence[int] | np.ndarray, params: PrepareParams) -> ImageInput:
    """Return shape and exact statistics of the unified images of some rows, from `moments`."""
    sums, squares = survey.moments[np.asarray(numbers)].sum(axis=0).tolist()
    total = len(numbers) * params.height_px * params.width_px
    mean = tuple(each / total for each in sums)
    # Computed with integers: the difference of two large floats would lose digits.
    std = tuple((max(0, total * q - s * s) ** 0.5) / total for s, q in zip(sums, squares, strict=True))
    return ImageInput(params.height_px, params.width_px, survey.channels, mean, std, fit=params.fit)

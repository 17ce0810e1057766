"""Inputs before any example was looked at: what params.yaml and the rows say about them."""

from collections.abc import Mapping, Sequence
from typing import Any

from temper.inputs.clip_input import ClipInput
from temper.inputs.facts import Facts, Input
from temper.inputs.image_input import ImageInput
from temper.inputs.table_input import TableInput
from temper.inputs.text_input import TextInput


def declare(
    names: Sequence[str],
    image: ImageInput,
    *,
    text_bytes: int,
    clip_frames: int,
    given: Mapping[str, Any],
) -> Facts:
    """Return the inputs with these names.

    Args:
        names: Names of the inputs that a problem has.
        image: The images, or the frames of clips, if there are any.
        text_bytes: Number of bytes that a network sees of a text.
        clip_frames: Number of frames that a network sees of a clip.
        given: What the first row gives besides files, by input.
    """
    known: dict[str, Input] = {
        "image": image,
        "text": TextInput(text_bytes),
        "table": TableInput(tuple(given.get("table", ()))),
        "clip": ClipInput.of(image, clip_frames),
    }
    return {name: known[name] for name in names}

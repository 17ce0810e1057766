"""What problems about an example as a whole may consist of: an image or a clip, a text, a row of a table."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator

from temper.fields import VIEWS, InputName, View

PICTURE: InputName = "image"
CLIP: InputName = "clip"
_MIXING: frozenset[View] = frozenset({"mixup", "cutmix"})
_CUTTING: frozenset[View] = frozenset({"crop", "scale"})
_TILING: frozenset[View] = frozenset({"mosaic"})


def _all_different(inputs: tuple[InputName, ...]) -> tuple[InputName, ...]:
    if not inputs or len({*inputs}) < len(inputs):
        raise ValueError("name one or several different inputs: image or clip, text, table")
    if {PICTURE, CLIP} <= {*inputs}:
        raise ValueError("an example has one file, which is either an image or a clip; name one of them")
    return inputs


AnyInputs = Annotated[tuple[InputName, ...], AfterValidator(_all_different)]
"""Names of the inputs that a network sees, in the order of the deployed file."""


def kept_views(inputs: Sequence[InputName]) -> frozenset[View]:
    """Return the views of an image or clip after which the truth is still true, if it is about the whole.

    Two texts, or two rows of a table, cannot be mixed. All frames of a clip change in the same way; random
    parts, which workers cut image by image, are for images only.

    Example:
        >>> "mixup" in kept_views(["image"]), "flip" in kept_views(["image", "text"]), kept_views(["text"])
        (True, True, frozenset())
    """
    if PICTURE not in inputs and CLIP not in inputs:
        return frozenset()
    kept = VIEWS - _TILING if PICTURE in inputs else VIEWS - _TILING - _CUTTING
    return kept if len(inputs) == 1 else kept - _MIXING

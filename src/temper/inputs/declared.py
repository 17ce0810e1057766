"""Inputs before any example was looked at: what params.yaml and the rows say about them."""

from collections.abc import Sequence

from temper.inputs.facts import Facts, Input
from temper.inputs.image_input import ImageInput
from temper.inputs.table_input import TableInput
from temper.inputs.text_input import TextInput


def declare(names: Sequence[str], image: ImageInput, *, text_bytes: int, columns: tuple[str, ...]) -> Facts:
    """Return the inputs with these names.

    Args:
        names: Names of the inputs that a problem has.
        image: The images, if there are any.
        text_bytes: Number of bytes that a network sees of a text.
        columns: Names of the numbers that each row of a table has.
    """
    known: dict[str, Input] = {
        "image": image,
        "text": TextInput(text_bytes),
        "table": TableInput(columns),
    }
    return {name: known[name] for name in names}

"""Texts: their UTF-8 bytes, so that nothing outside the network can read them in another way."""

import textwrap
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from temper.fields import Field
from temper.fonts import find_font

if TYPE_CHECKING:
    from torch import Tensor

_GROUPS = 32
"""Number of groups of byte values whose shares drift is tested in."""
_PAGE_PX, _COLUMNS, _LINE_PX = 192, 30, 14
"""Side of a drawn text, letters in a line, and height of a line."""


@dataclass(frozen=True)
class TextInput:
    """Texts as UTF-8 bytes, filled up with zeros; longer ones are cut.

    Packed, sent and in networks: uint8 [batch, bytes].
    """

    length: int
    """Number of bytes that a network sees of a text."""
    input: Literal["text"] = "text"

    picture: ClassVar[bool] = False
    from_file: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    @property
    def words(self) -> str:
        return f"texts of up to {self.length} bytes"

    @property
    def needs(self) -> str:
        return "any text"

    @property
    def free(self) -> Mapping[int, str]:
        return {0: "batch", 1: "bytes"}

    def example(self, batch: int, *, longer: int = 0) -> np.ndarray:
        return np.full((batch, self.length + longer), ord("a"), np.uint8)

    def decode(self, value: Any) -> np.ndarray:
        """Return the bytes of a text; a letter that would be cut in two is left out.

        Example:
            >>> TextInput(4).decode("one").tolist(), TextInput(4).decode("abcé").tolist()
            ([111, 110, 101, 0], [97, 98, 99, 0])
        """
        if not isinstance(value, str):
            raise ValueError(f"expected a text, found {type(value).__name__}")
        try:
            content = unicodedata.normalize("NFC", value).replace("\0", "").encode()
        except UnicodeEncodeError:
            raise ValueError("the text is not valid Unicode: it contains half of a letter") from None
        kept = content[: self.length].decode(errors="ignore").encode()
        return np.frombuffer(kept.ljust(self.length, b"\0"), np.uint8)

    def arrange(self, packed: "Tensor") -> "Tensor":
        return packed

    def preprocess(self, sent: "Tensor") -> "Tensor":
        from torch.nn import functional

        return functional.pad(sent, (0, self.length))[:, : self.length]

    def as_sent(
        self, answer: "Mapping[str, Tensor]", fields: Mapping[str, Field], sent: "Tensor"
    ) -> "dict[str, Tensor]":
        return {}

    def describe(self, packed: np.ndarray) -> "dict[str, Tensor]":
        """Return the number of bytes of each text, and the share of each group of byte values."""
        import torch

        filled = packed > 0
        counts = np.stack([((packed // 8 == group) & filled).sum(axis=1) for group in range(_GROUPS)], axis=1)
        lengths = filled.sum(axis=1)
        shares = counts / np.maximum(lengths, 1)[:, None]
        return {"length": torch.from_numpy(lengths).double(), "letters": torch.from_numpy(shares)}

    def draw(self, packed: np.ndarray) -> np.ndarray:
        from PIL import Image, ImageDraw, ImageFont

        text = as_text(packed)
        page = Image.new("RGB", (_PAGE_PX, _PAGE_PX), "white")
        draw = ImageDraw.Draw(page)
        font = ImageFont.load_default(12) if text.isascii() else ImageFont.truetype(find_font(text), 12)
        lines = textwrap.wrap(text, _COLUMNS)[: _PAGE_PX // _LINE_PX]
        for number, line in enumerate(lines):
            draw.text((4, 4 + number * _LINE_PX), line, fill="black", font=font)
        return np.asarray(page)


def as_text(packed: np.ndarray) -> str:
    """Return packed bytes as a text.

    Example:
        >>> as_text(TextInput(8).decode("naïve"))
        'naïve'
    """
    return bytes(packed[packed > 0]).decode(errors="replace")

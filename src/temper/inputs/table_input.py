"""Rows of a table: numbers by name, of which some may be missing."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from temper.fields import Field

if TYPE_CHECKING:
    from torch import Tensor

_PAGE_PX, _LINE_PX = 192, 14
"""Side of a drawn row, and height of a line."""
_NARROW = 1e-6
"""Smallest standard deviation by which numbers are divided, as a share of their mean."""


@dataclass(frozen=True)
class TableInput:
    """Numbers of a table's row. Packed, sent and in networks: float32 [batch, columns]; NaN is missing."""

    columns: tuple[str, ...]
    """Names of the numbers, in their order."""
    mean: tuple[float, ...] = ()
    """Mean of each column over the training split."""
    std: tuple[float, ...] = ()
    """Standard deviation of each column over the training split."""
    input: Literal["table"] = "table"

    picture: ClassVar[bool] = False
    from_file: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.columns),)

    @property
    def words(self) -> str:
        return f"rows of {len(self.columns)} numbers ({', '.join(self.columns)})"

    @property
    def needs(self) -> str:
        return f"columns {', '.join(self.columns)}"

    @property
    def free(self) -> Mapping[int, str]:
        return {0: "batch"}

    def measured(self, packed: np.ndarray) -> "TableInput":
        """Return this input with the statistics of packed rows; those of columns without a number are 0, 1.

        Example:
            >>> TableInput(("age", "none")).measured(np.array([[1, np.nan], [3, np.nan]])).mean
            (2.0, 0.0)
        """
        there = ~np.isnan(packed)
        counts = np.maximum(there.sum(axis=0), 1)
        means = np.where(there, packed, 0).sum(axis=0, dtype=np.float64) / counts
        apart = np.where(there, packed - means, 0)
        stds = np.sqrt((apart**2).sum(axis=0, dtype=np.float64) / counts)
        stds = np.where(stds > _NARROW * np.abs(means), stds, 1.0)
        return TableInput(self.columns, tuple(means.tolist()), tuple(stds.tolist()))

    def example(self, batch: int, *, longer: int = 0) -> np.ndarray:
        return np.zeros((batch, len(self.columns)), np.float32)

    def decode(self, value: Any) -> np.ndarray:
        """Return numbers by name, also as a text of JSON; null is a missing one.

        Example:
            >>> TableInput(("age", "height")).decode({"age": 3, "height": None}).tolist()
            [3.0, nan]
        """
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                raise ValueError(f"expected JSON with numbers by name, found {value[:80]!r}") from None
        if not isinstance(value, Mapping):
            raise ValueError(f"expected numbers by name, found {type(value).__name__}")
        if unknown := [name for name in value if name not in self.columns]:
            raise ValueError(f"unknown column {unknown[0]!r}; the columns are {', '.join(self.columns)}")
        if missing := [name for name in self.columns if name not in value]:
            raise ValueError(f"the column {missing[0]!r} is missing; write null if its number is not known")
        found = []
        for name in self.columns:
            number = math.nan if value[name] is None else value[name]
            if isinstance(number, bool) or not isinstance(number, int | float) or math.isinf(number):
                raise ValueError(f"{name} = {number!r} is not a finite number; write null if it is not known")
            found.append(number)
        with np.errstate(over="ignore"):
            packed = np.array(found, np.float32)
        if np.isinf(packed).any():
            name = self.columns[int(np.isinf(packed).argmax())]
            raise ValueError(f"{name} = {value[name]:g} is too large for a number of 32 bits; correct it")
        return packed

    def arrange(self, packed: "Tensor") -> "Tensor":
        return packed

    def preprocess(self, sent: "Tensor") -> "Tensor":
        return sent

    def as_sent(
        self, answer: "Mapping[str, Tensor]", fields: Mapping[str, Field], sent: "Tensor"
    ) -> "dict[str, Tensor]":
        return {}

    def describe(self, packed: np.ndarray) -> "dict[str, Tensor]":
        """Return each column (missing numbers as its mean), and which numbers are missing."""
        import torch

        missing = np.isnan(packed)
        filled = np.where(missing, self.mean, packed)
        found = {name: torch.from_numpy(filled[:, place]) for place, name in enumerate(self.columns)}
        return found | {"missing": torch.from_numpy(missing.astype(np.float64))}

    def draw(self, packed: np.ndarray) -> np.ndarray:
        from PIL import Image, ImageDraw, ImageFont

        page = Image.new("RGB", (_PAGE_PX, _PAGE_PX), "white")
        draw, font = ImageDraw.Draw(page), ImageFont.load_default(12)
        for number, (name, value) in enumerate(zip(self.columns, packed.tolist(), strict=True)):
            shown = "missing" if math.isnan(value) else f"{value:.4g}"
            line = f"{name}: {shown}".encode("ascii", "replace").decode()
            draw.text((4, 4 + number * _LINE_PX), line, fill="black", font=font)
        return np.asarray(page)

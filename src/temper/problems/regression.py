"""Regression: how large is a quantity, or how large are several, in the image?"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import pydantic

from temper.fields import Field, Frame, View
from temper.networks.head_params import PoolingParams
from temper.problem import (
    PLAIN,
    Answer,
    Backbone,
    Columns,
    Emphasis,
    Headline,
    Outputs,
    Row,
    Targets,
)
from temper.problems.defaults import Defaults
from temper.problems.several_inputs import AnyInputs, kept_views

if TYPE_CHECKING:
    from torch import Tensor, nn

_STRATA = 4
"""Number of ranges, with equally many examples each, that are the strata."""
_NOTICEABLE = 0.1
"""Difference of two answers, in standard deviations of the data, from which on they count as different."""


@dataclass(frozen=True, kw_only=True)
class Regression(Defaults):
    """One or several numbers per image.

    Target and answer are `values` [batch, quantities], in their own unit. The output `values` is
    standardised: 0 is the data's median, and 1 is one standard deviation above it.
    """

    head: ClassVar[type[PoolingParams]] = PoolingParams
    kind: Literal["regression"]
    inputs: AnyInputs = ("image",)
    """What the network sees of an example: image, text, table, or several of them."""
    quantities: tuple[str, ...] = ()
    """Names of the quantities, columns of `ingest.values`. A single one may be left out."""
    unit: str = ""
    """What the quantities are measured in, e.g. `years`; pages, plots and answers say it."""
    penalty: Literal["huber", "absolute", "squared", "quantile"] = "huber"
    """How an error counts in the loss: `huber` is squared up to one standard deviation and absolute beyond
    it, so that few wrong values do little harm; `absolute` leads to the median, `squared` to the mean."""
    quantile: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.5
    """With the penalty `quantile`: share of the values that shall be below the answer, e.g. 0.9."""
    centres: tuple[float, ...] = ()
    """Median of each quantity. If left out, it is computed from the data."""
    spreads: tuple[Annotated[float, pydantic.Field(gt=0)], ...] = ()
    """Standard deviation of each quantity. If left out, it is computed from the data."""
    deviations: tuple[float, ...] = ()
    """Mean distance of each quantity from its median. If left out, it is computed from the data."""
    edges: tuple[float, ...] = ()
    """Borders of the strata, which are ranges of the first quantity. If left out, they are its quartiles."""

    def __post_init__(self) -> None:
        if self.quantile != 0.5 and self.penalty != "quantile":
            raise ValueError(
                f"quantile = {self.quantile:g} with penalty = {self.penalty}: it has no effect; set penalty "
                "to quantile, or leave quantile out"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """Nothing, since numbers have no classes."""
        return ()

    @property
    def headline(self) -> Headline:
        """The mean absolute error; R² if there are several quantities, since their units may differ."""
        if len(self.quantities) > 1:
            return Headline("r2", unit="R²")
        return Headline("mae", greater_is_better=False, unit=self.unit or "units")

    @property
    def scores(self) -> tuple[str, ...]:
        several = [f"mae_{name}" for name in self.quantities] if len(self.quantities) > 1 else []
        return ("mae", "rmse", "r2", *several)

    @property
    def truth(self) -> Mapping[str, Field]:
        return {"values": Field(names=self.quantities, unit=self.unit)}

    @property
    def keeps(self) -> frozenset[View]:
        return kept_views(self.inputs) - {"mixup", "cutmix"}

    @property
    def answer(self) -> Mapping[str, Field]:
        return {"values": Field(names=self.quantities, unit=self.unit)}

    def bind(self, rows: Sequence[Row]) -> "Regression":
        found, names = [], self.quantities
        for row in rows:
            truth = json.loads(row.truth) if row.truth else {}
            names = names or tuple(truth)
            if not names or (missing := [name for name in names if name not in truth]):
                which = f"no {', '.join(missing)}" if names else "no numbers"
                raise ValueError(
                    f"{row.path} has {which}, but this problem needs numbers: set ingest.source: table and "
                    "ingest.values to the columns that hold them"
                )
            if self.quantities and (others := [name for name in truth if name not in names]):
                raise ValueError(
                    f"ingest.values also names {', '.join(others)}, which problem.quantities leaves out; "
                    "name the same columns in both"
                )
            found.append([truth[name] for name in names])
        if len(names) > 1 and not self.quantities:
            raise ValueError(
                f"the data hold several quantities; set problem.quantities: [{', '.join(names)}]"
            )
        values = np.array(found, np.float64)
        spreads = values.std(axis=0)
        if (spreads == 0).any():
            name = names[int((spreads == 0).argmax())]
            raise ValueError(f"all values of {name!r} are equal, so there is nothing to learn; remove it")
        centres = np.median(values, axis=0)
        edges = np.unique(np.quantile(values[:, 0], np.arange(1, _STRATA) / _STRATA))
        for key in ("centres", "spreads", "deviations"):
            if (given := getattr(self, key)) and len(given) != len(names):
                raise ValueError(
                    f"problem.{key} has {len(given)} numbers, and there are {len(names)} quantities "
                    f"({', '.join(names)}); leave it out, and it is computed from the data"
                )
        return replace(
            self,
            quantities=names,
            centres=self.centres or tuple(centres.tolist()),
            spreads=self.spreads or tuple(spreads.tolist()),
            deviations=self.deviations or tuple(np.abs(values - centres).mean(axis=0).tolist()),
            edges=self.edges or tuple(edges.tolist()),
        )

    def pack(self, row: Row, images: Mapping[str, np.ndarray], frame: Frame) -> Columns:
        truth = json.loads(row.truth or "{}")
        return {"values": np.asarray([truth[name] for name in self.quantities], np.float32)}

    def strata(self, columns: Columns) -> frozenset[str]:
        """Return the range of the first quantity."""
        name, texts = self.quantities[0], [f"{edge:.4g}" for edge in self.edges]
        place = int(np.searchsorted(self.edges, float(columns["values"][0]), side="left"))
        if not texts:
            return frozenset({name})
        if place in (0, len(texts)):
            return frozenset({f"{name} up to {texts[0]}" if place == 0 else f"{name} above {texts[-1]}"})
        return frozenset({f"{name} above {texts[place - 1]} up to {texts[place]}"})

    def network(self, encoders: Mapping[str, Backbone], head: PoolingParams | None = None) -> "nn.Module":
        from temper.networks.heads import Regressor

        return Regressor(encoders, num_values=len(self.quantities), params=head or PoolingParams())

    def loss(self, outputs: Outputs, targets: Targets, emphasis: Emphasis = PLAIN) -> "Tensor":
        """Return the penalty of each example's errors, in standard deviations, averaged over quantities."""
        from temper.maths.losses import penalize

        if emphasis != PLAIN:
            raise ValueError("label smoothing, logit adjustment and costs are defined for classes only")
        wanted = self._standard(targets["values"])
        return penalize(outputs["values"].float() - wanted, self.penalty, quantile=self.quantile)

    def read(self, outputs: Outputs) -> Answer:
        import torch

        values = outputs["values"].float()
        spreads, centres = torch.tensor(self.spreads), torch.tensor(self.centres)
        return {"values": values * spreads.to(values.device) + centres.to(values.device)}

    def tally(self, answer: Answer, targets: Targets) -> "Tensor":
        """Return sums for each example, [batch, counts].

        They are, by quantity, the absolute error, the squared error, the distance from the centre and its
        square, all in double precision; then 1.
        """
        import torch

        true = targets["values"].double()
        errors = answer["values"].double() - true
        apart = true - torch.tensor(self.centres, dtype=torch.float64, device=true.device)
        counts = [errors.abs(), errors.square(), apart, apart.square(), torch.ones_like(true[:, :1])]
        return torch.cat(counts, dim=1)

    def score(self, totals: "Tensor") -> "dict[str, Tensor]":
        from temper.maths.tallies import share

        size = len(self.quantities)
        count = totals[..., -1:].expand(*totals.shape[:-1], size)
        means = [share(totals[..., start * size : (start + 1) * size], count) for start in range(4)]
        absolute, squared, apart, apart_squared = means
        variance = (apart_squared - apart.square()).clamp(min=0)
        # Where all values are equal, as those of a single image, R² has no meaning.
        r2 = (1 - share(squared, variance)).where(variance > 0, squared.new_full((), float("nan")))
        scores = {"mae": absolute.mean(-1), "rmse": squared.sqrt().mean(-1), "r2": r2.mean(-1)}
        if size > 1:
            scores |= {f"mae_{name}": absolute[..., i] for i, name in enumerate(self.quantities)}
        return scores

    def constant(self, counts: Mapping[str, int]) -> tuple[str, dict[str, float]] | None:
        """Return the medians of all data, with the mean distance from them."""
        medians = ", ".join(f"{value:.4g}" for value in self.centres)
        return f"{medians} {self.unit}".strip(), {"mae": float(np.mean(self.deviations)), "r2": 0.0}

    def error(self, answer: Answer, targets: Targets) -> "Tensor":
        """Return e / (1 + e) of the largest error e, in standard deviations."""
        worst = self._apart(answer["values"], targets["values"]).amax(dim=1)
        return worst / (1 + worst)

    def gap(self, ours: Answer, theirs: Answer) -> "Tensor":
        """Return the largest difference in standard deviations, at most 1."""
        return self._apart(ours["values"], theirs["values"]).amax(dim=1).clamp(max=1).double()

    def changed(self, ours: Answer, theirs: Answer) -> "Tensor":
        """Return the share of the quantities that differ by more than a tenth of a standard deviation."""
        return (self._apart(ours["values"], theirs["values"]) > _NOTICEABLE).double().mean(dim=1)

    def caption(self, answer: Answer, targets: Targets) -> str:
        pairs = zip(self.quantities, targets["values"][0], answer["values"][0], strict=True)
        said = [f"{name} {float(true):.4g}, predicted {float(found):.4g}" for name, true, found in pairs]
        return f"{'; '.join(said)} {self.unit}".strip()

    def _standard(self, values: "Tensor") -> "Tensor":
        import torch

        values = values.float()
        centres, spreads = torch.tensor(self.centres), torch.tensor(self.spreads)
        return (values - centres.to(values.device)) / spreads.to(values.device)

    def _apart(self, ours: "Tensor", theirs: "Tensor") -> "Tensor":
        return (self._standard(ours) - self._standard(theirs)).abs()

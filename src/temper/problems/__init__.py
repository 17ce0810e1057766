"""Kinds of problems, one file per kind. `AnyProblem` is the list of all kinds."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from temper.problem import Problem
from temper.problems.detection import Detection
from temper.problems.keypoints import Keypoints
from temper.problems.multiclass import Multiclass
from temper.problems.multilabel import Multilabel
from temper.problems.regression import Regression
from temper.problems.retrieval import Retrieval
from temper.problems.segmentation import Segmentation

AnyProblem = Annotated[
    Multiclass | Multilabel | Segmentation | Regression | Keypoints | Detection | Retrieval,
    Field(discriminator="kind"),
]


def dump(problem: Problem) -> dict[str, Any]:
    """Return a problem as a JSON value, as artifacts store it."""
    return _ADAPTER.dump_python(problem, mode="json")


def load(value: Mapping[str, Any]) -> Problem:
    """Return the problem from a value that `dump` returned."""
    return _ADAPTER.validate_python(value)


_ADAPTER: TypeAdapter[Any] = TypeAdapter(AnyProblem)

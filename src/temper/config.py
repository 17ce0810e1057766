"""Table of contents of params.yaml: parsed once, frozen, handed down.

Each section is a frozen dataclass beside the code that reads it, in the room's own `params.py`, which imports no torch;
so the flow and the stages that only move files can read parameters without waiting for it.
"""

import difflib
import io
import json
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, Self
from zoneinfo import available_timezones

from cronsim import CronSim, CronSimError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from temper.compress.params import DistillationTerms, QuantizeParams
from temper.config_errors import explain, find_infinite, known_keys
from temper.data.params import AnySource, AugmentParams, PrepareParams, SamplingParams, ViewParams
from temper.engine.params import FitParams, HostsParams
from temper.gate.params import GateParams
from temper.networks.params import MLFLOW, AnyBackbone, TransferParams, watched_file
from temper.problem import HeadParams
from temper.problems import AnyProblem
from temper.stress.params import EvaluateParams

FILE = "params.yaml"
_EXAMPLE = "examples/digits/params.yaml"
_GPUS = Path("/proc/driver/nvidia/gpus")
HOST = "TEMPER_HOST"
"""Environment variable with the address of the first of several hosts (`make ... HOST=`): of the machines, not of the project."""
LEAST_RECENT = 30
"""Fewer recent images than this say nothing about drift."""
Ranks = Literal["auto"] | Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class TrainParams:
    """The teacher."""

    ranks: Ranks = "auto"
    """Processes that train together, on each host; `auto` takes one per GPU, else 1."""
    hosts: HostsParams | None = None
    """Machines that train together (`docs/scale.md`); none: this one alone, which does not go on by itself after a loss."""
    backbone: AnyBackbone
    head: HeadParams = field(default_factory=HeadParams)
    sampling: SamplingParams = field(default_factory=SamplingParams)
    views: ViewParams
    fit: FitParams
    transfer: TransferParams = field(default_factory=TransferParams)

    def __post_init__(self) -> None:
        self.transfer.check(self.fit.epochs, self.backbone)


@dataclass(frozen=True, kw_only=True)
class DistillParams(TrainParams):
    """The student: everything that the teacher has, and what it learns from the teacher."""

    terms: DistillationTerms


@dataclass(frozen=True, kw_only=True)
class RetrainParams:
    """When a schedule trains again (`docs/retrain.md`)."""

    cron: str = "0 3 * * 1"
    """When `make schedule` looks for new images: minute, hour, day of the month, month, day of the week."""
    timezone: str = "UTC"
    """Of `cron`, e.g. `Europe/Berlin`."""
    inbox: str = "inbox"
    """Folder, relative to the project: `labelled/CLASS/` for new images, `unlabelled/` for the look at drift."""
    min_new: Annotated[int, Field(ge=1)] = 1
    """Fewer new training examples than this wait."""
    cooldown_h: Annotated[float, Field(ge=0)] = 0.0
    """Hours after a training in which no other begins."""
    false_alarms: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """How often the look at drift may cry wolf."""
    drift_trains: bool = False
    """Drift makes even a few new examples enough; else it is advice."""
    webhook: str | None = None
    """Address that is told what came of a scheduled run, by POST; signed with the secret in TEMPER_WEBHOOK_SECRET."""

    def __post_init__(self) -> None:
        try:
            CronSim(self.cron, datetime.now(UTC))
        except CronSimError as error:
            raise ValueError(
                f"cron = {self.cron!r}: {str(error).lower()}; '0 3 * * 1' is Mondays at three"
            ) from None
        if self.timezone not in available_timezones():
            near = difflib.get_close_matches(self.timezone, available_timezones(), 1)
            raise ValueError(
                f"timezone = {self.timezone!r} is no time zone; one is {near[0] if near else 'Europe/Berlin'}"
            )
        if Path(self.inbox).is_absolute() or ".." in Path(self.inbox).parts or not Path(self.inbox).parts:
            raise ValueError(f"inbox = {self.inbox!r} must be a folder inside the project, relative to it")
        if self.webhook is not None and not self.webhook.startswith(("http://", "https://")):
            raise ValueError(f"webhook = {self.webhook!r} must begin with https:// or http://")


@dataclass(frozen=True, kw_only=True)
class PlanParams:
    """What is said before a run; apart from `fit`, where a change would make a finished training stale."""

    warn_minutes: Annotated[float, Field(gt=0)] = 30.0
    """A training that is estimated to take longer is warned of, with what would shorten it."""


@dataclass(frozen=True, kw_only=True)
class ServeParams:
    """What the server takes, and how much of it at once."""

    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Processes that answer; auto: one a core."""
    max_bytes: Annotated[int, Field(ge=1)] = 16 * 1024 * 1024
    """Of a request; more is answered with 413, unread."""
    max_pixels: Annotated[int, Field(ge=1)] = 40_000_000
    """Of an image, read from its header before it is decoded."""
    max_side_px: Annotated[int, Field(ge=1)] = 20_000
    max_images: Annotated[int, Field(ge=1)] = 256
    """Of a request."""
    max_queue: Annotated[int, Field(ge=1)] = 1024
    """Images that wait; more are answered with 503."""
    timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """From a request's arrival to its answer; later it is 503. A connection that is so long without a request, or within the head of one, is closed."""
    max_batch: Annotated[int, Field(ge=1)] = 64
    """Images that are answered at once; whatever waits is taken together, nothing waits for more to come."""
    sample_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the images that are laid into the inbox, unlabelled, for the look at drift; 0 keeps nothing."""
    sample_mb: Annotated[float, Field(gt=0)] = 200.0
    """The inbox takes no more samples beyond this."""


class Params(BaseModel):
    """Everything a project decides."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    project: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    """Name of the registered model."""
    seed: int
    problem: AnyProblem
    ingest: AnySource
    prepare: PrepareParams
    augment: AugmentParams
    train: TrainParams
    distill: DistillParams
    quantize: QuantizeParams
    evaluate: EvaluateParams
    gate: GateParams
    plan: PlanParams = PlanParams()
    retrain: RetrainParams = RetrainParams()
    serve: ServeParams = ServeParams()

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        self.check_rules()
        return self

    def check_rules(self, *, strata: Collection[str] | None = None, channels: int = 3) -> None:
        """Refuse rules of the gate on what will not be measured, before hours of training lead up to them.

        Args:
            strata: Of the test images; None while nobody knows them.
            channels: Of the images: some conditions need colour.

        Raises:
            ValueError: Names the rule, the value, and what there is.
        """
        self.gate.check(
            headline=self.problem.headline.name,
            scores=self.problem.scores,
            conditions=self.evaluate.conditions(channels=channels),
            strata=strata,
        )


def load(project: Path) -> Params:
    """Read a project's params.yaml.

    Raises:
        ValueError: If the file is missing, is no YAML, or breaks a rule; names the key, the value and the rule.
    """
    path = project / FILE
    if not path.is_file():
        raise ValueError(
            f"{path} does not exist; copy one from examples/ or give another folder with PROJECT=..."
        )
    try:
        return parse(path.read_text(encoding="utf-8"))
    except YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse(text: str) -> Params:
    """Parse the text of a params.yaml; errors name the key, the value and the rule."""
    tree = YAML(typ="safe", pure=True).load(io.StringIO(text))
    if tree is None:
        sections = ", ".join(Params.model_fields)
        raise ValueError(
            f"the file is empty; it must hold the sections {sections}: copy an example, e.g. {_EXAMPLE}"
        )
    if not isinstance(tree, dict):
        raise ValueError(f"expected a mapping of sections, found {type(tree).__name__}")
    if infinite := find_infinite(tree):
        raise ValueError(f"{infinite}: must be a finite number")
    try:
        # As JSON: strict mode refuses YAML's lists for tuples, but takes JSON's.
        return Params.model_validate_json(json.dumps(tree, allow_nan=False))
    except ValidationError as error:
        raise ValueError(explain(error, known_keys(Params))) from None
    except TypeError as error:
        raise ValueError(f"holds a value that is no text, number, list or mapping: {error}") from error


def check_ranks(params: Params, stage: str) -> None:
    """Refuse more processes than this machine can let train together; apart from `parse`, since other machines may plan.

    Raises:
        ValueError: If there are fewer GPUs than ranks, or where there is no GPU fewer cores.
    """
    asked = getattr(params, stage).ranks
    num_gpus = len(list(_GPUS.iterdir())) if _GPUS.is_dir() else 0
    most, thing = (num_gpus, "GPU") if num_gpus else (os.cpu_count() or 1, "core")
    if asked != "auto" and asked > most:
        raise ValueError(
            f"{stage}.ranks = {asked}: each rank needs a {thing} of its own, and this machine has {most}; "
            f"set it to {most} or less, or to auto (one per GPU, else 1)"
        )


def registered_weights(params: Params) -> dict[str, str]:
    """Where training starts from versions in MLflow: reference -> the file, in the project, from which stages read it."""
    named = [stage.transfer.weights for stage in (params.train, params.distill)]
    found = [weights for weights in named if weights is not None and weights.startswith(MLFLOW)]
    return {weights: str(watched_file(weights)) for weights in found}


def check_hosts(params: Params, stage: str, address: str | None) -> None:
    """Refuse several hosts without the address where they meet.

    Args:
        params: Of the project.
        stage: A stage that runs as ranks.
        address: Of the first host, as the user named it.

    Raises:
        ValueError: If it is needed and missing.
    """
    hosts = getattr(params, stage).hosts
    if hosts is not None and hosts.most > 1 and not address:
        raise ValueError(
            f"{stage}.hosts.most = {hosts.most}, but where do they meet? Run `make pipeline HOST=address` on the first one, with an "
            "address of its own that the others reach, and `make join HOST=address` on each of these (docs/scale.md)"
        )


def digest_value(params: Params, sections: tuple[str, ...]) -> dict[str, Any]:
    """The JSON value of some sections, for digests and records."""
    tree = params.model_dump(mode="json")
    return {name: tree[name] for name in sections}


def select(params: Params, sections: tuple[str, ...]) -> SimpleNamespace:
    """Only the sections a stage declared, so that reading another one fails instead of escaping the cache."""
    return SimpleNamespace(**{name: getattr(params, name) for name in sections})

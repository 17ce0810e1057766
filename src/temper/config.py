"""The sections of params.yaml: parsed once, frozen, and passed on.

Each section is a frozen dataclass beside the code that reads it, in the `params.py` of that package. These
modules do not import torch, so the flow and the stages that only move files can read parameters without
waiting for torch.
"""

import io
import json
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from temper.compress.params import DistillationTerms, QuantizeParams
from temper.config_errors import check_for_dvc, explain, find_infinite, known_keys
from temper.data.augmentation.params import AugmentParams
from temper.data.images.mask_values import with_named_classes
from temper.data.loading.params import SamplingParams, ViewParams
from temper.data.params import PrepareParams
from temper.data.source_params import AnySource
from temper.engine.params import FitParams, HostsParams
from temper.gate.params import GateParams
from temper.make_command import make_command
from temper.networks.head_params import read_head
from temper.networks.params import MLFLOW, AnyBackbone, TransferParams, watched_file
from temper.problem import Option
from temper.problems import AnyProblem
from temper.problems.several_inputs import CLIP, PICTURE
from temper.retrain_params import RetrainParams
from temper.serve_params import ServeParams
from temper.stress.params import EvaluateParams

FILE = "params.yaml"
_EXAMPLE = "examples/digits/params.yaml"
_GPUS = Path("/proc/driver/nvidia/gpus")
_OPTIONS: dict[str, Option] = {"logit-adjustment": "offsets", "costs": "costs"}
"""Method of `augment.balance` -> option of the loss that it sets."""
HOST = "TEMPER_HOST"
"""Environment variable with the address of the first of several hosts (`make ... HOST=`). The address belongs
to the machines, not to the project."""
LEAST_RECENT = 30
"""Smallest number of recent images that says anything about drift."""
Ranks = Literal["auto"] | Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class TrainParams:
    """How the teacher is trained."""

    ranks: Ranks = "auto"
    """Number of processes per host that train together; `auto` is one per GPU, or 1 without a GPU."""
    hosts: HostsParams | None = None
    """Hosts that train together (`docs/scale.md`). By default this host trains alone, and its training does
    not restart by itself after a rank is lost."""
    backbone: AnyBackbone
    """Encoder of the first of `problem.inputs`."""
    encoders: dict[str, AnyBackbone] = field(default_factory=dict)
    """Encoders of the other inputs, by name, e.g. `{text: {family: text-convolutions}}`; a plain one for each
    that is left out."""
    head: dict[str, Any] = field(default_factory=dict)
    """Settings of the head, which depend on the kind of problem."""
    sampling: SamplingParams = field(default_factory=SamplingParams)
    views: ViewParams
    fit: FitParams
    transfer: TransferParams = field(default_factory=TransferParams)

    def __post_init__(self) -> None:
        self.transfer.check(self.fit.epochs, self.backbone)


@dataclass(frozen=True, kw_only=True)
class DistillParams(TrainParams):
    """How the student is trained: all settings of the teacher, and the terms of distillation."""

    terms: DistillationTerms


@dataclass(frozen=True, kw_only=True)
class PlanParams:
    """What is printed before a run; not part of `fit`, where a change makes a finished training stale."""

    warn_minutes: Annotated[float, Field(gt=0)] = 30.0
    """If the estimate of a training is longer than this, a warning says what would shorten it."""


class Params(BaseModel):
    """All parameters of a project."""

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
        problem: Any = with_named_classes(self.problem, self.prepare.mask_values)
        named = self.model_copy(update={"problem": problem})
        named.check_rules()
        return named

    def check_rules(self, *, strata: Collection[str] | None = None, channels: int = 3) -> None:
        """Refuse gate rules on something that will not be measured, before hours of training.

        Args:
            strata: Strata of the test images; None while they are not known.
            channels: Channels of the images, since some conditions need colour.

        Raises:
            ValueError: Names the rule, its value and the possible values.
        """
        self.gate.check(
            headline=self.problem.headline.name,
            unit=self.problem.headline.unit,
            scores=self.problem.scores,
            conditions=self.evaluate.conditions(channels=channels, truth=self.problem.truth),
            strata=strata,
        )
        self._check_inputs()
        method = self.augment.balance.method
        if method in _OPTIONS:
            instead = "none, oversample, undersample or weights"
            self._check_option(_OPTIONS[method], f"augment.balance.method = {method}", instead)
        for name in ("train", "distill"):
            read_head(self.problem.head, getattr(self, name).head, where=f"{name}.head")
            fit = getattr(self, name).fit
            fit.check(self.problem.scores, f"{name}.fit")
            if fit.label_smoothing:
                self._check_option("smoothing", f"{name}.fit.label_smoothing = {fit.label_smoothing:g}", "0")
            if wrong := sorted(getattr(self, name).views.used - self.problem.keeps):
                raise ValueError(
                    f"{name}.views turns on {', '.join(wrong)}, after which the truth of a "
                    f"{self.problem.kind} problem would be wrong; leave it out"
                )

    def _check_inputs(self) -> None:
        """Refuse inputs that the source does not give, and settings of images where there are none."""
        inputs, gives = self.problem.inputs, self.ingest.gives
        filed = {PICTURE if each == CLIP and self.ingest.may_be_clips else each for each in inputs}
        if filed != {*gives}:
            raise ValueError(
                f"problem.inputs = {', '.join(inputs)}, but ingest gives {', '.join(gives) or 'nothing'}: "
                "name the same in both (of a table: ingest.path for images or clips, ingest.text, "
                "ingest.numbers)"
            )
        is_image, is_clip = PICTURE in inputs, CLIP in inputs
        self.prepare.check_size(has_pixels=is_image or is_clip, has_frames=is_clip)
        if is_image:
            return
        unused = {
            "prepare.height_px": self.prepare.height_px and not is_clip,
            "prepare.width_px": self.prepare.width_px and not is_clip,
            "prepare.keep": self.prepare.keep == "encoded",
            "prepare.near_duplicates": self.prepare.near_duplicates == "group",
            "augment.copies": self.augment.copies,
            "train.views.policy": self.train.views.policy,
            "distill.views.policy": self.distill.views.policy,
            "evaluate.families": self.evaluate.families,
        }
        if wrong := [key for key, value in unused.items() if value]:
            raise ValueError(
                f"{wrong[0]} concerns images, and problem.inputs has none; "
                + ("set it to []" if "families" in wrong[0] else "leave it out")
            )

    def _check_option(self, option: Option, setting: str, instead: str) -> None:
        if option not in self.problem.emphases:
            raise ValueError(
                f"{setting}: this is not defined for a {self.problem.kind} problem; set it to {instead}"
            )


def load(project: Path) -> Params:
    """Read a project's params.yaml.

    Raises:
        ValueError: If the file is missing, is not YAML, or breaks a rule; names key, value and rule.
    """
    path = project / FILE
    if project.is_file():
        raise ValueError(f"PROJECT = {str(project)!r} is a file; name a folder that contains {FILE}")
    if not path.is_file():
        raise ValueError(
            f"{path} does not exist; `make init FOLDER=...` writes one for your images, examples/ has "
            "others, and PROJECT=... names another folder"
        )
    try:
        params = parse(text := path.read_text(encoding="utf-8"))
        check_for_dvc(text)
        return params
    except YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse(text: str) -> Params:
    """Parse the text of a params.yaml.

    Raises:
        ValueError: Names the key, the value and the rule.
    """
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
        # Parsed as JSON: for tuples, strict mode refuses lists from YAML but accepts those from JSON.
        return Params.model_validate_json(json.dumps(tree, allow_nan=False))
    except ValidationError as error:
        raise ValueError(explain(error, known_keys(Params))) from None
    except TypeError as error:
        raise ValueError(f"a value is not a text, number, list or mapping: {error}") from error


def check_ranks(params: Params, stage: str) -> None:
    """Refuse more ranks than this machine can train with.

    This is not part of `parse`, since a plan may be made on another machine.

    Raises:
        ValueError: If there are fewer GPUs than ranks or, without a GPU, fewer cores.
    """
    asked = getattr(params, stage).ranks
    num_gpus = len(list(_GPUS.iterdir())) if _GPUS.is_dir() else 0
    most, thing = (num_gpus, "GPU") if num_gpus else (os.cpu_count() or 1, "core")
    if asked != "auto" and asked > most:
        raise ValueError(
            f"{stage}.ranks = {asked}: each rank needs its own {thing}, and this machine has {most}; "
            f"set it to {most} or less, or to auto (one per GPU, else 1)"
        )


def registered_weights(params: Params) -> dict[str, str]:
    """Return the MLflow versions from which trainings start: reference -> file that the stages read."""
    named = [stage.transfer.weights for stage in (params.train, params.distill)]
    found = [weights for weights in named if weights is not None and weights.startswith(MLFLOW)]
    return {weights: str(watched_file(weights)) for weights in found}


def check_hosts(params: Params, stage: str, address: str | None) -> None:
    """Refuse several hosts without the address where they meet.

    Args:
        params: Parameters of the project.
        stage: Name of a stage that runs as ranks.
        address: Address of the first host, as the user named it.

    Raises:
        ValueError: If the address is needed but missing.
    """
    hosts = getattr(params, stage).hosts
    if hosts is not None and hosts.most > 1 and not address:
        raise ValueError(
            f"{stage}.hosts.most = {hosts.most}: several hosts need an address where they meet; run "
            f"`{make_command('pipeline HOST=address')}` on the first host, with an address that all others "
            f"can reach, and `{make_command('join HOST=address')}` on each of them (docs/scale.md)"
        )


def digest_value(params: Params, sections: tuple[str, ...]) -> dict[str, Any]:
    """Return the JSON value of some sections, for digests and records."""
    tree = params.model_dump(mode="json")
    return {name: tree[name] for name in sections}


def select(params: Params, sections: tuple[str, ...]) -> SimpleNamespace:
    """Return only the sections that a stage declares.

    Reading another section then fails, so that no parameter escapes DVC's cache.
    """
    return SimpleNamespace(**{name: getattr(params, name) for name in sections})

"""How fast candidates of a new project are on this machine, by the estimate's own functions: a few steps of each."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from temper.commands.estimate import (
    Material,
    NetworkTimes,
    learn_truth,
    make_objective,
    start_s,
    time_network,
    use_sample,
)
from temper.commands.time_estimates import TRAININGS
from temper.config import Params, TrainParams
from temper.data.dataset.sample import take_sample
from temper.data.params import PrepareParams, ViewParams
from temper.engine.params import FitParams
from temper.networks.params import AnyBackbone
from temper.problems import load as load_problem
from temper.recipe.budget import Pace, Speeds, candidate_sizes
from temper.recipe.fitting import choose_fit
from temper.recipe.looking import Findings
from temper.recipe.networks import Available, plain_backbone, pretrained_backbone

_ROUGHLY_S = 2.0
"""Spent on the steps of a candidate: it decides on the size only."""
_BACKBONE: TypeAdapter[Any] = TypeAdapter(AnyBackbone)


def time_candidates(found: Findings, *, draws: int, available: Available | None) -> Speeds:
    """Time a plain teacher, a student, and a teacher from the weights that are there, on sampled images.

    Args:
        found: What the data are like; with an absolute path.
        draws: Images of an epoch, by which batches are chosen.
        available: The pretrained weights that would be taken; None if there are none, or they would not help.
    """
    with tempfile.TemporaryDirectory(prefix="temper-") as folder:

        def sample(*, pretrained: bool) -> Material:
            # The largest size: what fits is found by the area.
            size = next(candidate_sizes(found.height_px, found.width_px, pretrained=pretrained))
            work = Path(folder) / str(pretrained)
            work.mkdir()
            prepare, problem = (
                PrepareParams(height_px=size[0], width_px=size[1]),
                load_problem({"classes": (), **found.problem}),
            )
            return use_sample(take_sample(found.source, problem, prepare, Path(), work), seed=0)

        plain = sample(pretrained=False)
        short = min(plain.facts.height_px, plain.facts.width_px)
        teacher = _time(plain_backbone(short, teacher=True), plain, draws, pretrained=False)
        student = _time(plain_backbone(short, teacher=False), plain, draws, pretrained=False)
        known = None
        if available is not None:
            known = _time(pretrained_backbone(available), sample(pretrained=True), draws, pretrained=True)
    return Speeds(teacher, student, known, start_s())


@dataclass(frozen=True)
class Timed:
    """What was timed of a chosen recipe."""

    speeds: Speeds
    """At the size it chose."""
    material: Material
    times: Mapping[str, NetworkTimes]
    """Of its two trainings."""


def time_chosen(found: Findings, params: Params, rough: Speeds, work: Path) -> Timed:
    """Time teacher and student as they were chosen: what decides on the epochs, and what people are told.

    Args:
        found: What the data are like; with an absolute path.
        params: As chosen by rough speeds.
        rough: These.
        work: An empty folder for what is written.
    """
    sample = take_sample(
        found.source, load_problem({"classes": (), **found.problem}), params.prepare, Path(), work
    )
    material = use_sample(sample, seed=params.seed)
    times = {
        name: time_network(name, getattr(params, name), make_objective(name, params, material), material)
        for name in TRAININGS
    }
    paces, facts = [], material.facts
    for name in TRAININGS:
        step_s = times[name].step_s / getattr(params, name).fit.batch_size
        paces.append(Pace(facts.height_px, facts.width_px, step_s, times[name].image_s))
    teacher, student = paces
    # A step of the student asks the teacher, too.
    student = replace(student, step_s=max(student.answer_s, student.step_s - teacher.answer_s))
    pretrained = teacher if params.train.transfer.weights is not None else None
    speeds = Speeds(teacher, student, pretrained, rough.start_s)
    return Timed(speeds, material, times)


def _time(backbone: dict[str, Any], material: Material, draws: int, *, pretrained: bool) -> Pace:
    fit = choose_fit(draws=draws, epochs=1, pretrained=pretrained)
    rates: Any = fit.rates
    params = FitParams(epochs=1, batch_size=fit.batch_size, **rates)
    section = TrainParams(
        backbone=_BACKBONE.validate_python(backbone), views=ViewParams(flip=True, crop_px=1), fit=params
    )
    times = time_network("train", section, learn_truth, material, longest_s=_ROUGHLY_S)
    facts = material.facts
    return Pace(facts.height_px, facts.width_px, times.step_s / fit.batch_size, times.image_s)

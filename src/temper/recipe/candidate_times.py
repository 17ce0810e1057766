"""Time a few steps of each candidate of a new project on this machine, with the functions of the estimate."""

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
from temper.data.loading.params import ViewParams
from temper.data.params import PrepareParams
from temper.engine.params import FitParams
from temper.inputs.image_input import image_of
from temper.networks.params import AnyBackbone
from temper.problems import load as load_problem
from temper.recipe.budget import Pace, Speeds, candidate_sizes
from temper.recipe.fitting import choose_fit
from temper.recipe.looking import Findings
from temper.recipe.networks import Available, plain_backbone, pretrained_backbone

_ROUGHLY_S = 2.0
"""Seconds spent on the steps of a candidate. Rough times suffice: they decide only on the image size."""
_BACKBONE: TypeAdapter[Any] = TypeAdapter(AnyBackbone)


def time_candidates(found: Findings, *, draws: int, available: Available | None) -> Speeds:
    """Time a plain teacher, a student, and a teacher with pretrained weights, on sampled images.

    Args:
        found: Findings about the data, with an absolute path.
        draws: Images that an epoch draws; they determine the batch size.
        available: The pretrained weights that would be used; None if there are none or they would not help.
    """
    with tempfile.TemporaryDirectory(prefix="temper-") as folder:

        def sample(*, pretrained: bool) -> Material:
            # Timed at the largest size; the times at smaller sizes follow from the area.
            size = next(candidate_sizes(found.height_px, found.width_px, pretrained=pretrained))
            work = Path(folder) / str(pretrained)
            work.mkdir()
            prepare, problem = (
                PrepareParams(height_px=size[0], width_px=size[1], mask_values=dict(found.mask_values)),
                load_problem({"classes": (), **found.problem}),
            )
            return use_sample(take_sample(found.source, problem, prepare, Path(), work), seed=0)

        plain = sample(pretrained=False)
        short = min(image_of(plain.facts).size_px)
        teacher = _time(plain_backbone(short, teacher=True), plain, draws, pretrained=False)
        student = _time(plain_backbone(short, teacher=False), plain, draws, pretrained=False)
        known = None
        if available is not None:
            known = _time(pretrained_backbone(available), sample(pretrained=True), draws, pretrained=True)
    return Speeds(teacher, student, known, start_s())


@dataclass(frozen=True)
class Timed:
    """Times of a chosen recipe."""

    speeds: Speeds
    """Speeds at the image size of the recipe."""
    material: Material
    """Images on which the recipe was timed."""
    times: Mapping[str, NetworkTimes]
    """Times of the two trainings by stage."""


def time_chosen(found: Findings, params: Params, rough: Speeds, work: Path) -> Timed:
    """Time teacher and student as they were chosen. These times decide on the epochs and are printed.

    Args:
        found: Findings about the data, with an absolute path.
        params: Parameters that were chosen by rough speeds.
        rough: The rough speeds.
        work: Empty folder for temporary files.
    """
    sample = take_sample(
        found.source, load_problem({"classes": (), **found.problem}), params.prepare, Path(), work
    )
    material = use_sample(sample, seed=params.seed)
    times = {
        name: time_network(name, getattr(params, name), make_objective(name, params, material), material)
        for name in TRAININGS
    }
    paces, image = [], image_of(material.facts)
    for name in TRAININGS:
        step_s = times[name].step_s / getattr(params, name).fit.batch_size
        paces.append(Pace(image.height_px, image.width_px, step_s, times[name].image_s))
    teacher, student = paces
    # A step of the student includes an answer of the teacher, which is subtracted here.
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
    image = image_of(material.facts)
    return Pace(image.height_px, image.width_px, times.step_s / fit.batch_size, times.image_s)

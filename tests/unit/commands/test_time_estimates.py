"""The text of an estimate, and how long the estimate is valid."""

from dataclasses import replace
from pathlib import Path

import pytest

from temper.commands.time_estimates import (
    FILE,
    Estimate,
    advise,
    is_little,
    key_of,
    read_estimates,
    write_estimates,
)
from temper.commands.workload import Size
from temper.config import Params, load, parse
from tests.project import make_project, toy_params

SIZE = Size(1000, 100, 200, 1000, "data", True)


def made(**changes: str) -> Params:
    text = toy_params("multiclass", epochs=20)
    for old, new in changes.items():
        text = text.replace(f"{old}: 16", f"{old}: {new}") if old.endswith("_px") else text + new
    return parse(text)


def test_an_estimate_is_words_and_holds_while_what_it_hangs_on_stays(tmp_path: Path):
    params = load(make_project(tmp_path, "multiclass"))
    found = {"train": Estimate(seconds=1500, words="2,280 steps of 0.65 s")}
    write_estimates(tmp_path, params, SIZE, found)
    assert str(found["train"]) == "about 25 min on this machine: 2,280 steps of 0.65 s"
    assert read_estimates(tmp_path, params, SIZE) == found
    write_estimates(tmp_path, params, SIZE, {"distill": found["train"]})
    assert set(read_estimates(tmp_path, params, SIZE)) == {"train", "distill"}
    assert read_estimates(tmp_path, params, replace(SIZE, data="other data")) == {}
    (tmp_path / FILE).write_text((tmp_path / FILE).read_text().replace("1500", "15"))
    assert read_estimates(tmp_path, params, SIZE) == {}


def test_what_an_estimate_hangs_on():
    params = made()
    other = params.model_copy(update={"distill": replace(params.distill, ranks="auto")})
    assert key_of("train", params, SIZE) == key_of("train", other, SIZE)
    assert key_of("distill", params, SIZE) != key_of("distill", other, SIZE)


def test_little_is_not_timed():
    params = made()
    assert is_little("train", params, SIZE)  # 1,000 x 16 x 16 x 20 = 5.1 million pixels
    assert not is_little("train", params, replace(SIZE, draws=4000))


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("cpu", "a GPU"),
        ("cuda", "larger batches (train.fit.batch_size 32), as long as they fit the GPU"),
    ],
)
def test_the_advice_has_figures(device: str, words: str):
    params = made(height_px="96", width_px="64")
    found = advise("train", params, Estimate(seconds=7200, words="", device=device), warn_minutes=30)
    assert "plan.warn_minutes = 30." in found
    # A quarter of the time: 5 of 20 epochs, or sides of half the length.
    assert "(train.fit.epochs 20 → 5: about 30 min)" in found
    assert "96x64 → 48x32: about 30 min" in found
    assert "small-vgg with stem: {stride: 2}" in found
    assert found.endswith(words)


def test_an_early_stride_is_advised_once():
    text = (
        "backbone: {family: small-vgg, stem: {stride: STRIDE, size_px: 5}, widths: [8, 16], depths: [1, 1]}"
    )
    for stride, advised in ((1, True), (2, False)):
        params = made(height_px="96", width_px="96")
        section = parse(
            toy_params("multiclass", epochs=20, augment="{}")
            .replace("backbone: {family: small-resnet, widths: [8, 16], depths: [1, 1]}", text)
            .replace("STRIDE", str(stride))
        ).train
        params = params.model_copy(update={"train": section})
        found = advise("train", params, Estimate(seconds=7200, words=""), warn_minutes=30)
        assert ("train.backbone.stem.stride: 2" in found) == advised

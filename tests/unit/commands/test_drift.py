"""The drift tests find what changed, seldom raise a false alarm, and count the files that cannot be read."""

import json
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from temper.commands import drift
from temper.data.examples import count_listed
from temper.fields import Field
from temper.inputs.image_input import ImageInput
from temper.networks.onnx_model import Deployed
from tests.project import make_project, run_until
from tests.unit.serving.served import SIDE, make_place

FACTS = {"image": ImageInput(SIDE, SIDE, 1)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    return Deployed(make_place(tmp_path_factory.mktemp("model"), 1).file, part=64)


def images(count: int, rng: np.random.Generator, *, brighter: float = 0.0, noise: float = 0.0) -> np.ndarray:
    base = rng.normal(120 + brighter, 30, (count, 1, 1, 1)) + rng.normal(
        0, 20 + noise, (count, SIDE, SIDE, 1)
    )
    return base.clip(0, 255).astype(np.uint8)


def alarms(model: Deployed, first: np.ndarray, second: np.ndarray, level: float) -> list[str]:
    findings = drift.run_tests(*(drift.describe({"image": each}, FACTS, model) for each in (first, second)))
    return [finding.name for finding in findings if finding.adjusted <= level]


def test_what_changed_is_named(model: Deployed):
    rng = np.random.default_rng(0)
    reference = images(200, rng)
    assert "brightness" in alarms(model, reference, images(100, rng, brighter=40), 0.01)
    found = alarms(model, reference, images(100, rng, noise=20), 0.01)
    assert "contrast" in found and "sharpness" in found and "brightness" not in found


def test_it_seldom_cries_wolf(model: Deployed):
    """All tests together have a level of 10 %: of 100 checks of similar images, 10 may raise an alarm.

    19 or more alarms would occur once in 200 times.
    """
    rng = np.random.default_rng(1)
    raised = sum(bool(alarms(model, images(60, rng), images(40, rng), 0.1)) for _ in range(100))
    assert 1 <= raised <= 18, raised


def test_vectors_of_any_scale_count_alike():
    """An embedding with one direction that is a thousand times larger does not hide the other directions."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([1000.0, 1.0, 1.0], dtype=torch.float64)
    first, second = (torch.randn(count, 3, generator=generator, dtype=torch.float64) for count in (100, 80))
    second[:, 1] += 2.0
    (finding,) = drift.run_tests({"pooled": first * scale}, {"pooled": second * scale})
    assert finding.adjusted <= 0.01


def test_one_image_says_nothing_of_colour():
    grey, colour = (
        drift.describe({"image": np.zeros((3, SIDE, SIDE, channels), np.uint8)}, FACTS, _Silent())
        for channels in (1, 3)
    )
    assert "colourfulness" not in grey and colour["colourfulness"].tolist() == [0, 0, 0]


class _Silent:
    """A model whose answers are the images' means."""

    metadata: ClassVar = {"temper.classes": "[]", "temper.answer": '{"answers": {}}'}

    def __call__(self, given: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
        return {"answers": torch.from_numpy(given["image"]).double().mean(dim=(1, 2))}

    def look(self, given: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
        return {}


def test_what_cannot_be_read_is_counted(tmp_path: Path):
    assert cv2.imwrite(str(tmp_path / "a.png"), np.full((9, 7, 3), 200, np.uint8))
    assert cv2.imwrite(str(tmp_path / "b.png"), np.full((5, 5), 100, np.uint8))
    (tmp_path / "c.png").write_bytes(b"no image")
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png", "gone.png")]
    for channels in (1, 3):
        columns, unreadable = drift.read_recent(paths, {"image": ImageInput(4, 6, channels)})
        found = columns["image"]
        assert found.shape == (2, 4, 6, channels) and len(unreadable) == 2
        assert found[0].max() == 200 and found[1].max() == 100


def test_a_look_at_a_project(tmp_path: Path):
    project, out = make_project(tmp_path / "project", "multiclass"), tmp_path / "out"
    run_until(project, "quantize")
    model = project / "artifacts" / "quantize" / "quantized.onnx"
    rng, paths = np.random.default_rng(0), []
    for number in range(40):
        paths.append(tmp_path / f"{number}.png")
        assert cv2.imwrite(str(paths[-1]), rng.integers(0, 255, (16, 16, 3), np.uint8))
    found = drift.measure_drift(project, model, paths, out, false_alarms=0.01)
    assert {"contrast", "sharpness"} <= set(found["alarms"]) and found["images"] == 40
    assert json.loads((out / "drift.json").read_text()) == found
    assert (out / "drift.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match=r"20 recent examples can be read, .*30.*add recent ones"):
        drift.measure_drift(project, model, paths[:20], out, false_alarms=0.01)
    (tmp_path / "text.png").write_text("no image")
    said = r"0 recent examples can be read \(1 cannot be read, the first because: .*not an image"
    with pytest.raises(ValueError, match=said):
        drift.measure_drift(project, model, [tmp_path / "text.png"], out, false_alarms=0.01)


def test_the_image_marks_alarms(model: Deployed):
    rng = np.random.default_rng(0)
    both = [drift.describe({"image": images(50, rng, brighter=shift)}, FACTS, model) for shift in (0, 60)]
    figure = drift.draw(*both, drift.run_tests(*both), 0.01)
    assert isinstance(figure, Figure)
    titles = [axis.get_title(loc="left") for axis in figure.axes if axis.get_visible()]
    assert any(title.startswith("brightness: ALARM") for title in titles)


def test_of_boxes_their_number_mean_and_classes_are_tested():
    valid = torch.tensor([[True, True], [True, False], [False, False]])
    boxes = torch.tensor(
        [[[0.0, 0, 1, 1], [0, 0, 0.5, 0.5]], [[0.2, 0.2, 0.4, 0.4], [9, 9, 9, 9]], [[9.0] * 4] * 2]
    )
    found = drift.describe_answer(Field("boxes"), boxes, valid)
    assert found["number"].tolist() == [2, 1, 0]
    assert torch.allclose(
        found["mean"].float(), torch.tensor([[0, 0, 0.75, 0.75], [0.2, 0.2, 0.4, 0.4], [0, 0, 0, 0]])
    )
    labels = drift.describe_answer(
        Field("sequence", names=("cat", "dog")), torch.tensor([[0, 1], [1, 0], [0, 0]]), valid
    )
    assert labels["mean"].tolist() == [[0.5, 0.5], [0, 1], [0, 0]] and "number" not in labels
    scores = drift.describe_answer(Field("sequence"), torch.tensor([[0.5, 0.25], [1, 9], [9, 9]]), valid)
    assert scores["mean"].tolist() == [0.375, 1, 0]


def test_examples_are_counted_and_not_files(tmp_path: Path):
    (tmp_path / "a").write_bytes(b'{"text": "one"}\n\n{"text": "two"}\n{"text": "three"}')
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n{")
    assert count_listed([tmp_path / "a", tmp_path / "b.png", tmp_path / "gone"]) == 5

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from temper.compress.cost import measure_cost
from temper.compress.export import Deployable, export
from temper.compress.quantizer import Quantizer, Setting
from temper.compress.ranges import METHODS, Method
from temper.networks.onnx_model import Deployed
from temper.problem import Inputs, Outputs
from tests.toy import FACTS, SIZE, TOYS


class Averages(nn.Module):
    """The mean of each third of the image's columns, in units of 10 grey levels: easy to check by hand."""

    def forward(self, inputs: Inputs) -> Outputs:
        columns = inputs["image"].float().mean(dim=(1, 2)) / 10
        return {"logits": torch.stack([part.mean(dim=1) for part in columns.chunk(3, dim=1)], dim=1)}


class OneConvolution(nn.Module):
    """A convolution with batch normalisation, then a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 3)

    def forward(self, inputs: Inputs) -> Outputs:
        return {"logits": self.head(self.body(inputs["image"].float() / 255).mean(dim=(2, 3)))}


def exported(network: nn.Module, path: Path) -> Path:
    deployable = Deployable(network.eval(), TOYS["multiclass"].problem, FACTS, 1.0).eval()
    export(deployable, FACTS, path, {"temper.classes": "[]"})
    return path


def draw_images(*shape: int) -> np.ndarray:
    """Draw smooth random images; resized noise would show aliasing only."""
    coarse = np.random.default_rng(0).integers(0, 256, (shape[0], 5, 5, 3), dtype=np.uint8)
    return np.stack(
        [
            np.asarray(Image.fromarray(image).resize(shape[2:0:-1], Image.Resampling.BICUBIC))
            for image in coarse
        ]
    )


@pytest.mark.parametrize("height_width", [(SIZE, SIZE), (40, 33), (7, 50)])
def test_the_graph_resizes_as_prepare_does(tmp_path: Path, height_width: tuple[int, int]):
    deployed = Deployed(exported(Averages(), tmp_path / "averages.onnx"))
    images = draw_images(3, *height_width)
    resized = [Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR) for image in images]
    wanted = deployed(np.stack([np.asarray(image) for image in resized]))["probabilities"]
    # prepare rounds to whole grey levels, the graph does not. In a mean over 48 pixels this is a tenth of
    # a level.
    torch.testing.assert_close(deployed(images)["probabilities"], wanted, atol=0.01, rtol=0)


def test_a_file_says_what_it_costs(tmp_path: Path):
    path = exported(OneConvolution(), tmp_path / "one.onnx")
    cost = measure_cost(path, FACTS)
    half = SIZE // 2
    assert cost.macs == half * half * 8 * (3 * 9) + 8 * 3
    assert cost.params == 8 * 3 * 9 + 8 + 8 * 3 + 3
    assert cost.bytes == path.stat().st_size
    small = tmp_path / "int8.onnx"
    Quantizer(path, draw_images(32, SIZE, SIZE), tmp_path).make(Setting(), small, {})
    assert measure_cost(small, FACTS).macs == cost.macs
    assert measure_cost(small, FACTS).params == cost.params


@pytest.mark.parametrize("count", [1, 7, 8])
def test_a_batch_in_parts_is_answered_like_a_whole_one(tmp_path: Path, count: int):
    path, images = exported(OneConvolution(), tmp_path / "one.onnx"), draw_images(count, SIZE, SIZE)
    whole, parts = Deployed(path)(images), Deployed(path, part=3)(images)
    torch.testing.assert_close(parts["probabilities"], whole["probabilities"])


@pytest.mark.parametrize("equalized", [False, True])
@pytest.mark.parametrize("ranges", METHODS)
def test_every_setting_gives_a_file_that_agrees(tmp_path: Path, ranges: Method, equalized: bool):
    path, images = exported(OneConvolution(), tmp_path / "one.onnx"), draw_images(64, SIZE, SIZE)
    Quantizer(path, images, tmp_path).make(Setting(ranges, equalized), tmp_path / "int8.onnx", {"a": "b"})
    exact, small = (Deployed(file)(images)["probabilities"] for file in (path, tmp_path / "int8.onnx"))
    assert (exact - small).abs().mean() < 0.02
    assert Deployed(tmp_path / "int8.onnx").metadata == {"a": "b"}


def test_a_file_cut_off_on_the_way_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def cut(source: str, target: str, **_: object) -> None:
        Path(target).write_bytes(Path(source).read_bytes()[:700])

    monkeypatch.setattr("temper.compress.quantizer.quant_pre_process", cut)
    source = exported(OneConvolution(), tmp_path / "float.onnx")
    with pytest.raises(OSError, match=r"temporary file .* could not be read back .*`df -h \.`"):
        Quantizer(source, draw_images(8, SIZE, SIZE), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["float.onnx"]


def test_files_hold_no_traces_and_are_the_same_twice(tmp_path: Path):
    network = OneConvolution()
    first, second = (exported(network, tmp_path / name) for name in ("a.onnx", "b.onnx"))
    assert first.read_bytes() == second.read_bytes()
    model = onnx.load(first)
    assert all(not node.metadata_props and not node.doc_string for node in model.graph.node)
    assert str(Path.cwd()).encode() not in first.read_bytes()


def test_metadata_travels_with_the_file(tmp_path: Path):
    assert Deployed(exported(OneConvolution(), tmp_path / "one.onnx")).metadata == {"temper.classes": "[]"}

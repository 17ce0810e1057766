from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter

from temper.inputs.image_input import ImageInput
from temper.networks.backbones import Normalize, build_backbone
from temper.networks.build import build_network, load_network, save_network
from temper.networks.heads import resize
from temper.networks.params import AnyBackbone, SmallResNet, Timm
from tests.toy import BACKBONE, FACTS, IMAGE, TOYS


def test_pixels_are_normalised_whatever_their_type():
    normalize = Normalize((10.0, 20.0), (5.0, 0.0))
    image = torch.tensor([15, 21], dtype=torch.uint8).view(1, 2, 1, 1)
    # A constant channel is divided by 1, not by 0.
    assert normalize(image).flatten().tolist() == [1.0, 1.0]


def test_feature_maps_are_as_told():
    backbone = build_backbone(SmallResNet(family="small-resnet", widths=(4, 8, 6), depths=(1, 2, 1)), IMAGE)
    maps = backbone(torch.zeros(2, 3, 12, 12))
    assert [tuple(level.shape) for level in maps] == [(2, 4, 12, 12), (2, 8, 6, 6), (2, 6, 3, 3)]
    assert backbone.num_channels == (4, 8, 6) and backbone.strides == (1, 2, 4)


@pytest.mark.slow
def test_a_backbone_of_timm_serves_classes_and_pixels():
    facts = {"image": ImageInput(64, 64, 1, (100.0,), (50.0,))}
    params = Timm(family="timm", name="resnet10t")
    for toy in (TOYS["multiclass"], TOYS["segmentation"]):
        network = build_network(toy.problem, params, facts, seed=0).eval()
        logits = network({"image": torch.zeros(2, 1, 64, 64, dtype=torch.uint8)})["logits"]
        assert logits.shape == ((2, 3, 64, 64) if toy.problem.answer.keys() == {"classes"} else (2, 3))
    with pytest.raises(
        ValueError, match=r"backbone\.name = 'resnet10x': timm has no such backbone.*, e\.g\. \w+"
    ):
        build_backbone(Timm(family="timm", name="resnet10x"), facts)


def test_widths_and_depths_must_match():
    with pytest.raises(ValueError, match=r"backbone\.widths has 2 .*backbone\.depths has 1"):
        build_backbone(SmallResNet(family="small-resnet", widths=(4, 8), depths=(1,)), IMAGE)


def test_equal_seeds_give_equal_weights_and_disturb_nobody(tmp_path: Path):
    toy = TOYS["multiclass"]
    state = torch.get_rng_state()
    one, same, other = (build_network(toy.problem, BACKBONE, FACTS, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    weights = [next(network.parameters()) for network in (one, same, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    save_network(one, tmp_path / "network.safetensors")
    again = load_network(toy.problem, BACKBONE, FACTS, tmp_path / "network.safetensors")
    assert not again.training
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in one.state_dict().items())


def test_maps_of_the_right_size_are_left_alone():
    maps = torch.rand(1, 2, 4, 4)
    assert resize(maps, torch.zeros(1, 1, 4, 4)) is maps
    assert resize(maps, torch.zeros(1, 1, 8, 6)).shape == (1, 2, 8, 6)


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        (
            {"family": "small-vgg", "widths": [8] * 5, "depths": [1] * 5},
            "cannot take inputs of this size",
        ),
        (
            {"family": "small-vgg", "widths": [8], "depths": [1], "stem": {"size_px": 9}},
            r"backbone\.stem\.size_px = 9: .*8x8 px",
        ),
        ({"family": "timm", "name": "vit_tiny_patch16_224"}, "cannot take inputs of this size"),
    ],
)
def test_what_cannot_take_the_images_says_so(backbone: dict, words: str):
    params = TypeAdapter(AnyBackbone).validate_python(backbone)
    facts = {"image": replace(IMAGE, height_px=8, width_px=8)}
    with pytest.raises(ValueError, match=words):
        build_network(TOYS["multiclass"].problem, params, facts, seed=0)

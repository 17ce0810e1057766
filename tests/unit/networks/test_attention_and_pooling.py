from pathlib import Path

import pytest
import torch
from timm.layers import EcaModule, SEModule
from timm.layers.cbam import CbamModule

from temper.networks.attention import (
    ConvolutionalAttention,
    EfficientChannelAttention,
    SqueezeExcite,
    build_attention,
    kernel_size,
)
from temper.networks.build import build_network, load_network, save_network
from temper.networks.params import SmallResNet
from temper.networks.pooling import AttentionPool, GeneralizedMean, build_pooling
from tests.toy import BACKBONE, FACTS, TOYS

MAPS = torch.randn(3, 128, 6, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("own", "other"),
    [
        (SqueezeExcite(128), SEModule(128)),
        (EfficientChannelAttention(128), EcaModule(128)),
        (ConvolutionalAttention(128), CbamModule(128)),
    ],
    ids=["se", "eca", "cbam"],
)
def test_attention_is_what_timm_computes_from_the_same_weights(own: torch.nn.Module, other: torch.nn.Module):
    theirs = list(other.state_dict().values())
    mine = own.state_dict()
    own.load_state_dict(dict(zip(mine, theirs, strict=True)))
    torch.testing.assert_close(own.eval()(MAPS), other.eval()(MAPS))


def test_channels_are_weighed_between_nothing_and_all():
    for name in ("se", "eca", "cbam"):
        said = build_attention(name, 128).eval()(MAPS)
        assert said.shape == MAPS.shape
        assert (said.abs() <= MAPS.abs()).all() and not torch.equal(said, MAPS)
    assert torch.equal(build_attention("none", 128)(MAPS), MAPS)
    assert not list(build_attention("none", 128).parameters())


def test_eca_looks_at_an_odd_number_of_neighbours():
    """By hand: log2(256) / 2 + 1 / 2 = 4.5. Its whole part, 4, is even, so ECA takes the next odd number."""
    assert kernel_size(256) == 5
    assert all(kernel_size(channels) % 2 == 1 for channels in range(2, 600))


@torch.no_grad()
def test_pooling_by_hand():
    maps = torch.tensor([[1.0, 2.0], [3.0, 6.0]]).view(1, 1, 2, 2)
    said = {name: float(build_pooling(name, 1)(maps)) for name in ("average", "max", "average-and-max")}
    assert said == {"average": 3.0, "max": 6.0, "average-and-max": 4.5}
    # ((1 + 8 + 27 + 216) / 4) ** (1 / 3) = 63 ** (1 / 3)
    assert float(build_pooling("gem", 1)(maps)) == pytest.approx(63 ** (1 / 3))
    assert float(GeneralizedMean(1.0)(maps)) == pytest.approx(3.0)
    assert float(GeneralizedMean(60.0)(maps / 6)) == pytest.approx(1.0, abs=0.03)
    attention = AttentionPool(1)
    torch.nn.init.constant_(attention.score.weight, 0.0)
    assert float(attention(maps)) == pytest.approx(3.0)
    torch.nn.init.constant_(attention.score.weight, 1.0)
    # The weights are e^1, e^2, e^3 and e^6, divided by their sum.
    powers = torch.tensor([1.0, 2.0, 3.0, 6.0]).exp()
    expected = (powers * torch.tensor([1.0, 2.0, 3.0, 6.0])).sum() / powers.sum()
    assert float(attention(maps)) == pytest.approx(float(expected), rel=1e-5)


def test_the_exponent_of_the_generalised_mean_is_learned():
    pool = GeneralizedMean()
    pool(MAPS.abs()).sum().backward()
    assert pool.exponent.grad is not None and pool.exponent.grad.abs() > 0
    # Gradients stay finite for negative, zero, tiny and large values.
    extreme = torch.tensor([-5.0, 0.0, 1e-9, 1e4]).view(1, 1, 2, 2).requires_grad_()
    pool(extreme).sum().backward()
    assert extreme.grad is not None and extreme.grad.isfinite().all()


def test_the_plain_network_has_the_weights_it_always_had(tmp_path: Path):
    toy = TOYS["multiclass"]
    plain = build_network(toy.problem, BACKBONE, FACTS, seed=0)
    assert [name for name in plain.state_dict() if not name.startswith("backbone.")] == [
        "head.weight",
        "head.bias",
    ]
    image = torch.randint(
        0, 256, (2, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    said = plain.eval()({"image": image})["logits"]
    assert torch.equal(said, plain.head(plain.backbone(image)[-1].mean(dim=(2, 3))))


@pytest.mark.parametrize("kind", ["segmentation", "keypoints", "detection"])
def test_a_decoder_can_be_wider(kind: str):
    networks = [
        build_network(TOYS[kind].problem, BACKBONE, FACTS, seed=0, head={"channels": width})
        for width in (0, 40)
    ]
    assert [network.width for network in networks] == [16, 40]


@pytest.mark.parametrize(
    ("kind", "head", "words"),
    [
        ("detection", {"channels": -1}, r"head.channels = -1: it should be greater than or equal to 0"),
        ("detection", {"channels": "40"}, r"head.channels = '40': it should be a valid integer"),
        (
            "segmentation",
            {"full_resolution": "yes"},
            r"head.full_resolution = 'yes': it should be a valid bool",
        ),
        ("detection", {"full_resolution": True}, r"unknown key head.full_resolution: .* has channels"),
        ("multiclass", {"channels": 40}, r"unknown key head.channels: .* has attention, pooling"),
        ("multiclass", {"pooling": "median"}, r"head.pooling = 'median': it should be 'average'"),
    ],
)
def test_wrong_heads_are_refused(kind: str, head: dict[str, object], words: str):
    with pytest.raises(ValueError, match=words):
        build_network(TOYS[kind].problem, BACKBONE, FACTS, seed=0, head=head)


def test_a_head_is_stored_and_loaded_and_refused_where_nothing_is_pooled(tmp_path: Path):
    head = {"pooling": "gem", "attention": "cbam"}
    backbone = SmallResNet(family="small-resnet", widths=(8, 16), depths=(1, 2), attention="eca")
    toy = TOYS["multilabel"]
    network = build_network(toy.problem, backbone, FACTS, seed=0, head=head)
    save_network(network, tmp_path / "network.safetensors")
    again = load_network(toy.problem, backbone, FACTS, tmp_path / "network.safetensors", head=head)
    inputs, _ = toy.batch(4)
    assert torch.equal(network.eval()(inputs)["logits"], again(inputs)["logits"])
    with pytest.raises(ValueError, match=r"unknown key head.pooling: the head of this kind .* has channels"):
        build_network(TOYS["segmentation"].problem, backbone, FACTS, seed=0, head=head)

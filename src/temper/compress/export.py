"""From a network to a deployable ONNX file: raw pixels in, answers out.

The graph takes uint8 images [N, H, W, C] of any height and width, resizes them to the size the network was trained at
(bilinear with antialiasing, as the images were prepared), normalises, runs the network, softens by the calibration
temperature and reads the answer out. Training and serving cannot drift apart, because nothing is left to do outside.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from temper.networks.features import watch
from temper.problem import Facts, Problem

OPSET = 20
_EXAMPLE_BATCH = 2


class Deployable(nn.Module):
    """A network with everything around it that serving would otherwise have to repeat.

    Args:
        network: What answers.
        problem: Knows how it is read.
        facts: Size of the images it was trained on.
        temperature: Its calibration.
        features: Parts of the network whose outputs are given after the answers, as `temper.networks.features` names them.
    """

    def __init__(
        self,
        network: nn.Module,
        problem: Problem,
        facts: Facts,
        temperature: float,
        features: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.network, self.problem, self.features = network, problem, features
        self.size, self.temperature = (facts.height_px, facts.width_px), temperature

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        pixels = image.permute(0, 3, 1, 2).float()
        pixels = functional.interpolate(
            pixels, size=self.size, mode="bilinear", align_corners=False, antialias=True
        )
        with watch(self.network, self.features) as seen:
            outputs = self.problem.soften(self.network({"image": pixels}), self.temperature)
        return (*self.problem.read(outputs).values(), *(seen[name] for name in self.features))


def answer_names(deployable: Deployable, facts: Facts) -> tuple[str, ...]:
    """Names of the answers, then of the features, in the order in which `Deployable` returns them."""
    image = torch.zeros(1, facts.channels, facts.height_px, facts.width_px)
    with torch.inference_mode():
        return (*deployable.problem.read(deployable.network({"image": image})), *deployable.features)


def export(deployable: Deployable, facts: Facts, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a deployable network as one ONNX file.

    Args:
        deployable: In evaluation mode.
        facts: Of the images it was trained on.
        path: Where to.
        metadata: What the file shall say about itself.
    """
    example = torch.zeros(
        _EXAMPLE_BATCH, facts.height_px + 3, facts.width_px + 5, facts.channels, dtype=torch.uint8
    )
    batch, height, width = torch.export.Dim("batch"), torch.export.Dim("height"), torch.export.Dim("width")
    names = answer_names(deployable, facts)
    with warnings.catch_warnings():
        # The exporter warns of its own internals; what matters is checked on real images afterwards.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            deployable.eval(),
            (example,),
            dynamo=True,
            input_names=["image"],
            output_names=list(names),
            dynamic_shapes=({0: batch, 1: height, 2: width},),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    write_model(program.model_proto, path, metadata)


def write_model(model: onnx.ModelProto, path: Path, metadata: Mapping[str, str]) -> None:
    """Check and write a model with short names and without what only its makers need (traces, shapes, comments)."""
    shorten(model)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(metadata))
    model.producer_name, model.producer_version, model.doc_string = "temper", "", ""
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def shorten(model: onnx.ModelProto) -> None:
    """Rename every value inside the graph to a short name and drop comments; names of inputs and outputs stay."""
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    short: dict[str, str] = {name: name for name in kept} | {"": ""}

    def rename(name: str) -> str:
        return short.setdefault(name, f"v{len(short):x}")

    for tensor in graph.initializer:
        tensor.name, tensor.doc_string = rename(tensor.name), ""
        del tensor.metadata_props[:]
    for number, node in enumerate(graph.node):
        node.name, node.doc_string = f"n{number:x}", ""
        del node.metadata_props[:]
        node.input[:] = [rename(name) for name in node.input]
        node.output[:] = [rename(name) for name in node.output]
    del graph.value_info[:]
    del graph.metadata_props[:]
    graph.name, graph.doc_string = "temper", ""
    for value in (*graph.input, *graph.output):
        value.doc_string = ""
        del value.metadata_props[:]

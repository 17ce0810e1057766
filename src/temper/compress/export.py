"""Exports a network as a deployable ONNX file: raw pixels in, answers out.

The graph takes uint8 images [N, H, W, C] of any height and width. It resizes them to the size at which the
network was trained (bilinear with antialiasing, as the images were prepared), normalises them, runs the
network, softens the outputs by the calibration temperature and reads out the answers. Training and serving
cannot differ, because the file contains every step.
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
    """A network together with all steps that serving would otherwise have to repeat.

    Args:
        network: The network.
        problem: The problem, which turns the network's outputs into answers.
        facts: Facts with the size of the images that the network was trained on.
        temperature: Calibration temperature of the network.
        features: Parts of the network whose outputs follow the answers, named as in
            `temper.networks.features`.
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
    """Return the names of the answers, then of the features, in the order of `Deployable`'s outputs."""
    image = torch.zeros(1, facts.channels, facts.height_px, facts.width_px)
    with torch.inference_mode():
        return (*deployable.problem.read(deployable.network({"image": image})), *deployable.features)


def export(deployable: Deployable, facts: Facts, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a deployable network as one ONNX file.

    Args:
        deployable: The deployable network, in evaluation mode.
        facts: Facts of the images that it was trained on.
        path: Target file.
        metadata: Metadata of the file.
    """
    example = torch.zeros(
        _EXAMPLE_BATCH, facts.height_px + 3, facts.width_px + 5, facts.channels, dtype=torch.uint8
    )
    batch, height, width = torch.export.Dim("batch"), torch.export.Dim("height"), torch.export.Dim("width")
    names = answer_names(deployable, facts)
    with warnings.catch_warnings():
        # The exporter warns about its own internals. The exported file is checked on real images afterwards.
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
    """Check and write a model with short names.

    Data that only the makers of the model need (traces, shapes, comments) are removed.
    """
    shorten(model)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(metadata))
    model.producer_name, model.producer_version, model.doc_string = "temper", "", ""
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def shorten(model: onnx.ModelProto) -> None:
    """Shorten all names inside the graph and drop comments; inputs and outputs keep their names."""
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

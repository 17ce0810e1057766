"""Exports a network as a deployable ONNX file: raw pixels in, answers out.

The graph takes uint8 images [N, H, W, C] of any height and width. It resizes them to the size at which the
network was trained (bilinear with antialiasing, as the images were prepared), normalises them, runs the
network, softens the outputs by the calibration temperature and reads out the answers. Training and serving
cannot differ, because the file contains every step.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from temper.fields import Field
from temper.maths.geometry import BORDER, padded_size
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
        self.fit = facts.fit

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        pixels = image.permute(0, 3, 1, 2).float()
        sent = pixels.shape[2:]
        seen = padded_size(sent[0], sent[1], self.size, self.fit, torch.sym_max)
        if self.fit != "stretch":
            pixels = _add_borders(pixels, *seen)
        pixels = functional.interpolate(
            pixels, size=self.size, mode="bilinear", align_corners=False, antialias=True
        )
        with watch(self.network, self.features) as parts:
            outputs = self.problem.soften(self.network({"image": pixels}), self.temperature)
        answer = dict(self.problem.read(outputs))
        if self.fit != "stretch":
            answer |= _without_borders(answer, self.problem.answer, sent, seen)
        return (*answer.values(), *(parts[name] for name in self.features))


def _add_borders(pixels: Tensor, tall: int, wide: int) -> Tensor:
    """Return images in the middle of larger ones. Sizes may be those of a graph, which differ by image."""
    inside = None
    for axis, size in ((2, tall), (3, wide)):
        least = pixels.shape[axis]
        places = torch.arange(size) - (size - least) // 2
        pixels = pixels.index_select(axis, places.clamp(0, least - 1))
        within = ((places >= 0) & (places < least)).view(1, 1, *((-1, 1) if axis == 2 else (1, -1)))
        inside = within if inside is None else inside & within
    assert inside is not None
    return torch.where(inside, pixels, float(BORDER))


def _without_borders(
    answer: Mapping[str, Tensor],
    fields: Mapping[str, Field],
    sent: Sequence[int],
    seen: Sequence[int],
) -> dict[str, Tensor]:
    """Return what lies in images with borders as it lies in the images without them, which were sent."""
    sides = [
        (torch.scalar_tensor(each), torch.scalar_tensor(whole))
        for each, whole in zip(sent, seen, strict=True)
    ]
    (down, tall), (across, wide) = (((whole - each) // 2 / whole, each / whole) for each, whole in sides)
    found = {}
    for name, column in answer.items():
        layout = fields[name].layout if name in fields else "value"
        if layout in ("boxes", "points"):
            first, scale = torch.stack([across, down]), torch.stack([wide, tall])
            ends = column.unflatten(-1, (-1, 2))
            found[name] = ((ends - first) / scale).clamp(0, 1).flatten(-2)
        elif layout == "map":
            for axis, start, share in ((1, down, tall), (2, across, wide)):
                size = column.shape[axis]
                places = (start + (torch.arange(size) + 0.5) / size * share) * size
                column = column.index_select(axis, places.floor().long().clamp(0, size - 1))
            found[name] = column
    return found


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

"""Exports a network as a deployable ONNX file: raw inputs in, answers out.

The graph takes uint8 images [N, H, W, C] of any height and width, uint8 bytes of texts [N, L], numbers of
tables [N, columns], or several of them. It resizes images to the size at which the network was trained
(bilinear with antialiasing, as the images were prepared), normalises what it was given, runs the network,
softens the outputs by the calibration temperature and reads out the answers. Training and serving cannot
differ, because the file contains every step.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from temper.inputs.facts import Facts, try_out
from temper.networks.features import watch
from temper.problem import Problem

OPSET = 20
_EXAMPLE_BATCH = 2


class Deployable(nn.Module):
    """A network together with all steps that serving would otherwise have to repeat.

    Args:
        network: The network.
        problem: The problem, which turns the network's outputs into answers.
        facts: The inputs on which the network was trained.
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
        self.facts, self.temperature = facts, temperature

    def forward(self, *sent: Tensor) -> tuple[Tensor, ...]:
        given = zip(self.facts.items(), sent, strict=True)
        inputs = {name: each.preprocess(values) for (name, each), values in given}
        with watch(self.network, self.features) as parts:
            outputs = self.problem.soften(self.network(inputs), self.temperature)
        answer = dict(self.problem.read(outputs))
        for each, values in zip(self.facts.values(), sent, strict=True):
            answer |= each.as_sent(answer, self.problem.answer, values)
        return (*answer.values(), *(parts[name] for name in self.features))


def answer_names(deployable: Deployable, facts: Facts) -> tuple[str, ...]:
    """Return the names of the answers, then of the features, in the order of `Deployable`'s outputs."""
    with torch.inference_mode():
        outputs = deployable.network(try_out(facts))
        return (*deployable.problem.read(outputs), *deployable.features)


def export(deployable: Deployable, facts: Facts, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a deployable network as one ONNX file.

    Args:
        deployable: The deployable network, in evaluation mode.
        facts: The inputs on which it was trained.
        path: Target file.
        metadata: Metadata of the file.
    """
    examples = tuple(torch.from_numpy(each.example(_EXAMPLE_BATCH, longer=1)) for each in facts.values())
    axes = {name: torch.export.Dim(name) for each in facts.values() for name in each.free.values()}
    free = tuple({axis: axes[name] for axis, name in each.free.items()} for each in facts.values())
    names = answer_names(deployable, facts)
    with warnings.catch_warnings():
        # The exporter warns about its own internals. The exported file is checked on real images afterwards.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            deployable.eval(),
            examples,
            dynamo=True,
            input_names=list(facts),
            output_names=list(names),
            dynamic_shapes=(free,),
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

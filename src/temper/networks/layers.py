"""The layers of a backbone in order, for learning rates by layer and for unfreezing layers one after another.

A layer is an element of a sequence in the backbone: its stem, then every block. Layers are found by walking
the modules in the order in which they were created, so a backbone does not have to declare its layers. A
module that has only vectors (a separate normalisation) belongs to the layer before it. Loose parameters
(class token, position embedding) belong to the first layer.
"""

from dataclasses import dataclass

from torch import nn

from temper.networks.backbones import PlainBackbone, ResidualBackbone, TimmBackbone

_SEQUENCES = (nn.Sequential, nn.ModuleList, nn.ModuleDict, ResidualBackbone, PlainBackbone, TimmBackbone)
"""Modules that consist of layers. A backbone is one if it is a part of an encoder of clips."""


@dataclass(frozen=True)
class Layer:
    """A layer of a backbone."""

    name: str
    """Path in the backbone of the layer's first module."""
    modules: tuple[nn.Module, ...]
    parameters: tuple[nn.Parameter, ...]


def split_layers(backbone: nn.Module) -> tuple[Layer, ...]:
    """Split a backbone into layers, those next to the image first; together they hold all its parameters.

    Raises:
        ValueError: If the backbone has no parameters.
    """
    units: list[tuple[str, list[nn.Module], list[nn.Parameter]]] = []
    loose: list[nn.Parameter] = []

    def visit(prefix: str, module: nn.Module) -> None:
        loose.extend(module.parameters(recurse=False))
        children = [
            (name, child) for name, child in module.named_children() if any(True for _ in child.parameters())
        ]
        for name, child in children:
            path = f"{prefix}{name}"
            # A module with only one child that has parameters is a wrapper, not a layer.
            wraps = not isinstance(module, nn.Sequential | nn.ModuleList) and len(children) == 1
            parameters = list(child.parameters())
            if list(child.children()) and (wraps or isinstance(child, _SEQUENCES)):
                visit(f"{path}.", child)
            elif units and all(value.dim() <= 1 for value in parameters):
                units[-1][1].append(child)
                units[-1][2].extend(parameters)
            else:
                units.append((path, [child], parameters))

    visit("", backbone)
    if not units:
        raise ValueError("the backbone has no layers: it has no parameters")
    units[0][2].extend(loose)
    return tuple(Layer(name, tuple(modules), tuple(parameters)) for name, modules, parameters in units)

"""The layers of a backbone in order, for learning rates by layer and for unfreezing one after another.

A layer is what stands in a sequence of the backbone: its stem, then every block. It is found by walking the modules in the order in
which they were made, so that every backbone has layers without saying so. What has only vectors (a normalisation of its own)
belongs to the layer before it, and loose parameters (class token, position embedding) to the first.
"""

from dataclasses import dataclass

from torch import nn

_SEQUENCES = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Layer:
    """A layer of a backbone."""

    name: str
    """Path of its first module in the backbone."""
    modules: tuple[nn.Module, ...]
    parameters: tuple[nn.Parameter, ...]


def split_layers(backbone: nn.Module) -> tuple[Layer, ...]:
    """The layers of a backbone, those next to the image first; together they hold all its parameters."""
    units: list[tuple[str, list[nn.Module], list[nn.Parameter]]] = []
    loose: list[nn.Parameter] = []

    def visit(prefix: str, module: nn.Module) -> None:
        loose.extend(module.parameters(recurse=False))
        children = [
            (name, child) for name, child in module.named_children() if any(True for _ in child.parameters())
        ]
        for name, child in children:
            path = f"{prefix}{name}"
            # A module that alone holds all parameters is only a wrapper.
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

"""Features: the output of any part of a network, by the part's name.

A name is the path of a module (`backbone.stages.1`, `backbone.body.blocks.3`), or `embedding`: the input
vector of a classifier's last layer. Hooks read the outputs while the network runs, so the networks contain no
code for features.
"""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

EMBEDDING = "embedding"
_POOL = "pool"
"""The part of a classifier whose output is the embedding."""


def check_names(network: nn.Module, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names, if the network has such parts.

    Raises:
        ValueError: If the network has no such part; the message names the nearest ones.
    """
    known = {name for name, _ in network.named_modules() if name}
    if _POOL in known:
        known.add(EMBEDDING)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or sorted(known)[:3]
            raise ValueError(f"the network has no part {name!r}; choose another one, e.g. {', '.join(near)}")
    return names


@contextmanager
def watch(network: nn.Module, names: tuple[str, ...]) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of parts while the network runs.

    Inside the context, each run of the network fills the yielded mapping: name -> latest output of that part.

    Raises:
        ValueError: If the network has no such part, or the part gives something other than one tensor.
    """
    seen: dict[str, Tensor] = {}

    def make_hook(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                raise ValueError(f"{name!r} gives several tensors; name one of the parts inside it")
            seen[name] = output

        return hook

    check_names(network, names)
    handles = [
        network.get_submodule(_POOL if name == EMBEDDING else name).register_forward_hook(make_hook(name))
        for name in names
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()

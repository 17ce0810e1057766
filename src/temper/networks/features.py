"""Features: what any part of a network gives, by the part's name.

A name is the path of a module (`backbone.stages.1`, `backbone.body.blocks.3`), or `embedding`: the vector that a classifier's last
layer sees. Parts are looked at as the network runs, so networks need not know of it.
"""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

EMBEDDING = "embedding"
_POOL = "pool"
"""The part of a classifier that makes the embedding."""


def check_names(network: nn.Module, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, if the network has such parts.

    Raises:
        ValueError: If it has not; names the nearest ones.
    """
    known = {name for name, _ in network.named_modules() if name}
    if _POOL in known:
        known.add(EMBEDDING)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or sorted(known)[:3]
            raise ValueError(f"the network has no part {name!r}; near ones are {', '.join(near)}")
    return names


@contextmanager
def watch(network: nn.Module, names: tuple[str, ...]) -> Iterator[dict[str, Tensor]]:
    """Inside, a run of the network fills the yielded mapping: name -> what that part gave last.

    Raises:
        ValueError: If the network has no such part, or the part gives something other than one tensor.
    """
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                raise ValueError(f"{name!r} gives several tensors; name one of the parts inside it")
            seen[name] = output

        return hook

    check_names(network, names)
    handles = [
        network.get_submodule(_POOL if name == EMBEDDING else name).register_forward_hook(keep(name))
        for name in names
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()

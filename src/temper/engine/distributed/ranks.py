"""Ranks: the processes that train one network together, and the values that they exchange.

torchrun's agent starts them and sets TORCHELASTIC_RUN_ID, RANK, LOCAL_RANK, WORLD_SIZE and the meeting point
in the environment; without the first of these there is one rank. Ranks compute the same as one rank with the
same global batch. Each takes its part of the batch, and the parts differ by at most one example. Gradients
are averaged over examples, and batch statistics are taken over all ranks.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from temper.parent_death import end_with_parent

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

PARENT = "TEMPER_PARENT"
"""Environment variable with the process id of the parent; the agent and the ranks end when that process
ends."""

MEETING = "TEMPER_MEETING"
"""Environment variable in which the agent tells its ranks where they meet: address, port, and a name for this
round."""


def count_ranks(asked: int | Literal["auto"]) -> int:
    """Return the number of ranks to start: as asked, or one per GPU, else 1."""
    if asked != "auto":
        return asked
    if not Path("/proc/driver/nvidia/gpus").is_dir():
        return 1
    import torch

    return max(1, torch.cuda.device_count())


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int
    num: int
    device: "torch.device"

    @property
    def first(self) -> bool:
        """Whether this rank writes files and shows progress."""
        return self.rank == 0

    def sum(self, values: "Tensor") -> "Tensor":
        """Return the sum of a tensor over all ranks, on every rank."""
        if self.num == 1:
            return values
        from torch import distributed

        total = values.to(self.device, copy=True)
        distributed.all_reduce(total)
        return total.to(values.device)

    def least(self, value: int) -> int:
        """Return the smallest of the ranks' values, on every rank."""
        if self.num == 1:
            return value
        import torch
        from torch import distributed

        found = torch.tensor(value, device=self.device)
        distributed.all_reduce(found, distributed.ReduceOp.MIN)
        return int(found)

    def share_bytes(self, content: bytes) -> bytes:
        """Return the first rank's bytes, at least one, on every rank."""
        if self.num == 1:
            return content
        import torch
        from torch import distributed

        size = self.agree(len(content))
        assert isinstance(size, int)
        data = (
            torch.frombuffer(bytearray(content), dtype=torch.uint8)
            if self.first
            else torch.empty(size).byte()
        )
        data = data.to(self.device)
        distributed.broadcast(data, src=0)
        return content if self.first else data.cpu().numpy().tobytes()

    def agree(self, value: object) -> object:
        """Return the first rank's value, on every rank."""
        if self.num == 1:
            return value
        from torch import distributed

        values = [value]
        distributed.broadcast_object_list(values, src=0, device=self.device)
        return values[0]

    def wait(self) -> None:
        """Wait until all ranks have reached this point."""
        if self.num > 1:
            from torch import distributed

            distributed.barrier()

    def share(self, network: "nn.Module") -> "nn.Module":
        """Wrap a network for all ranks: gradients are averaged, batch statistics cover the global batch."""
        if self.num == 1:
            return network
        from torch.nn.parallel import DistributedDataParallel

        from temper.engine.distributed.sync_batchnorm import synchronise_statistics

        synchronise_statistics(network)
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(
            network, device_ids=ids, forward_sync_buffers=False, gradient_as_bucket_view=True
        )


def join_ranks() -> Ranks:
    """Join the training for which torchrun started this process, or train alone."""
    import torch

    if agent := os.environ.get(PARENT):
        end_with_parent(int(agent))

    cuda = torch.cuda.is_available()
    # Without torchrun's own variable, the others belong to another launcher.
    names = ("LOCAL_RANK", "RANK", "WORLD_SIZE")
    local, rank, num = (
        (int(os.environ[name]) for name in names) if "TORCHELASTIC_RUN_ID" in os.environ else (0, 0, 1)
    )
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if num > 1:
        torch.distributed.init_process_group(
            "nccl" if cuda else "gloo", store=_store(), rank=rank, world_size=num
        )
    return Ranks(rank=rank, num=num, device=device)


def _store() -> Any:
    """Return the store where the ranks of this round meet.

    It is None, and torch then uses its own store, if plain torchrun started this process.
    """
    if (text := os.environ.get(MEETING)) is None:
        return None
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    address, port, name = json.loads(text)
    return PrefixStore(name, TCPStore(address, port, is_master=False, wait_for_workers=False))


def leave_ranks(ranks: Ranks) -> None:
    """Wait for the other ranks and leave the process group."""
    ranks.wait()
    if ranks.num > 1:
        from torch import distributed

        distributed.destroy_process_group()

"""Ranks: the processes that train one network together, and what they tell each other.

Started by torchrun, which sets RANK, WORLD_SIZE and the meeting point in the environment; without it there is one rank.
Batch statistics are taken over all ranks, with gloo too (torch's SyncBatchNorm knows GPUs only), so that two ranks
compute what one would at an equal global batch.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from temper.leash import end_with_parent

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

PARENT = "TEMPER_PARENT"
"""Environment variable by which the agent and the ranks know whose end is theirs: the process id of who started them."""


def count_ranks(asked: int | Literal["auto"]) -> int:
    """How many ranks to start: as asked, or one per GPU, else 1."""
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
        """Whether this is the one that writes files and shows progress."""
        return self.rank == 0

    def sum(self, values: "Tensor") -> "Tensor":
        """The sum of a tensor over all ranks, on every rank."""
        if self.num == 1:
            return values
        from torch import distributed

        total = values.to(self.device, copy=True)
        distributed.all_reduce(total)
        return total.to(values.device)

    def agree(self, value: object) -> object:
        """The first rank's value, on every rank."""
        if self.num == 1:
            return value
        from torch import distributed

        values = [value]
        distributed.broadcast_object_list(values, src=0, device=self.device)
        return values[0]

    def wait(self) -> None:
        """Go on once all ranks have come here."""
        if self.num > 1:
            from torch import distributed

            distributed.barrier()

    def share(self, network: "nn.Module") -> "nn.Module":
        """The network as all ranks train it: gradients averaged, batch statistics over the global batch."""
        if self.num == 1:
            return network
        from torch.nn.parallel import DistributedDataParallel

        synchronise_statistics(network)
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=ids, broadcast_buffers=False, gradient_as_bucket_view=True)


def join_ranks() -> Ranks:
    """Join the training that torchrun started this process for, or train alone."""
    import torch

    if agent := os.environ.get(PARENT):
        end_with_parent(int(agent))

    cuda = torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    num = int(os.environ.get("WORLD_SIZE", "1"))
    if num > 1:
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
    return Ranks(rank=int(os.environ.get("RANK", "0")), num=num, device=device)


def leave_ranks(ranks: Ranks) -> None:
    """Wait for the others and let go."""
    ranks.wait()
    if ranks.num > 1:
        from torch import distributed

        distributed.destroy_process_group()


def synchronise_statistics(network: "nn.Module") -> None:
    """Let every batch normalisation of a network take its statistics over all ranks, in place."""
    from torch import nn

    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = _shared_norm()


def _shared_norm() -> type:
    import torch
    from torch import nn
    from torch.distributed.nn.functional import all_reduce

    class SharedBatchNorm(nn.BatchNorm2d):
        """Batch normalisation over all ranks; outside training it is the plain one."""

        def forward(self, maps: "Tensor") -> "Tensor":
            if not self.training:
                return super().forward(maps)
            wide = maps.float()
            sums = torch.stack([wide.sum((0, 2, 3)), wide.square().sum((0, 2, 3))])
            count = maps.numel() / maps.shape[1] * torch.distributed.get_world_size()
            mean, square = all_reduce(sums) / count
            variance = (square - mean.square()).clamp(min=0)
            with torch.no_grad():
                assert self.running_mean is not None and self.running_var is not None
                assert self.num_batches_tracked is not None and self.momentum is not None
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * count / (count - 1), self.momentum)
                self.num_batches_tracked += 1
            scale = self.weight * (variance + self.eps).rsqrt()
            offset = self.bias - mean * scale
            return (wide * scale.view(1, -1, 1, 1) + offset.view(1, -1, 1, 1)).to(maps.dtype)

    return SharedBatchNorm

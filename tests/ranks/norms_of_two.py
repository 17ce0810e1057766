"""One of two ranks that normalise seven examples together.

It ends with an error unless both compute the same as one rank would.
"""

import copy
import os

import torch
from timm.layers import BatchNormAct2d
from torch import distributed, nn

from temper.data.loading.sampler import part
from temper.engine.batchnorm_refresh import refresh_statistics
from temper.engine.distributed.sync_batchnorm import synchronise_statistics

LAYERS = {
    "1d": (nn.BatchNorm1d(3), (7, 3)),
    "2d": (nn.BatchNorm2d(3), (7, 3, 4, 5)),
    "3d": (nn.BatchNorm3d(3, momentum=None), (7, 3, 2, 4, 5)),
    "without weights": (nn.BatchNorm2d(3, affine=False, track_running_stats=False), (7, 3, 4, 5)),
    "with an activation": (BatchNormAct2d(3, act_layer=nn.SiLU), (7, 3, 4, 5)),
}


def compare(plain: nn.Module, shape: tuple[int, ...], mine: slice) -> None:
    """Compare a layer over the whole batch with the same layer over parts of it on both ranks."""
    torch.manual_seed(3)
    whole, wanted = torch.randn(shape) * 3 + 1, torch.randn(shape)
    for value in plain.parameters():
        nn.init.normal_(value)
    shared = nn.Sequential(copy.deepcopy(plain))
    synchronise_statistics(shared)
    synchronise_statistics(shared)  # a second time changes nothing
    part_of_it = whole[mine].clone().requires_grad_()
    whole.requires_grad_()
    expected, found = plain(whole), shared(part_of_it)
    torch.testing.assert_close(found, expected[mine])
    (expected * wanted).sum().backward()
    (found * wanted[mine]).sum().backward()
    assert part_of_it.grad is not None and whole.grad is not None
    torch.testing.assert_close(part_of_it.grad, whole.grad[mine], rtol=1e-4, atol=1e-5)
    for one, two in zip(plain.parameters(), shared.parameters(), strict=True):
        assert one.grad is not None and two.grad is not None
        distributed.all_reduce(two.grad)
        torch.testing.assert_close(two.grad, one.grad, rtol=1e-4, atol=1e-5)
    for one, two in zip(plain.buffers(), shared.buffers(), strict=True):
        torch.testing.assert_close(two, one)
    torch.testing.assert_close(shared.eval()(whole), plain.eval()(whole))
    if plain.track_running_stats:
        refresh(plain, whole.detach(), shared, mine)


def refresh(plain: nn.Module, whole: torch.Tensor, shared: nn.Module, mine: slice) -> None:
    """Compare the statistics that one rank and two ranks recompute over two batches."""
    batches = [whole * 2 - 1, whole.square()]
    with torch.inference_mode():
        refresh_statistics(nn.Sequential(plain), [plain], batches)
        refresh_statistics(shared, list(shared), [batch[mine] for batch in batches])
    for one, two in zip(plain.buffers(), shared.buffers(), strict=True):
        torch.testing.assert_close(two, one)


if __name__ == "__main__":
    distributed.init_process_group("gloo")
    rank = int(os.environ["RANK"])
    for layer, size in LAYERS.values():
        compare(layer.train(), size, part(7, rank, 2))
    distributed.destroy_process_group()

"""Compares Muon with torch's own, which accepts only matrices."""

import pytest
import torch
from torch import nn

from temper.engine.muon import Muon, orthogonal
from temper.engine.optimizers import build_optimizer
from temper.engine.params import FitParams


def _gradients(shape: tuple[int, ...], count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("shape", [(16, 4, 3, 3), (64, 3, 3, 3), (8, 8, 1, 1)])
def test_all_directions_move_alike(shape: tuple[int, ...]):
    (moves,) = _gradients(shape, 1)
    found = orthogonal(moves)
    outputs, inputs = shape[0], moves[0].numel()
    values = torch.linalg.svdvals(found.reshape(outputs, -1)) / max(1, outputs / inputs) ** 0.5
    assert values.min() > 0.5 and values.max() < 1.3
    # The result has the direction of the moves: the product of the two has no negative eigenvalue.
    assert torch.linalg.eigvals(found.reshape(outputs, -1) @ moves.reshape(outputs, -1).T).real.min() > -1e-3
    last = orthogonal(moves.contiguous(memory_format=torch.channels_last))
    assert last.stride() == moves.contiguous(memory_format=torch.channels_last).stride()
    torch.testing.assert_close(last, found, atol=1e-5, rtol=1e-4)


def test_a_matrix_moves_as_in_torch():
    start, gradients = _gradients((12, 20), 1)[0], _gradients((12, 20), 4)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    group = {"params": [ours], "filters": True, "weight_decay": 0.1}
    mine = Muon([group], lr=0.02, momentum=0.95, precision=torch.bfloat16)
    reference = torch.optim.Muon([theirs], lr=0.02, momentum=0.95, weight_decay=0.1, ns_steps=5)
    for gradient in gradients:
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        reference.step()
    moved = (theirs - start).abs().mean().item()
    # Both multiply in bf16, but in a different order.
    assert (ours - theirs).abs().mean().item() < 0.02 * moved


def test_the_rest_moves_as_under_sgd():
    start, gradients = _gradients((5,), 1)[0], _gradients((5,), 4)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    mine = Muon([{"params": [ours], "weight_decay": 0.1}], lr=0.02, momentum=0.9)
    reference = torch.optim.SGD([theirs], lr=0.02, momentum=0.9, nesterov=True, weight_decay=0.1)
    for gradient in gradients:
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        reference.step()
    torch.testing.assert_close(ours, theirs)


def test_first_layer_head_and_vectors_are_left_to_sgd():
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.body = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3)
            self.norm, self.head = nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)

    network = Network()
    params = FitParams(epochs=1, batch_size=8, optimizer="muon", lr=0.02, rest_lr=0.1, momentum=0.6)
    optimizer = build_optimizer(network, params)
    names = {id(value): name for name, value in network.named_parameters()}
    groups = [sorted(names[id(value)] for value in group["params"]) for group in optimizer.param_groups]
    assert groups == [
        ["body.weight"],
        ["head.weight", "stem.weight"],
        ["body.bias", "head.bias", "norm.bias", "norm.weight", "stem.bias"],
    ]
    assert [group.get("lr_scale", 1.0) for group in optimizer.param_groups] == pytest.approx([1, 5, 5])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [5e-4, 5e-4, 0.0]
    assert [group["momentum"] for group in optimizer.param_groups] == [0.6, 0.9, 0.9]

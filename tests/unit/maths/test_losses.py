import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from temper.maths.distances import sigmoid_kl, softmax_kl, unit_scale, z_score
from temper.maths.losses import binary_cross_entropy, cross_entropy


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs(smoothing: float):
    logits, labels = some(8, 5), torch.arange(8) % 5
    wanted = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(cross_entropy(logits, labels, smoothing=smoothing), wanted)


def test_cross_entropy_averages_over_the_pixels_that_count():
    logits, labels = some(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long)
    labels[0, :2] = 255
    wanted = functional.cross_entropy(logits, labels, reduction="none", ignore_index=255)
    torch.testing.assert_close(
        cross_entropy(logits, labels), torch.stack([wanted[0, 2:].mean(), wanted[1].mean()])
    )


def test_an_example_without_a_counted_pixel_has_no_loss():
    assert cross_entropy(some(1, 3, 2, 2), torch.full((1, 2, 2), 255)).item() == 0


def test_offsets_are_added_to_the_logits():
    logits, labels, offsets = some(4, 3), torch.tensor([0, 1, 2, 0]), (0.5, -1.0, 2.0)
    wanted = functional.cross_entropy(logits + torch.tensor(offsets), labels, reduction="none")
    torch.testing.assert_close(cross_entropy(logits, labels, offsets=offsets), wanted)


def test_costs_add_the_expected_cost():
    # Equal logits of two classes: each has probability 1/2, and answering 1 where 0 is true costs 4.
    loss = cross_entropy(torch.zeros(2, 2), torch.tensor([0, 1]), costs=((0.0, 4.0), (0.0, 0.0)))
    torch.testing.assert_close(loss, torch.tensor([math.log(2) + 2.0, math.log(2)]))


def test_binary_cross_entropy_by_hand():
    loss = binary_cross_entropy(torch.tensor([[0.0, math.log(3)]]), torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(loss, torch.tensor([(math.log(2) + math.log(4)) / 2]))


def test_softmax_kl_by_hand():
    # teacher (1/2, 1/2), student (3/4, 1/4): KL = 1/2 ln(2/3) + 1/2 ln 2 = 1/2 ln(4/3).
    student, teacher = torch.tensor([[math.log(3), 0.0]]), torch.zeros(1, 2)
    torch.testing.assert_close(
        softmax_kl(student, teacher, temperature=1.0), torch.tensor([math.log(4 / 3) / 2])
    )


def test_sigmoid_kl_is_softmax_kl_of_two_classes():
    student, teacher = some(6, 1), some(6, 1, seed=1)
    pairs = [torch.cat([logits, torch.zeros(6, 1)], dim=1) for logits in (student, teacher)]
    torch.testing.assert_close(
        sigmoid_kl(student, teacher, temperature=3.0),
        softmax_kl(*pairs, temperature=3.0),
        rtol=1e-4,
        atol=1e-6,
    )


@given(st.floats(0.5, 8), st.integers(0, 100))
def test_distances_are_never_negative(temperature: float, seed: int):
    student, teacher = some(4, 5, seed=seed) * 10, some(4, 5, seed=seed + 1000) * 10
    for distance in (softmax_kl, sigmoid_kl):
        assert (distance(student, teacher, temperature=temperature) >= 0).all()
        assert (distance(student, student, temperature=temperature) == 0).all()


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_above_nothing_is_refused(temperature: float):
    with pytest.raises(ValueError, match=rf"temperature = {temperature}: .*above 0"):
        softmax_kl(torch.zeros(1, 2), torch.zeros(1, 2), temperature=temperature)


def test_z_scores_have_mean_0_and_deviation_1():
    scores = z_score(some(3, 10) * 7 + 3)
    torch.testing.assert_close(scores.mean(dim=1), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(scores.std(dim=1, correction=0), torch.ones(3))


def test_unit_scale_keeps_the_sign():
    logits = some(3, 10)
    scaled = unit_scale(logits * 9)
    assert torch.equal(scaled > 0, logits > 0)
    torch.testing.assert_close(scaled.square().mean(dim=1), torch.ones(3))

"""Two-sample tests: their level is correct, and they find real differences."""

import pytest
import torch

from temper.maths.two_samples import energy_test, ks_test


def normal(count: int, features: int, *, seed: int, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, features, generator=generator, dtype=torch.float64) + shift


def test_the_distance_is_that_of_its_definition():
    first, second = normal(7, 3, seed=0), normal(5, 3, seed=1, shift=0.5)
    between = torch.stack([(a - b).norm() for a in first for b in second]).mean()
    within = [torch.stack([(a - b).norm() for a in each for b in each]).mean() for each in (first, second)]
    found, _ = energy_test(first, second, permutations=9, generator=torch.Generator().manual_seed(0))
    assert found == pytest.approx(float(2 * between - within[0] - within[1]), rel=1e-9)


def test_equal_distributions_raise_few_alarms():
    """Of 200 pairs, 10 alarms are expected at the level of 5 %; 20 alarms occur once in a thousand times."""
    generator = torch.Generator().manual_seed(3)
    alarms = [0, 0]
    for trial in range(200):
        first, second = normal(30, 4, seed=2 * trial), normal(40, 4, seed=2 * trial + 1)
        alarms[0] += energy_test(first, second, permutations=99, generator=generator)[1] <= 0.05
        alarms[1] += ks_test(first[:, 0], second[:, 0])[1] <= 0.05
    assert all(count <= 20 for count in alarms), alarms
    assert alarms[0] >= 2, "a test that never raises an alarm tests nothing"


def test_a_shift_is_found():
    first, second = normal(60, 4, seed=0), normal(60, 4, seed=1, shift=0.8)
    assert (
        energy_test(first, second, permutations=199, generator=torch.Generator().manual_seed(0))[1] == 1 / 200
    )
    assert ks_test(first[:, 0], second[:, 0])[1] < 0.01


def test_equal_samples_have_no_distance():
    first = normal(20, 3, seed=0)
    distance, p = energy_test(
        first, first.clone(), permutations=50, generator=torch.Generator().manual_seed(0)
    )
    assert distance == pytest.approx(0, abs=1e-12) and p == 1.0

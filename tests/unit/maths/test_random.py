import time

import pytest
import torch
from scipy import stats

from temper.maths.random import derive, hashes, normal, permutation, uniform

KEYS = torch.arange(256)
MASK = (1 << 64) - 1


def splitmix(state: int) -> int:
    """The finaliser of splitmix64.c, in plain integers."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def test_hashes_are_those_of_splitmix64():
    golden = 0x9E3779B97F4A7C15
    start = splitmix((5 * golden + derive(1, "flip")) & MASK)
    expected = [splitmix((start + step * golden) & MASK) for step in (1, 2, 3)]
    found = hashes(torch.tensor([5]), 3, seed=1, stream="flip")[0].tolist()
    assert [bits & MASK for bits in found] == expected


@pytest.mark.parametrize("draw", [hashes, uniform, normal])
def test_numbers_do_not_depend_on_the_batch_or_on_how_many_are_drawn(draw):
    whole = draw(KEYS, 784, seed=3, stream="noise")
    assert torch.equal(draw(KEYS[17:40], 784, seed=3, stream="noise"), whole[17:40])
    assert torch.equal(draw(KEYS[[200]], 11, seed=3, stream="noise"), whole[[200], :11])
    assert torch.equal(draw(KEYS.flip(0), 784, seed=3, stream="noise"), whole.flip(0))


def test_uniform_numbers_are_uniform():
    numbers = uniform(KEYS, 784, seed=0, stream="a")
    assert numbers.dtype == torch.float32 and numbers.min() >= 0 and numbers.max() < 1
    assert stats.kstest(numbers.flatten().numpy(), "uniform").pvalue > 1e-3
    assert float(numbers.mean()) == pytest.approx(0.5, abs=4 * (1 / 12 / numbers.numel()) ** 0.5)
    assert float(numbers.var()) == pytest.approx(1 / 12, rel=0.01)


def test_normal_numbers_are_normal_and_pairs_are_independent():
    numbers = normal(KEYS, 784, seed=0, stream="a")
    assert stats.kstest(numbers.flatten().numpy(), "norm").pvalue > 1e-3
    assert float(numbers.std()) == pytest.approx(1, abs=0.01)
    assert (
        abs(torch.corrcoef(torch.stack([numbers[:, ::2].flatten(), numbers[:, 1::2].flatten()]))[0, 1])
        < 0.015
    )


def test_neighbours_are_independent():
    numbers = uniform(KEYS, 784, seed=0, stream="a")
    others = [
        (numbers[:-1], numbers[1:]),
        (numbers[:, :-1], numbers[:, 1:]),
        (numbers, uniform(KEYS, 784, seed=0, stream="b")),
        (numbers, uniform(KEYS, 784, seed=1, stream="a")),
    ]
    for left, right in others:
        pairs = torch.stack([left.flatten(), right.flatten()])
        # The bound is four standard deviations of the correlation of independent numbers.
        assert abs(torch.corrcoef(pairs)[0, 1]) < 4 / left.numel() ** 0.5


def test_negative_and_huge_keys_are_fine():
    keys = torch.tensor([-1, 0, 2**63 - 1, -(2**63)])
    assert len(set(uniform(keys, 1, seed=0, stream="a").flatten().tolist())) == 4


def test_permutation_holds_every_number_once_and_depends_on_seed_and_stream():
    first = permutation(1000, seed=0, stream="epoch")
    assert sorted(first.tolist()) == list(range(1000))
    assert torch.equal(first, permutation(1000, seed=0, stream="epoch"))
    assert not torch.equal(first, permutation(1000, seed=1, stream="epoch"))
    assert not torch.equal(first, permutation(1000, seed=0, stream="other"))
    assert abs(stats.spearmanr(first.numpy(), range(1000)).statistic) < 0.13
    assert permutation(0, seed=0, stream="epoch").tolist() == []


def test_derived_seeds_are_stable_and_words_do_not_run_together():
    assert derive(0, "epoch", 3) == 1843803448533167844
    assert derive(0, "ab", "c") != derive(0, "a", "bc")
    assert derive(0, 1) != derive(0, "1")
    assert all(0 <= derive(seed, "x") < 2**63 for seed in range(100))


def test_a_batch_of_small_images_takes_milliseconds():
    uniform(KEYS, 784, seed=0, stream="a")
    start = time.perf_counter()
    for _ in range(5):
        uniform(KEYS, 784, seed=0, stream="a")
    assert (
        time.perf_counter() - start
    ) / 5 < 0.25  # 4 ms on an idle core; the bound allows for busy neighbours.

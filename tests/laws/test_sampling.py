"""Laws of every sampling method: several ranks draw what one rank draws, and the promised counts are kept.

Every step can be computed on its own.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from temper.data.loading.params import SamplingParams
from temper.data.loading.sampler import Sampler, Strata, part, rarest

SIZES = {"frequent": 53, "usual": 19, "rare": 5}
STRATA: Strata = [frozenset({name}) for name, size in SIZES.items() for _ in range(size)]
GROUP = rarest(STRATA)
NUM = len(STRATA)
REPEATS = np.ones(NUM, np.int64)
BATCH = 8
METHODS = {
    "shuffle": SamplingParams(),
    "oversample": SamplingParams(method="oversample"),
    "half oversample": SamplingParams(method="oversample", strength=0.5),
    "undersample": SamplingParams(method="undersample"),
    "class-aware": SamplingParams(method="class-aware"),
    "two classes": SamplingParams(method="class-aware", classes=2),
    "weighted": SamplingParams(method="weighted"),
}
EVERY = pytest.mark.parametrize("name", METHODS)


def sampler(
    params: SamplingParams,
    *,
    repeats: np.ndarray = REPEATS,
    weights: np.ndarray | None = None,
    batch_size: int = BATCH,
    seed: int = 0,
) -> Sampler:
    weights = np.ones(NUM) if weights is None else weights
    return Sampler(repeats, weights, params, strata=lambda: STRATA, batch_size=batch_size, seed=seed)


def drawn(found: Sampler, epochs: int, start: int = 0) -> np.ndarray:
    """How often each example was drawn."""
    rows = torch.cat([found.epoch(epoch) for epoch in range(start, start + epochs)])
    return torch.bincount(rows, minlength=NUM).numpy()


@EVERY
@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("batch_size", [7, 8, 10])
def test_the_union_over_ranks_is_the_batch_of_one_and_nobody_starves(
    name: str, num_ranks: int, batch_size: int
):
    if name == "two classes" and batch_size % 2:
        pytest.skip("seven images cannot be divided evenly among two classes")
    alone = sampler(METHODS[name], batch_size=batch_size)
    ranks = [sampler(METHODS[name], batch_size=batch_size) for _ in range(num_ranks)]
    for epoch in (0, 3):
        whole = alone.epoch(epoch).view(-1, batch_size)
        assert len(whole) == alone.num_batches
        shares = [
            found.epoch(epoch).view(-1, batch_size)[:, part(batch_size, rank, num_ranks)]
            for rank, found in enumerate(ranks)
        ]
        assert torch.equal(torch.cat(shares, dim=1), whole)
        sizes = [share.shape[1] for share in shares]
        assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1 and sum(sizes) == batch_size


@EVERY
def test_a_batch_depends_on_the_seed_and_the_step_alone(name: str):
    first, again, other = (sampler(METHODS[name], seed=seed) for seed in (0, 0, 1))
    for epoch in (4, 0, 2):  # in any order: there is no state
        assert torch.equal(first.epoch(epoch), again.epoch(epoch))
        assert not torch.equal(first.epoch(epoch), other.epoch(epoch))
    assert not torch.equal(first.epoch(0), first.epoch(1))


@EVERY
def test_an_example_that_augment_left_out_is_never_drawn(name: str):
    repeats = REPEATS.copy()
    repeats[::3] = 0
    repeats[1] = 3
    found = drawn(sampler(METHODS[name], repeats=repeats), epochs=6)
    assert not found[::3].any() and found[repeats > 0].any()


def test_shuffle_draws_every_example_as_often_as_augment_says():
    repeats = np.arange(NUM) % 3
    assert (drawn(sampler(METHODS["shuffle"], repeats=repeats, batch_size=1), epochs=4) == 4 * repeats).all()


@pytest.mark.parametrize("epochs", [1, 2, 7])
@pytest.mark.parametrize(("method", "quota"), [("oversample", 53), ("undersample", 5)])
def test_strata_come_equally_often_and_their_examples_too(method: str, quota: int, epochs: int):
    params = SamplingParams(method=method)  # type: ignore[arg-type]
    found = drawn(sampler(params, batch_size=1), epochs)
    for group in range(len(SIZES)):
        times = found[group == GROUP]
        assert times.sum() == epochs * quota
        assert times.max() - times.min() <= 1


def test_strength_lies_between_the_counts_and_equality():
    half = sampler(METHODS["half oversample"], batch_size=1)
    times = np.bincount(GROUP, weights=drawn(half, epochs=3)) / 3
    assert times.tolist() == [53, 29, 36]  # frequent, rare, usual: (size + 53) / 2
    none = SamplingParams(method="undersample", strength=0.0)
    assert (drawn(sampler(none, batch_size=1), epochs=2) == 2).all()


def test_undersampling_takes_others_in_every_epoch():
    found = sampler(METHODS["undersample"], batch_size=1)
    frequent = [set(found.epoch(epoch)[GROUP[found.epoch(epoch)] == 0].tolist()) for epoch in range(10)]
    assert all(len(each) == 5 for each in frequent)
    assert len(set.union(*frequent)) == 50  # ten epochs of five, none twice before all were drawn


@pytest.mark.parametrize("batch_size", [8, 9, 10])
def test_every_class_aware_batch_holds_its_strata_evenly(batch_size: int):
    found = sampler(METHODS["class-aware"], batch_size=batch_size)
    total = np.zeros(len(SIZES), np.int64)
    for epoch in range(4):
        for batch in GROUP[found.epoch(epoch)].reshape(-1, batch_size):
            counts = np.bincount(batch, minlength=len(SIZES))
            assert counts.max() - counts.min() <= (1 if batch_size % len(SIZES) else 0)
            total += counts
    assert total.max() - total.min() <= 1
    times = drawn(found, epochs=4)
    for group in range(len(SIZES)):
        assert np.ptp(times[group == GROUP]) <= 1


def test_class_aware_batches_of_some_strata_hold_just_so_many():
    found = sampler(METHODS["two classes"])
    pairs, total = set(), np.zeros(len(SIZES), np.int64)
    for epoch in range(8):
        for batch in GROUP[found.epoch(epoch)].reshape(-1, BATCH):
            counts = np.bincount(batch, minlength=len(SIZES))
            assert sorted(counts.tolist()) == [0, 4, 4]
            pairs.add(tuple(np.flatnonzero(counts).tolist()))
            total += counts
    assert pairs == {(0, 1), (0, 2), (1, 2)}
    assert np.ptp(total) <= 4


def test_within_a_class_aware_batch_strata_are_mixed():
    found = sampler(METHODS["class-aware"], batch_size=9)
    starts = {int(batch[0]) for epoch in range(5) for batch in GROUP[found.epoch(epoch)].reshape(-1, 9)}
    assert starts == {0, 1, 2}


def test_weighted_draws_follow_the_weights():
    weights = 1.0 + GROUP * 4.0
    epochs = 400
    found = sampler(METHODS["weighted"], weights=weights)
    times = drawn(found, epochs)
    count = epochs * found.num_batches * BATCH
    expected = count * weights / weights.sum()
    # Chi-squared over examples: its mean is NUM - 1, its standard deviation about sqrt(2 NUM).
    chi = ((times - expected) ** 2 / expected).sum()
    assert abs(chi - (NUM - 1)) < 5 * np.sqrt(2 * NUM)


def test_a_weight_of_zero_is_never_drawn():
    weights = np.ones(NUM)
    weights[[0, 10, NUM - 1]] = 0
    times = drawn(sampler(METHODS["weighted"], weights=weights), epochs=50)
    assert not times[[0, 10, NUM - 1]].any() and (times[weights > 0] > 0).all()


def test_an_example_of_several_strata_follows_its_rarest():
    both = [
        frozenset({"cat"}),
        frozenset({"cat", "hat"}),
        frozenset({"cat"}),
        frozenset({"hat"}),
        frozenset({"cat"}),
    ]
    assert rarest(both).tolist() == [0, 1, 0, 1, 0]


def test_what_cannot_be_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"sampling\.classes = 4, .*3 strata; .*3 or less"):
        sampler(replace(METHODS["two classes"], classes=4))
    with pytest.raises(ValueError, match=r"fit\.batch_size = 7 .*sampling\.classes = 2 .*multiple of 2"):
        sampler(METHODS["two classes"], batch_size=7)
    with pytest.raises(ValueError, match=r"fit\.batch_size = 2 .*3 strata; .*larger"):
        sampler(METHODS["class-aware"], batch_size=2)
    with pytest.raises(ValueError, match=r"fit\.batch_size = 16, .*15 examples; .*smaller"):
        sampler(METHODS["undersample"], batch_size=16)

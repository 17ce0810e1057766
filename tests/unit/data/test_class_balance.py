import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from temper.data.augmentation.class_balance import count, draw_repeats, emphasize, weigh
from temper.data.augmentation.params import BalanceParams

STRATA = [frozenset({name}) for name in "aaaaaabbc"]


def drawn(method: str, strength: float = 1.0) -> dict[str, int]:
    repeats = draw_repeats(STRATA, BalanceParams(method=method, strength=strength), seed=5)
    return {
        name: int(sum(n for each, n in zip(STRATA, repeats, strict=True) if name in each)) for name in "abc"
    }


def test_counts_by_hand() -> None:
    assert count(STRATA) == {"a": 6, "b": 2, "c": 1}
    assert drawn("none") == {"a": 6, "b": 2, "c": 1}
    assert drawn("oversample") == {"a": 6, "b": 6, "c": 6}
    assert drawn("oversample", 0.5) == {"a": 6, "b": 4, "c": 4}  # halfway: 6, 4, 3.5
    assert drawn("oversample", 0.0) == {"a": 6, "b": 2, "c": 1}
    assert drawn("undersample") == {"a": 1, "b": 1, "c": 1}
    assert drawn("undersample", 0.4) == {"a": 4, "b": 2, "c": 1}  # 6 - 0.4 * 5 and 2 - 0.4 = 1.6


def test_repeat_factors_grow_with_the_root_of_how_rare_a_class_is() -> None:
    strata = [frozenset("a")] * 12 + [frozenset("ab")] * 3 + [frozenset("ac")]
    params = BalanceParams(method="repeat-factor", frequency=0.75)
    # 12 of 16 images are frequent enough: those of b are a quarter of that, and that of c a twelfth.
    repeats = draw_repeats(strata, params, seed=0).tolist()
    assert repeats[:12] == [1] * 12 and repeats[12:15] == [2] * 3 and repeats[15] in (3, 4)
    assert (
        draw_repeats(strata, BalanceParams(method="repeat-factor", frequency=0.01), seed=0).tolist()
        == [1] * 16
    )


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=60), st.integers(0, 3))
def test_full_strength_makes_counts_equal(names: list[str], seed: int) -> None:
    strata = [frozenset({name}) for name in names]
    counts = count(strata).values()
    for method, end in (("oversample", max(counts)), ("undersample", min(counts))):
        repeats = draw_repeats(strata, BalanceParams(method=method), seed=seed)
        assert {int(repeats[[name in each for each in strata]].sum()) for name in set(names)} == {end}
        assert (repeats == draw_repeats(strata, BalanceParams(method=method), seed=seed)).all()


def test_an_example_follows_its_rarest_stratum() -> None:
    strata = [frozenset("a")] * 8 + [frozenset("ab")] * 2
    assert draw_repeats(strata, BalanceParams(method="oversample"), seed=0).tolist() == [1] * 8 + [5] * 2
    kept = draw_repeats(strata, BalanceParams(method="undersample"), seed=0)
    assert kept[8:].tolist() == [1, 1]
    assert kept[:8].sum() == 2  # of eight, at 2/10


def test_weights_by_hand() -> None:
    weights = weigh(STRATA, BalanceParams(method="weights", beta=0.5))
    # Effective numbers (1 - 0.5^n) / 0.5: 1.96875, 1.5, 1; their inverses, scaled to mean 1.
    raw = np.array([1 / 1.96875] * 6 + [1 / 1.5] * 2 + [1])
    np.testing.assert_allclose(weights, raw / raw.mean(), rtol=1e-6)
    assert weights.mean() == pytest.approx(1)
    assert weigh(STRATA, BalanceParams(method="oversample")).tolist() == [1] * 9
    assert weigh(STRATA, BalanceParams(method="weights", beta=0.0)).tolist() == [1] * 9


def test_offsets_by_hand() -> None:
    emphasis = emphasize(STRATA, BalanceParams(method="logit-adjustment", strength=0.5), ("c", "a", "b"))
    np.testing.assert_allclose(emphasis["offsets"], 0.5 * np.log([1 / 9, 6 / 9, 2 / 9]))
    assert emphasis["costs"] == []
    with pytest.raises(ValueError, match=r"class 'd' has no training example.*augment\.balance\.method"):
        emphasize(STRATA, BalanceParams(method="logit-adjustment"), ("a", "b", "d"))


def test_costs_in_the_order_of_the_classes() -> None:
    params = BalanceParams(method="costs", costs={"b": {"a": 2.0, "c": 1}})
    assert emphasize(STRATA, params, ("c", "a", "b")) == {
        "offsets": [],
        "costs": [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 2.0, 0.0]],
    }


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ({}, "augment.balance.costs is empty"),
        ({"cot": {"bag": 1.0}}, r"augment\.balance\.costs names 'cot'.* nearest is 'coat'"),
        ({"coat": {"zzzz": 1.0}}, r"augment\.balance\.costs names 'zzzz'.* coat, bag"),
        ({"coat": {"bag": -1.0}}, r"costs\.coat\.bag = -1: .*0 or more"),
        ({"coat": {"coat": 1.0}}, r"costs\.coat\.coat = 1: .*correct answer"),
    ],
)
def test_costs_that_cannot_be(costs: dict[str, dict[str, float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        emphasize(STRATA, BalanceParams(method="costs", costs=costs), ("coat", "bag"))

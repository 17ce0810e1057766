"""Bounds and tests, compared with numbers computed by hand and with scipy."""

import numpy as np
import pytest
from scipy import stats

from temper.gate.significance import difference, discordant, holm, mid_p


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (3, 3), (10, 2), (2, 10), (140, 100), (0, 7)])
def test_mid_p_is_the_binomial_tail_with_half_of_what_was_seen(gained: int, lost: int):
    tail = stats.binom(gained + lost, 0.5)
    assert mid_p(gained, lost) == pytest.approx(tail.sf(gained) + tail.pmf(gained) / 2)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_difference_has_the_percentiles_of_paired_draws():
    rng = np.random.default_rng(0)
    theirs = rng.normal(0.9, 0.01, 1000)
    ours = theirs + 0.02 + rng.normal(0, 0.001, 1000)
    found = difference((0.92, ours), (0.9, theirs), greater_is_better=True, confidence=0.95)
    assert found.value == pytest.approx(0.02)
    assert found.low == pytest.approx(np.quantile(ours - theirs, 0.05)) and found.low > 0.015
    turned = difference((0.92, ours), (0.9, theirs), greater_is_better=False, confidence=0.95)
    assert turned.value == pytest.approx(-0.02) and turned.high == pytest.approx(-found.low)


def test_draws_without_a_score_are_left_out():
    ours, theirs = np.array([1.0, np.nan, 0.8]), np.array([0.5, 0.5, 0.5])
    assert np.isfinite(difference((0.9, ours), (0.5, theirs), greater_is_better=True, confidence=0.9).low)


def test_equal_models_were_not_shown_to_be_worse():
    same = np.full(100, 0.7)
    found = difference((0.7, same), (0.7, same), greater_is_better=True, confidence=0.95)
    assert (found.low, found.p_worse(0.0)) == (0.0, 1.0)
    worse = difference((0.6, same - 0.1), (0.7, same), greater_is_better=True, confidence=0.95)
    assert worse.p_worse(0.05) == 0.0


def test_images_on_which_only_one_is_right():
    ours, theirs = np.array([1.0, 1, 0, 0, 1]), np.array([1.0, 0, 1, 0, 0])
    assert discordant(ours, theirs) == (2, 1)
    assert discordant(np.array([0.5, 1.0]), np.array([1.0, 1.0])) is None
    assert discordant(np.array([np.nan, 1.0]), np.array([1.0, 1.0])) is None

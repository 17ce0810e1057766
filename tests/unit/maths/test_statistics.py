import numpy as np
import pytest
import torch
from scipy import stats

from temper.maths.statistics import draw, interval, number_units, resample, sum_units


def test_each_draw_takes_as_many_images_as_there_are():
    draws = draw(500, resamples=40, seed=0)
    assert draws.shape == (40, 500)
    assert (draws.sum(dim=1) == 500).all()
    # An image's count is nearly Poisson with mean 1, so 36.8 % of the images are missing from a draw.
    assert float((draws == 0).double().mean()) == pytest.approx(0.3679, abs=0.01)


def test_first_draws_do_not_depend_on_how_many_there_are_nor_on_memory(monkeypatch):
    draws = draw(100, resamples=30, seed=1)
    assert torch.equal(draw(100, resamples=7, seed=1), draws[:7])
    monkeypatch.setattr("temper.maths.statistics._PART", 250)
    assert torch.equal(draw(100, resamples=30, seed=1), draws)
    tallies = torch.arange(200, dtype=torch.float64).reshape(100, 2)
    assert torch.equal(resample(draws, tallies), draws.double() @ tallies)


def test_resampled_totals_by_hand():
    draws = torch.tensor([[1, 1, 1], [0, 3, 0]], dtype=torch.uint8)
    tallies = torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    assert resample(draws, tallies).tolist() == [[2.0, 3.0], [0.0, 3.0]]


def test_a_single_image_is_drawn_always():
    assert draw(1, resamples=3, seed=0).tolist() == [[1], [1], [1]]


def test_interval_agrees_with_scipys_bootstrap():
    right = (np.random.default_rng(0).random(400) < 0.8).astype(np.float64)
    scores = resample(draw(400, resamples=2000, seed=0), torch.from_numpy(right)[:, None])[:, 0] / 400
    low, high = interval(scores, confidence=0.95)
    peer = stats.bootstrap(
        (right,), np.mean, n_resamples=2000, method="percentile", rng=1
    ).confidence_interval
    assert float(low) == pytest.approx(peer.low, abs=0.006)
    assert float(high) == pytest.approx(peer.high, abs=0.006)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    draws = draw(200, resamples=300, seed=0)
    samples = torch.from_numpy((rng.random((200, 300)) < 0.7).astype(np.float64))
    low, high = interval(resample(draws, samples) / 200, confidence=0.9)
    covered = ((low <= 0.7) & (high >= 0.7)).double().mean()
    assert 0.84 < float(covered) < 0.95


def test_draws_without_a_score_are_left_out():
    low, high = interval(torch.tensor([0.0, float("nan"), 1.0]), confidence=0.5)
    assert (float(low), float(high)) == (0.25, 0.75)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_confidence_outside_of_0_to_1_is_refused(confidence: float):
    with pytest.raises(ValueError, match=rf"confidence = {confidence}: .*between 0 and 1"):
        interval(torch.zeros(3), confidence=confidence)


def test_units_are_summed_whatever_is_missing_and_images_alone_stay_as_they_are():
    units = number_units(["b", None, "a", "b", None, "a"])
    assert units.tolist() == [0, 1, 2, 0, 3, 2]
    tallies = torch.arange(12, dtype=torch.float64).reshape(6, 2)
    assert sum_units(tallies, units).tolist() == [[6, 8], [2, 3], [14, 16], [8, 9]]
    some = torch.tensor([2, 3, 5])
    assert sum_units(tallies[some], units[some]).tolist() == [[6, 7], [14, 16]]
    assert torch.equal(sum_units(tallies, number_units([None] * 6)), tallies)


def test_copies_of_images_that_are_groups_make_no_interval_narrower():
    right = torch.from_numpy((np.random.default_rng(0).random((60, 1)) < 0.7).astype(np.float64))
    copies, units = right.repeat(5, 1), torch.arange(60).repeat(5)
    draws = draw(60, resamples=500, seed=0)
    own = resample(draws, right) / 60
    assert torch.equal(resample(draws, sum_units(copies, units)) / 300, own)
    naive = resample(draw(300, resamples=500, seed=0), copies) / 300
    assert naive.std() < own.std() / 2

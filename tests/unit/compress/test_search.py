"""The search for a setting that holds, on networks that are tables of drifts."""

import pytest

from temper.compress.quantizer import Setting
from temper.compress.search import Search, Tried, search


def run(
    harm: list[float], *, allowed: float, max_trials: int = 40, better: float = 1.0
) -> tuple[Search, int]:
    """Run a search and count the settings that were made.

    Each layer in int8 adds its own harm; the ranges `mse` or equalisation multiply the sum by `better`.
    """
    made = 0

    def drift(setting: Setting) -> float:
        nonlocal made
        made += 1
        whole = sum(each for number, each in enumerate(harm) if number not in setting.floats)
        return whole * (better if setting.ranges == "mse" or setting.equalized else 1.0)

    def attempt(setting: Setting) -> Tried:
        found = drift(setting)
        return Tried(setting, found <= allowed, found, f"drift {found}")

    return search(attempt, drift, num_layers=len(harm), max_trials=max_trials), made


def test_what_holds_at_once_is_taken_at_once():
    found, made = run([0.1, 0.1], allowed=0.5)
    assert found.chosen is not None and found.chosen.setting == Setting() and made == 1


def test_better_ranges_come_before_equalisation_and_that_before_float():
    found, made = run([1.0, 1.0], allowed=0.5, better=0.1)
    assert found.chosen is not None and found.chosen.setting == Setting(ranges="mse") and made == 3


@pytest.mark.parametrize("bad", [0, 3, 7])
def test_the_one_layer_that_drifts_is_left_in_float(bad: int):
    harm = [0.01] * 8
    harm[bad] = 10.0
    found, _ = run(harm, allowed=0.5)
    assert found.chosen is not None and found.chosen.setting.floats == {bad}


@pytest.mark.parametrize("num_bad", [1, 2, 3, 4, 5, 6, 7])
def test_no_more_layers_are_left_in_float_than_it_takes(num_bad: int):
    harm = [0.0] * 12
    for number in range(num_bad):
        harm[(5 * number) % 12] = 1.0 + number / 10
    found, made = run(harm, allowed=0.5)
    assert found.chosen is not None and len(found.chosen.setting.floats) == num_bad
    assert found.chosen.setting.floats == {(5 * number) % 12 for number in range(num_bad)}
    assert made <= 40


def test_where_nothing_holds_nothing_is_chosen_and_the_float_network_is_not_tried():
    found, _ = run([1.0] * 5, allowed=-1.0)
    assert found.chosen is None
    assert all(len(each.setting.floats) < 5 for each in found.tried)


@pytest.mark.parametrize("max_trials", [1, 2, 7, 12, 20])
def test_the_budget_is_kept(max_trials: int):
    _, made = run([1.0] * 30, allowed=0.0, max_trials=max_trials)
    assert made <= max_trials


def test_many_layers_are_ranked_in_groups_of_neighbours():
    harm = [0.0] * 90
    harm[40] = 5.0
    found, made = run(harm, allowed=0.5, max_trials=30)
    assert found.chosen is not None and made <= 30
    assert 40 in found.chosen.setting.floats and len(found.chosen.setting.floats) < 10

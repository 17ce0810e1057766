import subprocess
import sys

import pytest

from temper.engine.params import FitParams
from temper.engine.suggested_rates import suggest_rates


def test_the_recipes_that_work_come_out():
    default = suggest_rates("muon", 256, 1500)
    assert default == {
        "optimizer": "muon",
        "lr": 0.06,
        "rest_lr": 0.1,
        "momentum": 0.6,
        "weight_decay": 5e-4,
        "warmup_share": 0.2,
        "average_decay": 0.99,
    }
    tuning = suggest_rates("adamw", 32, 600)
    assert (tuning["lr"], tuning["weight_decay"], tuning["warmup_share"]) == (1e-3, 0.02, 0.2)


@pytest.mark.parametrize(
    ("optimizer", "batch_size", "lr"),
    [
        # sgd: in proportion up to 256, then with the square root.
        ("sgd", 32, 0.025),
        ("sgd", 64, 0.05),
        ("sgd", 256, 0.2),
        ("sgd", 1024, 0.4),
        # The others: with the square root.
        ("muon", 64, 0.03),
        ("muon", 1024, 0.12),
        ("adamw", 8, 5e-4),
        ("adamw", 128, 2e-3),
    ],
)
def test_rates_by_batch(optimizer: str, batch_size: int, lr: float):
    assert suggest_rates(optimizer, batch_size, 1500)["lr"] == pytest.approx(lr)


@pytest.mark.parametrize(
    ("num_steps", "warmup_share", "average_decay"),
    [
        (1, 0.2, 0.0),
        (60, 0.2, 0.0),
        (75, 0.2, 0.8),
        (300, 0.2, 0.95),
        (3000, 0.1, 0.995),
        (10**6, 0.0003, 0.999),
    ],
)
def test_warm_up_and_average_by_steps(num_steps: int, warmup_share: float, average_decay: float):
    found = suggest_rates("sgd", 64, num_steps)
    assert (found["warmup_share"], found["average_decay"]) == pytest.approx((warmup_share, average_decay))


@pytest.mark.parametrize("optimizer", ["sgd", "muon", "adamw"])
def test_what_grows_grows_and_every_suggestion_can_be_trained_with(optimizer: str):
    sizes, steps = [1, 2, 8, 31, 32, 100, 256, 300, 4096], [1, 10, 74, 75, 150, 1500, 20_000, 10**7]
    rates = [suggest_rates(optimizer, size, 1000)["lr"] for size in sizes]
    assert rates == sorted(rates) and rates[0] > 0
    found = [suggest_rates(optimizer, 32, count) for count in steps]
    assert [each["average_decay"] for each in found] == sorted(each["average_decay"] for each in found)
    for count, each in zip(steps, found, strict=True):
        FitParams(epochs=1, batch_size=32, **each)
        assert each["warmup_share"] <= 0.2
        if each["average_decay"]:
            assert 1 / (1 - each["average_decay"]) <= max(0.1 * count, 5)


def test_what_no_rate_is_known_for_is_refused():
    with pytest.raises(ValueError, match=r"optimizer = 'lion': .*sgd, muon, adamw"):
        suggest_rates("lion", 32, 100)
    with pytest.raises(ValueError, match=r"batch_size = 0 and num_steps = 100: .*at least 1"):
        suggest_rates("sgd", 0, 100)


def test_it_loads_no_torch():
    code = "import sys, temper.engine.suggested_rates; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

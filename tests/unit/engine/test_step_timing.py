"""The timed steps are those of the training loop; a lack of memory is an ordinary error."""

from collections.abc import Iterator, Sequence

import pytest
import torch

from temper.engine import step_timing
from temper.engine.distributed.ranks import Ranks
from temper.engine.objectives import supervised
from temper.engine.params import FitParams
from temper.engine.step_timing import WARM_UP, time_calls, time_steps
from temper.problem import PLAIN, Batch
from tests.toy import TOYS

ALONE = Ranks(rank=0, num=1, device=torch.device("cpu"))
PARAMS = FitParams(epochs=2, batch_size=16, lr=0.1, precision="fp32")


class Loader:
    """Loader of two batches per epoch; counts the batches that were taken."""

    num_batches = 2

    def __init__(self) -> None:
        self.taken = 0

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for number in range(start, self.num_batches):
            inputs, targets = TOYS["multiclass"].batch(16, seed=number)
            self.taken += 1
            yield Batch(inputs=inputs, targets=targets, weights=torch.ones(16))

    def ids(self, epoch: int, number: int) -> Sequence[str]:
        return ()


def test_a_few_steps_are_taken_over_several_epochs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(step_timing, "_ENOUGH", 3)
    monkeypatch.setattr(step_timing, "_ENOUGH_S", 0.0)
    loader, network = Loader(), TOYS["multiclass"].network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    seconds, mode = time_steps(
        network, supervised(TOYS["multiclass"].problem, PLAIN), loader, PARAMS, ranks=ALONE
    )
    # One batch to choose the precision, the warm-up, and three timed steps.
    assert loader.taken == 1 + WARM_UP + 3
    assert seconds > 0 and mode.precision == "fp32"
    assert any((before[name] != value).any() for name, value in network.state_dict().items()), (
        "the network was trained"
    )


def test_a_step_that_is_too_long_is_taken_once(monkeypatch: pytest.MonkeyPatch):
    loader = Loader()
    objective = supervised(TOYS["multiclass"].problem, PLAIN)
    time_steps(TOYS["multiclass"].network(), objective, loader, PARAMS, ranks=ALONE, longest_s=0.0)
    assert loader.taken == 2


def test_memory_that_runs_out_is_an_error_like_others():
    def objective(network: torch.nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ValueError, match=r"fit\.batch_size = 16: cpu .*memory"):
        time_steps(TOYS["multiclass"].network(), objective, Loader(), PARAMS, ranks=ALONE)


def test_calls_are_timed_after_one_that_is_not_counted():
    calls = []
    assert time_calls(lambda: calls.append(1), ALONE.device) >= 0
    assert len(calls) == 1 + step_timing._ENOUGH

"""Trainings in which something goes wrong: numbers that are not finite, too little memory, a stop request."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from temper.engine.accumulation import MicroBatch
from temper.engine.checkpoints import Checkpoints
from temper.engine.distributed import launcher
from temper.engine.distributed.rank_failures import judge
from temper.engine.distributed.ranks import join_ranks
from temper.engine.metrics_log import read
from temper.engine.objectives import supervised
from temper.engine.precision import Mode
from temper.problem import Batch, Emphasis
from tests.unit.engine.test_fit import PARAMS, TOY, train

PLAIN = supervised(TOY.problem, Emphasis())
FIT = replace(PARAMS, lr=0.01, max_bad_steps=3)


def spoiled(steps: set[int], factor: float = float("nan"), died: Callable[[int], None] = lambda _: None):
    """Return an objective whose loss is not finite in the calls with the given numbers."""
    asked = iter(range(10_000))

    def objective(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        number = next(asked)
        died(number)
        terms = dict(PLAIN(network, batch))
        return {"loss": terms["loss"] * factor} if number in steps else terms

    return objective


def values(folder: Path, name: str) -> list[tuple[int, float]]:
    entries = read(folder / "journal.jsonl")
    return [(entry["step"], entry["values"][name]) for entry in entries if name in entry["values"]]


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_bad_step_is_skipped_counted_and_leaves_no_trace(tmp_path: Path, factor: float):
    before: dict[str, Tensor] = {}
    seen = []

    def look(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        number = len(seen)
        state = {name: value.clone() for name, value in network.state_dict().items()}
        if number == 7:
            before.update(state)
        if number == 8:
            assert all(torch.equal(value, before[name]) for name, value in state.items())
        seen.append(number)
        terms = dict(PLAIN(network, batch))
        return {"loss": terms["loss"] * factor} if number == 7 else terms

    _, result = train(tmp_path, FIT, look)
    assert before and result.num_skipped == 1 and result.num_steps == len(seen) == 20
    # It is recorded at once, and from then on with every loss; the schedule continues.
    assert values(tmp_path, "train/skipped") == [(8, 1), (11, 1), (20, 1)]
    assert [step for step, _ in values(tmp_path, "train/loss")] == [1, 11, 20]


def test_a_good_training_says_nothing_of_skipped_steps(tmp_path: Path):
    _, result = train(tmp_path, FIT)
    assert result.num_skipped == 0 and result.accumulation == 1
    assert not values(tmp_path, "train/skipped") and not values(tmp_path, "train/accumulation")


def test_gradients_that_are_not_finite_make_a_step_bad_too(tmp_path: Path):
    def objective(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        terms = dict(PLAIN(network, batch))
        # The loss has its usual value, but its gradient is not finite.
        terms["loss"].register_hook(lambda slope: slope * float("inf"))
        return terms

    with pytest.raises(ValueError, match=r"fit\.lr = 0\.01: .*not finite in 3 .*from step 0 "):
        train(tmp_path, FIT, objective)


def test_after_too_many_bad_steps_it_goes_back_an_epoch_with_half_the_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    _, result = train(tmp_path, FIT, spoiled({11, 12, 13}))
    said = capsys.readouterr().err
    assert re.search(r"not finite in 3 .*from step 11 on: .*back to step 10 with half", said)
    assert result.num_skipped == 3
    assert values(tmp_path, "train/turn") == [(10, 1)]
    rates = dict(values(tmp_path, "train/lr"))
    calm, _ = tmp_path / "calm", train(tmp_path / "calm", FIT)
    plain = dict(values(calm, "train/lr"))
    assert rates[1] == plain[1] and rates[11] == plain[11] / 2 and rates[20] == plain[20] / 2
    steps = [step for step, _ in values(tmp_path, "train/loss")]
    assert steps == [step for step, _ in values(calm, "train/loss")]


def test_it_goes_back_twice_and_then_names_step_and_examples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(ValueError) as raised:
        train(tmp_path, FIT, spoiled(set(range(7, 100))))
    said = str(raised.value)
    assert re.search(r"fit\.lr = 0\.01: .*not finite in 3 .*from step 5 \(epoch 1\.00\)", said)
    assert "step 5 (0-0, 0-1, 0-2, 0-3, 0-4, 0-5, 0-6, 0-7 and 8 more)" in said
    assert "lower fit.lr" in said
    assert capsys.readouterr().err.count("with half the learning rate") == 2
    # The same command again ends with the same error.
    with pytest.raises(ValueError, match="from step 5 "):
        train(tmp_path, FIT, spoiled(set(range(100))))


def test_weights_that_explode_end_like_that_too(tmp_path: Path):
    with pytest.raises(ValueError, match=r"fit\.lr = 1e\+30: .*not finite in 3 .*step \d+ .*lower fit\.lr"):
        train(tmp_path, replace(FIT, lr=1e30, epochs=8))


@pytest.mark.parametrize("die_at", [8, 12, 13, 14, 15, 18, 21])
def test_a_resumed_training_with_bad_steps_ends_with_the_same_bits(tmp_path: Path, die_at: int):
    """The kill comes before, within and after a streak, and just after going back.

    Which steps are bad depends on the number of calls before.
    """
    bad = {7, 11, 12, 13, 19}
    whole, result = train(tmp_path / "whole", FIT, spoiled(bad))
    asked = []

    def die(number: int) -> None:
        asked.append(number)
        if number == die_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", FIT, spoiled(bad, died=die))
    resumed, again = train(tmp_path / "cut", FIT, spoiled({number - die_at for number in bad}))
    assert again == result and same(whole, resumed)
    for name in ("train/loss", "train/lr", "train/skipped", "train/turn", "validation/accuracy"):
        assert values(tmp_path / "whole", name) == values(tmp_path / "cut", name)


class Died(BaseException):
    """Simulates a kill."""


def test_a_training_killed_in_its_validation_still_validates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole, result = train(tmp_path / "whole", FIT)
    tally = TOY.problem.tally

    def die(*_: object) -> object:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(type(TOY.problem), "tally", die)
        with pytest.raises(Died):
            train(tmp_path / "cut", FIT)
    assert TOY.problem.tally == tally
    resumed, again = train(tmp_path / "cut", FIT)
    assert again == result and same(whole, resumed)
    assert [step for step, _ in values(tmp_path / "cut", "validation/accuracy")] == [5, 10, 15, 20]


def test_a_finished_training_ends_at_once_with_its_best_network(tmp_path: Path):
    def never(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        raise AssertionError("no step is left")

    whole, result = train(tmp_path, FIT)
    (tmp_path / "journal.jsonl").write_text("damaged")
    resumed, again = train(tmp_path, FIT, never)
    assert again == result and same(whole, resumed)
    assert again.entries == result.entries


def test_a_request_to_stop_leaves_a_checkpoint_and_the_same_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    lazy = replace(FIT, checkpoint_s=1e9)
    whole, result = train(tmp_path / "whole", lazy)
    asked = iter(range(100))
    with pytest.raises(SystemExit) as raised:
        train(tmp_path / "cut", lazy, stop=lambda: next(asked) == 6)
    assert raised.value.code == 143
    assert re.search(r"stopped at step 7 of 20; .*same command", capsys.readouterr().err)
    resumed, again = train(tmp_path / "cut", lazy)
    assert "resuming at step 7 of 20" in capsys.readouterr().out
    assert again == result and same(whole, resumed)


def too_large(most: int):
    """Return an objective that runs out of memory if a batch has more than `most` examples."""

    def objective(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        if len(batch.weights) > most:
            raise torch.OutOfMemoryError("out of memory")
        return dict(PLAIN(network, batch))

    return objective


def test_out_of_memory_halves_the_parts_until_they_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for size, parts in ((8, 2), (4, 4)):
        with pytest.raises(SystemExit) as raised:
            train(tmp_path, FIT, too_large(5))
        assert raised.value.code == 75
        said = capsys.readouterr().err
        assert re.search(rf"out of memory .* with {size}, in {parts} parts .*global batch stays 16", said)
    _, result = train(tmp_path, FIT, too_large(5))
    assert result.accumulation == 4 and result.num_steps == 20
    assert set(dict(values(tmp_path, "train/accumulation")).values()) == {4}
    # The training is finished: no step runs, and the result is still known.
    assert train(tmp_path, FIT, too_large(0))[1] == result


def test_a_single_example_that_is_too_large_names_the_way_out(tmp_path: Path):
    for _ in range(4):
        with pytest.raises(SystemExit):
            train(tmp_path, FIT, too_large(0))
    with pytest.raises(ValueError, match=r"cpu .*single example; .*prepare\.height_px"):
        train(tmp_path, FIT, too_large(0))


def test_parts_add_up_to_the_gradient_of_the_whole_batch(tmp_path: Path):
    inputs, targets = TOY.batch(10)
    others = {name: value.flip(0) for name, value in targets.items()}
    batch = Batch(inputs, targets, torch.rand(10), others, torch.rand(10))
    mode, found = Mode("fp32", "contiguous"), {}
    for limit in (None, 4):
        network = TOY.network().eval()  # batch normalisation would use the parts, not the whole batch
        if limit:
            (tmp_path / "micro-batch.json").write_text('{"examples": 4}')
        micro = MicroBatch(tmp_path, join_ranks(), batch_size=10)
        terms = micro.differentiate(network, PLAIN, batch, mode)
        assert micro.parts == (3 if limit else 1)
        found[limit] = [terms["loss"], *(value.grad for value in network.parameters())]
    for whole, parts in zip(found[None], found[4], strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-6, atol=1e-6)


def test_a_damaged_limit_is_found_out_again(tmp_path: Path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "micro-batch.json").write_text("{")
    _, result = train(tmp_path, FIT)
    assert result.accumulation == 1


def test_a_damaged_checkpoint_costs_steps_but_no_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    whole, result = train(tmp_path / "whole", FIT)
    for damaged in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "cut", FIT, die_at=13)
        folder = tmp_path / "cut" / "checkpoints"
        for path in sorted(folder.glob("*.safetensors"))[-damaged:]:
            path.write_bytes(path.read_bytes()[:100])
    capsys.readouterr()
    resumed, again = train(tmp_path / "cut", FIT)
    said = capsys.readouterr()
    assert said.err.count("is damaged") == 3 and "resuming" not in said.out  # none was left: it starts again
    assert again == result and same(whole, resumed)
    assert Checkpoints(tmp_path / "cut" / "checkpoints").newest() is not None


def test_of_failed_ranks_the_one_that_began_is_named():
    assert judge({0: 76, 1: 75}) == (75, "")
    status, said = judge({0: 143, 1: -9})
    assert (
        status == 1
        and said.startswith("error: rank 1 was ended by SIGKILL")
        and "run the same command again" in said
    )
    assert "rank 0 was ended by SIGSEGV" in judge({0: -11, 1: 76})[1]
    assert judge({0: 2, 1: 76}) == (2, "")
    assert judge({0: 143, 1: 76}) == judge({0: -15}) == (143, "")
    assert "lost the connection" in judge({0: 76, 1: 76})[1]


def test_the_ranks_are_started_again_for_as_long_as_memory_runs_out(monkeypatch: pytest.MonkeyPatch):
    codes = iter([75, 75, 143])
    monkeypatch.setattr(launcher, "_wait", lambda order: next(codes))
    assert launcher.start_ranks("train", Path(), 1) == 143
    assert next(codes, None) is None

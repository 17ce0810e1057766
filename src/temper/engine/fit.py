"""The training loop: trains a network for an objective, for any problem, on one or more processes.

The objective is a callable that returns a dict with a `loss`; the loop does not know whether it distils. The
loop keeps the best network by a score on the validation split, averages weights, writes checkpoints by time
and after every epoch, and resumes from the last one. It has no random state: whatever is random (order,
views) depends only on the step and comes from the loader.
"""

import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from temper.engine.accumulation import MicroBatch
from temper.engine.batchnorm_refresh import count_batches
from temper.engine.checkpoints import Checkpoints
from temper.engine.compiling import compiled
from temper.engine.distributed.ranks import Ranks
from temper.engine.distributed.shutdown import STOPPED
from temper.engine.distributed.sync_batchnorm import check_single
from temper.engine.interface import FitResult, Loader
from temper.engine.metrics_log import Journal
from temper.engine.nan_guard import MOST_TURNS, Guard, give_up, longest
from temper.engine.optimizers import learning_rate, take_step
from temper.engine.params import FitParams
from temper.engine.precision import Mode, choose_mode
from temper.engine.step_metrics import mean_terms, state_values
from temper.engine.train_state import Training
from temper.engine.training_notes import Course, of_epoch, read_epochs
from temper.engine.unfreezing import Unfreezing
from temper.problem import Batch, Headline, Inputs, Objective
from temper.progress import Bar

_JOURNAL_EVERY_STEPS = 10


def fit(
    network: nn.Module,
    objective: Objective,
    loader: Loader,
    validate: Callable[[nn.Module], dict[str, float]],
    params: FitParams,
    *,
    what: str,
    headline: Headline,
    ranks: Ranks,
    checkpoints: Checkpoints,
    journal: Path,
    stop: Callable[[], bool] = lambda: False,
    unfreezing: Unfreezing | None = None,
) -> FitResult:
    """Train a network in place; it ends with the weights of its best epoch.

    Args:
        network: Network on the ranks' device.
        objective: What the network is trained for.
        loader: Loader of this rank's batches.
        validate: Returns a network's scores on the validation split, the same on every rank. Notes about
            epochs that went wrong need the headline by chance among them, as `training_notes.CHANCE`.
        params: Parameters of the fit.
        what: Name of the training in the progress bar and in notes.
        headline: Score that decides which epoch is the best.
        ranks: This process among those that train together.
        checkpoints: Checkpoints of the unfinished training.
        journal: File for the curves.
        stop: Returns whether to end after this step; called on the first rank only.
        unfreezing: Which layers are trained in which epoch; None trains all of them.

    Raises:
        ValueError: If going back does not help against numbers that are not finite, or memory is too small
            for one example.
        SystemExit: If it was stopped after a checkpoint (status 143), or must restart with smaller parts of a
            batch (status 75).
    """
    open_journal = Journal(journal if ranks.first else None)
    fitting = _Fit(network, objective, loader, params, ranks, checkpoints, open_journal, stop, unfreezing)
    return fitting.run(validate, headline, what)


class _Fit:
    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        loader: Loader,
        params: FitParams,
        ranks: Ranks,
        checkpoints: Checkpoints,
        journal: Journal,
        stop: Callable[[], bool],
        unfreezing: Unfreezing | None,
    ) -> None:
        self.network, self.objective, self.loader, self.params = network, objective, loader, params
        self.ranks, self.checkpoints, self.journal, self.stop = ranks, checkpoints, journal, stop
        self.num_steps = params.epochs * loader.num_batches
        self.unfreezing = unfreezing or Unfreezing(network)
        self.training = Training(network, params, self.unfreezing)
        self.micro_batch = MicroBatch(checkpoints.folder, ranks, batch_size=params.batch_size)
        self.saved_at = (-1, -1, -1)

    def run(
        self, validate: Callable[[nn.Module], dict[str, float]], headline: Headline, what: str
    ) -> FitResult:
        self._begin()
        state = self.training.state
        assert state.mode is not None
        self.mode = state.mode
        self.unfreezing.begin(state.epoch)
        self._share()
        # Saving deletes old checkpoints, so all ranks must have read theirs first.
        self.ranks.wait()
        self._save()
        course = Course(what, headline, self.params)
        with Bar(what if self.ranks.first else "", self.num_steps if self.ranks.first else 0) as bar:
            bar.skip(state.step)
            while (state := self.training.state).epoch < self.params.epochs:
                if self.unfreezing.begin(state.epoch):
                    self._share()
                if not self._train(bar):
                    bar.skip(self._go_back() - state.step)
                    continue
                context = self.mode.autocast(self.ranks.device)
                scores = self.training.finish_epoch(validate, headline, context, self._lagging())
                values = {f"validation/{name}": value for name, value in scores.items()}
                self.journal.write(state.step, state.epoch, values)
                if self.ranks.first:
                    bar.advance(0, f"{headline.name} {scores[headline.name]:.4f}")
                    for note in of_epoch(course, read_epochs(self.journal.entries, headline)):
                        print(note, file=sys.stderr)
                self._save()
        self.network.load_state_dict(self.training.best)
        return FitResult(
            state.best_scores,
            state.best_epoch,
            self.num_steps,
            self.mode,
            state.skipped,
            self.micro_batch.parts,
            state.clipped_share,
            self.journal.entries,
        )

    def _lagging(self) -> Callable[[], Iterator[Inputs]] | None:
        """Return the epoch's first inputs, to recompute lagging statistics; None if they do not lag."""
        loader, epoch = self.loader, self.training.state.epoch
        averaged = self.params.average_decay > 0
        count = count_batches(loader.num_batches, self.params.batch_size, averaged=averaged)

        def inputs() -> Iterator[Inputs]:
            for batch in islice(loader.batches(epoch), count):
                for part, _ in self.micro_batch.split(batch):
                    yield self.mode.arrange_inputs(part.inputs)

        return inputs if count else None

    def _share(self) -> None:
        """Share the network among the ranks; repeated whenever the parameters that get gradients change."""
        self.shared = compiled(self.ranks.share(self.mode.arrange(self.network)), self.params.compile)
        self.guard = Guard(self.network, self.ranks)

    def _begin(self) -> None:
        """Resume from the last checkpoint, or choose the mode."""
        if self.ranks.num == 1 and self.params.batch_size // self.micro_batch.parts == 1:
            check_single(self.network, self._first_part().inputs)
        if self._restore(self.checkpoints.newest() if self.ranks.first else None):
            if self.ranks.first:
                print(f"resuming at step {self.training.state.step} of {self.num_steps}")
        else:
            self._choose_mode()

    def _restore(self, path: Path | None) -> bool:
        """Restore the checkpoint that the first rank chose; return False if it chose none."""
        name = self.ranks.agree(path and path.name)
        if name is None:
            return False
        # The first rank sends the bytes: other hosts may not see its disk.
        content = self.ranks.share_bytes(path.read_bytes() if path else b"")
        checkpoint = self.checkpoints.parse(str(name), content)
        self.training.restore(checkpoint)
        self.journal.restart(checkpoint.journal)
        self.saved_at = (checkpoint.turn, checkpoint.step, checkpoint.epoch)
        return True

    def _go_back(self) -> int:
        """After too many bad steps in a row, go back to the last good epoch with half the learning rate.

        Return its step. Checkpoints by time are not used, because the result would depend on the clock.
        """
        before = self.training.state
        first_bad = before.step - before.streak
        epoch, number = divmod(first_bad, self.loader.num_batches)
        if before.turn == MOST_TURNS:
            if not self.ranks.first:
                self.ranks.wait()  # the first one reports the error; the others end when it does
            share = first_bad / self.loader.num_batches
            raise give_up(first_bad, share, before.streak, self.loader.ids(epoch, number), self.params.lr)
        if not self._restore(self.checkpoints.newest(good=True) if self.ranks.first else None):
            raise ValueError(
                f"{self.checkpoints.folder} has no intact checkpoint to go back to after {before.streak} "
                f"bad steps in a row from step {first_bad} on; delete this folder and run again"
            )
        state = self.training.state
        state.turn, state.skipped, state.streak = before.turn + 1, before.skipped, 0
        at = state.step / self.loader.num_batches
        self.journal.write(state.step, at, {"train/turn": state.turn, "train/skipped": state.skipped})
        if self.ranks.first:
            print(
                f"the loss or its gradient was not finite in {before.streak} steps in a row from step "
                f"{first_bad} on: going back to step {state.step} with half the learning rate "
                f"({state.turn} of {MOST_TURNS})",
                file=sys.stderr,
            )
        self.ranks.wait()
        self._save()
        return state.step

    def _train(self, bar: Bar) -> bool:
        """Train the rest of an epoch; return False after too many bad steps in a row."""
        state = self.training.state
        for batch in self.loader.batches(state.epoch, state.step - state.epoch * self.loader.num_batches):
            try:
                self._step(batch)
            except torch.OutOfMemoryError:
                self.micro_batch.restart_with_smaller_parts()
            if self.ranks.first:
                bar.advance()
            if state.streak >= self.params.max_bad_steps:
                return False
            if self.ranks.first and self.stop():
                self._save()
                print(
                    f"stopped at step {state.step} of {self.num_steps}; run the same command to continue",
                    file=sys.stderr,
                )
                raise SystemExit(STOPPED)
            if time.monotonic() - self.saved_s >= self.params.checkpoint_s:
                self._save()
        return True

    def _step(self, batch: Batch) -> None:
        state, optimizer, started = self.training.state, self.training.optimizer, time.perf_counter()
        lr = learning_rate(self.params, state.step, self.num_steps) * 0.5**state.turn
        for group in optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        self.guard.remember()
        self.unfreezing.train(self.shared)
        optimizer.zero_grad(set_to_none=True)
        terms = self.micro_batch.differentiate(
            self.shared, self.objective, batch, self.mode, loss_scale=state.loss_scale
        )
        max_norm = longest(self.params.max_grad_norm, state.mean_norm)
        verdict = self.guard.judge(terms["loss"], max_norm=max_norm)
        state.count(verdict)
        if good := verdict.good:
            take_step(optimizer)
            if self.params.average_decay:
                self.training.average.update(self.network, state.step)
        if not good or (state.step - 1) % _JOURNAL_EVERY_STEPS == 0 or state.step == self.num_steps:
            seconds = time.perf_counter() - started
            others = {"train/lr": lr, "speed/images_per_s": self.params.batch_size / seconds}
            self._record(terms if good else {}, others)

    def _record(self, terms: dict[str, Tensor], others: dict[str, float]) -> None:
        """Write a step to the journal; of a skipped step, only the counts."""
        values = mean_terms(terms, self.ranks) | others if terms else {}
        state = self.training.state
        counts = state_values(state, self.micro_batch.parts)
        self.journal.write(state.step, state.step / self.loader.num_batches, values | counts)

    def _first_part(self) -> Batch:
        return self.micro_batch.split(next(self.loader.batches(0)))[0][0]

    def _choose_mode(self) -> None:
        part = self._first_part()
        try:
            mode, deviation = choose_mode(self.network, self.objective, part, self.params, self.ranks.device)
        except torch.OutOfMemoryError:
            self.micro_batch.restart_with_smaller_parts()
        agreed = self.ranks.agree([mode.precision, mode.layout])
        assert isinstance(agreed, list)
        state = self.training.state
        state.mode = Mode(*agreed)
        state.loss_scale = state.mode.first_loss_scale
        if deviation is not None:
            self.journal.write(0, 0.0, {"probe/deviation of half precision": deviation})

    def _save(self) -> None:
        """Write a checkpoint, unless the last one has the same state."""
        self.saved_s = time.monotonic()
        state = self.training.state
        now = (state.turn, state.step, state.epoch)
        if not self.ranks.first or now == self.saved_at:
            return
        whole = state.step == state.epoch * self.loader.num_batches and state.streak == 0
        self.checkpoints.save(self.training.pack(self.journal.text, good=whole and self.guard.finite()))
        self.saved_at = now

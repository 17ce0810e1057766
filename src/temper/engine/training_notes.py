"""Notes about trainings that went wrong: sentences that describe what an expert sees in the curves.

The functions are pure functions from the journal to sentences. They are the same for every kind of problem,
because they use only the headline's value and its value by chance. *Chance* is measured, not assumed: the
same answers are compared with the labels of other images (`stages/fit_network.py`). The notes depend only on
the journal, so a resumed training has the same notes as an uninterrupted one.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from temper.engine.metrics_log import Entry
from temper.engine.params import FitParams
from temper.problem import Headline

CHANCE = "chance"
"""Key of the headline by chance among the scores of a network, if it is known."""
_VALIDATION = "validation/"
_JUMP = 0.5
"""A jump is a fall by at least this share of the best lead over chance so far. A score on n images varies by
at most 0.5 / sqrt(n), which is a tenth for 25 images. If half of a lead is lost, the network has changed, or
the validation split is too small to train with."""
_FAR = 0.2
"""Largest share of the teacher's lead over chance that a student should lose. Distilled students usually lose
a few hundredths of it (`docs/results.md`)."""
_MOSTLY = 0.5


@dataclass(frozen=True)
class Scored:
    """The score of a finished epoch."""

    epoch: int
    score: float
    """Value of the headline."""
    chance: float | None
    """Value of the headline by chance, for the same answers; None if it is unknown."""


@dataclass(frozen=True)
class Course:
    """A training, and the score by which it is judged."""

    what: str
    headline: Headline
    params: FitParams

    def lead(self, score: float, over: float) -> float:
        """Return by how much a headline is better than another."""
        return score - over if self.headline.greater_is_better else over - score

    def at_chance(self, epoch: Scored) -> bool:
        """Return whether an epoch's answers score no better than the same answers do for other images."""
        return epoch.chance is not None and self.lead(epoch.score, epoch.chance) <= 0

    def best(self, epochs: Sequence[Scored]) -> Scored:
        """Return the first of the best epochs."""
        return max(epochs, key=lambda epoch: self.lead(epoch.score, 0.0))

    def jumps(self, epochs: Sequence[Scored]) -> list[tuple[Scored, Scored]]:
        """Return the pairs of consecutive epochs, after the warm-up, between which the score jumped down.

        The second epoch of such a pair lost a large part of the best lead over chance up to the first.
        """
        found = []
        for number, (before, after) in enumerate(pairwise(epochs)):
            best = self.best(epochs[: number + 1])
            if best.chance is None or before.epoch <= self.params.warmup_share * self.params.epochs:
                continue
            won = self.lead(best.score, best.chance)
            if won > 0 and self.lead(before.score, after.score) >= _JUMP * won:
                found.append((before, after))
        return found

    @property
    def rate(self) -> str:
        """The learning rate with its context, as the first parameter to change."""
        fit = self.params
        return f"fit.lr (now {fit.lr:g}, {fit.optimizer} with batches of {fit.batch_size})"


def read_epochs(entries: Iterable[Entry], headline: Headline) -> list[Scored]:
    """Return the finished epochs of a journal."""
    values = [(int(entry["epoch"]), entry["values"]) for entry in entries]
    name = _VALIDATION + headline.name
    return [
        Scored(epoch, found[name], found.get(_VALIDATION + CHANCE))
        for epoch, found in values
        if math.isfinite(found.get(name, math.nan))  # NaN cannot be compared
    ]


def of_epoch(course: Course, epochs: Sequence[Scored]) -> list[str]:
    """Return the notes after the last of these epochs; only the first note about a jump names causes."""
    notes, name = [], course.headline.name
    if not epochs:
        return [f"{course.what}: the validation {name} is no number so far"]
    *earlier, last = epochs
    # Every network starts at chance, so the first epoch is ignored.
    noted = any(course.at_chance(epoch) for epoch in earlier[-1:] if epoch.epoch > 1)
    if last.epoch > 1 and course.at_chance(last) and not noted:
        notes.append(
            f"{course.what}: after epoch {last.epoch} the validation {name} is {last.score:.4f}, no better "
            f"than chance ({last.chance:.4f}: the same answers compared with the labels of other images). If "
            f"it stays there, {course.rate} is most likely too high"
        )
    jumps = course.jumps(epochs)
    if jumps and jumps[-1][1] == last:
        notes.append(
            f"{course.what}: {_describe_jump(course, *jumps[-1])}"
            f"{'. ' + _causes_of_jumps(course) if len(jumps) == 1 else ''}"
        )
    return notes


def of_training(course: Course, epochs: Sequence[Scored], clipped_share: float) -> list[str]:
    """Return the notes about a whole training, for the record.

    Args:
        course: The training.
        epochs: All epochs of the training.
        clipped_share: Share of the steps whose gradients were clipped.
    """
    notes, name = [], course.headline.name
    if epochs and course.at_chance(best := course.best(epochs)):
        notes.append(
            f"{course.what} ended no better than chance: the best validation {name} is {best.score:.4f} in "
            f"epoch {best.epoch}; the same answers compared with the labels of other images get "
            f"{best.chance:.4f}. Do not use this model. Likely causes: {course.rate} is too high, or far too "
            f"low; {course.params.epochs} epochs are too few; the labels do not match the images"
        )
    if jumps := course.jumps(epochs):
        worst = max(jumps, key=lambda pair: course.lead(pair[0].score, pair[1].score))
        times = f", the largest of {len(jumps)} such falls" if len(jumps) > 1 else ""
        notes.append(f"{course.what}: {_describe_jump(course, *worst)}{times}. {_causes_of_jumps(course)}")
    if clipped_share > _MOSTLY:
        limit = course.params.max_grad_norm
        longer = "kept growing" if limit == "auto" else f"were longer than fit.max_grad_norm = {limit:g}"
        raised = "" if limit == "auto" else "raise fit.max_grad_norm (or set it to auto), or "
        notes.append(
            f"{course.what}: the gradients of {clipped_share:.0%} of the steps {longer} and were clipped, so "
            f"these steps were smaller than the learning rate implies: {raised}lower {course.rate}"
        )
    return notes


def of_student(course: Course, student: Scored, teacher: float) -> list[str]:
    """Return the notes about a student that stayed far below its teacher.

    Args:
        course: The student's training.
        student: The student's best epoch.
        teacher: The teacher's headline on the same validation split.
    """
    if student.chance is None:
        return []
    won, gap = course.lead(teacher, student.chance), course.lead(teacher, student.score)
    if not (won > 0 and gap > _FAR * won):
        return []
    return [
        f"{course.what}: the student's best validation {course.headline.name}, {student.score:.4f} in epoch "
        f"{student.epoch}, is far below the teacher's {teacher:.4f}: it lost {gap / won:.0%} of the "
        f"teacher's lead over chance ({student.chance:.4f}). Likely causes: the student is too small "
        f"(distill.backbone); {course.params.epochs} epochs are too few; {course.rate} is too high or too low"
    ]


def _describe_jump(course: Course, before: Scored, after: Scored) -> str:
    return (
        f"the validation {course.headline.name} fell from {before.score:.4f} after epoch {before.epoch} "
        f"to {after.score:.4f} after epoch {after.epoch}"
    )


def _causes_of_jumps(course: Course) -> str:
    averaging = (
        ""
        if course.params.average_decay
        else ", and set fit.average_decay (e.g. to 0.98), so that an average of the weights is scored"
    )
    return (
        f"Likely causes: {course.rate} is too high: halve it{averaging}; or there are too few validation "
        "images: raise prepare.validation_share"
    )

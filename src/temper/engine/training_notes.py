"""Words about a training that went wrong: what a curve shows to somebody who knows where to look, said to everybody else.

Pure functions from the journal to sentences, the same for every kind of problem: they know the headline's value, and what it would be by
chance. *Chance* is measured, not assumed: the same answers, held against the truth of other images (`stages/training.py`).
Since they read the journal alone, a resumed training says what an undisturbed one does.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from temper.engine.metrics_log import Entry
from temper.engine.params import FitParams
from temper.problem import Headline

CHANCE = "chance"
"""Among the scores of a network, where it is known: its headline by chance."""
_VALIDATION = "validation/"
_JUMP = 0.5
"""A fall by half of the best lead over chance so far. A score on n images wavers by 0.5 / sqrt(n) at most, which is a tenth for 25 images:
beyond half of a lead it is the network that changed, or a validation split too small to train by."""
_FAR = 0.2
"""A student that lost a fifth of its teacher's lead over chance: distilled ones lose a few hundredths of it (`docs/results.md`)."""
_MOSTLY = 0.5


@dataclass(frozen=True)
class Scored:
    """A finished epoch."""

    epoch: int
    score: float
    """The headline."""
    chance: float | None
    """The headline of the same answers by chance."""


@dataclass(frozen=True)
class Course:
    """Whose training it is, and by what it is judged."""

    what: str
    headline: Headline
    params: FitParams

    def lead(self, score: float, over: float) -> float:
        """By how much a headline is better than another."""
        return score - over if self.headline.greater_is_better else over - score

    def at_chance(self, epoch: Scored) -> bool:
        """Whether an epoch's answers are no better than the same ones given for other images."""
        return epoch.chance is not None and self.lead(epoch.score, epoch.chance) <= 0

    def best(self, epochs: Sequence[Scored]) -> Scored:
        """The first of the best epochs."""
        return max(epochs, key=lambda epoch: self.lead(epoch.score, 0.0))

    def jumps(self, epochs: Sequence[Scored]) -> list[tuple[Scored, Scored]]:
        """Pairs of consecutive epochs, after the warm-up, of which the second lost a large part of what had been won over chance."""
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
        """The first thing to change."""
        return f"fit.lr (now {self.params.lr:g} under {self.params.optimizer}, with batches of {self.params.batch_size})"


def read_epochs(entries: Iterable[Entry], headline: Headline) -> list[Scored]:
    """The finished epochs of a journal."""
    values = [(int(entry["epoch"]), entry["values"]) for entry in entries]
    name = _VALIDATION + headline.name
    return [
        Scored(epoch, found[name], found.get(_VALIDATION + CHANCE))
        for epoch, found in values
        if math.isfinite(found.get(name, math.nan))  # what is not a number compares with nothing
    ]


def of_epoch(course: Course, epochs: Sequence[Scored]) -> list[str]:
    """What to say after the last of these epochs, with the way out where it is said for the first time."""
    notes, name = [], course.headline.name
    *earlier, last = epochs
    # Any network begins at chance.
    said = any(course.at_chance(epoch) for epoch in earlier[-1:] if epoch.epoch > 1)
    if last.epoch > 1 and course.at_chance(last) and not said:
        notes.append(
            f"{course.what}: after epoch {last.epoch} the validation {name} is {last.score:.4f}, no better than chance ({last.chance:.4f}: the same "
            f"answers held against the truth of other images). If it stays so, {course.rate} is most likely too high"
        )
    jumps = course.jumps(epochs)
    if jumps and jumps[-1][1] == last:
        notes.append(
            f"{course.what}: {_jump(course, *jumps[-1])}{'. ' + _unsteady(course) if len(jumps) == 1 else ''}"
        )
    return notes


def of_training(course: Course, epochs: Sequence[Scored], clipped_share: float) -> list[str]:
    """What to say of a whole training, for the record.

    Args:
        course: Of the training.
        epochs: All of them.
        clipped_share: Share of the steps whose gradients were shortened.
    """
    notes, name = [], course.headline.name
    if epochs and course.at_chance(best := course.best(epochs)):
        notes.append(
            f"{course.what} ended no better than chance: its best validation {name}, {best.score:.4f} in epoch {best.epoch}, is no more than the same "
            f"answers get when held against the truth of other images ({best.chance:.4f}). This model is of no use. Likely causes: {course.rate} is too "
            f"high, or far too low; {course.params.epochs} epochs are too few; the labels do not say what the images show"
        )
    if jumps := course.jumps(epochs):
        worst = max(jumps, key=lambda pair: course.lead(pair[0].score, pair[1].score))
        times = f", the largest of {len(jumps)} such falls" if len(jumps) > 1 else ""
        notes.append(f"{course.what}: {_jump(course, *worst)}{times}. {_unsteady(course)}")
    if clipped_share > _MOSTLY:
        limit = course.params.max_grad_norm
        longer = (
            "grew from step to step" if limit == "auto" else f"were longer than fit.max_grad_norm = {limit:g}"
        )
        raised = "" if limit == "auto" else "raise fit.max_grad_norm (or set it to auto), or "
        notes.append(
            f"{course.what}: the gradients of {clipped_share:.0%} of the steps {longer} and were shortened, so the steps were smaller than the rate "
            f"says: {raised}lower {course.rate}"
        )
    return notes


def of_student(course: Course, student: Scored, teacher: float) -> list[str]:
    """What to say of a student that stayed far below its teacher.

    Args:
        course: Of the student's training.
        student: Its best epoch.
        teacher: The teacher's headline on the same validation split.
    """
    if student.chance is None:
        return []
    won, gap = course.lead(teacher, student.chance), course.lead(teacher, student.score)
    if not (won > 0 and gap > _FAR * won):
        return []
    return [
        f"{course.what}: the student's best validation {course.headline.name}, {student.score:.4f} in epoch {student.epoch}, stays far below its teacher's "
        f"{teacher:.4f}: it lost {gap / won:.0%} of what the teacher won over chance ({student.chance:.4f}). Likely causes: the student is too small "
        f"(distill.backbone); {course.params.epochs} epochs are too few; {course.rate} is too high or too low"
    ]


def _jump(course: Course, before: Scored, after: Scored) -> str:
    return f"the validation {course.headline.name} fell from {before.score:.4f} after epoch {before.epoch} to {after.score:.4f} after epoch {after.epoch}"


def _unsteady(course: Course) -> str:
    averaging = (
        ""
        if course.params.average_decay
        else "; set fit.average_decay (0.98, say), which scores an average of the weights"
    )
    return (
        f"Likely causes: {course.rate} is too high: halve it{averaging}; or there are too few validation images: raise "
        "prepare.validation_share"
    )

"""How minutes become epochs and an image size: pure arithmetic on measured speeds."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from temper.engine.batchnorm_refresh import count_batches
from temper.recipe.fitting import choose_batch
from temper.recipe.networks import SMALL_PX, WEIGHTS_PX

TEACHER_SHARE, STUDENT_SHARE = 0.45, 0.40
"""Of the minutes; the rest is for the other stages: start-up, prepare, quantize, evaluate."""
EVALUATE_SHARE = 0.05
"""Of the minutes, for conditions of stress."""
MOST_TEACHER, MOST_STUDENT, MOST_PRETRAINED = 60, 100, 20
"""Epochs beyond which nothing was gained: teacher and student from scratch, and a teacher that starts from pretrained weights."""
WANTED_EPOCHS, WANTED_DRAWS = 12, 15_000
"""A size is small enough if so many epochs, or images drawn, whichever is more, fit into the time."""
LEAST_EPOCHS = 3
"""With fewer a schedule has no shape; they are written even where the time does not allow them."""
MOST_PX, MOST_PRETRAINED_PX = 128, 160
"""Short sides: more costs time with the square, and brought nothing in minutes."""
LEAST_PX = 48
_STEP_PX, _STEP_TIMM_PX = 16, 32
"""Sides divide by what networks halve them by."""
_LONG_ASPECT, _MOST_ASPECT = 1.25, 2.0
"""Long side over short one: up to the first a square does; beyond the second the long side is squeezed."""


@dataclass(frozen=True)
class Pace:
    """How fast a network is at some size of images."""

    height_px: int
    width_px: int
    step_s: float
    """Of a training step, per image."""
    answer_s: float
    """Without learning, per image."""

    def scale(self, size: tuple[int, int]) -> float:
        """By how much longer images of another size take: time goes with the area."""
        return size[0] * size[1] / (self.height_px * self.width_px)


@dataclass(frozen=True)
class Speeds:
    """What was timed on this machine."""

    teacher: Pace
    """Of a plain one, from scratch."""
    student: Pace
    """Alone."""
    pretrained: Pace | None
    """Of a teacher from the weights that are there; None without any."""
    start_s: float
    """Of a stage."""


@dataclass(frozen=True)
class Plan:
    """What fits the time."""

    size: tuple[int, int]
    """Height and width, px."""
    pretrained: bool
    teacher_epochs: int
    student_epochs: int
    teacher_s: float
    """Of all its epochs."""
    student_s: float
    fits: bool
    """Whether the wanted number of epochs is reached."""


@dataclass(frozen=True)
class Budget:
    """What the time is for.

    Attributes:
        minutes: For everything.
        draws: Images of an epoch.
        validation: Images looked at after each.
    """

    minutes: float
    draws: int
    validation: int

    def plan(self, size: tuple[int, int], speeds: Speeds, *, pretrained: bool) -> Plan:
        """Epochs of teacher and student at a size."""
        teacher = speeds.pretrained if pretrained else speeds.teacher
        assert teacher is not None
        student, scale = speeds.student, teacher.scale(size)
        batch_size = choose_batch(self.draws)
        refreshed = batch_size * count_batches(max(1, self.draws // batch_size), batch_size, averaged=True)
        looked_at = self.validation + refreshed
        teacher_epoch = scale * (self.draws * teacher.step_s + looked_at * teacher.answer_s)
        alone = student.scale(size) * (self.draws * student.step_s + looked_at * student.answer_s)
        student_epoch = alone + scale * self.draws * teacher.answer_s
        times = [60 * self.minutes * share - speeds.start_s for share in (TEACHER_SHARE, STUDENT_SHARE)]
        fit = [
            max(LEAST_EPOCHS, int(left / epoch))
            for left, epoch in zip(times, (teacher_epoch, student_epoch), strict=True)
        ]
        epochs = min(fit[0], MOST_PRETRAINED if pretrained else MOST_TEACHER), min(fit[1], MOST_STUDENT)
        wanted = max(WANTED_EPOCHS, math.ceil(WANTED_DRAWS / self.draws))
        # Nobody wants more epochs than are ever taken.
        enough = [
            min(wanted, most) for most in (MOST_PRETRAINED if pretrained else MOST_TEACHER, MOST_STUDENT)
        ]
        fits = all(count >= least for count, least in zip(epochs, enough, strict=True))
        return Plan(size, pretrained, *epochs, epochs[0] * teacher_epoch, epochs[1] * student_epoch, fits)


def candidate_sizes(height_px: int, width_px: int, *, pretrained: bool) -> Iterator[tuple[int, int]]:
    """Sizes that may be taken, largest first, none larger than images are.

    Example:
        >>> list(candidate_sizes(28, 28, pretrained=False)), list(candidate_sizes(300, 310, pretrained=True))
        ([(28, 28)], [(160, 160), (128, 128), (96, 96), (64, 64)])
        >>> next(candidate_sizes(240, 480, pretrained=False))
        (128, 256)
    """
    short, long = sorted((height_px, width_px))
    if short <= SMALL_PX:
        yield height_px, width_px
        return
    aspect = min(long / short, _MOST_ASPECT)
    step = _STEP_TIMM_PX if pretrained else _STEP_PX
    least = WEIGHTS_PX if pretrained else min(LEAST_PX, short // step * step)
    for side in range(
        min(short // step * step, MOST_PRETRAINED_PX if pretrained else MOST_PX), least - 1, -step
    ):
        other = side if aspect <= _LONG_ASPECT else min(long, round(side * aspect / step) * step)
        yield (side, other) if height_px <= width_px else (other, side)


def plan_trainings(
    budget: Budget, speeds: Speeds, sizes: Iterable[tuple[int, int]], *, pretrained: bool
) -> Plan:
    """The first of some sizes, largest first, at which enough epochs fit the time; the last one where none does."""
    plans = [budget.plan(size, speeds, pretrained=pretrained) for size in sizes]
    return next((plan for plan in plans if plan.fits), plans[-1])

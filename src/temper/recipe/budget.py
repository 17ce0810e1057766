"""Turn minutes into epochs and an image size: pure arithmetic on measured speeds."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from temper.engine.batchnorm_refresh import count_batches
from temper.recipe.fitting import choose_batch
from temper.recipe.networks import SMALL_PX, WEIGHTS_PX

TEACHER_SHARE, STUDENT_SHARE = 0.45, 0.40
"""Shares of the minutes for the two trainings. The rest is for start-up, prepare, quantize and evaluate."""
EVALUATE_SHARE = 0.05
"""Share of the minutes for the stress conditions."""
MOST_TEACHER, MOST_STUDENT, MOST_PRETRAINED = 60, 100, 20
"""Numbers of epochs beyond which nothing was gained: for teacher and student from scratch, and for a teacher
that starts from pretrained weights."""
WANTED_EPOCHS, WANTED_DRAWS = 12, 15_000
"""An image size is small enough if this many epochs or drawn images, whichever is more, fit into the time."""
LEAST_EPOCHS = 3
"""With fewer epochs a schedule has no shape. This many are written even if the time does not allow them."""
MOST_PX, MOST_PRETRAINED_PX = 128, 160
"""Largest short sides of the images. Larger ones cost time with the square of the side, and in minutes of
training they gained nothing."""
LEAST_PX = 48
_STEP_PX, _STEP_TIMM_PX = 16, 32
"""Sides are multiples of these, because the networks halve the sides several times."""
_LONG_ASPECT, MOST_ASPECT = 1.25, 2.0
"""Ratios of the long side to the short side. Up to the first, images become squares; beyond the second, the
long side is squeezed."""


@dataclass(frozen=True)
class Pace:
    """Speed of a network at one image size."""

    height_px: int
    width_px: int
    step_s: float
    """Seconds of a training step per image."""
    answer_s: float
    """Seconds of an answer, without learning, per image."""

    def scale(self, size: tuple[int, int]) -> float:
        """Return by what factor images of another size take longer: time grows with the area."""
        return size[0] * size[1] / (self.height_px * self.width_px)


@dataclass(frozen=True)
class Speeds:
    """Speeds measured on this machine."""

    teacher: Pace
    """Speed of a plain teacher, trained from scratch."""
    student: Pace
    """Speed of the student alone, without its teacher."""
    pretrained: Pace | None
    """Speed of a teacher that starts from weights on this machine; None without such weights."""
    start_s: float
    """Seconds that a stage takes to start."""


@dataclass(frozen=True)
class Plan:
    """Image size and epochs, chosen to fit the time."""

    size: tuple[int, int]
    """Height and width, px."""
    pretrained: bool
    teacher_epochs: int
    student_epochs: int
    teacher_s: float
    """Seconds of all epochs of the teacher."""
    student_s: float
    """Seconds of all epochs of the student."""
    fits: bool
    """Whether the wanted number of epochs is reached."""


@dataclass(frozen=True)
class Budget:
    """The time, and the number of images that it must suffice for.

    Attributes:
        minutes: Minutes for the whole pipeline.
        draws: Images that an epoch draws.
        validation: Images on which the network is validated after each epoch.
    """

    minutes: float
    draws: int
    validation: int

    def plan(self, size: tuple[int, int], speeds: Speeds, *, pretrained: bool) -> Plan:
        """Plan the epochs of teacher and student at one image size."""
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
        # The wanted number never exceeds the largest number that is allowed.
        enough = [
            min(wanted, most) for most in (MOST_PRETRAINED if pretrained else MOST_TEACHER, MOST_STUDENT)
        ]
        fits = all(count >= least for count, least in zip(epochs, enough, strict=True))
        return Plan(size, pretrained, *epochs, epochs[0] * teacher_epoch, epochs[1] * student_epoch, fits)


def candidate_sizes(height_px: int, width_px: int, *, pretrained: bool) -> Iterator[tuple[int, int]]:
    """Yield the sizes that may be chosen, largest first. None is larger than the images.

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
    aspect = min(long / short, MOST_ASPECT)
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
    """Return the plan for the first size at which enough epochs fit the time; for the last size if none fits.

    Args:
        budget: The time and the number of images.
        speeds: Speeds measured on this machine.
        sizes: Heights and widths, largest first.
        pretrained: Whether the teacher starts from pretrained weights.
    """
    plans = [budget.plan(size, speeds, pretrained=pretrained) for size in sizes]
    return next((plan for plan in plans if plan.fits), plans[-1])

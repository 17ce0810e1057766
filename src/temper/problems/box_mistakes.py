"""Mistakes in boxes: objects that were missed, false alarms, and objects that got the wrong class."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from temper.fields import PRESENT, UNDECIDED, VALID
from temper.mistakes import Mistake, Verdict
from temper.problem import Answer, Targets
from temper.problems.defaults import Defaults

if TYPE_CHECKING:
    from torch import Tensor

SURE = 0.5
"""Smallest score of a box that counts as a decision, and smallest overlap of two boxes that are the same."""
_ON_IT = f"with a score of {SURE:g} or more"


class _Pairs(NamedTuple):
    """How answered boxes and true ones belong together."""

    sure: "Tensor"
    """Which answered boxes are decisions, [batch, answered]."""
    matched: "Tensor"
    """Which true box of its class each of them is, as `match` says it, [batch, answered]."""
    on: "Tensor"
    """Which of them lie on which true boxes that count, whatever their class, [batch, answered, true]."""
    scores: "Tensor"
    """Scores of the answered boxes, [batch, answered]."""


class BoxMistakes(Defaults):
    """A kind whose truth and answer have `boxes`, `labels` and `boxes_valid`; the answer's `scores` fall."""

    @property
    def mistakes(self) -> Mapping[str, Mistake]:
        """Misses, false alarms and wrong classes: each wrong box is one of them.

        A box lies on an object if their overlap (intersection over union) is a half or more.
        """
        return {
            "missed": Mistake(
                "Missed objects",
                f"The clean test images on which {{candidate}} missed most: no box {_ON_IT} lies on an "
                "object.",
            ),
            "false-alarms": Mistake(
                "False alarms",
                f"The clean test images on which {{candidate}} answered most boxes {_ON_IT} that lie on no "
                "object.",
            ),
            "wrong-class": Mistake(
                "Wrong classes",
                f"The clean test images on which {{candidate}} gave objects a wrong class {_ON_IT}, or "
                "found them twice.",
            ),
        }

    def errors(self, answer: Answer, targets: Targets) -> "dict[str, Tensor]":
        """Return the sum over the wrong boxes of an image: of their scores or, if missed, of 1 - the best."""
        pairs = self._pair(answer, targets)
        scores = pairs.scores.double()
        best = (pairs.on * scores[:, :, None]).amax(dim=1)
        missed = (targets[f"boxes{VALID}"] == PRESENT) & ~(pairs.on & pairs.sure[:, :, None]).any(dim=1)
        wrong, there = self._wrong(pairs), pairs.on.any(dim=2)
        return {
            "missed": ((1 - best) * missed).sum(dim=1),
            "false-alarms": (scores * (wrong & ~there)).sum(dim=1),
            "wrong-class": (scores * (wrong & there)).sum(dim=1),
        }

    def verdicts(self, answer: Answer, targets: Targets) -> "tuple[Tensor, Tensor]":
        """Return what became of each box.

        A true one is right if a sure box of its class lies on it. Otherwise, the best box on it that is not
        sure is shown too.
        """
        import torch

        pairs = self._pair(answer, targets)
        valid, batch = targets[f"boxes{VALID}"], torch.arange(len(pairs.sure))[:, None]
        right = pairs.sure & (pairs.matched >= 0)
        found = torch.zeros_like(valid, dtype=torch.bool)
        found[batch.expand_as(right)[right], pairs.matched[right]] = True
        true = torch.full_like(valid, Verdict.HIDDEN, dtype=torch.long)
        true[valid == UNDECIDED] = Verdict.EXCUSED
        true[valid == PRESENT] = Verdict.WRONG
        true[found] = Verdict.RIGHT
        touched = (pairs.on & pairs.sure[:, :, None]).any(dim=1)
        best, which = (pairs.on * pairs.scores[:, :, None]).max(dim=1)
        nearly = (true == Verdict.WRONG) & ~touched & (best > 0)
        answered = torch.full(right.shape, Verdict.HIDDEN)
        answered[batch.expand_as(which)[nearly], which[nearly]] = Verdict.UNSURE
        answered[pairs.sure] = Verdict.EXCUSED
        answered[right] = Verdict.RIGHT
        wrong, there = self._wrong(pairs), pairs.on.any(dim=2)
        answered[wrong & ~there] = Verdict.WRONG
        answered[wrong & there] = Verdict.CONFUSED
        return true, answered

    def caption(self, answer: Answer, targets: Targets) -> str:
        pairs = self._pair(answer, targets)
        right, wrong = int((pairs.sure & (pairs.matched >= 0)).sum()), int(self._wrong(pairs).sum())
        return f"{right} of {int((targets[f'boxes{VALID}'] == PRESENT).sum())} found, {wrong} wrong"

    def _wrong(self, pairs: _Pairs) -> "Tensor":
        from temper.maths.boxes import UNMATCHED

        return pairs.sure & (pairs.matched == UNMATCHED)

    def _pair(self, answer: Answer, targets: Targets) -> _Pairs:
        import torch

        from temper.maths.boxes import overlap

        there = answer[f"boxes{VALID}"] == PRESENT
        overlaps = overlap(answer["boxes"].double(), targets["boxes"].double())
        counts = targets[f"boxes{VALID}"] == PRESENT
        return _Pairs(
            sure=there & (answer["scores"] >= SURE),
            matched=self._match(answer, targets, torch.tensor([SURE]))[:, 0],
            on=(overlaps >= SURE) & there[:, :, None] & counts[:, None],
            scores=answer["scores"],
        )

    def _match(
        self,
        answer: Answer,
        targets: Targets,
        least: "Tensor",
        *,
        classes: bool = True,
        lesser: "Tensor | None" = None,
    ) -> "Tensor":
        """Return which true box each found one is at each overlap, [batch, overlaps, boxes]."""
        from temper.maths.boxes import match, overlap

        valid = targets[f"boxes{VALID}"]
        overlaps = overlap(answer["boxes"].double(), targets["boxes"].double(), valid == UNDECIDED)
        possible = (answer[f"boxes{VALID}"] == PRESENT)[:, :, None].expand_as(overlaps)
        if classes:
            possible = possible & (answer["labels"][:, :, None] == targets["labels"][:, None])
        return match(overlaps, possible, valid, least.to(overlaps), lesser)

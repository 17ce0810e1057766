"""Scores of boxes: how answers of boxes are compared with the truth, and with each other."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from temper.fields import PRESENT, VALID
from temper.problem import Answer, Headline, Targets
from temper.problems.box_mistakes import SURE, BoxMistakes

if TYPE_CHECKING:
    from torch import Tensor

_HALF, _THREE_QUARTERS = 0, 5
"""Places of the overlaps 0.5 and 0.75 among those at which boxes are counted."""
_SIZES = {
    "small objects, below 32 x 32 px": (0.0, 32.0**2),
    "medium objects": (32.0**2, 96.0**2),
    "large objects, above 96 x 96 px": (96.0**2, math.inf),
}
"""COCO's sizes of objects -> smallest and largest area in pixels of the sent image."""
_PART = "part_px"
"""Key of a truth of which only objects of some sizes are asked for: smallest and largest area, [batch, 2]."""
_AMONG = (10, 100)
"""Numbers of boxes of a class and an image among which a true one is looked for."""


class BoxScores(BoxMistakes):
    """A kind whose truth and answer have `boxes`, `labels` and `boxes_valid`; the answer's `scores` fall."""

    classes: tuple[str, ...]
    least: float
    """Smallest score of a box in an answer."""

    @property
    def headline(self) -> Headline:
        return Headline("map")

    @property
    def scores(self) -> tuple[str, ...]:
        """COCO's mean average precision, that of two overlaps, and that of each class; F1; recalls.

        `f1` is the mean over classes of F1 of the boxes with a score of a half or more, at the overlap 0.5.
        `recall_10` is COCO's: the mean over classes and overlaps of the share of true boxes that are among
        the 10 best ones of their class and image.
        """
        recalls = (f"recall_{most}" for most in _AMONG)
        return ("map", "map_50", "map_75", *(f"ap_{name}" for name in self.classes), "f1", *recalls)

    def tally(self, answer: Answer, targets: Targets) -> "Tensor":
        """Return counts for each example, [batch, counts].

        They are right and wrong boxes by score, right ones among the best, and true ones, all by class.
        """
        import torch

        from temper.maths.average_precision import OVERLAPS, count_scores
        from temper.maths.boxes import EXCUSED, UNMATCHED

        num_classes = len(self.classes)
        lesser, beside = (_of_other_size(each["boxes"], targets) for each in (targets, answer))
        overlaps = torch.tensor(OVERLAPS, dtype=torch.double)
        matched = self._match(answer, targets, overlaps, lesser=lesser)
        matched = matched.where(~((matched == UNMATCHED) & beside[:, None]), EXCUSED)
        counts = answer[f"boxes{VALID}"][:, None] == PRESENT
        right, wrong = (matched >= 0) & counts, (matched == UNMATCHED) & counts
        found = count_scores(answer["scores"], answer["labels"], right, wrong, num_classes=num_classes)
        said = torch.nn.functional.one_hot(answer["labels"], num_classes) * counts[:, 0, :, None]
        place = (said.cumsum(dim=1) * said).amax(dim=2)
        among = place[:, None] <= torch.tensor(_AMONG, device=place.device)[:, None]
        early = torch.einsum("bof,bfc,bkf->bcok", *(each.double() for each in (right, said, among)))
        there = torch.nn.functional.one_hot(targets["labels"], num_classes)
        true = (there * ((targets[f"boxes{VALID}"] == PRESENT) & ~lesser)[..., None]).sum(dim=1)
        return torch.cat([found.flatten(1), early.flatten(1), true.double()], dim=1)

    def parts(self, targets: Targets) -> Mapping[str, Targets]:
        """Small, medium and large objects, if there are any: truths in which the others are not asked for."""
        found = {}
        for name, ends in _SIZES.items():
            part = targets["area_px"].new_tensor(ends).expand(len(targets["area_px"]), 2)
            only = {**targets, _PART: part}
            if ((targets[f"boxes{VALID}"] == PRESENT) & ~_of_other_size(targets["boxes"], only)).any():
                found[name] = only
        return found

    def score(self, totals: "Tensor") -> "dict[str, Tensor]":
        from temper.maths.average_precision import BINS, average_precision
        from temper.maths.tallies import mean_where

        found, early, true = self._split(totals)
        there = true > 0
        each = average_precision(found, true)
        by_overlap = each.transpose(-1, -2)
        mean = mean_where(by_overlap, there[..., None, :].expand_as(by_overlap))
        by_class = each.mean(dim=-1)
        # Bins of falling scores: the first half is that of scores of a half or more.
        f1 = _f1(found[..., _HALF, :, : BINS // 2].sum(dim=-1), true)
        recalls = (early.mean(dim=-2) / true[..., None].clamp(min=1)).transpose(-1, -2)
        recalls = mean_where(recalls, there[..., None, :].expand_as(recalls))
        return {
            "map": mean.mean(dim=-1),
            "map_50": mean[..., _HALF],
            "map_75": mean[..., _THREE_QUARTERS],
            **{f"ap_{name}": by_class[..., number] for number, name in enumerate(self.classes)},
            "f1": mean_where(f1, there),
            **{f"recall_{most}": recalls[..., number] for number, most in enumerate(_AMONG)},
        }

    def best_threshold(self, totals: "Tensor") -> tuple[float, float]:
        """Return the smallest score of the best decisions, and their mean F1 over classes.

        Args:
            totals: Sums of tallies, [counts].
        """
        from temper.maths.average_precision import lowest_score
        from temper.maths.tallies import mean_where

        found, _, true = self._split(totals)
        upto = found[:, _HALF].cumsum(dim=-1).movedim(-1, 0)
        f1 = mean_where(_f1(upto, true), (true > 0).expand(upto.shape[:-1]))
        best = int(f1.argmax())
        return lowest_score(best), float(f1[best])

    def _split(self, totals: "Tensor") -> "tuple[Tensor, Tensor, Tensor]":
        """Return right and wrong boxes by score, right ones among the best, and true ones."""
        from temper.maths.average_precision import BINS, OVERLAPS

        shapes = [(len(self.classes), len(OVERLAPS), *each) for each in ((2, BINS), (len(_AMONG),))]
        parts = totals.split([*map(math.prod, shapes), len(self.classes)], dim=-1)
        found, early = (part.unflatten(-1, shape) for part, shape in zip(parts, shapes, strict=False))
        return found, early, parts[-1]

    def constant(self, counts: Mapping[str, int]) -> tuple[str, dict[str, float]] | None:
        return "no object", dict.fromkeys(self.scores, 0.0)

    def confusion(self, answer: Answer, targets: Targets) -> "Tensor":
        """Count the classes of objects whose box was found, whatever class was said."""
        import torch

        from temper.maths.tallies import count_pairs

        matched = self._match(answer, targets, torch.tensor([SURE]), classes=False)[:, 0]
        true = targets["labels"].gather(1, matched.clamp(min=0))
        pairs = (matched >= 0) & (answer["scores"] >= SURE)
        return count_pairs(true[pairs], answer["labels"][pairs], len(self.classes))

    def error(self, answer: Answer, targets: Targets) -> "Tensor":
        """Return 1 minus twice the scores of the right boxes, divided by all scores and the true boxes."""
        import torch

        from temper.maths.boxes import UNMATCHED

        matched = self._match(answer, targets, torch.tensor([SURE]))[:, 0]
        scores = answer["scores"].double()
        right, wrong = ((scores * which).sum(dim=1) for which in (matched >= 0, matched == UNMATCHED))
        true = (targets[f"boxes{VALID}"] == PRESENT).sum(dim=1)
        whole = right + wrong + true
        return 1 - (2 * right / whole.clamp(min=1e-12)).where(whole > 0, torch.ones_like(whole))

    def gap(self, ours: Answer, theirs: Answer) -> "Tensor":
        """Return how much of the scores above the smallest one belongs to boxes that differ."""
        import torch

        weights = [(each["scores"].double() - self.least).clamp(min=0) for each in (ours, theirs)]
        common = self._common(ours, theirs) * torch.minimum(weights[0][:, :, None], weights[1][:, None])
        shared = common.amax(dim=2).sum(dim=1) + common.amax(dim=1).sum(dim=1)
        whole = weights[0].sum(dim=1) + weights[1].sum(dim=1)
        return ((whole - shared) / whole.clamp(min=1)).clamp(0, 1)

    def changed(self, ours: Answer, theirs: Answer) -> "Tensor":
        """Return the share of the boxes with a score of a half or more that only one answer has."""
        sure = [each["scores"] >= SURE for each in (ours, theirs)]
        same = (self._common(ours, theirs) >= SURE) & sure[0][:, :, None] & sure[1][:, None]
        kept = same.any(dim=2).sum(dim=1) + same.any(dim=1).sum(dim=1)
        whole = sure[0].sum(dim=1) + sure[1].sum(dim=1)
        return 1 - (kept.double() / whole.clamp(min=1)).where(whole > 0, kept.double() + 1)

    def _common(self, ours: Answer, theirs: Answer) -> "Tensor":
        """Return the overlap of each pair of boxes of one class, [batch, ours, theirs]."""
        from temper.maths.boxes import overlap

        same = ours["labels"][:, :, None] == theirs["labels"][:, None]
        return overlap(ours["boxes"].double(), theirs["boxes"].double()) * same


def _f1(counts: "Tensor", true: "Tensor") -> "Tensor":
    """Return F1 of right and wrong boxes, [..., classes, 2], and true ones, [..., classes]."""
    right, wrong = counts.unbind(dim=-1)
    return 2 * right / (right + wrong + true).clamp(min=1)


def _of_other_size(boxes: "Tensor", targets: Targets) -> "Tensor":
    """Return which boxes, [batch, boxes, 4], have another size than the part that is asked for."""
    import torch

    from temper.maths.boxes import area

    if _PART not in targets:
        return torch.zeros_like(boxes[..., 0], dtype=torch.bool)
    size = area(boxes.double()) * targets["area_px"][:, None]
    least, most = (end[:, None] for end in targets[_PART].unbind(dim=1))
    return (size < least) | (size > most)

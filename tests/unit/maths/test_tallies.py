"""Scores from summed tallies, compared with torchmetrics and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score, jaccard_score

from temper.problem import Answer, Problem, Targets
from temper.problems.multiclass import Multiclass
from temper.problems.multilabel import Multilabel
from temper.problems.segmentation import Segmentation

GENERATOR = np.random.default_rng(0)
NAMES = ("a", "b", "c", "d")


def score(problem: Problem, answer: Answer, targets: Targets) -> dict[str, float]:
    totals = problem.tally(answer, targets).double().sum(dim=0)
    return {name: float(value) for name, value in problem.score(totals).items()}


def test_multiclass_scores_are_scikit_learns():
    true, shares = GENERATOR.integers(0, 4, 200), GENERATOR.dirichlet(np.ones(4), 200)
    problem = Multiclass(kind="multiclass", classes=NAMES)
    answer, targets = {"probabilities": torch.from_numpy(shares)}, {"label": torch.from_numpy(true)}
    said, scores = shares.argmax(axis=1), score(problem, answer, targets)
    assert scores["accuracy"] == np.mean(true == said)
    assert scores["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, said))
    matrix = confusion_matrix(true, said)
    assert np.array_equal(problem.confusion(answer, targets).numpy(), matrix)
    assert scores["worst_class_accuracy"] == pytest.approx((matrix.diagonal() / matrix.sum(axis=1)).min())


def test_multilabel_scores_are_scikit_learns():
    true, chances = GENERATOR.integers(0, 2, (200, 4)), GENERATOR.random((200, 4))
    answer, targets = {"probabilities": torch.from_numpy(chances)}, {"labels": torch.from_numpy(true).float()}
    said, scores = chances >= 0.5, score(Multilabel(kind="multilabel", classes=NAMES), answer, targets)
    assert scores["macro_f1"] == pytest.approx(f1_score(true, said, average="macro"))
    assert scores["micro_f1"] == pytest.approx(f1_score(true, said, average="micro"))
    assert scores["exact_match"] == pytest.approx((true == said).all(axis=1).mean())


def test_segmentation_scores_are_scikit_learns():
    true, said = (torch.from_numpy(GENERATOR.integers(0, 4, (6, 9, 9))) for _ in range(2))
    true[0, :3] = 255
    valid = true != 255
    scores = score(Segmentation(kind="segmentation", classes=NAMES), {"classes": said}, {"mask": true})
    assert scores["mean_iou"] == pytest.approx(jaccard_score(true[valid], said[valid], average="macro"))
    assert scores["mean_dice"] == pytest.approx(f1_score(true[valid], said[valid], average="macro"))
    assert scores["pixel_accuracy"] == pytest.approx(float((true == said)[valid].double().mean()))


@pytest.mark.slow
def test_multiclass_scores_are_torchmetrics():
    from torchmetrics.functional.classification import multiclass_accuracy

    true, shares = torch.from_numpy(GENERATOR.integers(0, 4, 300)), torch.rand(300, 4)
    scores = score(Multiclass(kind="multiclass", classes=NAMES), {"probabilities": shares}, {"label": true})
    assert scores["balanced_accuracy"] == pytest.approx(
        float(multiclass_accuracy(shares, true, 4, average="macro")), abs=1e-6
    )

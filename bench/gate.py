"""How often does the gate err? Simulated models on simulated test images, judged by the rules and the code that judge real ones.

    python bench/gate.py [--images 10000] [--accuracy 0.93] [--differ 0.04] [--margin 0.01] [--trials 1000]

A trial draws, for each image, whether champion and challenger answer it rightly: the two differ on a share `differ` of the
images, and their true accuracies differ by what the row says. Then 1,000 bootstrap draws, as in an evaluation, and the rule.
Asked is: how often do equal models pass as better (`min_gain: 0`; at most 5 %), how often is a true loss of one and of two margins
caught (`max_drop: margin`; at least 95 %), and how often do equal models pass as not worse (the rule's use).
"""

from typing import Annotated

import numpy as np
import torch
import typer

from peers.table import markdown
from temper.gate.decision import judge
from temper.gate.evaluation_result import CLEAN, Cell, Question, Rating
from temper.gate.params import GateParams, Rule
from temper.maths.statistics import draw, resample
from temper.progress import Bar

_QUESTION = Question("multiclass", ("a", "b"), "accuracy", True)


def rate(right: torch.Tensor, draws: torch.Tensor, name: str) -> Rating:
    """A rating of a model of which only the right answers are known."""
    samples = resample(draws, right[:, None])[:, 0] / len(right)
    return Rating(
        model=name,
        measured_on="simulation",
        question=_QUESTION,
        cells=(Cell(CLEAN, CLEAN, 0, "accuracy"),),
        values=np.array([float(right.mean())]),
        samples=samples[None].numpy(),
        alone=right.numpy(),
    )


def simulate(
    images: int, accuracy: float, differ: float, loss: float, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Right answers of a champion and of a challenger whose true accuracy is lower by `loss`."""
    lost, gained = (differ + loss) / 2, (differ - loss) / 2
    chances = rng.random(images)
    both = accuracy - lost
    champion = chances < accuracy
    challenger = (chances < both) | ((chances >= accuracy) & (chances < accuracy + gained))
    return tuple(torch.from_numpy(each.astype(np.float64)) for each in (champion, challenger))  # type: ignore[return-value]


def main(
    images: Annotated[int, typer.Option(min=10, help="Test images.")] = 10_000,
    accuracy: Annotated[float, typer.Option(help="Of the champion.")] = 0.93,
    differ: Annotated[
        float, typer.Option(help="Share of the images on which only one of the two is right.")
    ] = 0.04,
    margin: Annotated[float, typer.Option(help="Of the rule max_drop.")] = 0.01,
    trials: Annotated[int, typer.Option(min=1, help="For each row.")] = 1000,
) -> None:
    """Count how often each rule lets a simulated challenger pass."""
    better = GateParams(rules=(Rule(metric="accuracy", min_gain=0.0),))
    not_worse = GateParams(rules=(Rule(metric="accuracy", max_drop=margin),))
    rows = [
        ("equal", 0.0),
        ("worse by half a margin", margin / 2),
        ("worse by the margin", margin),
        ("worse by two margins", 2 * margin),
    ]
    rows.append(("better by the margin", -margin))
    found = []
    draws = draw(images, resamples=1000, seed=0)
    with Bar("gate", trials * len(rows)) as bar:
        for name, loss in rows:
            passed = {"better": 0, "not worse": 0}
            rng = np.random.default_rng([17, round(1e6 * (loss + 1))])
            for _ in range(trials):
                champion, challenger = (
                    rate(right, draws, who)
                    for right, who in zip(
                        simulate(images, accuracy, differ, loss, rng), ("champion", "challenger"), strict=True
                    )
                )
                for rule, params in (("better", better), ("not worse", not_worse)):
                    verdict = judge(params, challenger, champion=champion, others={}, speeds={})
                    passed[rule] += verdict.opens
                bar.advance()
            found.append([name, *(f"{100 * count / trials:.1f} %" for count in passed.values()), str(trials)])
    head = [
        "challenger is truly",
        "passes as better (min_gain: 0)",
        f"passes as not worse (max_drop: {margin:g})",
        "trials",
    ]
    print(
        f"{images} images, champion {accuracy:g}, the two differ on {100 * differ:g} % of them, confidence 0.95"
    )
    print(markdown(head, found))


if __name__ == "__main__":
    typer.run(main)

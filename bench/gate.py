"""How often does the gate err? Measured on simulated models, with the rules and the code for real ones.

    python bench/gate.py [--images 10000] [--accuracy 0.93] [--differ 0.04] [--margin 0.01] [--trials 1000]

A trial draws, for each image, whether champion and challenger answer it correctly: exactly one of them is
right on a share `differ` of the images, and their true accuracies differ by the amount that the table's row
states. The trial then makes 1,000 bootstrap draws, as an evaluation does, and applies the rule. Three
questions are answered:

- How often do equal models pass as better (`min_gain: 0`; should be at most 5 %)?
- How often is a true loss of one and of two margins caught (`max_drop: margin`; should be at least 95 %)?
- How often do equal models pass as not worse (the purpose of the rule)?
"""

from typing import Annotated

import numpy as np
import torch
import typer

from peers.table import markdown
from temper.gate.decision import judge
from temper.gate.params import GateParams, Rule
from temper.gate.rating import CLEAN, CellKey, Question, Rating
from temper.maths.statistics import draw, resample
from temper.progress import Bar

_QUESTION = Question("multiclass", ("a", "b"), "accuracy", True)


def rate(right: torch.Tensor, draws: torch.Tensor, name: str) -> Rating:
    """Return the rating of a model, given for each image whether its answer is correct."""
    samples = resample(draws, right[:, None])[:, 0] / len(right)
    return Rating(
        model=name,
        measured_on="simulation",
        question=_QUESTION,
        cells=(CellKey(CLEAN, CLEAN, 0, "accuracy"),),
        values=np.array([float(right.mean())]),
        samples=samples[None].numpy(),
        alone=right.numpy(),
    )


def simulate(
    images: int, accuracy: float, differ: float, loss: float, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the correct answers of a champion and of a challenger whose true accuracy is lower by `loss`."""
    lost, gained = (differ + loss) / 2, (differ - loss) / 2
    chances = rng.random(images)
    both = accuracy - lost
    champion = chances < accuracy
    challenger = (chances < both) | ((chances >= accuracy) & (chances < accuracy + gained))
    return tuple(torch.from_numpy(each.astype(np.float64)) for each in (champion, challenger))  # type: ignore[return-value]


def main(
    images: Annotated[int, typer.Option(min=10, help="Test images.")] = 10_000,
    accuracy: Annotated[float, typer.Option(help="True accuracy of the champion.")] = 0.93,
    differ: Annotated[
        float, typer.Option(help="Share of the images on which only one of the two is right.")
    ] = 0.04,
    margin: Annotated[float, typer.Option(help="Margin of the rule max_drop.")] = 0.01,
    trials: Annotated[int, typer.Option(min=1, help="Trials for each row.")] = 1000,
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
        f"{images} images, champion {accuracy:g}, the two models differ on {100 * differ:g} % of them, "
        "confidence 0.95"
    )
    print(markdown(head, found))


if __name__ == "__main__":
    typer.run(main)

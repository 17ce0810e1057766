"""Plot of trainings: score over seconds, one line per contestant."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from peers.turns import Turn


def draw(turns: Mapping[str, Sequence[Turn]], levels: Sequence[float], path: Path) -> None:
    """Write a PNG: medians over a contestant's trainings, and a band from the least to the greatest score.

    Args:
        turns: Trainings by contestant.
        levels: Scores in percent that are drawn as lines. The lowest one sets the lower end of the axis.
        path: The file.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for name, own in turns.items():
        epochs = list(zip(*(turn.epochs for turn in own), strict=True))
        seconds = [median(each["seconds"] for each in epoch) for epoch in epochs]
        scores = [[100 * each["score"] for each in epoch] for epoch in epochs]
        line = axes.plot(
            seconds,
            [median(each) for each in scores],
            marker="o",
            markersize=3,
            label=f"{name}, n = {len(own)}",
        )
        least, most = [min(each) for each in scores], [max(each) for each in scores]
        axes.fill_between(seconds, least, most, color=line[0].get_color(), alpha=0.2, linewidth=0)
    for level in levels:
        axes.axhline(level, color="grey", linewidth=0.6, linestyle=":")
    best = max(100 * epoch["score"] for own in turns.values() for turn in own for epoch in turn.epochs)
    if best > min(levels) - 4:
        axes.set_ylim(min(levels) - 4, max(best, *levels) + 0.5)
    axes.set(xlabel="seconds of training", ylabel="accuracy, %")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)

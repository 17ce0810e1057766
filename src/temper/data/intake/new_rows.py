"""Which new rows fit the dataset: by their labels, and by what prepare makes of their images and truth."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from temper.data.images.zip_archive import NAME
from temper.data.intake.offer import MIN_IMAGES, Draw, Offer
from temper.problem import Problem, Row


@dataclass(frozen=True)
class Labels:
    """What the labels of new rows mean in the dataset."""

    meant: dict[str, str]
    """Label -> class of the dataset, or the label itself if it becomes a new class."""
    strange: frozenset[str]
    """Labels that the dataset does not have and does not get."""

    def unknown(self, row: Row) -> list[str]:
        """Return the labels of a row for which it must stay, sorted."""
        return sorted(self.strange & {*row.labels})

    def renamed(self, row: Row) -> dict[str, str]:
        """Return the labels of a row that the dataset spells otherwise."""
        return {label: self.meant[label] for label in row.labels if self.meant[label] != label}

    def spell(self, row: Row) -> Row:
        """Return a row with its labels as the dataset spells them."""
        return replace(row, labels=tuple(dict.fromkeys(self.meant[label] for label in row.labels)))


def read_labels(rows: Iterable[Row], others: Iterable[str], offer: Offer) -> Labels:
    """Return what the labels of new rows mean.

    Args:
        rows: All new rows.
        others: The classes of the dataset.
        offer: Whether there may be new ones.
    """
    fixed, known = offer.problem.classes, sorted({*others})
    counts = Counter(label for row in rows for label in row.labels)
    found = {label: offer.find_class(label, fixed) or offer.find_class(label, known) for label in counts}
    may_be_new = offer.new_classes and not fixed
    strange = {
        label
        for label, kind in found.items()
        if kind is None and not (may_be_new and counts[label] >= MIN_IMAGES)
    }
    return Labels({label: kind or label for label, kind in found.items()}, frozenset(strange))


def explain_new_class(offer: Offer) -> str:
    """Return what a new class needs."""
    if offer.problem.classes:
        return "Correct the labels, or add the new classes to problem.classes"
    if not offer.new_classes:
        return (
            "Correct the labels, or set retrain.new_classes: allow, which makes them new classes; each needs "
            f"at least {MIN_IMAGES} images"
        )
    return f"A new class needs at least {MIN_IMAGES} images"


def find_unfit(
    rows: Sequence[Row], known: Sequence[Row], offer: Offer, draw: Draw | None = None
) -> dict[int, str]:
    """Return which new rows the problem or prepare rejects, by number, and why.

    Args:
        rows: New rows, with paths in an archive of the inbox.
        known: The rows of the dataset.
        offer: The problem, and prepare's own check.
        draw: Returns the mask of a new row, if masks are drawn.

    Raises:
        ValueError: If the dataset itself does not fit the problem.
    """
    if not rows:
        return {}
    shown = [replace(row, path=row.id) for row in known]
    named = [replace(row, path=row.path.removeprefix(f"{NAME}/")) for row in rows]
    problem, reasons = _bind(offer.problem, shown, named)
    fitting = [place for place in range(len(rows)) if place not in reasons]
    unusable = offer.find_unusable([rows[place] for place in fitting], problem, draw)
    found = reasons | {fitting[number]: reason for number, reason in unusable.items()}
    return {number: reason.replace(f"{NAME}/", "") for number, reason in found.items()}


def _bind(problem: Problem, known: Sequence[Row], rows: Sequence[Row]) -> tuple[Problem, dict[int, str]]:
    """Bind a problem to the rows of the dataset and to the new ones that fit it.

    Returns:
        The problem, and why the other new rows do not fit, by number.

    Raises:
        ValueError: If the dataset itself does not fit the problem.
    """
    accepted, reasons = list(known), dict[int, str]()
    bound: list[Problem] = []

    def add(numbers: Sequence[int]) -> None:
        """Add rows; of those that do not fit, halve by halve, until single ones are left."""
        try:
            bound.append(problem.bind([*accepted, *(rows[number] for number in numbers)]))
        except ValueError as error:
            if len(numbers) == 1:
                reasons[numbers[0]] = str(error)
                return
            if not bound:
                bound.append(problem.bind(known))
            half = len(numbers) // 2
            add(numbers[:half])
            add(numbers[half:])
        else:
            accepted.extend(rows[number] for number in numbers)

    add(range(len(rows)))
    return (bound or [problem.bind(known)])[-1], reasons

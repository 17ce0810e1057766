"""How much a project asks of its trainings, counted without decoding an image or importing torch.

From what prepare and augment left, where that was made with the parameters of now; else from the source as ingest would list it, by the
shares of the splits.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from temper import artifacts
from temper.artifacts import Artifact, digest_json
from temper.config import Params, digest_value
from temper.data.augmentation import class_balance
from temper.data.dataset.packed import TABLE, read_strata, read_table
from temper.data.dataset.sample import list_source
from temper.data.params import AugmentParams, PrepareParams, Toys
from temper.problem import Row
from temper.stages import BY_NAME

_OFFICIAL = {"fashion-mnist": (60_000, 10_000), "digits": (1_797, None)}
"""Sources of which every image is known beforehand: those to train with, and those of an official test split."""
LITTLE = 20_000_000
"""Pixels, over all draws of a training: below this it takes less than a minute on any machine that was tried (2 cores without matrix units
draw a million and more a second), and timing it would cost more than it tells."""
_UNLABELLED = frozenset({"(none)"})


@dataclass(frozen=True)
class Size:
    """What the trainings of a project go through."""

    train: int
    """Examples of the splits."""
    validation: int
    test: int
    draws: int
    """Examples that an epoch draws: rebalanced, views included."""
    data: str
    """Digest of the data, as far as they were looked at."""
    exact: bool
    """Whether prepare has counted them; else the shares of the splits were taken."""

    def pixels(self, params: Params, section: str) -> int:
        """Pixels that a training draws in all its epochs."""
        return (
            self.draws
            * params.prepare.height_px
            * params.prepare.width_px
            * getattr(params, section).fit.epochs
        )


def measure_workload(project: Path, params: Params) -> Size:
    """Count what the trainings will go through.

    Raises:
        ValueError: If the source is not as it should be.
    """
    prepare = find_made("prepare", project, params)
    if prepare is None:
        return _by_source(project, params)
    augment = find_made("augment", project, params)
    counts = prepare.facts["examples"]
    if augment is not None:
        draws, data = sum(read_table(augment.path(TABLE), ["repeats"])["repeats"]), augment.digest
    else:
        draws = _draws(read_strata(prepare, "train"), params.augment)
        data = digest_json([prepare.digest, asdict(params.augment)])
    return Size(counts["train"], counts["validation"], counts["test"], draws, data, True)


def find_made(stage: str, project: Path, params: Params) -> Artifact | None:
    """What a stage left, if it is whole and was made with the parameters of now."""
    try:
        found = artifacts.load(stage, project / "artifacts" / stage, check_files=False)
    except ValueError:
        return None
    if found.params != digest_json(digest_value(params, BY_NAME[stage].params)):
        return None
    inputs = BY_NAME[stage].inputs
    return found if all(find_made(name, project, params) for name in inputs) else None


def _by_source(project: Path, params: Params) -> Size:
    source = params.ingest
    rows = list_source(source, project)
    if rows:
        official = Counter(row.split or "train" for row in rows)
        strata = [_stratum(row) for row in rows]
        labels = Counter(name for row in rows for name in row.labels)
        data = digest_json([sorted(official.items()), sorted(labels.items())])
    else:
        train, test = (source.count, None) if isinstance(source, Toys) else _OFFICIAL[source.source]
        official, strata = Counter({"train": train} | ({"test": test} if test else {})), []
        data = digest_json([source.source, train])
    train, validation, test = split_counts(official, params.prepare)
    # Strata of all rows stand for those of the training split, which is drawn evenly from them.
    share = _draws(strata, params.augment) / len(strata) if strata else 1 + params.augment.views
    return Size(train, validation, test, round(train * share), data, False)


def split_counts(official: Counter[str], params: PrepareParams) -> tuple[int, int, int]:
    """Examples of train, validation and test as `assign_splits` comes to, but for rounding by stratum.

    Example:
        >>> split_counts(Counter(train=1000), PrepareParams(height_px=8, width_px=8, test_share=0.2, validation_share=0.1))
        (720, 80, 200)
    """
    rest, validation, test = (official.get(name, 0) for name in ("train", "validation", "test"))
    if not test:
        test = round(rest * params.test_share)
        rest -= test
    if not validation:
        validation = round(rest * params.validation_share)
        rest -= validation
    return rest, validation, test


def _stratum(row: Row) -> frozenset[str]:
    return frozenset(row.labels) or _UNLABELLED


def _draws(strata: Sequence[frozenset[str]], params: AugmentParams) -> int:
    return int(class_balance.draw_repeats(strata, params.balance, seed=0).sum()) * (1 + params.views)

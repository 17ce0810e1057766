"""Count the examples that a project's trainings process, without decoding an image or importing torch.

The counts come from the artifacts of prepare and augment if these were made with the current parameters.
Otherwise they come from the source, as ingest would list it, and from the shares of the splits.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from temper import artifacts
from temper.artifacts import Artifact, digest_json
from temper.config import Params, digest_value
from temper.data.augmentation import class_balance
from temper.data.augmentation.params import AugmentParams
from temper.data.dataset.packed import TABLE, read_strata, read_table
from temper.data.dataset.sample import list_source
from temper.data.params import PrepareParams
from temper.data.source_params import Toys
from temper.problem import Row
from temper.problems.several_inputs import CLIP
from temper.stages import BY_NAME

_OFFICIAL: Mapping[str, Mapping[str, int]] = {
    "fashion-mnist": {"train": 60_000, "test": 10_000},
    "digits": {"train": 1_797},
    "tree-crowns": {"train": 72, "validation": 14, "test": 32},
}
"""Source whose counts are known beforehand -> images of each of its splits."""
LITTLE = 20_000_000
"""Pixels over all draws of a training. Below this number, the training takes less than a minute on any
machine that was tried (2 cores without matrix units process a million and more per second), and timing it
would cost more than the estimate is worth."""
_UNLABELLED = frozenset({"(none)"})


@dataclass(frozen=True)
class Size:
    """Number of examples that the trainings of a project process."""

    train: int
    """Examples of the training split."""
    validation: int
    """Examples of the validation split."""
    test: int
    """Examples of the test split."""
    draws: int
    """Examples that an epoch draws after rebalancing, including views."""
    data: str
    """Digest of the data, as far as they were read."""
    exact: bool
    """Whether prepare counted the examples. Otherwise they follow from the shares of the splits."""

    def pixels(self, params: Params, section: str) -> int:
        """Return the number of pixels that a training draws in all its epochs."""
        return (
            self.draws
            * (params.prepare.frames if CLIP in params.problem.inputs else 1)
            * params.prepare.height_px
            * params.prepare.width_px
            * getattr(params, section).fit.epochs
        )


def measure_workload(project: Path, params: Params, *, anew: bool = False) -> Size:
    """Count the examples that the trainings will process.

    Args:
        project: Folder of the project.
        params: Parameters of the project.
        anew: Whether to ignore the artifacts of earlier runs.

    Raises:
        ValueError: If the source cannot be listed.
    """
    prepare = find_made("prepare", project, params)
    if prepare is None or anew:
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
    """Return the artifact of a stage; None if it or one of its inputs is not usable.

    A usable artifact is complete and was made with the current parameters.
    """
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
        known = {"train": source.count} if isinstance(source, Toys) else _OFFICIAL[source.source]
        official, strata = Counter(known), []
        data = digest_json([source.source, known["train"]])
    train, validation, test = split_counts(official, params.prepare)
    # The strata of all rows stand for those of the training split, which is drawn evenly from all strata.
    share = _draws(strata, params.augment) / len(strata) if strata else 1 + params.augment.copies
    return Size(train, validation, test, round(train * share), data, False)


def split_counts(official: Counter[str], params: PrepareParams) -> tuple[int, int, int]:
    """Return the examples of train, validation and test as `assign_splits` makes them.

    `assign_splits` also rounds in each stratum, which is left out here.

    Example:
        >>> params = PrepareParams(height_px=8, width_px=8, test_share=0.2, validation_share=0.1)
        >>> split_counts(Counter(train=1000), params)
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
    return int(class_balance.draw_repeats(strata, params.balance, seed=0).sum()) * (1 + params.copies)

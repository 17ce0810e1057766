"""The batches of a training: from memory, or made ahead by workers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from temper.artifacts import Artifact
from temper.data.dataset.packed import (
    TABLE,
    check_batch,
    open_encoded,
    open_training,
    read_strata_drawn,
    read_table,
)
from temper.data.images.encoded import Encoded
from temper.data.loading.loader import Examples, TrainLoader, to_tensors
from temper.data.loading.prefetch import Stream, count_workers
from temper.engine.distributed.ranks import Ranks
from temper.fields import Field, by_layout
from temper.inputs.facts import Facts, picture_of
from temper.maths.geometry import placed
from temper.problem import Problem

if TYPE_CHECKING:
    from temper.config import DistillParams, TrainParams


def open_loader(
    inputs: Mapping[str, Artifact],
    problem: Problem,
    facts: Facts,
    params: "TrainParams | DistillParams",
    ranks: Ranks,
    *,
    seed: int,
    what: str,
) -> TrainLoader:
    """Return a loader of the training split that augment wrote."""
    columns, repeats, weights = open_training(inputs["prepare"], inputs["augment"])
    check_batch(params.fit.batch_size, repeats, key=f"{what}.fit.batch_size", num_ranks=ranks.num)
    examples = Examples(
        repeats,
        weights,
        facts,
        problem.truth,
        ids=lambda: _ids(inputs["augment"]),
        strata=lambda: read_strata_drawn(inputs["augment"]),
    )
    return make_loader(columns, open_encoded(inputs["prepare"]), examples, params, ranks, seed=seed)


def make_loader(
    columns: Mapping[str, np.ndarray],
    encoded: Encoded | None,
    examples: Examples,
    params: "TrainParams | DistillParams",
    ranks: Ranks,
    *,
    seed: int,
) -> TrainLoader:
    """Return a loader of the training batches.

    Batches come from memory. If images are encoded or viewed one by one, workers prepare them ahead.

    Args:
        columns: Columns of the split; without the images if they are encoded.
        encoded: The encoded images, if they are stored that way.
        examples: The examples of the split.
        params: The stage's section of params.yaml.
        ranks: Ranks that share each batch.
        seed: Seed of the training.
    """
    columns, stream = dict(columns), None
    picture = picture_of(examples.facts)
    if picture is not None and (encoded is not None or params.views.per_image):
        stream = Stream(
            picture,
            columns.pop(picture) if encoded is None else encoded,
            {name: columns.pop(name) for name in sorted(_moving(examples.truth) & columns.keys())},
            examples.truth,
            params.views,
            seed=seed,
            workers=count_workers(params.views.workers, ranks.num),
            repeats=examples.repeats,
            ids=examples.ids,
            pinned=ranks.device.type == "cuda",
        )
    return TrainLoader(
        to_tensors(columns, ranks.device),
        examples,
        batch_size=params.fit.batch_size,
        device=ranks.device,
        views=params.views,
        seed=seed,
        rank=ranks.rank,
        num_ranks=ranks.num,
        sampling=params.sampling,
        stream=stream,
    )


def _moving(truth: Mapping[str, Field]) -> frozenset[str]:
    """Return the names of the columns that move with the images, or are joined with those of others."""
    return by_layout(truth, "map", "sequence") | placed(truth)


def _ids(augment: Artifact) -> list[str]:
    """Return the ids of examples and views in the order of the packed files. Views have their image's id."""
    table = read_table(augment.path(TABLE), ["index", "id"])
    return [name for _, name in sorted(zip(table["index"], table["id"], strict=True))]

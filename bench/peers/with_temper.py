"""Contestant: temper's stage `train` on the same artifacts, with a clock around its fit and validation."""

import copy
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from peers.job import WARM_UP_BATCHES, Job, Report
from temper.config import select
from temper.engine.checkpoints import Checkpoints
from temper.problem import Batch
from temper.stages import BY_NAME, fit_network, train


class _First:
    """A loader of only the first batches of another loader."""

    def __init__(self, loader: Any, count: int) -> None:
        self._loader = loader
        self.num_batches = min(count, loader.num_batches)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return itertools.islice(self._loader.batches(epoch, start), self.num_batches - start)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def run(job: Job, report: Report) -> None:
    """Train as `python -m temper stage train` does, but without torchrun and in a temporary folder."""
    params = job.params()
    validate, fit = fit_network.validate, fit_network.fit
    images = 0

    def warm(network: Any, objective: Any, loader: Any, validated: Any, fit_params: Any, **named: Any) -> Any:
        nonlocal images
        if job.batches is not None:
            loader = _First(loader, job.batches)
        images = fit_params.epochs * loader.num_batches * fit_params.batch_size
        with tempfile.TemporaryDirectory() as folder, patch.object(fit_network, "validate", validate):
            aside = {
                **named,
                "checkpoints": Checkpoints(Path(folder)),
                "journal": Path(folder) / "journal.jsonl",
            }
            few = _First(loader, WARM_UP_BATCHES)
            fit(copy.deepcopy(network), objective, few, validated, replace(fit_params, epochs=1), **aside)
        report.start()
        result = fit(network, objective, loader, validated, fit_params, **named)
        report.stop()
        return result

    def scored(network: Any, *rest: Any, **named: Any) -> Any:
        with report.aside():
            report.score(network)
            return validate(network, *rest, **named)

    chosen = select(params, BY_NAME["train"].params)
    with tempfile.TemporaryDirectory() as folder:
        places = {name: Path(folder) / name for name in ("out", "work", "checkpoints")}
        for place in places.values():
            place.mkdir()
        out = places.pop("out")
        with patch.object(fit_network, "fit", warm), patch.object(fit_network, "validate", scored):
            facts = train.run(chosen, job.inputs(), out, project=Path(job.project), **places)
    report.end(images, precision=facts["precision"], layout=facts["layout"])

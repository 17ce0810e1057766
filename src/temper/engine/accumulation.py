"""Gradient accumulation: a batch too large for the device is gone through in parts whose gradients add up.

It is chosen by running out of memory: the largest part that may be tried is halved and written beside the checkpoints, the
rank ends with `TOO_LARGE`, and all ranks start again from the last checkpoint. They cannot mend it where they are: one rank
that runs out leaves the others inside a collective. The global batch stays as it was; batch normalisation takes its statistics
over the parts that the ranks go through at one time, so the result is near, but not equal, to that of the whole batch.

Ranks whose shares of a batch differ by an example go through it in as many parts, and every example counts as much as any other.
"""

import json
import math
import sys
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor, nn

from temper.artifacts import write_atomically
from temper.engine.distributed.ranks import Ranks
from temper.engine.distributed.shutdown import TOO_LARGE
from temper.engine.precision import Mode
from temper.problem import Batch, Objective

_FILE = "micro-batch.json"


class MicroBatch:
    """The largest part of a batch that a rank goes through at once; made by all ranks together.

    Args:
        folder: Where the limit lies; without one a batch has one part.
        ranks: Those that train together.
        batch_size: Examples of a global batch, over all ranks.
    """

    def __init__(self, folder: Path, ranks: Ranks, *, batch_size: int) -> None:
        self._path, self._ranks, self._batch_size = folder / _FILE, ranks, batch_size
        least, most = batch_size // ranks.num, math.ceil(batch_size / ranks.num)
        # Memory may have run out on another host, whose disk this one does not see.
        limit = ranks.least(self._read_limit(most))
        # No part may be empty, on the rank with the smallest share either.
        self.parts = min(math.ceil(most / limit), least)
        """How many a batch has; the same on all ranks, which meet in every part."""
        self._size = math.ceil(most / self.parts)

    def _read_limit(self, most: int) -> int:
        try:
            limit = int(json.loads(self._path.read_text(encoding="utf-8"))["examples"])
        except FileNotFoundError:
            return most
        except (ValueError, KeyError, TypeError):
            self._path.unlink(missing_ok=True)  # damaged: found out again by running out again
            return most
        return min(most, max(limit, 1))

    def halve(self) -> NoReturn:
        """After running out of memory: write down that parts must be smaller, and ask to be started again.

        Raises:
            ValueError: If parts are as small as can be already.
            SystemExit: Else, with status `TOO_LARGE`.
        """
        if self.parts == self._batch_size // self._ranks.num:
            raise ValueError(
                f"{self._ranks.device} has no memory left for a single example; make the images (prepare.height_px, "
                "prepare.width_px) or the backbone smaller, or free the device (`nvidia-smi` shows who uses it), and run again"
            )
        size = self._size // 2
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, json.dumps({"examples": size}))
        print(
            f"out of memory with {self._size} examples at once on rank {self._ranks.rank}: starting again with {size}, in "
            f"{math.ceil(self._batch_size / self._ranks.num / size)} parts a step; the global batch stays {self._batch_size}",
            file=sys.stderr,
        )
        raise SystemExit(TOO_LARGE)

    def split(self, batch: Batch) -> list[tuple[Batch, float]]:
        """The parts of a rank's batch, with the weight of each: 1 over all parts of all ranks, on average over the ranks."""
        size = len(batch.weights)
        bounds = [number * size // self.parts for number in range(self.parts + 1)]
        cut = [_cut(batch, slice(*ends)) for ends in pairwise(bounds)] if self.parts > 1 else [batch]
        return [(part, len(part.weights) * self._ranks.num / self._batch_size) for part in cut]

    def differentiate(
        self, network: nn.Module, objective: Objective, batch: Batch, mode: Mode, *, loss_scale: float = 1.0
    ) -> dict[str, Tensor]:
        """The terms of the objective for a batch; the gradient of its loss is added to the network's.

        Terms and gradients are this rank's; the means over ranks are those of the global batch.

        Args:
            network: As the ranks share it.
            objective: Its terms are means over examples, so parts count by their share.
            batch: This rank's.
            mode: How the network runs.
            loss_scale: By what the loss is multiplied on the way back; gradients are divided by it at the end.
        """
        totals: dict[str, Tensor] = {}
        parts = self.split(batch)
        for number, (part, share) in enumerate(parts):
            inputs = {**part.inputs, "image": mode.arrange_input(part.inputs["image"])}
            arranged = Batch(inputs, part.targets, part.weights, part.others, part.shares)
            # Ranks exchange gradients once, with the last part's.
            alone = self._ranks.num > 1 and number + 1 < len(parts)
            with network.no_sync() if alone else nullcontext():  # type: ignore[operator]
                with mode.autocast(self._ranks.device):
                    terms = objective(network, arranged)
                (terms["loss"] * (share * loss_scale)).backward()
            for name, value in terms.items():
                value = value.detach() * share
                totals[name] = totals[name] + value if name in totals else value
        if loss_scale != 1:
            gradients = [value.grad for value in network.parameters() if value.grad is not None]
            torch._foreach_mul_(gradients, 1 / loss_scale)
        return totals


def _cut(batch: Batch, part: slice) -> Batch:
    return Batch(
        {name: value[part] for name, value in batch.inputs.items()},
        {name: value[part] for name, value in batch.targets.items()},
        batch.weights[part],
        None if batch.others is None else {name: value[part] for name, value in batch.others.items()},
        None if batch.shares is None else batch.shares[part],
    )

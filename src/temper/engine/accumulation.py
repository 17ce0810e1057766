"""Gradient accumulation: splits a batch that is too large for the device, and adds up the parts' gradients.

It is chosen when memory runs out: the limit on the size of a part is halved and stored beside the
checkpoints, the rank ends with `TOO_LARGE`, and all ranks restart from the last checkpoint. The ranks cannot
recover in place, because a rank that runs out of memory leaves the others inside a collective operation. The
global batch stays the same. Batch normalisation takes its statistics over the parts that the ranks process at
the same time, so the result is close to that of the whole batch, but not equal.

Ranks whose shares of a batch differ by one example split them into the same number of parts, and every
example has the same weight.
"""

import json
import math
import sys
from contextlib import nullcontext
from dataclasses import replace
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
    """The largest part of a batch that a rank processes at once; all ranks create it together.

    Args:
        folder: Folder of the file with the limit; without this file, a batch has one part.
        ranks: Ranks that train together.
        batch_size: Examples of a global batch, over all ranks.
    """

    def __init__(self, folder: Path, ranks: Ranks, *, batch_size: int) -> None:
        self._path, self._ranks, self._batch_size = folder / _FILE, ranks, batch_size
        least, most = batch_size // ranks.num, math.ceil(batch_size / ranks.num)
        # Memory may have run out on another host, whose disk this host does not see.
        limit = ranks.least(self._read_limit(most))
        # No part may be empty, even on the rank with the smallest share.
        self.parts = min(math.ceil(most / limit), least)
        """Number of parts of a batch; the same on all ranks, because they synchronise in every part."""
        self._size = math.ceil(most / self.parts)

    def _read_limit(self, most: int) -> int:
        try:
            limit = int(json.loads(self._path.read_text(encoding="utf-8"))["examples"])
        except FileNotFoundError:
            return most
        except (ValueError, KeyError, TypeError):
            self._path.unlink(missing_ok=True)  # damaged: found again when memory runs out again
            return most
        return min(most, max(limit, 1))

    def restart_with_smaller_parts(self) -> NoReturn:
        """After running out of memory, store a smaller limit on parts and request a restart.

        Raises:
            ValueError: If the parts cannot be smaller.
            SystemExit: Otherwise, with status `TOO_LARGE`.
        """
        if self.parts == self._batch_size // self._ranks.num:
            raise ValueError(
                f"{self._ranks.device} does not have enough memory for a single example; make the images "
                "(prepare.height_px, prepare.width_px) or the backbone smaller, or free memory on the device "
                "(`nvidia-smi` shows the processes that use it), and run again"
            )
        size = self._size // 2
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, json.dumps({"examples": size}))
        print(
            f"out of memory with {self._size} examples at once on rank {self._ranks.rank}: restarting with "
            f"{size}, in {math.ceil(self._batch_size / self._ranks.num / size)} parts per step; "
            f"the global batch stays {self._batch_size}",
            file=sys.stderr,
        )
        raise SystemExit(TOO_LARGE)

    def split(self, batch: Batch) -> list[tuple[Batch, float]]:
        """Return the parts of a rank's batch and the weight of each.

        The weights of a rank's parts sum to 1, on average over the ranks.
        """
        size = len(batch.weights)
        bounds = [number * size // self.parts for number in range(self.parts + 1)]
        cut = [_cut(batch, slice(*ends)) for ends in pairwise(bounds)] if self.parts > 1 else [batch]
        return [(part, len(part.weights) * self._ranks.num / self._batch_size) for part in cut]

    def differentiate(
        self, network: nn.Module, objective: Objective, batch: Batch, mode: Mode, *, loss_scale: float = 1.0
    ) -> dict[str, Tensor]:
        """Return the terms of the objective for a batch, and add the gradient of its loss to the network's.

        Terms and gradients are those of this rank; their means over the ranks are those of the global batch.

        Args:
            network: Network as shared by the ranks.
            objective: Objective whose terms are means over examples, so that parts count by their share.
            batch: Batch of this rank.
            mode: Mode in which the network runs.
            loss_scale: Factor by which the loss is multiplied for the backward pass; the gradients are
                divided by it at the end.
        """
        totals: dict[str, Tensor] = {}
        parts = self.split(batch)
        for number, (part, share) in enumerate(parts):
            arranged = replace(part, inputs=mode.arrange_inputs(part.inputs))
            # Ranks exchange gradients only once, with those of the last part.
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
        None if batch.keys is None else batch.keys[part],
    )

"""Checkpoints of a training: written so that a crash at any instant leaves a whole one behind.

A checkpoint is a safetensors file and a JSON record with its SHA-256; the record is renamed into place last and makes it
count. Two are kept; a damaged newest one falls back to the one before.
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from temper.artifacts import digest_file, write_atomically

_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """A training after some step."""

    step: int
    state: dict[str, Any]
    """JSON values."""
    tensors: dict[str, Tensor]


class Checkpoints:
    """The checkpoints of one training in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint and forget all but the last two."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{checkpoint.step:09d}.safetensors"
        temporary = path.with_suffix(f".{os.getpid()}.part")
        try:
            save_file(
                {name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()}, temporary
            )
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            sha256 = digest_file(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        record = {"step": checkpoint.step, "sha256": sha256, "state": checkpoint.state}
        write_atomically(path.with_suffix(".json"), json.dumps(record))
        for old in self._records()[_KEPT:]:
            old.unlink(missing_ok=True)
            old.with_suffix(".safetensors").unlink(missing_ok=True)

    def load(self) -> Checkpoint | None:
        """The newest whole checkpoint, or None; a damaged one is named on the terminal and passed over."""
        for record_path in self._records():
            path = record_path.with_suffix(".safetensors")
            try:
                record = json.loads(record_path.read_text(encoding="utf-8"))
                if digest_file(path) != record["sha256"]:
                    raise ValueError("its SHA-256 is not the recorded one")
                return Checkpoint(record["step"], record["state"], load_file(path))
            except (OSError, ValueError, KeyError) as error:
                print(f"checkpoint {path} is damaged ({error}); trying the one before", file=sys.stderr)
        return None

    def _records(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.json"), reverse=True)

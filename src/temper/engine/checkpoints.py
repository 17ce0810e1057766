"""Checkpoints of a training, written so that a crash at any moment leaves a complete checkpoint.

A checkpoint is one safetensors file. Its name contains its turn, step and epoch, and ends with the SHA-256 of
its bytes. JSON values and the journal are stored inside, so the checksum covers them. The file is written
under a temporary name, fsynced and renamed, so a partly written file never has the final name. The two newest
checkpoints are kept, and the newest one that training may go back to.
"""

import hashlib
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from temper.artifacts import forget_unfinished, write_atomically

_KEPT = 2
_NAME = re.compile(r"turn-(\d+)-step-(\d+)-epoch-(\d+)(-good)?-([0-9a-f]{64})\.safetensors")
_JOURNAL = "journal"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after a step."""

    step: int
    state: dict[str, Any]
    """State as JSON values."""
    tensors: dict[str, Tensor]
    journal: str = ""
    """Journal up to this step."""
    epoch: int = 0
    """Number of finished epochs, including their validation."""
    turn: int = 0
    """How often training has gone back. A checkpoint of a later turn is newer, whatever its step."""
    good: bool = False
    """Whether training may go back to this checkpoint: it is at the end of an epoch, with finite weights."""


class Checkpoints:
    """The checkpoints of one training, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint and delete the ones that are not kept.

        Raises:
            OSError: If the checkpoint cannot be written; it names the file.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()}
        # A mutable copy, because a tensor may not share memory with bytes; frombuffer refuses an empty one.
        text = bytearray(checkpoint.journal.encode())
        tensors[_JOURNAL] = (
            torch.frombuffer(text, dtype=torch.uint8) if text else torch.zeros(0, dtype=torch.uint8)
        )
        # The hash is computed in memory: this takes one pass over the bytes, and the hash is that of the
        # intended content, not of the bytes that the disk returns.
        content = save(tensors, {"state": json.dumps(checkpoint.state)})
        when = f"turn-{checkpoint.turn}-step-{checkpoint.step:09d}-epoch-{checkpoint.epoch:04d}"
        good = "-good" if checkpoint.good else ""
        path = self.folder / f"{when}{good}-{hashlib.sha256(content).hexdigest()}.safetensors"
        write_atomically(path, content)
        found = self._list()
        goods = [path for path in found if "-good-" in path.name]
        for old in found:
            if old not in found[:_KEPT] and old not in goods[:1]:
                old.unlink(missing_ok=True)

    def newest(self, *, good: bool = False) -> Path | None:
        """Return the newest intact checkpoint, or None; report damaged ones and delete them.

        Args:
            good: Whether to search only the checkpoints that training may go back to.
        """
        forget_unfinished(self.folder)
        for path in self._list():
            if good and "-good-" not in path.name:
                continue
            try:
                self.load(path)
            except ValueError as error:
                print(
                    f"checkpoint {path} is damaged ({error}); deleting it, trying the previous one",
                    file=sys.stderr,
                )
                path.unlink(missing_ok=True)
            else:
                return path
        return None

    def load(self, path: Path) -> Checkpoint:
        """Read a checkpoint.

        Raises:
            ValueError: If the checkpoint is damaged.
        """
        try:
            return self.parse(path.name, path.read_bytes())
        except OSError as error:
            raise ValueError(str(error)) from error

    @staticmethod
    def parse(name: str, content: bytes) -> Checkpoint:
        """Return a checkpoint from the name and bytes of its file.

        Raises:
            ValueError: If the bytes do not match the name, or are not a safetensors file.
        """
        match = _NAME.fullmatch(name)
        assert match is not None
        turn, step, epoch, good, sha256 = match.groups()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError("its SHA-256 differs from the one in its name")
        try:
            tensors = load(content)
        except SafetensorError as error:
            raise ValueError(str(error)) from error
        # safetensors reads metadata only from files, so parse it here: 8 bytes of length, then JSON.
        head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        state = json.loads(head["__metadata__"]["state"])
        journal = bytes(tensors.pop(_JOURNAL).numpy()).decode()
        return Checkpoint(int(step), state, tensors, journal, int(epoch), int(turn), good is not None)

    def _list(self) -> list[Path]:
        """Return the paths of all checkpoints, newest first."""
        matches = [
            match for path in self.folder.glob("*.safetensors") if (match := _NAME.fullmatch(path.name))
        ]
        matches.sort(key=lambda match: [int(number) for number in match.groups()[:3]], reverse=True)
        return [self.folder / match.string for match in matches]

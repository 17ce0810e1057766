"""Checkpoints of a training: written so that a crash at any instant leaves a whole one behind.

A checkpoint is one safetensors file. Its name says when it was taken and ends with the SHA-256 of its bytes; JSON values and
the journal lie inside, so the checksum covers them. It is written under a temporary name, fsynced and renamed, so there is
no moment at which one half of it is new. Kept are the two newest, and the newest a training may go back to.
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
    """A training after some step."""

    step: int
    state: dict[str, Any]
    """JSON values."""
    tensors: dict[str, Tensor]
    journal: str = ""
    """The journal so far."""
    epoch: int = 0
    """Finished epochs, validation included."""
    turn: int = 0
    """How often training has gone back; a later turn is newer, whatever its step."""
    good: bool = False
    """Whether training may go back to it: at the end of an epoch, with finite weights."""


class Checkpoints:
    """The checkpoints of one training in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint and forget those that are not kept.

        Raises:
            OSError: If it cannot be written; it names the file.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()}
        # A copy, since a tensor may not share memory with bytes; frombuffer refuses an empty one.
        text = bytearray(checkpoint.journal.encode())
        tensors[_JOURNAL] = (
            torch.frombuffer(text, dtype=torch.uint8) if text else torch.zeros(0, dtype=torch.uint8)
        )
        # Hashed in memory: one pass over the bytes, and what is hashed is what was meant, not what the disk made of it.
        content = save(tensors, {"state": json.dumps(checkpoint.state)})
        when = f"turn-{checkpoint.turn}-step-{checkpoint.step:09d}-epoch-{checkpoint.epoch:04d}"
        good = "-good" if checkpoint.good else ""
        path = self.folder / f"{when}{good}-{hashlib.sha256(content).hexdigest()}.safetensors"
        write_atomically(path, content)
        found = self._found()
        goods = [path for path in found if "-good-" in path.name]
        for old in found:
            if old not in found[:_KEPT] and old not in goods[:1]:
                old.unlink(missing_ok=True)

    def newest(self, *, good: bool = False) -> Path | None:
        """The newest whole checkpoint, or None; a damaged one is named on the terminal and removed.

        Args:
            good: Look only among those a training may go back to.
        """
        forget_unfinished(self.folder)
        for path in self._found():
            if good and "-good-" not in path.name:
                continue
            try:
                self.load(path)
            except ValueError as error:
                print(f"checkpoint {path} is damaged ({error}); trying the one before", file=sys.stderr)
                path.unlink(missing_ok=True)
            else:
                return path
        return None

    def load(self, path: Path) -> Checkpoint:
        """Read a checkpoint.

        Raises:
            ValueError: If it is damaged.
        """
        try:
            return self.parse(path.name, path.read_bytes())
        except OSError as error:
            raise ValueError(str(error)) from error

    @staticmethod
    def parse(name: str, content: bytes) -> Checkpoint:
        """A checkpoint from its file's name and bytes.

        Raises:
            ValueError: If they do not belong together.
        """
        match = _NAME.fullmatch(name)
        assert match is not None
        turn, step, epoch, good, sha256 = match.groups()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError("its SHA-256 is not the one in its name")
        try:
            tensors = load(content)
        except SafetensorError as error:
            raise ValueError(str(error)) from error
        # safetensors reads metadata from files only; the format: 8 bytes of length, then JSON.
        head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        state = json.loads(head["__metadata__"]["state"])
        journal = bytes(tensors.pop(_JOURNAL).numpy()).decode()
        return Checkpoint(int(step), state, tensors, journal, int(epoch), int(turn), good is not None)

    def _found(self) -> list[Path]:
        """All there are, newest first."""
        matches = [
            match for path in self.folder.glob("*.safetensors") if (match := _NAME.fullmatch(path.name))
        ]
        matches.sort(key=lambda match: [int(number) for number in match.groups()[:3]], reverse=True)
        return [self.folder / match.string for match in matches]

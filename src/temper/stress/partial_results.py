"""Partial results of an evaluation, stored in a folder, so that a rerun continues after a kill.

A piece is the result of one situation (clean, or a condition at a severity), measured batch by batch.
Finished pieces are collected in memory and written together every few seconds. The batches of the
unfinished piece are written in the same way; their files are deleted once the piece is finished. A file has
its SHA-256 in its name and is created by a rename, so it is either complete or absent. The folder must
belong to one version of code, data and parameters; the caller is responsible for that.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from temper.artifacts import digest_file, forget_unfinished, write_atomically
from temper.progress import Bar

Tensors: TypeAlias = Mapping[str, Tensor]
Entry: TypeAlias = tuple[str, int, str]
"""Names of the piece, the batch (-1 for a finished piece) and the tensor."""

_EVERY_S = 5.0
_LONGEST_S = 30.0
_SHARE = 0.005
"""Share of the time that may go into writing, as long as a rerun then repeats at most `_LONGEST_S`."""
_FINISHED = -1


class Pieces:
    """The pieces of one evaluation in one folder.

    Args:
        folder: Folder of the files; None stores nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._found: dict[str, dict[int, dict[str, Tensor]]] = {}
        self._fresh: dict[str, Tensors] = {}
        self._unfinished: dict[str, list[Path]] = {}
        self._number, self._wait = 0, _EVERY_S
        self._written = time.monotonic()
        if folder is not None:
            forget_unfinished(folder)
        for path in sorted(folder.glob("[0-9]*.safetensors")) if folder is not None else ():
            self._number = max(self._number, int(path.name.split("-")[0]) + 1)
            self._read(path)

    def measure(
        self,
        name: str,
        batches: Sequence[Tensor],
        step: Callable[[Tensor], Tensors],
        finish: Callable[[Sequence[Tensors]], Tensors],
        bar: Bar,
    ) -> Tensors:
        """Return the result of a situation; measure only the part that is not in the folder.

        Args:
            name: Name of the piece.
            batches: Keys of the images of each batch.
            step: Measures a batch.
            finish: Turns the results of all batches into the result of the piece.
            bar: Progress bar that counts the batches.
        """
        found = self._found.pop(name, {})
        if _FINISHED in found:
            bar.skip(len(batches))
            return found[_FINISHED]
        parts: list[Tensors] = []
        while len(parts) in found:
            parts.append(found[len(parts)])
        bar.skip(len(parts))
        kept = len(parts)
        for keys in batches[kept:]:
            parts.append(step(keys))
            bar.advance(note=name)
            if self._folder and time.monotonic() - self._written >= self._wait:
                self.write({(name, number): parts[number] for number in range(kept, len(parts))})
                kept = len(parts)
        finished = finish(parts)
        if self._folder:
            self._fresh[name] = finished
        return finished

    def write(self, batches: Mapping[tuple[str, int], Tensors] = MappingProxyType({})) -> None:
        """Store the pieces finished since the last write, and batches of the unfinished piece."""
        if self._folder is None:
            return
        started = time.monotonic()
        self._folder.mkdir(parents=True, exist_ok=True)
        fresh, self._fresh = self._fresh, {}
        if fresh:
            self._save({(name, _FINISHED): tensors for name, tensors in fresh.items()})
        if batches:
            path = self._save(batches)
            self._unfinished.setdefault(next(iter(batches))[0], []).append(path)
        for path in [path for name in fresh for path in self._unfinished.pop(name, [])]:
            path.unlink(missing_ok=True)
        self._written = time.monotonic()
        self._wait = min(_LONGEST_S, max(_EVERY_S, (self._written - started) / _SHARE))

    def _save(self, pieces: Mapping[tuple[str, int], Tensors]) -> Path:
        assert self._folder is not None
        entries = [
            ((*piece, key), value) for piece, tensors in pieces.items() for key, value in tensors.items()
        ]
        # Keyed by number, because safetensors changes the order. Cloned, because it refuses tensors that
        # share memory.
        values = {
            str(i): value.clone(memory_format=torch.contiguous_format) for i, (_, value) in enumerate(entries)
        }
        # Not `save_file`: on a full disk it raises an error that is not an OSError.
        content = save(values, metadata={"entries": json.dumps([entry for entry, _ in entries])})
        path = self._folder / f"{self._number:06d}-{hashlib.sha256(content).hexdigest()}.safetensors"
        write_atomically(path, content)
        self._number += 1
        return path

    def _read(self, path: Path) -> None:
        try:
            if digest_file(path) != path.stem.split("-")[-1]:
                raise ValueError("its SHA-256 differs from the one in its name")
            with safe_open(path, framework="pt") as file:
                entries: list[Entry] = json.loads(file.metadata()["entries"])
                values = [file.get_tensor(str(i)).clone() for i in range(len(entries))]
        except (OSError, ValueError, SafetensorError) as error:
            print(
                f"{path} is damaged ({error}); it is deleted, and what it contained is measured again",
                file=sys.stderr,
            )
            path.unlink(missing_ok=True)
            return
        for (name, batch, key), value in zip(entries, values, strict=True):
            self._found.setdefault(name, {}).setdefault(batch, {})[key] = value
            if batch != _FINISHED and path not in self._unfinished.setdefault(name, []):
                self._unfinished[name].append(path)

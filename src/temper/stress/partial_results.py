"""Measurements that outlive a killed evaluation: kept in a folder as they grow, taken from there by a rerun of the same work.

A piece is what one situation (clean, or a condition at a severity) leaves behind, measured batch by batch. Finished pieces are
collected in memory and written together every few seconds; so are the batches of the unfinished piece, whose files go once it
is finished. A file has its SHA-256 in its name and appears by a rename, so it is there whole or not at all. The folder
belongs to one code, data and parameters: whoever hands it in sees to that.
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
"""Piece, batch (-1 where it is finished) and tensor."""

_EVERY_S = 5.0
_LONGEST_S = 30.0
_SHARE = 0.005
"""Of the time may go into writing, as long as that repeats no more than `_LONGEST_S`."""
_FINISHED = -1


class Pieces:
    """The pieces of one evaluation in one folder.

    Args:
        folder: Where they are kept; None keeps nothing.
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
        """What a situation leaves behind, measured as far as it is not in the folder.

        Args:
            name: Of the piece.
            batches: Keys of the images of each batch.
            step: Measures a batch.
            finish: Turns what all batches left into what is kept.
            bar: Counts the batches.
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
        """Keep the pieces that were finished since the last time, and batches of the one under way."""
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
        # By number, since safetensors has an order of its own; a copy each, since it refuses tensors that share memory.
        values = {
            str(i): value.clone(memory_format=torch.contiguous_format) for i, (_, value) in enumerate(entries)
        }
        # Not `save_file`: on a full disk it raises something that is no OSError.
        content = save(values, metadata={"entries": json.dumps([entry for entry, _ in entries])})
        path = self._folder / f"{self._number:06d}-{hashlib.sha256(content).hexdigest()}.safetensors"
        write_atomically(path, content)
        self._number += 1
        return path

    def _read(self, path: Path) -> None:
        try:
            if digest_file(path) != path.stem.split("-")[-1]:
                raise ValueError("its SHA-256 is not the one in its name")
            with safe_open(path, framework="pt") as file:
                entries: list[Entry] = json.loads(file.metadata()["entries"])
                values = [file.get_tensor(str(i)).clone() for i in range(len(entries))]
        except (OSError, ValueError, SafetensorError) as error:
            print(f"{path} is damaged ({error}); what it held is measured again", file=sys.stderr)
            path.unlink(missing_ok=True)
            return
        for (name, batch, key), value in zip(entries, values, strict=True):
            self._found.setdefault(name, {}).setdefault(batch, {})[key] = value
            if batch != _FINISHED and path not in self._unfinished.setdefault(name, []):
                self._unfinished[name].append(path)

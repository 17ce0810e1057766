"""Damage to files: a flipped bit, a truncated file, a deleted result."""

import random
import shutil
from pathlib import Path

from temper.ops.project import Project

PLACES = ("artifacts", ".temper", "mlruns")
_RELEASED = 0.1
"""Share of the damage that hits registered models, the only files that no later run would make again."""


def flip(file: Path, generator: random.Random) -> str:
    """Flip one bit of a file; returns a description."""
    size = file.stat().st_size
    at, bit = generator.randrange(size), generator.randrange(8)
    with file.open("r+b") as stream:
        stream.seek(at)
        [old] = stream.read(1)
        stream.seek(at)
        stream.write(bytes([old ^ 1 << bit]))
    return f"bit {bit} of byte {at} of {size}"


def cut(file: Path, generator: random.Random) -> str:
    """Truncate a file, possibly to nothing; returns a description."""
    size = file.stat().st_size
    kept = generator.randrange(size)
    with file.open("r+b") as stream:
        stream.truncate(kept)
    return f"cut to {kept} of {size} bytes"


def spoil(project: Project, how: str, generator: random.Random) -> tuple[Path, str]:
    """Damage one file of a project, or delete one result.

    Returns:
        The damaged or deleted path, relative to the project, and a description of the damage.
    """
    if how == "delete":
        outs = sorted(path for path in project.artifacts.glob("*") if path.is_dir())
        if outs:
            out = generator.choice(outs)
            inside = sorted(path for path in out.rglob("*") if path.is_file())
            victim = generator.choice([out, *inside[:1], generator.choice(inside)]) if inside else out
            shutil.rmtree(victim) if victim.is_dir() else victim.unlink()
            return victim.relative_to(project.folder), "deleted"
        how = "cut"
    file = choose(project, generator)
    return file.relative_to(project.folder), {"flip": flip, "cut": cut}[how](file, generator)


def choose(project: Project, generator: random.Random) -> Path:
    """Choose a random file: first a place, then a folder in it, then a file, each with equal chances."""
    released = sorted(project.runs.rglob("*.onnx"))
    if released and generator.random() < _RELEASED:
        return generator.choice(released)
    places: dict[str, dict[Path, list[Path]]] = {}
    for place in PLACES:
        for file in sorted((project.folder / place).rglob("*")):
            if file.is_file() and not file.is_symlink() and file.stat().st_size:
                places.setdefault(place, {}).setdefault(file.parent, []).append(file)
    folders = places[generator.choice(sorted(places))]
    return generator.choice(folders[generator.choice(sorted(folders))])

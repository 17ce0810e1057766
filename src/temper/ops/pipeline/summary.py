"""reports/summary.json (documented in docs/summary.md), and the table at the end of a run."""

import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from temper import artifacts
from temper.config import Params
from temper.ops import candidates, dvc
from temper.ops.mlflow.model_versions import Registered
from temper.ops.pipeline.plan import MEASURE, REGISTER
from temper.ops.project import Project
from temper.stages import STAGES

FILE = "summary.json"
_PACKAGES = (
    "temper",
    "torch",
    "torchvision",
    "timm",
    "onnx",
    "onnxruntime",
    "numpy",
    "albumentations",
    "dvc",
    "mlflow",
    "prefect",
)
_SECONDS = "seconds.json"


def note_seconds(project: Project, step: str, seconds: float) -> None:
    """Store how many seconds a step took; call it only if the step ran, not if its result was restored."""
    known = known_seconds(project)
    project.hidden.mkdir(exist_ok=True)
    artifacts.write_sealed(project.hidden / _SECONDS, {**known, step: round(seconds, 1)})


def known_seconds(project: Project) -> dict[str, float]:
    """Return how many seconds each step took when it last ran.

    The result is empty if the file is missing or damaged; no result depends on it.
    """
    try:
        return dict(artifacts.read_sealed(project.hidden / _SECONDS))
    except ValueError:
        return {}


def make(project: Project, params: Params, registered: Registered) -> dict[str, Any]:
    """Make the summary from the current artifacts and reports.

    Raises:
        ValueError: If an artifact is missing or unfinished.
    """
    prepared = artifacts.load("prepare", project.artifacts / "prepare", check_files=False)
    evaluated = artifacts.load("evaluate", project.artifacts / "evaluate", check_files=False)
    headline = evaluated.facts["headline"]
    timed = _timed(project)
    seconds = known_seconds(project)
    order = [*(stage.name for stage in STAGES), MEASURE, REGISTER]
    return {
        "project": params.project,
        "headline": headline,
        "headline_title": evaluated.facts["headline_title"],
        "data": {"digest": dvc.out_digest(project, "prepare"), "counts": prepared.facts["counts"]},
        "candidates": {
            name: _candidate(headline, entry, timed.get(name, {}))
            for name, entry in candidates.read(project).items()
        },
        "warnings": evaluated.facts["warnings"],
        "registered": {
            "name": registered.name,
            "version": registered.version,
            "aliases": list(registered.aliases),
            "digest": registered.digest,
        },
        "seconds": {
            **{name: seconds[name] for name in order if name in seconds},
            "total": round(sum(seconds.get(name, 0.0) for name in order), 1),
        },
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def write(project: Project, summary: dict[str, Any]) -> None:
    """Write reports/summary.json atomically."""
    artifacts.write_atomically(project.reports / FILE, json.dumps(summary, indent=2) + "\n")


def _candidate(headline: str, entry: dict[str, Any], timed: dict[str, Any]) -> dict[str, Any]:
    return {
        headline: entry[headline],
        "stress": entry["stress"],
        "bytes": entry["bytes"],
        "params": entry["params"],
        "macs": entry["macs"],
        "latency_ms": timed.get("latency_ms", {}).get("median"),
        "images_per_s": timed.get("images_per_s", {}).get("median"),
        "digest": entry["digest"],
    }


def show(project: Project, summary: dict[str, Any], console: Console) -> None:
    """Print the table of candidates, the registered version and where to look next."""
    headline = summary["headline"]
    title = Text(f"{summary['project']}: candidates on the test split")
    table = Table(
        title=title, box=None, title_justify="left", caption=_legend(summary), caption_justify="left"
    )
    table.add_column("candidate", no_wrap=True)
    for name in (summary["headline_title"], "interval", "stressed", "size", "mult-adds", "1 image"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, entry in summary["candidates"].items():
        score, stress = entry[headline], entry["stress"]
        table.add_row(
            name,
            f"{score['value']:.4f}",
            f"{score['low']:.4f}-{score['high']:.4f}",
            f"{sum(family['value'] for family in stress.values()) / len(stress):.4f}" if stress else "-",
            say_bytes(entry["bytes"]),
            say_count(entry["macs"]),
            "-" if entry["latency_ms"] is None else f"{entry['latency_ms']:.3g} ms",
        )
    console.print(table)
    version = summary["registered"]
    aliases = ", ".join(version["aliases"]) or "no alias"
    console.print(
        f"registered: {version['name']} version {version['version']} ({aliases}), {version['digest'][:12]}",
        markup=False,
    )
    for warning in summary["warnings"]:
        console.print(f"warning: {warning}", markup=False, style="bold red")
    here, reports = Path.cwd(), project.reports
    reports = reports.relative_to(here) if reports.is_relative_to(here) else reports
    console.print(
        f"where to look next: `{project.make('ui')}` (runs, curves, versions), "
        f"{reports}/card.html, {reports}/summary.json",
        markup=False,
    )


def _legend(summary: dict[str, Any]) -> Text:
    """Return what the columns mean whose names do not say it."""
    families = next(iter(summary["candidates"].values()))["stress"]
    stressed = f"; stressed: mean {summary['headline']} under {', '.join(families)}" if families else ""
    return Text(f"interval: bootstrap over the test images{stressed}")


def say_bytes(count: int) -> str:
    """Format a number of bytes for people: 1,234,567 bytes are `1.2 MB`."""
    if count >= 1_000_000:
        return f"{count / 1e6:.1f} MB"
    return f"{count / 1e3:.1f} kB"


def say_count(count: int) -> str:
    """Format a count for people: 20,000,000 are `20.0 M`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f} {letter}"
    return str(count)


def _timed(project: Project) -> dict[str, Any]:
    file = project.reports / "latency.json"
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["candidates"]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is damaged ({error}); delete it and run `{project.make('pipeline')}` again"
        ) from error
    return found

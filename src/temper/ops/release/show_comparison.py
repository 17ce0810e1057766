"""Compares two registered versions on the current test images and prints the table."""

import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from temper.config import Params
from temper.ops.mlflow import model_versions
from temper.ops.mlflow.model_versions import Registered
from temper.ops.project import Project
from temper.ops.release import gate_inputs
from temper.ops.system import failure_messages, subprocesses

CHAMPION, CHALLENGER = "champion", "challenger"


def compare(project: Project, params: Params, first: str, second: str, console: Console) -> None:
    """Measure two versions on the current test images, print their differences, and write a plot.

    Args:
        project: Project of the versions.
        params: Parameters of the project.
        first: Number or alias of one version.
        second: Number or alias of the other version.
        console: Console on which the table is printed.

    Raises:
        ValueError: If a version does not exist or cannot be measured, or both are the same.
    """
    versions = [find(project, params, asked) for asked in (first, second)]
    if versions[0].digest == versions[1].digest:
        raise ValueError(
            f"{first} and {second} are the same model ({versions[0].digest[:12]}); name two versions with "
            "FIRST= and SECOND="
        )
    for version in versions:
        if isinstance(rating := gate_inputs.measure_version(project, version), str):
            raise ValueError(rating)
    names = [_name(version) for version in versions]
    out = project.reports / f"compare-{versions[0].version}-{versions[1].version}"
    command = [sys.executable, "-m", "temper", "compare-files", *(str(version.file) for version in versions)]
    command += ["--ratings", *(str(gate_inputs.result_file(project, version)) for version in versions)]
    command += ["--names", *names, "--out", str(out)]
    ended = subprocesses.run(command, cwd=project.folder, env=project.child_environment())
    if ended.code:
        raise ValueError(failure_messages.read("compare", ended)[0])
    show(json.loads((out / "comparison.json").read_text(encoding="utf-8")), console)
    found = gate_inputs.judge_version(project, params, versions[1], versions[0])
    console.print(f"the gate, {names[1]} against {names[0]}: {found.words()}", markup=False)
    console.print(f"plot: {out / 'comparison.png'}", markup=False)


def find(project: Project, params: Params, asked: str) -> Registered:
    """Find a version by its number or its alias.

    Raises:
        ValueError: If there is none.
    """
    number, alias = (int(asked), None) if asked.isdigit() else (None, asked)
    found = model_versions.named(project, params.project, version=number, alias=alias)
    if found is None:
        raise ValueError(
            f"{params.project} has no version {asked}; `{project.make('history')}` and "
            f"`{project.make('ui')}` show what exists"
        )
    return found


def show(found: dict[str, Any], console: Console) -> None:
    """Print the table of a comparison, which fits into 80 columns: names of scores are folded."""
    title = f"{found['second']} against {found['first']}, {found['images']} test images"
    table = Table(title=Text(title), box=None, title_justify="left")
    table.add_column("score", min_width=16, overflow="fold")
    names = [found[which].partition(" (")[0] for which in ("first", "second")]
    for name in (*names, "change", f"{100 * found['confidence']:g} % interval", "shown"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in [*found["scores"], *found["strata"][:3]]:
        table.add_row(
            Text(f"{row['metric']}, {row['where']}"),
            f"{row['first']:.4f}",
            f"{row['second']:.4f}",
            f"{row['difference']:+.4f}",
            f"{row['low']:+.4f} to {row['high']:+.4f}",
            row["word"] if row["word"] in ("better", "worse") else "no",
        )
    console.print(table)
    shown = [row for row in found["cells"] if row["word"] != "no difference shown"]
    worse = sum(row["word"] == "worse" for row in shown)
    console.print(
        f"under stress: of {len(found['cells'])} cells, {worse} are worse and {len(shown) - worse} better, "
        f"each by its own interval; changed decisions: {100 * found['changed']:.2f} %"
        + (
            ""
            if found["gained"] is None
            else f"; images gained {found['gained']}, lost {found['lost']} (mid-p {found['mid_p']:.3g})"
        ),
        markup=False,
    )


def _name(version: Registered) -> str:
    known = [alias for alias in (CHAMPION, CHALLENGER) if alias in version.aliases]
    return f"version {version.version}" + (f" ({', '.join(known)})" if known else "")

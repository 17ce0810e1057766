"""The drift check: compare recent images without labels with those that the champion was trained for."""

import json
import sys
from pathlib import Path
from typing import Any

from temper import artifacts
from temper.config import LEAST_RECENT, Params
from temper.ops.mlflow import model_versions
from temper.ops.project import Project
from temper.ops.retraining import inbox
from temper.ops.system import failure_messages, subprocesses
from temper.stages import incoming

FOLDER, NUMBERS, PLOT = "drift", "drift.json", "drift.png"


def check(project: Project, params: Params) -> dict[str, Any] | str:
    """Return the content of `drift.json`, or, if drift cannot be tested, a text with the reason.

    The same images are compared with the same champion only once.

    Raises:
        ValueError: If the test fails to run.
    """
    champion = model_versions.named(project, params.project, alias="champion")
    if champion is None or not champion.whole:
        return "there is no intact champion to compare with"
    images = inbox.unlabelled(project, params)
    if (count := incoming.count_listed(images)) < LEAST_RECENT:
        place = project.folder / params.retrain.inbox / inbox.UNLABELLED
        return f"there are {count} recent images in {place}, and the test needs {LEAST_RECENT}"
    out = project.reports / FOLDER
    asked = artifacts.digest_json(
        [
            champion.digest,
            params.retrain.false_alarms,
            [[path.name, path.stat().st_mtime_ns] for path in images],
        ]
    )
    done = project.hidden / "drift.done"
    if not ((out / NUMBERS).is_file() and done.is_file() and done.read_text(encoding="utf-8") == asked):
        listing = project.hidden / "drift.images"
        artifacts.write_atomically(listing, "".join(f"{path}\n" for path in images))
        command = [sys.executable, "-m", "temper", "test-drift", str(champion.file), str(listing), str(out)]
        command += ["--false-alarms", str(params.retrain.false_alarms)]
        ended = subprocesses.run(command, cwd=project.folder, env=project.child_environment())
        if ended.code:
            raise ValueError(failure_messages.read("drift", ended)[0])
        artifacts.write_atomically(done, asked)
    found: dict[str, Any] = json.loads((out / NUMBERS).read_text(encoding="utf-8"))
    return found


def format_result(found: dict[str, Any] | str) -> str:
    """Format the result of a check as one line."""
    if isinstance(found, str):
        return f"drift: {found}"
    text = f"drift in {', '.join(found['alarms'])}" if found["alarms"] else "no drift shown"
    return (
        f"drift: {text} ({found['images']} recent images, false alarm rate at most "
        f"{100 * found['false_alarms']:g} %)"
    )


def plot_file(project: Project) -> Path:
    """Return the path of the plot of the last check."""
    return project.reports / FOLDER / PLOT

"""Make a new project from a folder or table of images: inspect, time, choose, write."""

import os
import re
import subprocess
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import psutil

from temper.artifacts import write_atomically
from temper.commands.estimate import sum_up, time_evaluation
from temper.commands.time_estimates import Estimate, write_estimates
from temper.commands.workload import measure_workload
from temper.config import FILE, parse
from temper.recipe.budget import Speeds
from temper.recipe.candidate_times import time_candidates, time_chosen
from temper.recipe.choosing import choose, wants_weights
from temper.recipe.looking import Findings, inspect_data, seen_from
from temper.recipe.networks import Available
from temper.recipe.object_sizes import explain_size
from temper.recipe.splitting import Shares, choose_balance, choose_shares
from temper.recipe.weights import find_weights
from temper.recipe.writing import write_params
from temper.stages.dvc_yaml import FILE as DVC_FILE
from temper.stages.dvc_yaml import dvc_yaml

_USUAL_NAME = "images"
_BUSY_PERCENT = 25.0
"""Other work slows down a training if it takes this share of the cores, in percent."""
_LOOK_S = 1.0
"""Seconds during which other work is looked for."""
LEAST_MINUTES = 2.0
"""With fewer minutes, start-up alone takes most of the time."""
MOST_MINUTES = 7 * 24 * 60.0


def name_project(data: Path) -> str:
    """Return a project name made from the name of a folder or table, in ASCII.

    Example:
        >>> name_project(Path("/data/My Pets (2024)")), name_project(Path("猫"))
        ('my-pets-2024', 'images')
    """
    name = data.resolve().stem if data.is_file() else data.resolve().name
    plain = unicodedata.normalize("NFKD", name.lower().replace("ß", "ss")).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or _USUAL_NAME


def place_project(data: Path, here: Path) -> Path:
    """Return the default folder of a project: named after the data, but never inside the data's folder."""
    name = name_project(data)
    folder = here / name
    return here / f"{name}-project" if _is_inside(folder, data) else folder


def check_place(data: Path, project: Path, *, force: bool) -> None:
    """Refuse a project folder that must not be written to.

    Raises:
        ValueError: If it is among the images, has a params.yaml, or is ignored by git; names a way out.
    """
    if data.is_dir() and _is_inside(project, data):
        raise ValueError(
            f"PROJECT = {str(project)!r} is inside the folder of the images, {data}, whose folders are "
            "classes; give another folder with PROJECT=..."
        )
    if (project / FILE).exists() and not force:
        raise ValueError(
            f"{project / FILE} exists; give another folder with PROJECT=..., or FORCE=1 to overwrite it"
        )
    if _is_ignored(project / DVC_FILE):
        raise ValueError(
            f"PROJECT = {str(project)!r}: git ignores this folder, and DVC refuses a pipeline that git "
            "ignores; give another folder with PROJECT=..., or change the rule that "
            f"`git check-ignore --verbose {project / DVC_FILE}` names"
        )


@dataclass(frozen=True)
class Written:
    """Result of writing a project."""

    seen: list[str]
    """Lines that describe the data."""
    estimates: Mapping[str, Estimate]
    """Estimated durations of the long stages."""


def write_project(data: Path, project: Path, *, minutes: float, force: bool = False) -> Written:
    """Write `params.yaml` and `dvc.yaml` of a new project.

    Args:
        data: Folder of class folders of images, or a table.
        project: Folder of the project.
        minutes: Minutes that the whole pipeline may take on this machine.
        force: Whether to overwrite an existing params.yaml.

    Raises:
        ValueError: If there are too few minutes, or the data or the project folder cannot be used.
    """
    if not LEAST_MINUTES <= minutes <= MOST_MINUTES:
        raise ValueError(
            f"MINUTES = {minutes:g}: must be {LEAST_MINUTES:g} or more, since starting the stages takes one "
            f"minute, and at most {MOST_MINUTES:g}, which is a week"
        )
    check_place(data, project, force=force)
    busy = _say_busy()
    name, found, available = name_project(project), inspect_data(data), find_weights()
    wanted = available[0] if available and wants_weights(found, shares_of(found)) else None
    rough = time_candidates(found, draws=draws_of(found), available=wanted)
    with tempfile.TemporaryDirectory(prefix="temper-") as work:
        first = parse(make_text(found, rough, available, minutes=minutes, project=name))
        timed = time_chosen(found, first, rough, Path(work))
        size = first.prepare.height_px, first.prepare.width_px
        text = make_text(
            seen_from(found, project), timed.speeds, available, minutes=minutes, project=name, size=size
        )
        params = parse(text)
        project.mkdir(parents=True, exist_ok=True)
        write_atomically(project / FILE, text)
        write_atomically(project / DVC_FILE, dvc_yaml(project, params))
        count = measure_workload(project, params, anew=True)
        estimates = {
            stage: sum_up(getattr(params, stage), count, times) for stage, times in timed.times.items()
        }
        estimates["evaluate"] = time_evaluation(params, count, timed.material)
    write_estimates(project, params, count, estimates)
    together = sum(each.seconds for each in estimates.values()) / 60
    more = (
        [f"this takes {together:.0f} min, more than the {minutes:g} asked for"] if together > minutes else []
    )
    after = params.prepare.height_px, params.prepare.width_px
    lost = explain_size(found.objects, maps=found.maps, before=(found.height_px, found.width_px), after=after)
    return Written([*describe(found), *lost, *busy, *more], estimates)


def _say_busy() -> list[str]:
    """Return a warning if other work runs on this machine, since it makes the measured times too long."""
    cores = psutil.cpu_percent(interval=_LOOK_S, percpu=True)
    # Some containers number their cores otherwise than the kernel; then all cores count.
    ours = [cores[number] for number in os.sched_getaffinity(0) if number < len(cores)]
    busy = fmean(ours or cores)
    if busy < _BUSY_PERCENT:
        return []
    return [
        f"other work on this machine (its cores are {busy:.0f} % busy): steps take longer than on an idle "
        "machine, so fewer epochs and smaller images are chosen; run it again with FORCE=1 once the machine "
        "is idle"
    ]


def shares_of(found: Findings) -> Shares:
    """Return the shares of the splits."""
    return choose_shares(found.num_examples, found.official)


def draws_of(found: Findings) -> int:
    """Return the number of images that an epoch draws."""
    return round(shares_of(found).train_count * choose_balance(found.counts).factor)


def make_text(
    found: Findings,
    speeds: Speeds,
    available: Sequence[Available],
    *,
    minutes: float,
    project: str,
    size: tuple[int, int] | None = None,
) -> str:
    """Return the text of params.yaml, a pure function of findings and speeds.

    The arguments are those of `choose`.
    """
    heading = (
        f"Written by `make init` for {minutes:g} minutes on the machine where it ran.",
        "From now on no clock influences the result: the same file gives the same model.",
        "You may change every line (docs/params.md); `make plan` shows what runs again, and for how long.",
    )
    return write_params(
        choose(found, speeds, available, minutes=minutes, project=project, size=size), heading
    )


def describe(found: Findings) -> list[str]:
    """Return lines that describe the data."""
    classes = sorted(found.counts.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{name} {count:,}" for name, count in classes[:8]) + (
        ", ..." if len(classes) > 8 else ""
    )
    colour = "grey" if found.channels == 1 else f"{1 - found.grey_share:.0%} with colour"
    sides = f"sides from {found.least_px} to {found.most_px} px"
    lines = [
        *filter(None, [found.why_source]),
        f"{found.num_examples:,} images"
        + (f", {found.num_classes} classes" if found.num_classes else "")
        + (f" ({listed})" if listed else ""),
        f"{found.height_px}x{found.width_px} px (median of {found.num_sampled}), {sides}, {colour}",
    ]
    kind = found.problem["kind"]
    lines.append(f"problem {kind}" + (f": {found.why_kind}" if found.why_kind else ""))
    lines += [str(remark) for remark in found.remarks]
    if found.official:
        lines.append(f"splits {', '.join(f'{name} {count:,}' for name, count in found.official.items())}")
    if found.unreadable:
        lines.append(
            f"left out: {len(found.unreadable)} of {found.num_sampled} sampled files cannot be read, "
            f"e.g. {found.unreadable[0]}"
        )
    return lines


def _is_ignored(path: Path) -> bool:
    """Whether git ignores a path; False without git or outside a repository."""
    path = path.resolve()
    here = next(folder for folder in path.parents if folder.is_dir())
    try:
        done = subprocess.run(
            ["git", "check-ignore", "--quiet", str(path)], cwd=here, capture_output=True, check=False
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0


def _is_inside(folder: Path, data: Path) -> bool:
    return data.is_dir() and (
        folder.resolve() == data.resolve() or data.resolve() in folder.resolve().parents
    )

"""Commands on a project: create it, plan it, time it, run one stage, serve its champion, show its pages.

Commands import what they need only when they run, so that `--help` and stages start fast.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from temper import artifacts
from temper.cli.application import HERE, Folder, check_stages, operate
from temper.config import FILE, HOST, Params, check_ranks, load
from temper.make_command import PROJECT, make_command
from temper.stages import BY_NAME, STAGES

if TYPE_CHECKING:
    from temper.ops.project import Project

commands = typer.Typer()


@commands.command("init")
def init_project(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder of class folders, or of images with masks or boxes; or a .csv or .parquet table."
        ),
    ],
    project: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the project; by default in the current folder, named after the images' folder."
        ),
    ] = None,
    minutes: Annotated[
        float, typer.Option(help="Minutes that the whole pipeline may take on this machine.")
    ] = 10.0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing params.yaml.")] = False,
) -> None:
    """Read images, time a few steps on this machine, and write a project that fits both.

    Example: temper init ~/pets --project pets --minutes 10
    """
    from temper.recipe.new_project import place_project, write_project

    folder = folder.expanduser()  # make passes a tilde on unexpanded
    target = project.expanduser() if project else place_project(folder, Path())
    written = write_project(folder, target, minutes=minutes, force=force)
    for line in written.seen:
        print(f"saw: {line}")
    print(f"wrote {target / FILE}, with a reason beside each line, and dvc.yaml")
    for name, found in written.estimates.items():
        print(f"{name}: {found}")
    print("next: " + "    ".join(make_command(name, target.resolve()) for name in ("plan", "pipeline")))


@commands.command("plan")
def show_plan(
    project: Folder = HERE,
    force: Annotated[list[str] | None, typer.Option(help="Stages to run even if nothing changed.")] = None,
) -> None:
    """Print which stages would run, why, and how long they take.

    Example: temper plan --project examples/digits
    """

    def show(project: "Project", params: Params) -> None:
        from temper.ops.pipeline import plan, preflight, summary, training_time

        check_stages(force or [])
        params, messages = preflight.preflight(project, dry_run=True)
        steps = plan.make(project, params, tuple(force or ()))
        print("\n".join([*messages, plan.format_plan(steps, summary.known_seconds(project))]), flush=True)
        for line in training_time.report_lines(project, params, steps):
            print(line)

    operate(project, show)


@commands.command("estimate")
def estimate_stages(
    stages: Annotated[
        list[str] | None, typer.Argument(help="Some of train, distill, evaluate; by default all.")
    ] = None,
    project: Folder = HERE,
) -> None:
    """Time a few real steps on this machine and print how long the long stages will take.

    Example: temper estimate train --project examples/digits
    """
    from temper.commands.time_estimates import TIMED

    if unknown := sorted({*(stages or ())} - {*TIMED}):
        raise ValueError(f"stage {unknown[0]!r} is not timed; choose from {', '.join(TIMED)}")
    from temper.commands.estimate import estimate

    for name, found in estimate(project, load(project), stages or TIMED).items():
        print(f"{name}: {found}")


@commands.command("stage")
def run_one_stage(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(BY_NAME)}.")],
    project: Folder = HERE,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Train in this process as the only rank, for a debugger.")
    ] = False,
) -> None:
    """Run one stage, whether or not it is up to date, and publish its artifact. DVC runs stages this way.

    Example: temper stage prepare --project examples/digits
    """
    from temper.stages.run_stage import run_stage

    check_stages([name])
    os.environ.setdefault(PROJECT, str(project.resolve()))
    run_stage(BY_NAME[name], project, in_process=in_process)


@commands.command("join")
def join_training(project: Folder = HERE) -> None:
    """Take part in the trainings of the first of several hosts (TEMPER_HOST), until it starts no more."""
    from temper.engine.distributed.launcher import take_part
    from temper.engine.distributed.ranks import count_ranks
    from temper.stages.run_stage import digest_inputs, record_inputs

    os.environ.setdefault(PROJECT, str(project.resolve()))
    if not (address := os.environ.get(HOST)):
        raise ValueError(
            "HOST is not set: it must be the address of the first host, as given there in "
            f"`{make_command('pipeline HOST=address')}`; run "
            f"`{make_command('join HOST=address')}`"
        )
    params = load(project)
    sections = [getattr(params, stage.name) for stage in STAGES if stage.ranked]
    waits = [section.hosts.wait_s for section in sections if section.hosts]
    if not waits:
        raise ValueError(
            f"{project / FILE}: no stage trains on several hosts; set train.hosts (docs/scale.md)"
        )

    def prepare(name: str) -> tuple[int, dict[str, str]]:
        stage = BY_NAME[name]
        check_ranks(params, name)
        inputs = {each: artifacts.load(each, project / "artifacts" / each) for each in stage.inputs}
        (project / ".temper" / "work" / name).mkdir(parents=True, exist_ok=True)
        return count_ranks(getattr(params, name).ranks), digest_inputs(
            stage, params, record_inputs(stage, params, inputs)
        )

    if code := take_part(project, address, prepare, wait_s=max(waits)):
        raise SystemExit(code)


@commands.command("serve")
def serve_champion(
    project: Folder = HERE, port: Annotated[int | None, typer.Option(help="Port, if not serve.port.")] = None
) -> None:
    """Serve the champion over HTTP on 127.0.0.1, following promotions, until Ctrl-C.

    Example: temper serve --project examples/digits --port 8001
    """

    def serve(project: "Project", params: Params) -> None:
        from temper.ops import serve

        serve.run(project, params, port)

    operate(project, serve)


@commands.command("ui")
def show_pages(project: Folder = HERE) -> None:
    """Show the project's runs and models (MLflow) and flows (Prefect) on 127.0.0.1, until Ctrl-C."""
    from temper.ops import ui
    from temper.ops.project import Project

    raise typer.Exit(ui.show(Project.at(project)))


@commands.command("restore")
def restore_database(project: Folder = HERE) -> None:
    """Restore the last good backup of the project's MLflow database, after damage."""

    def restore(project: "Project", params: Params) -> None:
        from temper.ops.mlflow import backup
        from temper.ops.system import project_lock

        with project_lock.exclusive(project):
            print(backup.restore(project))

    operate(project, restore)


@commands.command("dvc-yaml")
def write_dvc_yaml(project: Folder = HERE) -> None:
    """Write the project's dvc.yaml from the table of stages."""
    from temper.stages.dvc_yaml import FILE, dvc_yaml

    artifacts.write_atomically(project / FILE, dvc_yaml(project, load(project)))

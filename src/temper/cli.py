"""The command `temper`: write a project, look at it, serve and release its models, run a single stage.

The pipeline itself is run by `make pipeline` (`python -m flows pipeline`). An error that a user can fix is printed as one paragraph;
`TEMPER_DEBUG=1` adds the traceback. Commands import what they need when they run, so that `--help` and stages start fast.
"""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from temper import artifacts
from temper.config import FILE, HOST, Params, check_ranks, load
from temper.parent_death import end_with_parent
from temper.stages import BY_NAME, STAGES

if TYPE_CHECKING:
    from temper.ops.project import Project

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Folder = Annotated[Path, typer.Option("--project", help="Folder with params.yaml.")]
HERE = Path()
_TIMES_STEPS = ("estimate", "init")
"""Commands that time steps of a training."""
_STARTED_BY_US = {"DVC_STAGE", "TEMPER_PIPELINE", "TORCHELASTIC_RUN_ID"}
"""Set by DVC, the flow and torchrun: without them a stage is somebody's own command, and may outlive its shell."""
_REGISTRY_ERRORS = ("mlflow", "sqlalchemy", "requests")
"""Packages whose exceptions mean that MLflow's store could not be read or written."""


@app.command("init")
def init_project(
    folder: Annotated[Path, typer.Argument(help="Folder of class folders of images, or a .csv or .parquet table.")],
    project: Annotated[
        Path | None, typer.Option(help="Where the project goes; by default a folder here, named after the images'.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="What the whole pipeline may take on this machine.")] = 10.0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a params.yaml that is there.")] = False,
) -> None:
    """Look at images, time a few steps on this machine, and write a project that fits both.

    Example: temper init ~/pets --project pets --minutes 10
    """
    from temper.recipe.new_project import place_project, write_project

    folder = folder.expanduser()  # make hands a tilde on as it is
    target = project.expanduser() if project else place_project(folder, Path())
    written = write_project(folder, target, minutes=minutes, force=force)
    for line in written.seen:
        print(f"saw: {line}")
    print(f"wrote {target / FILE}, with the reason beside each line, and dvc.yaml")
    for name, found in written.estimates.items():
        print(f"{name}: {found}")
    print(f"next: make plan PROJECT={target}    make pipeline PROJECT={target}")


@app.command("plan")
def show_plan(
    project: Folder = HERE,
    force: Annotated[list[str] | None, typer.Option(help="Stages to run though nothing changed.")] = None,
) -> None:
    """Say which stages would run, why, and how long they take.

    Example: temper plan --project examples/digits
    """

    def show(project: "Project", params: Params) -> None:
        from temper.ops.pipeline import plan, preflight, summary, training_time

        _check_stages(force or [])
        params, said = preflight.preflight(project, look=True)
        steps = plan.make(project, params, tuple(force or ()))
        print("\n".join([*said, plan.words(steps, summary.known_seconds(project))]), flush=True)
        for line in training_time.tell(project, params, steps):
            print(line)

    _operate(project, show)


@app.command("estimate")
def estimate_stages(
    stages: Annotated[list[str] | None, typer.Argument(help="Of train, distill, evaluate; all by default.")] = None,
    project: Folder = HERE,
) -> None:
    """Time a few real steps on this machine and say what the long stages will take.

    Example: temper estimate train --project examples/digits
    """
    from temper.commands.time_estimates import TIMED

    if unknown := sorted({*(stages or ())} - {*TIMED}):
        raise ValueError(f"no stage {unknown[0]!r} is timed; name some of {', '.join(TIMED)}")
    from temper.commands.estimate import estimate

    for name, found in estimate(project, load(project), stages or TIMED).items():
        print(f"{name}: {found}")


@app.command("stage")
def run_one_stage(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(BY_NAME)}.")], project: Folder = HERE
) -> None:
    """Run one stage, whether or not it is up to date, and publish its artifact. DVC runs stages this way.

    Example: temper stage prepare --project examples/digits
    """
    from temper.stages.run_stage import run_stage

    _check_stages([name])
    run_stage(BY_NAME[name], project)


@app.command("join")
def join_training(project: Folder = HERE) -> None:
    """Take part in the trainings of the first of several hosts (TEMPER_HOST), until none is begun any more."""
    from temper.engine.distributed.launcher import take_part
    from temper.engine.distributed.ranks import count_ranks
    from temper.stages.run_stage import digest_inputs, record_inputs

    if not (address := os.environ.get(HOST)):
        raise ValueError(
            "where is the first host? `make join HOST=address`, as it was named there: `make pipeline HOST=address`"
        )
    params = load(project)
    sections = [getattr(params, stage.name) for stage in STAGES if stage.ranked]
    waits = [section.hosts.wait_s for section in sections if section.hosts]
    if not waits:
        raise ValueError(f"{project / FILE} names no hosts that train together; set train.hosts (docs/scale.md)")

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


@app.command("serve")
def serve_champion(
    project: Folder = HERE, port: Annotated[int | None, typer.Option(help="Instead of serve.port.")] = None
) -> None:
    """Serve the champion over HTTP on 127.0.0.1, following promotions, until Ctrl-C.

    Example: temper serve --project examples/digits --port 8001
    """

    def serve(project: "Project", params: Params) -> None:
        from temper.ops import serve

        serve.run(project, params, port)

    _operate(project, serve)


@app.command("ui")
def show_pages(project: Folder = HERE) -> None:
    """Show the project's runs and models (MLflow) and flows (Prefect) on 127.0.0.1, until Ctrl-C."""
    from temper.ops import ui
    from temper.ops.project import Project

    raise typer.Exit(ui.show(Project.at(project)))


@app.command("restore")
def restore_database(project: Folder = HERE) -> None:
    """Put back the last good copy of the project's MLflow database, after damage."""

    def restore(project: "Project", params: Params) -> None:
        from temper.ops.mlflow import backup
        from temper.ops.system import project_lock

        with project_lock.exclusive(project):
            print(backup.restore_database(project))

    _operate(project, restore)


@app.command("compare")
def compare_versions(
    project: Folder = HERE,
    first: Annotated[str, typer.Option(help="Number or alias.")] = "champion",
    second: Annotated[str, typer.Option(help="Number or alias.")] = "challenger",
) -> None:
    """Compare two registered versions on the current test images.

    Example: temper compare --first 3 --second champion
    """

    def compare(project: "Project", params: Params) -> None:
        from rich.console import Console

        from temper.ops.release import show_comparison

        show_comparison.compare(project, params, first, second, Console(highlight=False))

    _release(project, compare)


@app.command("promote")
def promote_version(
    project: Folder = HERE,
    version: Annotated[int | None, typer.Option(help="Its number; by default the challenger's.")] = None,
    reason: Annotated[str, typer.Option(help="Needed where the gate says no; put on record.")] = "",
) -> None:
    """Make a version champion.

    Example: temper promote --version 4 --reason "the customer asked for it"
    """

    def promote(project: "Project", params: Params) -> None:
        from temper.ops.mlflow import backup, tracking_store
        from temper.ops.release import promotion

        print(promotion.promote(tracking_store.connect(project), project, params, version, reason))
        backup.keep_database(project)

    _release(project, promote)


@app.command("rollback")
def roll_back(project: Folder = HERE, reason: Annotated[str, typer.Option(help="Put on record.")] = "") -> None:
    """Make the champion before this one champion again.

    Example: temper rollback --reason "a customer complained"
    """

    def undo(project: "Project", params: Params) -> None:
        from temper.ops.mlflow import backup, tracking_store
        from temper.ops.release import promotion

        print(promotion.roll_back(tracking_store.connect(project), project, params, reason))
        backup.keep_database(project)

    _release(project, undo)


@app.command("history")
def show_history(project: Folder = HERE) -> None:
    """List who made which version champion, when and why."""

    def show(project: "Project", params: Params) -> None:
        from temper.ops.release import promotion, promotion_log

        promotion.notice(project, params.project)
        entries = promotion_log.read(project)
        print(promotion_log.words(entries) if entries else "nothing was ever promoted")

    _release(project, show)


@app.command("reproduce")
def reproduce_version(
    version: Annotated[int, typer.Argument(help="Number of the version.")], project: Folder = HERE
) -> None:
    """Make a version again, in a folder of its own, from what is kept of it: the digest must be the same.

    Example: temper reproduce 4
    """

    def reproduce(project: "Project", params: Params) -> None:
        from temper.ops.mlflow import tracking_store
        from temper.ops.release import provenance

        print(provenance.reproduce(tracking_store.connect(project), project, params, version))

    _release(project, reproduce)


@app.command("drift")
def check_drift(project: Folder = HERE) -> None:
    """Compare recent images in inbox/unlabelled with those that the champion was trained for."""

    def check(project: "Project", params: Params) -> None:
        from temper.ops.retraining import drift_check

        found = drift_check.look(project, params)
        print(drift_check.words(found))
        if not isinstance(found, str):
            print(f"plot: {drift_check.plot_file(project)}")

    _release(project, check)


@app.command("dvc-yaml")
def write_dvc_yaml(project: Folder = HERE) -> None:
    """Write the project's dvc.yaml from the table of stages."""
    from temper.stages.dvc_yaml import FILE, dvc_yaml

    artifacts.write_atomically(project / FILE, dvc_yaml(project, load(project)))


@app.command("measure", hidden=True)
def measure_candidates(project: Folder = HERE) -> None:
    """Time every candidate on this machine and write the reports."""
    from temper.commands.measure import measure

    measure(project, name=load(project).project)


@app.command("rate", hidden=True)
def rate_model(
    file: Annotated[Path, typer.Argument(help="ONNX file of a registered model.")],
    out: Annotated[Path, typer.Argument(help="Where its rating goes.")],
    project: Folder = HERE,
) -> None:
    """Measure a registered model on the current test images, clean and under stress."""
    from temper.commands.rate import rate

    rate(project, file, out)


@app.command("compare-files", hidden=True)
def compare_files(
    first: Annotated[Path, typer.Argument(help="ONNX file of one registered model.")],
    second: Annotated[Path, typer.Argument(help="ONNX file of the other.")],
    ratings: Annotated[tuple[Path, Path], typer.Option(help="What `rate` wrote for each.")],
    names: Annotated[tuple[str, str], typer.Option(help="What to call them.")],
    out: Annotated[Path, typer.Option(help="Folder for comparison.json and comparison.png.")],
    project: Folder = HERE,
) -> None:
    """Compare two models that were rated before."""
    from temper.commands.compare import compare_models

    compare_models(project, (first, second), ratings, names, out)


@app.command("test-drift", hidden=True)
def compare_with_recent(
    file: Annotated[Path, typer.Argument(help="ONNX file of the champion.")],
    images: Annotated[Path, typer.Argument(help="Text file with an image's path in every line, the newest last.")],
    out: Annotated[Path, typer.Argument(help="Folder for drift.json and drift.png.")],
    false_alarms: Annotated[float, typer.Option(help="How often all tests together may raise a false alarm.")] = 0.01,
    project: Folder = HERE,
) -> None:
    """Test whether recent images are like those that the champion was trained for."""
    from temper.commands.drift import look

    paths = [Path(line) for line in images.read_text(encoding="utf-8").splitlines()]
    look(project, file, paths, out, false_alarms=false_alarms)


def _operate(folder: Path, act: "Callable[[Project, Params], None]") -> None:
    """Run a command on a project, in the project's environment; ends with its exit status."""
    from temper.ops.pipeline import exit_status
    from temper.ops.project import Project

    project = Project.at(folder)
    os.environ.update(project.environment())
    logging.raiseExceptions = False  # a log line that cannot be written would be reported in the midst of an error

    def run() -> int:
        act(project, load(project.folder))
        return exit_status.OK

    raise typer.Exit(exit_status.end(run, interrupted="run the same command again"))


def _release(folder: Path, act: "Callable[[Project, Params], None]") -> None:
    """Run a command on a project's registered models; what MLflow cannot do becomes an error that a user can fix."""

    def run(project: "Project", params: Params) -> None:
        from temper.ops.mlflow import backup, model_versions

        try:
            backup.check_database(project)
            if not model_versions.known(project):
                raise ValueError(f"{project.folder} has no registered models yet; run `make pipeline` first")
            act(project, params)
        except (ValueError, OSError):
            raise
        except Exception as error:
            if not type(error).__module__.startswith(_REGISTRY_ERRORS):  # by name: most commands import none of them
                raise
            words = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f"MLflow could not read or write {project.store} ({words}); run the same command again"
            ) from error

    _operate(folder, run)


def _check_stages(names: list[str]) -> None:
    if unknown := [name for name in names if name not in BY_NAME]:
        raise ValueError(f"no stage is called {unknown[0]!r}; there are {', '.join(BY_NAME)}")


def compute_as_ranks_do() -> None:
    """Start this command anew with the variables of a rank, if it times steps: else other speeds are timed than training has."""
    if "torch" in sys.modules or sys.argv[1:2] not in [[name] for name in _TIMES_STEPS]:
        return
    from temper.engine.distributed.launcher import rank_environment

    variables = rank_environment(1)
    if not variables.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, "-m", "temper", *sys.argv[1:]], {**os.environ, **variables})


def main() -> None:
    """Run the command line; errors that a user can fix end with status 2 and one paragraph."""
    compute_as_ranks_do()
    if not os.environ.keys().isdisjoint(_STARTED_BY_US):
        end_with_parent()
    try:
        app()
    except (ValueError, OSError) as error:
        if os.environ.get("TEMPER_DEBUG"):
            raise
        text = artifacts.explain(error) if isinstance(error, OSError) else str(error)
        print(f"error: {text}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()

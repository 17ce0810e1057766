"""Commands on registered models: compare, promote, roll back, reproduce, and check for drift."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from temper.cli.application import HERE, Folder, operate
from temper.config import Params

if TYPE_CHECKING:
    from temper.ops.project import Project

commands = typer.Typer()

_REGISTRY_ERRORS = ("mlflow", "sqlalchemy", "requests")
"""Packages whose exceptions mean that MLflow's store could not be read or written."""


@commands.command("compare")
def compare_versions(
    project: Folder = HERE,
    first: Annotated[str, typer.Option(help="Version number or alias.")] = "champion",
    second: Annotated[str, typer.Option(help="Version number or alias.")] = "challenger",
) -> None:
    """Compare two registered versions on the current test images.

    Example: temper compare --first 3 --second champion
    """

    def compare(project: "Project", params: Params) -> None:
        from rich.console import Console

        from temper.ops.release import show_comparison

        show_comparison.compare(project, params, first, second, Console(highlight=False))

    _release(project, compare)


@commands.command("promote")
def promote_version(
    project: Folder = HERE,
    version: Annotated[
        int | None, typer.Option(help="Version number; by default that of the challenger.")
    ] = None,
    reason: Annotated[
        str, typer.Option(help="Reason, which is recorded; required if the gate rejects the version.")
    ] = "",
) -> None:
    """Make a version the champion.

    Example: temper promote --version 4 --reason "the customer asked for it"
    """

    def promote(project: "Project", params: Params) -> None:
        from temper.ops.mlflow import backup, tracking_store
        from temper.ops.release import promotion

        print(promotion.promote(tracking_store.connect(project), project, params, version, reason))
        backup.save(project)

    _release(project, promote)


@commands.command("rollback")
def roll_back(
    project: Folder = HERE, reason: Annotated[str, typer.Option(help="Reason, which is recorded.")] = ""
) -> None:
    """Make the previous champion the champion again.

    Example: temper rollback --reason "a customer complained"
    """

    def undo(project: "Project", params: Params) -> None:
        from temper.ops.mlflow import backup, tracking_store
        from temper.ops.release import promotion

        print(promotion.roll_back(tracking_store.connect(project), project, params, reason))
        backup.save(project)

    _release(project, undo)


@commands.command("history")
def show_history(project: Folder = HERE) -> None:
    """List who made which version the champion, when and why."""

    def show(project: "Project", params: Params) -> None:
        from temper.ops.release import promotion, promotion_log

        promotion.record_changes(project, params.project)
        entries = promotion_log.read(project)
        print(promotion_log.format_log(entries) if entries else "no version has been promoted yet")

    _release(project, show)


@commands.command("reproduce")
def reproduce_version(
    version: Annotated[int, typer.Argument(help="Number of the version.")], project: Folder = HERE
) -> None:
    """Make a version again, in a separate folder, from its stored inputs. The digest must be the same.

    Example: temper reproduce 4
    """

    def reproduce(project: "Project", params: Params) -> None:
        from temper.ops.mlflow import tracking_store
        from temper.ops.release import provenance

        print(provenance.reproduce(tracking_store.connect(project), project, params, version))

    _release(project, reproduce)


@commands.command("drift")
def check_drift(project: Folder = HERE) -> None:
    """Compare the recent images in inbox/unlabelled with those that the champion was trained for."""

    def check(project: "Project", params: Params) -> None:
        from temper.ops.retraining import drift_check

        found = drift_check.check(project, params)
        print(drift_check.format_result(found))
        if not isinstance(found, str):
            print(f"plot: {drift_check.plot_file(project)}")

    _release(project, check)


def _release(folder: Path, act: "Callable[[Project, Params], None]") -> None:
    """Run a command on a project's registered models; MLflow's failures become errors that a user can fix."""

    def run(project: "Project", params: Params) -> None:
        from temper.ops.mlflow import backup, model_versions

        try:
            backup.check(project)
            if not model_versions.known(project):
                raise ValueError(
                    f"{project.folder} has no registered models yet; run `{project.make('pipeline')}` first"
                )
            act(project, params)
        except (ValueError, OSError):
            raise
        except Exception as error:
            # The module's name is compared, since most commands import none of these packages.
            if not type(error).__module__.startswith(_REGISTRY_ERRORS):
                raise
            reason = project.redact(str(error).splitlines()[0]) if str(error) else type(error).__name__
            raise ValueError(
                f"MLflow could not read or write {project.store} ({reason}); run the same command again"
            ) from error

    operate(folder, run)

"""Compare, promote, roll back, and the history of it: `make compare`, `make promote`, `make rollback`, `make history`; `make drift`.

Nothing here runs a stage, so none of it is a Prefect flow; all of it holds the champion while it moves (`tasks/promotion.py`).
"""

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tasks import catalogue, command, failure, ledger, terminal, upkeep, verdict, watch
from tasks.catalogue import Registered
from tasks.project import Project
from temper.params import Params

_OTHERS = ("mlflow", "sqlalchemy", "requests")
CHAMPION, CHALLENGER = "champion", "challenger"


def find(project: Project, params: Params, asked: str) -> Registered:
    """A version by its number or its alias.

    Raises:
        ValueError: If there is none.
    """
    number, alias = (int(asked), None) if asked.isdigit() else (None, asked)
    found = catalogue.named(project, params.project, version=number, alias=alias)
    if found is None:
        raise ValueError(f"{params.project} has no version {asked}; `make history` and `make ui` show what there is")
    return found


def compare(project: Project, params: Params, first: str, second: str, console: Console) -> None:
    """Measure two versions on the pictures of today, print their differences, leave a picture.

    Raises:
        ValueError: If a version does not exist or cannot be measured, or both are the same.
    """
    versions = [find(project, params, asked) for asked in (first, second)]
    if versions[0].digest == versions[1].digest:
        raise ValueError(
            f"{first} and {second} are the same model ({versions[0].digest[:12]}); name two with FIRST= and SECOND="
        )
    for version in versions:
        if isinstance(rating := verdict.rate(project, version), str):
            raise ValueError(rating)
    names = [_name(version) for version in versions]
    out = project.reports / f"compare-{versions[0].version}-{versions[1].version}"
    compare = [sys.executable, "-m", "temper", "compare", *(str(version.file) for version in versions)]
    compare += [
        "--ratings",
        *(str(verdict.kept(project, version)) for version in versions),
        "--names",
        *names,
        "--out",
        str(out),
    ]
    ended = terminal.run(compare, cwd=project.folder, env=project.child_environment())
    if ended.code:
        raise ValueError(failure.read("compare", ended)[0])
    show(json.loads((out / "comparison.json").read_text(encoding="utf-8")), console)
    found = verdict.ask_about(project, params, versions[1], versions[0])
    console.print(f"the gate, {names[1]} against {names[0]}: {found.words()}", markup=False)
    console.print(f"picture: {out / 'comparison.png'}", markup=False)


def show(found: dict[str, Any], console: Console) -> None:
    """Print the table of a comparison."""
    title = f"{found['second']} against {found['first']}, {found['pictures']} test pictures"
    table = Table(title=title, box=None, title_justify="left")
    table.add_column("score", no_wrap=True)
    for name in (found["first"], found["second"], "difference", f"{100 * found['confidence']:g} % interval", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for row in [*found["scores"], *found["strata"][:3]]:
        interval = f"{row['low']:+.4f} to {row['high']:+.4f}"
        table.add_row(
            f"{row['metric']}, {row['where']}",
            f"{row['first']:.4f}",
            f"{row['second']:.4f}",
            f"{row['difference']:+.4f}",
            interval,
            row["word"],
        )
    console.print(table)
    shown = [row for row in found["cells"] if row["word"] != "no difference shown"]
    worse = sum(row["word"] == "worse" for row in shown)
    console.print(
        f"under stress: of {len(found['cells'])} cells {worse} worse, {len(shown) - worse} better by their own intervals; "
        f"decisions that changed: {100 * found['changed']:.2f} %"
        + (
            ""
            if found["gained"] is None
            else f"; pictures gained {found['gained']}, lost {found['lost']} (mid-p {found['mid_p']:.3g})"
        ),
        markup=False,
    )


def act(options: argparse.Namespace, project: Project, params: Params) -> None:
    """Do what was asked."""
    upkeep.check_database(project)
    if not catalogue.known(project):
        raise ValueError(f"{project.folder} has no registered models yet; run `make pipeline` first")
    if options.what == "drift":
        found = watch.look(project, params)
        print(watch.words(found))
        if not isinstance(found, str):
            print(f"picture: {watch.picture(project)}")
        return
    if options.what == "history":
        from tasks import promotion

        promotion.notice(project, params.project)
        entries = ledger.read(project)
        print(ledger.words(entries) if entries else "nothing was ever promoted")
        return
    if options.what == "compare":
        compare(project, params, options.first, options.second, Console(highlight=False))
        return
    from tasks import experiments, promotion

    client = experiments.connect(project)
    if options.what == "reproduce":
        from tasks import provenance

        print(provenance.reproduce(client, project, params, options.version))
        return
    if options.what == "promote":
        print(promotion.promote(client, project, params, options.version, options.reason))
    else:
        print(promotion.roll_back(client, project, params, options.reason))
    upkeep.keep_database(project)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.models", description="Compare, promote and roll back registered models."
    )
    parser.add_argument("--project", type=Path, default=Path(), help="folder with params.yaml (default: here)")
    what = parser.add_subparsers(dest="what", required=True)
    each = what.add_parser("compare", help="two versions on the pictures of today")
    each.add_argument("--first", default=CHAMPION, help="number or alias (default: champion)")
    each.add_argument("--second", default=CHALLENGER, help="number or alias (default: challenger)")
    each = what.add_parser("promote", help="make a version champion")
    each.add_argument("--version", type=int, help="its number (default: the challenger)")
    each.add_argument("--reason", default="", help="needed where the gate says no; put on record")
    each = what.add_parser("rollback", help="make the champion before this one champion again")
    each.add_argument("--reason", default="", help="put on record")
    each = what.add_parser("reproduce", help="make a version again, in a folder of its own, from what is kept of it")
    each.add_argument("version", type=int, help="its number")
    what.add_parser("drift", help="recent pictures without labels against what the champion was trained for")
    what.add_parser("history", help="who made which version champion, when and why")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Do what was asked; returns the exit status."""
    options = parse(arguments)
    project = Project.at(options.project)
    os.environ.update(project.environment())
    logging.raiseExceptions = False
    return command.end(lambda: tell(options, project), interrupted="run the same command again")


def tell(options: argparse.Namespace, project: Project) -> int:
    """Do what was asked; what MLflow could not do is told as what a user can mend."""
    try:
        act(options, project, upkeep.load_params(project.folder))
    except (ValueError, OSError):
        raise
    except Exception as error:
        if not type(error).__module__.startswith(_OTHERS):  # by name: most of what is done here imports none of them
            raise
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"MLflow could not read or write {project.store} ({words}); run the same command again"
        ) from error
    return command.OK


def _name(version: Registered) -> str:
    known = [alias for alias in (CHAMPION, CHALLENGER) if alias in version.aliases]
    return f"version {version.version}" + (f" ({', '.join(known)})" if known else "")


if __name__ == "__main__":
    sys.exit(main())

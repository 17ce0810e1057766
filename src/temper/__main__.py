"""`python -m temper STAGE`: the door through which DVC runs a stage.

Reads params.yaml, hands the stage only the sections and artifacts its row in the table names, lets it write into a
partial folder, and publishes that folder in one rename. Training stages run through torchrun, one process per rank.
Checkpoints are left for whoever started this to remove once the result is on record (`tasks/upkeep.py`): killed between
publishing and DVC's writing it down, a stage starts again, and goes on from its last checkpoint.
What a user can mend is printed as one paragraph; `TEMPER_DEBUG=1` adds the traceback.
"""

import os
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from temper import artifacts
from temper.leash import end_with_parent
from temper.params import Params, check_ranks, digest_value, load, select
from temper.stages import STAGES, Stage
from temper.stages.closure import PACKAGE, stage_sources

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Project = Annotated[Path, typer.Option(help="Folder with params.yaml and dvc.yaml.")]
HERE = Path()
_STARTED_BY_US = {"DVC_STAGE", "TEMPER_PIPELINE", "TORCHELASTIC_RUN_ID"}
"""Set by DVC, the flow and torchrun: without them a stage is somebody's own command, and may outlive its shell."""


def run_stage(stage: Stage, project: Path) -> None:
    """Run one stage of a project and publish its artifact."""
    params = load(project)
    inputs = {name: artifacts.load(name, project / "artifacts" / name) for name in stage.inputs}
    partial = project / ".temper" / "partial" / stage.name
    record: dict[str, Any] = {
        "made_from": {name: artifact.digest for name, artifact in inputs.items()},
        "params": artifacts.digest_json(digest_value(params, stage.params)),
        "code": artifacts.digest_files(stage_sources(stage.name), PACKAGE),
    }
    work = project / ".temper" / "work" / stage.name
    checkpoints = project / ".temper" / "checkpoints" / _fingerprint(stage, params, record)
    rank = os.environ.get("RANK") if "TORCHELASTIC_RUN_ID" in os.environ else None  # else it is another launcher's
    if rank is None:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        work.mkdir(parents=True, exist_ok=True)
        if stage.resumes:
            checkpoints.mkdir(parents=True, exist_ok=True)
            artifacts.write_atomically(checkpoints / artifacts.STAGE_OF_CHECKPOINTS, stage.name)
    facts_file = work / "facts.json"
    if stage.ranked and rank is None:
        facts_file.unlink(missing_ok=True)
        _launch(stage, project, params)
        facts = artifacts.read_sealed(facts_file)
    else:
        module = import_module(f"temper.stages.{stage.name}")
        workspace: dict[str, Any] = {"project": project, "work": work}
        if stage.resumes:
            workspace["checkpoints"] = checkpoints
        facts = module.run(select(params, stage.params), inputs, partial, **workspace)
        if stage.ranked:
            if rank == "0":
                artifacts.write_sealed(facts_file, facts)
            return
    artifacts.write(stage.name, partial, facts=facts, **record)
    artifacts.publish(partial, project / "artifacts" / stage.name)


def _launch(stage: Stage, project: Path, params: Params) -> None:
    """Run a stage as the ranks of one training, through torchrun."""
    from temper.engine.ranks import count_ranks
    from temper.engine.start import start_ranks

    check_ranks(params, stage.name)
    code = start_ranks(stage.name, project, count_ranks(getattr(params, stage.name).ranks))
    if code:
        raise SystemExit(code)


def _fingerprint(stage: Stage, params: Params, record: dict[str, Any]) -> str:
    """What a checkpoint belongs to: code, data and parameters, but not the number of ranks."""
    sections = digest_value(params, stage.params)
    sections[stage.name] = {key: value for key, value in sections[stage.name].items() if key != "ranks"}
    return artifacts.digest_json([stage.name, sections, record["code"], record["made_from"]])[:16]


@app.command("dvc-yaml")
def write_dvc_yaml(project: Project = HERE) -> None:
    """Write the project's dvc.yaml from the table of stages."""
    from temper.stages.dvc import FILE, dvc_yaml

    artifacts.write_atomically(project / FILE, dvc_yaml(project, load(project)))


@app.command("measure")
def measure_candidates(project: Project = HERE) -> None:
    """Time every candidate on this machine and write the reports."""
    from temper.stages.measure import measure

    measure(project, name=load(project).project)


def _add(stage: Stage) -> None:
    def command(project: Project = HERE) -> None:
        run_stage(stage, project)

    app.command(stage.name, help=f"{stage.summary[0].upper()}{stage.summary[1:]}.")(command)


for _stage in STAGES:
    _add(_stage)


def main() -> None:
    """Run the command line; errors a user can mend end with status 2 and one paragraph."""
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

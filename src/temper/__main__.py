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
from temper.params import FILE, HOST, Params, check_hosts, check_ranks, digest_value, load, select
from temper.stages import BY_NAME, STAGES, Stage
from temper.stages.closure import PACKAGE, stage_sources

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Project = Annotated[Path, typer.Option(help="Folder with params.yaml and dvc.yaml.")]
HERE = Path()
_TIMES_STEPS = ("estimate", "init")
"""Commands that time steps of a training."""
_STARTED_BY_US = {"DVC_STAGE", "TEMPER_PIPELINE", "TORCHELASTIC_RUN_ID"}
"""Set by DVC, the flow and torchrun: without them a stage is somebody's own command, and may outlive its shell."""


def run_stage(stage: Stage, project: Path) -> None:
    """Run one stage of a project and publish its artifact."""
    params = load(project)
    inputs = {name: artifacts.load(name, project / "artifacts" / name) for name in stage.inputs}
    partial = project / ".temper" / "partial" / stage.name
    record = _record(stage, params, inputs)
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
        _launch(stage, project, params, record)
        facts = artifacts.read_sealed(facts_file)
    else:
        module = import_module(f"temper.stages.{stage.name}")
        if stage.name == "train" and rank == "0":
            from temper.stages.training import try_section

            try_section("distill", params.distill, inputs["prepare"])
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


def _launch(stage: Stage, project: Path, params: Params, record: dict[str, Any]) -> None:
    """Run a stage as the ranks of one training, through torchrun's agent; on several hosts if the parameters say so."""
    from temper.engine.order import ALONE, LOOPBACK
    from temper.engine.ranks import count_ranks
    from temper.engine.start import start_ranks

    section, named = getattr(params, stage.name), os.environ.get(HOST)
    check_ranks(params, stage.name)
    check_hosts(params, stage.name, named)
    hosts = section.hosts or ALONE
    code = start_ranks(
        stage.name,
        project,
        count_ranks(section.ranks),
        hosts=hosts,
        address=named if named and hosts.most > 1 else f"{LOOPBACK}:0",
        made_of=_made_of(stage, params, record),
    )
    if code:
        raise SystemExit(code)


def _record(stage: Stage, params: Params, inputs: dict[str, artifacts.Artifact]) -> dict[str, Any]:
    return {
        "made_from": {name: artifact.digest for name, artifact in inputs.items()},
        "params": artifacts.digest_json(digest_value(params, stage.params)),
        "code": artifacts.digest_files(stage_sources(stage.name), PACKAGE),
    }


def _made_of(stage: Stage, params: Params, record: dict[str, Any]) -> dict[str, str]:
    """Digests of all that decides what a stage comes to: code, inputs and parameters, but not how many train it."""
    sections = digest_value(params, stage.params)
    sections[stage.name] = {key: value for key, value in sections[stage.name].items() if key not in ("ranks", "hosts")}
    return {"params": artifacts.digest_json(sections), "code": record["code"], **record["made_from"]}


def _fingerprint(stage: Stage, params: Params, record: dict[str, Any]) -> str:
    """What a checkpoint belongs to."""
    return artifacts.digest_json([stage.name, _made_of(stage, params, record)])[:16]


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


@app.command("estimate")
def estimate_stages(
    stages: Annotated[list[str] | None, typer.Argument(help="Of train, distill, evaluate; all by default.")] = None,
    project: Project = HERE,
) -> None:
    """Time a few real steps on this machine and say what the long stages will take."""
    from temper.stages.forecast import TIMED

    if unknown := sorted({*(stages or ())} - {*TIMED}):
        raise ValueError(f"no stage {unknown[0]!r} is timed; name some of {', '.join(TIMED)}")
    from temper.stages.estimate import estimate

    for name, found in estimate(project, load(project), stages or TIMED).items():
        print(f"{name}: {found}")


@app.command("init")
def init_project(
    folder: Annotated[Path, typer.Argument(help="Folder of class folders of images, or a .csv or .parquet table.")],
    project: Annotated[
        Path | None, typer.Option(help="Where the project goes; by default a folder here, named after the images'.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="What the whole chain may take on this machine.")] = 10.0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a params.yaml that is there.")] = False,
) -> None:
    """Look at images, time a few steps on this machine, and write a project that fits both.

    Example: python -m temper init ~/pets --project pets --minutes 10
    """
    from temper.recipe.project import place_project, write_project

    folder = folder.expanduser()  # make hands a tilde on as it is
    target = project.expanduser() if project else place_project(folder, Path())
    written = write_project(folder, target, minutes=minutes, force=force)
    for line in written.seen:
        print(f"saw: {line}")
    print(f"wrote {target / FILE}, with the reason beside each line, and dvc.yaml")
    for name, found in written.estimates.items():
        print(f"{name}: {found}")
    print(f"next: make plan PROJECT={target}    make pipeline PROJECT={target}")


@app.command("rate")
def rate_model(
    file: Annotated[Path, typer.Argument(help="ONNX file of a registered model.")],
    out: Annotated[Path, typer.Argument(help="Where its rating goes.")],
    project: Project = HERE,
) -> None:
    """Measure a registered model on the project's test pictures of today, clean and under stress."""
    from temper.stages.rate import rate

    rate(project, file, out)


@app.command("compare")
def compare_two(
    first: Annotated[Path, typer.Argument(help="ONNX file of one registered model.")],
    second: Annotated[Path, typer.Argument(help="Of the other.")],
    ratings: Annotated[tuple[Path, Path], typer.Option(help="What `rate` left of each.")],
    names: Annotated[tuple[str, str], typer.Option(help="What to call them.")],
    out: Annotated[Path, typer.Option(help="Folder for comparison.json and comparison.png.")],
    project: Project = HERE,
) -> None:
    """Hold two models, both rated, against each other."""
    from temper.stages.compare import compare_models

    compare_models(project, (first, second), ratings, names, out)


@app.command("drift")
def look_at_drift(
    file: Annotated[Path, typer.Argument(help="ONNX file of the champion.")],
    pictures: Annotated[Path, typer.Argument(help="Text file with a picture's path in every line, the newest last.")],
    out: Annotated[Path, typer.Argument(help="Folder for drift.json and drift.png.")],
    false_alarms: Annotated[float, typer.Option(help="How often all tests together may cry wolf.")] = 0.01,
    project: Project = HERE,
) -> None:
    """Hold recent pictures against those that the champion was trained for."""
    from temper.stages.drift import look

    paths = [Path(line) for line in pictures.read_text(encoding="utf-8").splitlines()]
    look(project, file, paths, out, false_alarms=false_alarms)


@app.command("join")
def join_training(project: Project = HERE) -> None:
    """Take part in the trainings of the first of several hosts (TEMPER_HOST), until none is begun any more."""
    from temper.engine.ranks import count_ranks
    from temper.engine.start import take_part

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
        return count_ranks(getattr(params, name).ranks), _made_of(stage, params, _record(stage, params, inputs))

    if code := take_part(project, address, prepare, wait_s=max(waits)):
        raise SystemExit(code)


def _add(stage: Stage) -> None:
    def command(project: Project = HERE) -> None:
        run_stage(stage, project)

    app.command(stage.name, help=f"{stage.summary[0].upper()}{stage.summary[1:]}.")(command)


for _stage in STAGES:
    _add(_stage)


def compute_as_ranks_do() -> None:
    """Start this command anew with the variables of a rank, if it times steps: else other speeds are timed than training has."""
    if "torch" in sys.modules or sys.argv[1:2] not in [[name] for name in _TIMES_STEPS]:
        return
    from temper.engine.start import rank_environment

    variables = rank_environment(1)
    if not variables.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, "-m", "temper", *sys.argv[1:]], {**os.environ, **variables})


def main() -> None:
    """Run the command line; errors a user can mend end with status 2 and one paragraph."""
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

"""Runs one stage: DVC calls it as `python -m temper stage NAME`.

It reads params.yaml, gives the stage only the sections and artifacts that its row in the STAGES table names,
lets it write into a partial folder, and publishes that folder in one rename. Training stages run through
torchrun, with one process per rank.

The pipeline removes checkpoints only after DVC has recorded the result
(`src/temper/ops/pipeline/cleanup.py`). So a stage that is killed between publishing and that record resumes
from its last checkpoint.
"""

import os
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

from temper import artifacts
from temper.config import HOST, Params, check_hosts, check_ranks, digest_value, load, select
from temper.stages import Stage
from temper.stages.source_deps import PACKAGE, stage_sources


def run_stage(stage: Stage, project: Path, *, in_process: bool = False) -> None:
    """Run one stage of a project and publish its artifact.

    Args:
        stage: Row of the table of stages.
        project: Folder of the project.
        in_process: Train in this process, as the only rank, instead of starting a process per rank. This is
            for debuggers and tests.
    """
    params = load(project)
    inputs = {name: artifacts.load(name, project / "artifacts" / name) for name in stage.inputs}
    partial = project / ".temper" / "partial" / stage.name
    record = record_inputs(stage, params, inputs)
    work = project / ".temper" / "work" / stage.name
    checkpoints = project / ".temper" / "checkpoints" / _fingerprint(stage, params, record)
    # Without torchrun's variable, RANK belongs to another launcher.
    rank = os.environ.get("RANK") if "TORCHELASTIC_RUN_ID" in os.environ else None
    if rank is None:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        work.mkdir(parents=True, exist_ok=True)
        if stage.resumes:
            checkpoints.mkdir(parents=True, exist_ok=True)
            artifacts.write_atomically(checkpoints / artifacts.STAGE_OF_CHECKPOINTS, stage.name)
    facts_file = work / "facts.json"
    if stage.ranked and rank is None and not in_process:
        facts_file.unlink(missing_ok=True)
        _launch(stage, project, params, record)
        facts = artifacts.read_sealed(facts_file)
    else:
        module = import_module(f"temper.stages.{stage.name}")
        if stage.name == "train" and rank in ("0", None):
            from temper.stages.fit_network import try_section

            try_section("distill", params.distill, inputs["prepare"])
        workspace: dict[str, Any] = {"project": project, "work": work}
        if stage.resumes:
            workspace["checkpoints"] = checkpoints
        if in_process:
            _say_what_differs(stage, params)
        try:
            facts = module.run(select(params, stage.params), inputs, partial, **workspace)
        except SystemExit as error:
            from temper.engine.distributed.shutdown import TOO_LARGE

            if not in_process or error.code != TOO_LARGE:
                raise
            raise ValueError(
                "this process does not restart by itself: run the same command again, which continues from "
                "the last checkpoint with smaller parts"
            ) from error
        if stage.ranked and rank is not None:
            if rank == "0":
                artifacts.write_sealed(facts_file, facts)
            return
    artifacts.write(stage.name, partial, facts=facts, **record)
    artifacts.publish(partial, project / "artifacts" / stage.name)


def _say_what_differs(stage: Stage, params: Params) -> None:
    """Say which settings of a stage have no effect in one process."""
    if stage.ranked and (section := getattr(params, stage.name)).ranks not in ("auto", 1):
        print(f"{stage.name}.ranks = {section.ranks} has no effect: this process is the only rank")


def _launch(stage: Stage, project: Path, params: Params, record: dict[str, Any]) -> None:
    """Run a stage as the ranks of one training, through torchrun's agent.

    The training uses several hosts if the parameters say so.
    """
    from temper.engine.distributed.launch_spec import ALONE, LOOPBACK
    from temper.engine.distributed.launcher import start_ranks
    from temper.engine.distributed.ranks import count_ranks

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
        made_of=digest_inputs(stage, params, record),
    )
    if code:
        raise SystemExit(code)


def record_inputs(stage: Stage, params: Params, inputs: dict[str, artifacts.Artifact]) -> dict[str, Any]:
    """Return the digests of everything that an artifact is made from, as its record holds them."""
    return {
        "made_from": {name: artifact.digest for name, artifact in inputs.items()},
        "params": artifacts.digest_json(digest_value(params, stage.params)),
        "code": artifacts.digest_files(stage_sources(stage.name), PACKAGE),
    }


def digest_inputs(stage: Stage, params: Params, record: dict[str, Any]) -> dict[str, str]:
    """Return the digests of everything that decides a stage's result: code, inputs and parameters.

    The numbers of ranks and hosts are left out.
    """
    sections = digest_value(params, stage.params)
    sections[stage.name] = {
        key: value for key, value in sections[stage.name].items() if key not in ("ranks", "hosts")
    }
    return {"params": artifacts.digest_json(sections), "code": record["code"], **record["made_from"]}


def _fingerprint(stage: Stage, params: Params, record: dict[str, Any]) -> str:
    """Return the name of the checkpoint folder for a stage and everything that decides its result."""
    return artifacts.digest_json([stage.name, digest_inputs(stage, params, record)])[:16]

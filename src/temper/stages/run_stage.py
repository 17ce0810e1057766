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
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from temper import artifacts
from temper.config import HOST, Params, check_hosts, check_ranks, digest_value, load, select
from temper.stages import Stage
from temper.stages.source_deps import PACKAGE, stage_sources

_FACTS = "facts.json"
"""File in which the first rank leaves the facts of a training for the process that started the ranks."""


@dataclass(frozen=True)
class _Run:
    """A stage that is about to run on a project: what it is given, and where it writes."""

    stage: Stage
    project: Path
    params: Params
    inputs: dict[str, artifacts.Artifact]
    record: dict[str, Any]
    """Digests of everything that the artifact is made from."""

    @property
    def partial(self) -> Path:
        """Folder of the unfinished artifact."""
        return self.project / ".temper" / "partial" / self.stage.name

    @property
    def work(self) -> Path:
        """Folder for what other processes read while the stage runs."""
        return self.project / ".temper" / "work" / self.stage.name

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints, named after everything that decides the result."""
        decides = [self.stage.name, digest_inputs(self.stage, self.params, self.record)]
        return self.project / ".temper" / "checkpoints" / artifacts.digest_json(decides)[:16]

    def make_folders(self) -> None:
        """Create the folders, the partial one empty."""
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True)
        self.work.mkdir(parents=True, exist_ok=True)
        if self.stage.resumes:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            artifacts.write_atomically(self.checkpoints / artifacts.STAGE_OF_CHECKPOINTS, self.stage.name)

    def call(self, *, first: bool = True) -> dict[str, Any]:
        """Call the stage's code in this process; return its facts.

        Args:
            first: Whether this process is the first rank, or the only process.
        """
        module = import_module(f"temper.stages.{self.stage.name}")
        for name in self.stage.tries if first else ():
            from temper.stages.fit_network import try_section

            try_section(name, getattr(self.params, name), self.inputs["prepare"])
        folders = {"project": self.project, "work": self.work}
        if self.stage.resumes:
            folders["checkpoints"] = self.checkpoints
        sections = select(self.params, self.stage.params)
        return dict(module.run(sections, self.inputs, self.partial, **folders))


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
    run = _Run(stage, project, params, inputs, record_inputs(stage, params, inputs))
    # Without torchrun's variable, RANK belongs to another launcher.
    if "TORCHELASTIC_RUN_ID" in os.environ and (rank := os.environ.get("RANK")) is not None:
        _run_as_rank(run, first=rank == "0")
        return
    run.make_folders()
    if in_process:
        facts = _run_in_process(run)
    elif stage.ranked:
        facts = _run_ranks(run)
    else:
        facts = run.call()
    _check_unchanged(run)
    artifacts.write(stage.name, run.partial, facts=facts, **run.record)
    artifacts.publish(run.partial, project / "artifacts" / stage.name)


def _check_unchanged(run: _Run) -> None:
    """Refuse a result whose parameters or code changed while the stage ran.

    DVC looks at them when the stage has ended, so it would record the new ones for a result of the old ones.
    """
    now = record_inputs(run.stage, load(run.project), run.inputs)
    if changed := [name for name in ("params", "code") if now[name] != run.record[name]]:
        name = run.stage.name
        what = " and ".join(
            {"params": f"parameters of {name}", "code": f"source files of {name}"}[each] for each in changed
        )
        kept = "; with the old ones, it continues from its last checkpoint" if run.stage.resumes else ""
        raise ValueError(
            f"{what} changed while it ran, so its result was not stored; run the same command again to use "
            f"the new ones{kept}"
        )


def _run_as_rank(run: _Run, *, first: bool) -> None:
    """Take part in a training that another process started; the first rank leaves the facts for it."""
    facts = run.call(first=first)
    if first:
        artifacts.write_sealed(run.work / _FACTS, facts)


def _run_in_process(run: _Run) -> dict[str, Any]:
    """Run a stage in this process. Say which settings have no effect there."""
    from temper.engine.distributed.shutdown import TOO_LARGE

    name = run.stage.name
    if run.stage.ranked and (ranks := getattr(run.params, name).ranks) not in ("auto", 1):
        print(f"{name}.ranks = {ranks} has no effect: this process is the only rank")
    try:
        return run.call()
    except SystemExit as error:
        if error.code != TOO_LARGE:
            raise
        raise ValueError(
            "this process does not restart by itself: run the same command again, which continues from "
            "the last checkpoint with smaller parts"
        ) from error


def _run_ranks(run: _Run) -> dict[str, Any]:
    """Run a stage as the ranks of one training, through torchrun's agent; return the first rank's facts.

    The training uses several hosts if the parameters say so.
    """
    from temper.engine.distributed.launch_spec import ALONE, LOOPBACK
    from temper.engine.distributed.launcher import start_ranks
    from temper.engine.distributed.ranks import count_ranks

    name = run.stage.name
    (run.work / _FACTS).unlink(missing_ok=True)
    section, named = getattr(run.params, name), os.environ.get(HOST)
    check_ranks(run.params, name)
    check_hosts(run.params, name, named)
    hosts = section.hosts or ALONE
    code = start_ranks(
        name,
        run.project,
        count_ranks(section.ranks),
        hosts=hosts,
        address=named if named and hosts.most > 1 else f"{LOOPBACK}:0",
        made_of=digest_inputs(run.stage, run.params, run.record),
    )
    if code:
        raise SystemExit(code)
    return artifacts.read_sealed(run.work / _FACTS)


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

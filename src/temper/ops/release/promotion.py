"""Changes of the champion: by the gate's verdict, by promotion and rollback, and by hand in MLflow.

The log comes first (`promotion_log.py`): a line is written, then MLflow is changed accordingly, and finally a
tag of the registered model records up to which line this was done. So the next command completes an
interrupted promotion. If the tag is up to date and the alias still differs, a user moved the alias in MLflow.
This is allowed: it is logged and never undone.
"""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from temper import artifacts
from temper.artifacts import DEPLOYED
from temper.config import Params
from temper.gate.verdict import Verdict
from temper.ops import candidates
from temper.ops.mlflow import model_versions, tracking_store
from temper.ops.mlflow.model_versions import Registered
from temper.ops.project import Project
from temper.ops.release import gate_inputs, promotion_log
from temper.ops.release.promotion_log import Entry

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
_DONE = "promotions"
"""Tag of the registered model: number of the last line of the log that was applied to MLflow."""
_COPY, _FOLDER = "promotions.run", "promotion"
"""Tag with the run that has the newest copy of the log, and the folder of the copy in the run's artifacts."""
_VERDICT = "Gate: "
"""Beginning of the verdict in a version's description; the text before it stays unchanged."""
_GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def decide(client: MlflowClient, project: Project, params: Params, version: Registered) -> str:
    """Ask the gate about the version just registered and apply its verdict; returns it in one line."""
    gate_inputs.save_result(project, version)
    with promotion_log.exclusive(project):
        reconcile(client, project, params.project)
        champion = model_versions.named(project, params.project, alias=CHAMPION)
        if champion is not None and champion.version == version.version:
            entries = [entry for entry in promotion_log.read(project) if entry.version == version.version]
            _mark(client, version, entries[-1].outcome or entries[-1].action, entries[-1].why)
            return "it is already the champion"
        found = gate_inputs.judge_candidate(project, params, champion)
        if found.outcome == "incomparable":
            found = replace(found, why=f"{found.why}; {_say_way_out(project, version)}")
        action: promotion_log.Action = "promoted" if found.opens else "kept"
        _enact(client, project, version, action, champion, why=found.sentence, outcome=found.outcome)
        _store_verdict(client, version, found)
        return found.sentence


def promote(client: MlflowClient, project: Project, params: Params, number: int | None, reason: str) -> str:
    """Make a version the champion; returns the log's line about it.

    Args:
        client: MLflow client of the project's store.
        project: Project whose champion changes.
        params: Parameters of the project.
        number: Number of the version; None stands for the challenger.
        reason: Reason, which is recorded. If the gate rejects the version, a reason is required and overrides
            the gate.

    Raises:
        ValueError: If there is no such version, its file is not the one that was registered, or the gate
            rejects it and there is no reason.
    """
    with promotion_log.exclusive(project):
        reconcile(client, project, params.project)
        version = _find(project, params.project, number, CHALLENGER)
        champion = model_versions.named(project, params.project, alias=CHAMPION)
        if champion is not None and champion.version == version.version:
            return f"version {version.version} is already the champion"
        found = _judge(project, params, version, champion)
        if not found.opens and not reason:
            raise ValueError(
                f"the gate rejects version {version.version}:\n{found.words()}\n"
                f"{_say_way_out(project, version)}; the reason is recorded"
            )
        forced = not found.opens
        why = f"{reason} (the gate: {found.sentence})" if reason else found.sentence
        entry = _enact(
            client, project, version, "promoted", champion, why=why, outcome=found.outcome, forced=forced
        )
        _store_verdict(client, version, found)
        return promotion_log.line(entry)


def _say_way_out(project: Project, version: Registered) -> str:
    command = project.make(f'promote VERSION={version.version} REASON="..."')
    return f"to make version {version.version} the champion anyway: {command}"


def roll_back(client: MlflowClient, project: Project, params: Params, reason: str) -> str:
    """Make the previous champion the champion again; returns the log's line about it.

    Raises:
        ValueError: If there is none, or its file is not the one that was registered.
    """
    with promotion_log.exclusive(project):
        reconcile(client, project, params.project)
        before = previous(promotion_log.read(project))
        if before is None:
            raise ValueError(
                f"{params.project} has no earlier champion to roll back to; champions that were rolled back "
                f"do not count. `{project.make('history')}` lists all champions, and "
                f"`{project.make('promote VERSION=n')}` makes any version the champion"
            )
        version = _find(project, params.project, before, PREVIOUS)
        champion = model_versions.named(project, params.project, alias=CHAMPION)
        why = reason or "no reason was given"
        return promotion_log.line(_enact(client, project, version, "rolled back", champion, why=why))


def previous(entries: list[Entry]) -> int | None:
    """Return the version to which a rollback goes, or None.

    It is the champion before the current one. Champions that were rolled back do not count.
    """
    champions: list[int] = []
    for entry in entries:
        if entry.action == "rolled back":
            while champions and champions[-1] != entry.version:
                champions.pop()
        elif entry.action != "kept" and entry.version is not None and champions[-1:] != [entry.version]:
            champions.append(entry.version)
    return champions[-2] if len(champions) > 1 else None


def reconcile(client: MlflowClient, project: Project, name: str) -> None:
    """Complete an interrupted promotion, and log a change made by hand.

    Call it while holding `promotion_log.exclusive`.
    """
    try:
        tags = client.get_registered_model(name).tags
    except MlflowException as error:
        if error.error_code in _GONE:
            return  # nothing was ever registered
        raise
    done = int(tags.get(_DONE, "0"))
    entries = promotion_log.read(project)
    if len(entries) < done and _COPY in tags:
        _restore_log(client, project, tags[_COPY])
        entries = promotion_log.read(project)
    if len(entries) < done:
        client.set_registered_model_tag(name, _DONE, str(done := len(entries)))
    if entries and done < entries[-1].number:
        _apply(client, project, name, entries[-1])
    champion = model_versions.named(project, name, alias=CHAMPION)
    now, before = champion.version if champion else None, entries[-1].champion if entries else None
    if now != before:
        digest = champion.digest if champion else None
        entry = promotion_log.add(
            project,
            action="by hand",
            version=now,
            before=before,
            digest=digest,
            why="the alias was moved in MLflow",
        )
        _apply(client, project, name, entry)


def record_changes(project: Project, name: str) -> None:
    """Log a change that was made by hand, if there is one.

    MLflow's client is used only if alias and log differ.
    """
    champion, entries = model_versions.named(project, name, alias=CHAMPION), promotion_log.read(project)
    if (champion.version if champion else None) == (entries[-1].champion if entries else None):
        return
    with promotion_log.exclusive(project):
        reconcile(tracking_store.connect(project), project, name)


def _restore_log(client: MlflowClient, project: Project, run: str) -> None:
    """Restore a log that is missing or was replaced by an older one, from the longer copy in MLflow."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = Path(client.download_artifacts(run, f"{_FOLDER}/{promotion_log.FILE}", folder))
        except (MlflowException, OSError):
            return  # the copy is lost too, so a new log starts
        artifacts.write_atomically(promotion_log.path(project), found.read_bytes())
    print(
        f"{promotion_log.path(project)} was missing or outdated and has been restored from MLflow's copy",
        file=sys.stderr,
    )


def _find(project: Project, name: str, number: int | None, alias: str) -> Registered:
    version = model_versions.named(project, name, version=number, alias=None if number else alias)
    if version is None:
        wanted = f"version {number} of {name}" if number else f"version of {name} with the alias {alias}"
        raise ValueError(
            f"there is no {wanted}; `{project.make('history')}` and `{project.make('ui')}` show what exists"
        )
    if not version.whole:
        raise ValueError(
            f"{version.file} is missing or is not the file that was registered "
            f"(SHA-256 {version.digest[:12]}...), so version {version.version} cannot become the champion"
        )
    return version


def _judge(project: Project, params: Params, version: Registered, champion: Registered | None) -> Verdict:
    """Return the gate's verdict on a version.

    If the version is the current run's candidate, its teacher, student and speeds are compared, too.
    """
    if candidates.read(project)[DEPLOYED]["digest"] == version.digest:
        return gate_inputs.judge_candidate(project, params, champion)
    return gate_inputs.judge_version(project, params, version, champion)


def _enact(
    client: MlflowClient,
    project: Project,
    version: Registered,
    action: promotion_log.Action,
    champion: Registered | None,
    *,
    why: str,
    outcome: str | None = None,
    forced: bool = False,
) -> Entry:
    entry = promotion_log.add(
        project,
        action=action,
        version=version.version,
        before=champion.version if champion else None,
        digest=version.digest,
        why=why,
        outcome=outcome,
        forced=forced,
    )
    _apply(client, project, version.name, entry)
    return entry


def _apply(client: MlflowClient, project: Project, name: str, entry: Entry) -> None:
    """Change MLflow as a line of the log says; a second call changes nothing."""
    if entry.action in ("promoted", "rolled back"):
        client.set_registered_model_alias(name, CHAMPION, str(entry.version))
    if entry.action != "kept" and (before := previous(promotion_log.read(project))) is not None:
        client.set_registered_model_alias(name, PREVIOUS, str(before))
    if entry.version is not None:
        tags = {"action": entry.action, "by": entry.who, "at": entry.when, "why": entry.why[:4000]}
        for key, value in tags.items():
            client.set_model_version_tag(name, str(entry.version), f"champion.{key}", value)
        run = client.get_model_version(name, str(entry.version)).run_id
        if run:
            client.log_artifact(run, str(promotion_log.path(project)), _FOLDER)
            client.set_registered_model_tag(name, _COPY, run)
    client.set_registered_model_tag(name, _DONE, str(entry.number))


def _store_verdict(client: MlflowClient, version: Registered, found: Verdict) -> None:
    """Store the verdict with the version and with its run."""
    known = client.get_model_version(version.name, str(version.version))
    text = (known.description or "").partition(_VERDICT)[0].rstrip()
    client.update_model_version(version.name, str(version.version), f"{text}\n\n{_VERDICT}{found.sentence}")
    if run := known.run_id:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "verdict.json").write_text(
                json.dumps(found.record(), indent=2) + "\n", encoding="utf-8"
            )
            (Path(folder) / "verdict.txt").write_text(found.words() + "\n", encoding="utf-8")
            client.log_artifacts(run, folder, "gate")
    _mark(client, version, found.outcome, found.sentence)


def _mark(client: MlflowClient, version: Registered, outcome: str, why: str) -> None:
    """Set the tags that mark a version's registration as finished; they must be set last."""
    client.set_model_version_tag(version.name, str(version.version), "gate.why", why[:4000])
    client.set_model_version_tag(version.name, str(version.version), "gate", outcome)

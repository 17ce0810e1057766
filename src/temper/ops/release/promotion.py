"""Who is champion: the gate's word carried out, promotion and rollback by hand, and what somebody did in MLflow noticed.

The log comes first (`ledger.py`): a line is written, then MLflow is brought to what it says, and last a tag of the registered model
tells how far that went. So a promotion that was cut off is finished by whoever comes next, and an alias that is
elsewhere though the tag is up to date was moved by hand: legal, put on record, never fought.
"""

import json
import sys
import tempfile
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from temper import artifacts
from temper.config import Params
from temper.gate.decision import Verdict
from temper.ops import candidates
from temper.ops.candidates import CANDIDATE
from temper.ops.mlflow import model_versions, tracking_store
from temper.ops.mlflow.model_versions import Registered
from temper.ops.project import Project
from temper.ops.release import gate_inputs, promotion_log
from temper.ops.release.promotion_log import Entry

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
_DONE = "promotions"
"""Tag of the registered model: up to which line of the log MLflow was brought."""
_COPY, _FOLDER = "promotions.run", "promotion"
"""Tag: the run that has the newest copy of the log, and the folder of its artifacts where it lies."""
_VERDICT = "Gate: "
"""What stands before it in a version's description stays as it is."""
_GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def decide(client: MlflowClient, project: Project, params: Params, version: Registered) -> str:
    """Ask the gate about the version just registered, and carry out what it says; returns the verdict in a sentence."""
    gate_inputs.save_result(project, version)
    with promotion_log.exclusive(project):
        reconcile(client, project, params.project)
        champion = model_versions.named(project, params.project, alias=CHAMPION)
        if champion is not None and champion.version == version.version:
            about = [entry for entry in promotion_log.read(project) if entry.version == version.version]
            _mark(client, version, about[-1].outcome or about[-1].action, about[-1].why)
            return "it is the champion already"
        found = gate_inputs.judge_candidate(project, params, champion)
        action: promotion_log.Action = "promoted" if found.opens else "kept"
        _enact(client, project, version, action, champion, why=found.sentence, outcome=found.outcome)
        _keep(client, version, found)
        return found.sentence


def promote(client: MlflowClient, project: Project, params: Params, number: int | None, reason: str) -> str:
    """Make a version champion, the challenger unless another is named; a reason makes up for a gate that says no.

    Raises:
        ValueError: If there is no such version, its file is not what was registered, or the gate says no and no reason was given.
    """
    with promotion_log.exclusive(project):
        reconcile(client, project, params.project)
        version = _find(project, params.project, number, CHALLENGER)
        champion = model_versions.named(project, params.project, alias=CHAMPION)
        if champion is not None and champion.version == version.version:
            return f"version {version.version} is the champion already"
        found = _judge(project, params, version, champion)
        if not found.opens and not reason:
            raise ValueError(
                f"the gate says no to version {version.version}:\n{found.words()}\nIf it shall be champion all the same: "
                f'make promote VERSION={version.version} REASON="..."; the reason is put on record'
            )
        forced = not found.opens
        why = f"{reason} (the gate: {found.sentence})" if reason else found.sentence
        entry = _enact(
            client, project, version, "promoted", champion, why=why, outcome=found.outcome, forced=forced
        )
        _keep(client, version, found)
        return promotion_log.line(entry)


def roll_back(client: MlflowClient, project: Project, params: Params, reason: str) -> str:
    """Make the champion before this one champion again.

    Raises:
        ValueError: If there was none, or its file is not what was registered.
    """
    with promotion_log.exclusive(project):
        reconcile(client, project, params.project)
        before = previous(promotion_log.read(project))
        if before is None:
            raise ValueError(
                f"{params.project} has had no champion before this one that was not rolled back; `make history` shows what there was, and make promote VERSION=n "
                "makes any version champion"
            )
        version = _find(project, params.project, before, PREVIOUS)
        champion = model_versions.named(project, params.project, alias=CHAMPION)
        why = reason or "no reason was given"
        return promotion_log.line(_enact(client, project, version, "rolled back", champion, why=why))


def previous(entries: list[Entry]) -> int | None:
    """The champion that a rollback goes to: the one before this one, those that were rolled back left out."""
    champions: list[int] = []
    for entry in entries:
        if entry.action == "rolled back":
            while champions and champions[-1] != entry.version:
                champions.pop()
        elif entry.action != "kept" and entry.version is not None and champions[-1:] != [entry.version]:
            champions.append(entry.version)
    return champions[-2] if len(champions) > 1 else None


def reconcile(client: MlflowClient, project: Project, name: str) -> None:
    """Finish a promotion that was cut off, and put on record what was done by hand; call it while holding the champion."""
    try:
        tags = client.get_registered_model(name).tags
    except MlflowException as error:
        if error.error_code in _GONE:
            return  # nothing was ever registered
        raise
    done = int(tags.get(_DONE, "0"))
    entries = promotion_log.read(project)
    if len(entries) < done and _COPY in tags:
        _bring_back(client, project, tags[_COPY])
        entries = promotion_log.read(project)
    if len(entries) < done:
        client.set_registered_model_tag(name, _DONE, str(done := len(entries)))
    if entries and done < entries[-1].number:
        _carry_out(client, project, name, entries[-1])
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
        _carry_out(client, project, name, entry)


def record_changes(project: Project, name: str) -> None:
    """Put on record what was done by hand, if anything was; MLflow is only asked where something is amiss."""
    champion, entries = model_versions.named(project, name, alias=CHAMPION), promotion_log.read(project)
    if (champion.version if champion else None) == (entries[-1].champion if entries else None):
        return
    with promotion_log.exclusive(project):
        reconcile(tracking_store.connect(project), project, name)


def _bring_back(client: MlflowClient, project: Project, run: str) -> None:
    """The log was lost, or an old one put in its place: the copy that MLflow has knows more."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = Path(client.download_artifacts(run, f"{_FOLDER}/{promotion_log.FILE}", folder))
        except (MlflowException, OSError):
            return  # the copy is lost too: the log begins anew
        artifacts.write_atomically(promotion_log.path(project), found.read_bytes())
    print(f"{promotion_log.path(project)} was lost; it is back from MLflow's copy", file=sys.stderr)


def _find(project: Project, name: str, number: int | None, alias: str) -> Registered:
    version = model_versions.named(project, name, version=number, alias=None if number else alias)
    if version is None:
        asked = f"version {number} of {name}" if number else f"version of {name} with the alias {alias}"
        raise ValueError(f"there is no {asked}; `make history` and `make ui` show what there is")
    if not version.whole:
        raise ValueError(
            f"{version.file} is missing or is not the file that was registered (SHA-256 {version.digest[:12]}...); it is not made champion"
        )
    return version


def _judge(project: Project, params: Params, version: Registered, champion: Registered | None) -> Verdict:
    """The gate's verdict on a version: with all that is known about this run's candidates, if it is of these."""
    if candidates.read(project)[CANDIDATE]["digest"] == version.digest:
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
    _carry_out(client, project, version.name, entry)
    return entry


def _carry_out(client: MlflowClient, project: Project, name: str, entry: Entry) -> None:
    """Bring MLflow to what a line says; doing it twice changes nothing."""
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


def _keep(client: MlflowClient, version: Registered, found: Verdict) -> None:
    """The verdict, onto the version and its run."""
    known = client.get_model_version(version.name, str(version.version))
    words = (known.description or "").partition(_VERDICT)[0].rstrip()
    client.update_model_version(version.name, str(version.version), f"{words}\n\n{_VERDICT}{found.sentence}")
    if run := known.run_id:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "verdict.json").write_text(
                json.dumps(found.record(), indent=2) + "\n", encoding="utf-8"
            )
            (Path(folder) / "verdict.txt").write_text(found.words() + "\n", encoding="utf-8")
            client.log_artifacts(run, folder, "gate")
    _mark(client, version, found.outcome, found.sentence)


def _mark(client: MlflowClient, version: Registered, outcome: str, why: str) -> None:
    """The tags that say that nothing is left to do about a version; last of all."""
    client.set_model_version_tag(version.name, str(version.version), "gate.why", why[:4000])
    client.set_model_version_tag(version.name, str(version.version), "gate", outcome)

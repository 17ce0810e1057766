"""The champion and the promotion log.

No change gets lost when several processes promote, when a promotion is interrupted, or when a user moves the
alias.
"""

import json
from dataclasses import replace
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import pytest

from temper.config import load
from temper.ops.mlflow import model_versions, tracking_store
from temper.ops.project import Project
from temper.ops.release import gate_inputs, promotion, promotion_log
from tests.unit.ops.registering import run_once, swap_model

pytestmark = pytest.mark.filterwarnings("default")
MANY = 10


@pytest.fixture
def two(project: Project, tmp_path: Path) -> Project:
    """A project whose version 1 was the champion; version 2 is as good and has replaced it."""
    run_once(project, load(project.folder))
    swap_model(project, tmp_path, accuracy=0.95, width=7)
    run_once(project, load(project.folder))
    return project


def aliases(project: Project) -> dict[str, int]:
    name = load(project.folder).project
    found = {
        alias: model_versions.named(project, name, alias=alias)
        for alias in ("challenger", "champion", "previous")
    }
    return {alias: version.version for alias, version in found.items() if version is not None}


def test_promotions_leave_their_mark(two: Project):
    assert aliases(two) == {"challenger": 2, "champion": 2, "previous": 1}
    first, second = promotion_log.read(two)
    assert (first.action, first.version, first.before, first.outcome) == ("promoted", 1, None, "bootstrap")
    assert (second.action, second.version, second.before, second.outcome) == ("promoted", 2, 1, "pass")
    client = tracking_store.connect(two)
    tags = client.get_model_version(load(two.folder).project, "2").tags
    assert tags["gate"] == "pass" and tags["champion.by"] == second.who and tags["champion.at"] == second.when
    assert tags["gate.why"].startswith("pass: 1 rule held")


def test_back_and_forth(two: Project):
    client, params = tracking_store.connect(two), load(two.folder)
    assert "rolled back to version 1 (champion before: 2): it is slower" in promotion.roll_back(
        client, two, params, "it is slower"
    )
    assert aliases(two)["champion"] == 1
    with pytest.raises(ValueError, match=r"no earlier champion.*`make history.*make promote VERSION=n"):
        promotion.roll_back(client, two, params, "")
    assert "version 2 became champion" in promotion.promote(client, two, params, 2, "")
    assert promotion.promote(client, two, params, 2, "") == "version 2 is already the champion"
    assert aliases(two) == {"challenger": 2, "champion": 2, "previous": 1}
    with pytest.raises(ValueError, match="there is no version 9 of"):
        promotion.promote(client, two, params, 9, "")
    assert [entry.action for entry in promotion_log.read(two)] == [
        "promoted",
        "promoted",
        "rolled back",
        "promoted",
    ]


def test_what_the_gate_refuses_needs_a_reason(project: Project, tmp_path: Path):
    params = load(project.folder)
    run_once(project, params)
    swap_model(project, tmp_path, accuracy=0.80, width=7)
    run_once(project, params)
    client = tracking_store.connect(project)
    assert aliases(project) == {"challenger": 2, "champion": 1}
    with pytest.raises(ValueError, match=r'version 2:\nfail\n.*FAILS.*\n.*VERSION=2 REASON="..."'):
        promotion.promote(client, project, params, None, "")
    promotion.promote(client, project, params, None, "the old one is too large")
    last = promotion_log.read(project)[-1]
    assert (last.version, last.forced, last.outcome) == (2, True, "fail")
    assert last.why.startswith("the old one is too large (the gate: fail: ")
    assert "FORCED" in promotion_log.line(last)


def test_a_champion_that_cannot_be_measured_stays_and_the_way_out_names_the_version(
    project: Project, tmp_path: Path
):
    champion = run_once(project, load(project.folder))[1]
    swap_model(project, tmp_path, accuracy=0.95, width=7)
    champion.file.unlink()
    gate_inputs.result_file(project, champion).unlink()
    reason = run_once(project, load(project.folder))[2]
    assert "cannot be evaluated" in reason and str(champion.file) in reason
    command = project.make('promote VERSION=2 REASON="..."')
    assert reason.count("make promote") == 1 and command in reason
    assert aliases(project) == {"challenger": 2, "champion": 1}


def test_a_file_that_is_not_what_was_registered_is_not_promoted(two: Project):
    name = load(two.folder).project
    version = model_versions.named(two, name, version=1)
    assert version is not None
    version.file.write_bytes(version.file.read_bytes() + b"x")
    with pytest.raises(ValueError, match="is not the file that was registered"):
        promotion.promote(tracking_store.connect(two), two, load(two.folder), 1, "why not")
    assert aliases(two)["champion"] == 2


def test_an_alias_moved_by_hand_is_put_on_record(two: Project):
    client, name = tracking_store.connect(two), load(two.folder).project
    client.set_registered_model_alias(name, "champion", "1")
    promotion.record_changes(two, name)
    assert promotion_log.read(two)[-1].action == "by hand"
    promotion.record_changes(two, name)
    assert len(promotion_log.read(two)) == 3, "the change is logged once"
    assert aliases(two) == {"challenger": 2, "champion": 1, "previous": 2}
    client.delete_registered_model_alias(name, "champion")
    promotion.record_changes(two, name)
    assert promotion_log.read(two)[-1].version is None
    assert "removed by hand" in promotion_log.line(promotion_log.read(two)[-1])


def test_a_promotion_that_was_cut_off_is_finished(two: Project):
    """The line is written, but MLflow has not changed yet."""
    client, name = tracking_store.connect(two), load(two.folder).project
    promotion_log.add(two, action="rolled back", version=1, before=2, digest="", why="cut off")
    with promotion_log.exclusive(two):
        promotion.reconcile(client, two, name)
    assert aliases(two)["champion"] == 1
    assert [entry.action for entry in promotion_log.read(two)] == ["promoted", "promoted", "rolled back"]


def test_a_lost_log_comes_back(two: Project):
    whole = promotion_log.path(two).read_text()
    promotion_log.path(two).unlink()
    promotion.record_changes(two, load(two.folder).project)
    assert promotion_log.path(two).read_text() == whole


def test_a_line_that_was_changed_is_noticed(two: Project):
    lines = promotion_log.path(two).read_text().splitlines()
    value = json.loads(lines[0])
    promotion_log.path(two).write_text(
        "\n".join([json.dumps({**value, "why": "because"}), *lines[1:]]) + "\n"
    )
    with pytest.raises(ValueError, match="line 2: it does not follow from the line before"):
        promotion_log.read(two)
    promotion_log.path(two).write_text(lines[1] + "\n")
    with pytest.raises(ValueError, match="line 1: it does not follow"):
        promotion_log.read(two)
    promotion_log.path(two).write_text("{")
    with pytest.raises(ValueError, match="line 1"):
        promotion_log.read(two)


def promote_one(folder: str, number: int) -> str:
    """Promote a version in a separate process."""
    project = Project(Path(folder))
    return promotion.promote(
        tracking_store.connect(project), project, load(project.folder), number, f"promoter of {number}"
    )


def test_many_at_once(two: Project):
    context = get_context("forkserver")
    context.set_forkserver_preload(["temper.ops.release.promotion", "tests.unit.ops.test_promotion"])
    with context.Pool(MANY) as pool:
        said = pool.starmap(
            promote_one, [(str(two.folder), 1 + number % 2) for number in range(MANY)], chunksize=1
        )
    assert len(said) == MANY
    entries = promotion_log.read(two)  # raises an error if a line does not follow from the one before
    assert len(entries[2:]) == sum("became champion" in each for each in said)
    for before, after in pairwise(entries):
        assert after.before == before.champion and after.version != before.champion
    assert aliases(two)["champion"] == entries[-1].version
    assert aliases(two)["previous"] == entries[-2].version


def test_a_rollback_goes_past_what_was_rolled_back():
    entry = promotion_log.Entry(number=1, action="promoted", version=1, before=None, digest="", why="")
    line = [
        entry,
        *(replace(entry, version=version) for version in (2, 3)),
        replace(entry, action="kept", version=4),
    ]
    assert promotion.previous(line) == 2
    line.append(replace(entry, action="rolled back", version=2))
    assert promotion.previous(line) == 1
    line.append(replace(entry, version=5))
    assert promotion.previous(line) == 2

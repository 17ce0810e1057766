"""The input of the gate: the champion measured on the current test images, or why it cannot be measured."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from temper.config import load
from temper.gate.params import Rule
from temper.gate.rating import read_rating
from temper.ops.mlflow import model_versions
from temper.ops.mlflow.model_versions import Registered
from temper.ops.project import Project
from temper.ops.release import gate_inputs
from tests.unit.ops.registering import run_once, swap_model

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def champion(project: Project) -> Registered:
    return run_once(project, load(project.folder))[1]


def test_a_lost_file_is_incomparable_and_named(project: Project, champion: Registered, tmp_path: Path):
    swap_model(project, tmp_path, accuracy=0.95, width=7)
    champion.file.unlink()
    gate_inputs.result_file(project, champion).unlink()
    found = gate_inputs.judge_candidate(
        project, load(project.folder), model_versions.named(project, champion.name, version=champion.version)
    )
    assert found.outcome == "incomparable" and not found.opens
    assert (
        "cannot be evaluated" in found.why
        and str(champion.file) in found.why
        and "make rollback" in found.why
    )


def test_another_file_is_incomparable(project: Project, champion: Registered, tmp_path: Path):
    swap_model(project, tmp_path, accuracy=0.95, width=7)
    champion.file.write_bytes(champion.file.read_bytes() + b"x")
    gate_inputs.result_file(project, champion).unlink()
    found = gate_inputs.judge_candidate(
        project, load(project.folder), model_versions.named(project, champion.name, version=champion.version)
    )
    assert found.outcome == "incomparable" and "missing or damaged" in found.why


def test_a_rating_that_is_kept_is_not_measured_again(project: Project, champion: Registered):
    file = gate_inputs.result_file(project, champion)
    before = file.read_bytes()
    found = gate_inputs.measure_version(project, champion)
    assert not isinstance(found, str) and found.model == champion.digest
    assert file.read_bytes() == before and read_rating(file).measured_on == "toys"


def test_a_damaged_rating_is_measured_anew(
    project: Project, champion: Registered, capfd: pytest.CaptureFixture[str]
):
    """Measuring fails, since the toy project has no test images; this shows that the rating was not used."""
    gate_inputs.result_file(project, champion).write_bytes(b"half")
    found = gate_inputs.measure_version(project, champion)
    assert isinstance(found, str) and "cannot be evaluated" in found
    assert "measuring version 1" in capfd.readouterr().out
    assert not gate_inputs.result_file(project, champion).exists()


def test_a_rule_on_the_teacher_is_checked_for_the_model_of_the_last_run(
    project: Project, champion: Registered, tmp_path: Path
):
    params = load(project.folder)
    rule = TypeAdapter(Rule).validate_python({"metric": "headline", "max_drop": 0.5, "vs": "teacher"})
    params = params.model_copy(update={"gate": replace(params.gate, rules=(rule,))})
    found = gate_inputs.judge_version(project, params, champion, champion)
    assert found.outcome == "pass" and "teacher" in str(found.reasons[0])
    swap_model(project, tmp_path, accuracy=0.95, width=7)
    again = model_versions.named(project, champion.name, version=champion.version)
    assert again is not None
    gate_inputs.result_file(project, again).write_bytes(any_rating(project))
    found = gate_inputs.judge_version(project, params, again, None)
    assert found.outcome == "fail"
    assert "only the model of the last run is compared with it" in str(found.reasons[0])


def any_rating(project: Project) -> bytes:
    """Any rating on the current images."""
    return (project.artifacts / "evaluate" / "ratings" / "quantized.safetensors").read_bytes()

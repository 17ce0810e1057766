from pathlib import Path

import pytest

from temper.make_command import PROJECT, ROOT, make_command


@pytest.mark.parametrize(
    ("folder", "command"),
    [
        (ROOT, "make ui"),
        (ROOT / "examples" / "digits", "make ui PROJECT=examples/digits"),
        (Path("/data/my pets"), "make ui PROJECT='/data/my pets'"),
    ],
)
def test_a_command_works_in_the_repository(folder: Path, command: str, monkeypatch: pytest.MonkeyPatch):
    assert make_command("ui", folder) == command
    monkeypatch.setenv(PROJECT, str(folder))
    assert make_command("ui") == command, "the folder of the process's own project"


def test_a_process_without_a_project_advises_the_plain_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(PROJECT, raising=False)
    assert make_command("pipeline") == "make pipeline"

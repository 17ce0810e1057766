"""Running stages and writing their artifacts in tests, as the command line does."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from temper import artifacts
from temper.artifacts import Artifact

Run = Callable[..., dict[str, Artifact]]


def seal(stage: str, params: Mapping[str, Any], inputs: Mapping[str, Artifact], project: Path) -> Artifact:
    out, work = project / "artifacts" / stage, project / "work" / stage
    number = 0
    while out.exists():
        number += 1
        out = project / f"artifacts{number}" / stage
    out.mkdir(parents=True)
    work.mkdir(parents=True, exist_ok=True)
    run = import_module(f"temper.stages.{stage}").run
    facts = run(SimpleNamespace(**params), inputs, out, project=project, work=work)
    made_from = {name: artifact.digest for name, artifact in inputs.items()}
    return artifacts.write(stage, out, made_from=made_from, params="", code="", facts=facts)

"""dvc.yaml as text, generated from the STAGES table, the imports of each stage and the project's parameters."""

import io
import os
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from temper.config import Params
from temper.networks.params import watched_file
from temper.stages import STAGES, Stage
from temper.stages.source_deps import stage_sources

FILE = "dvc.yaml"
HEADER = "# Generated from the STAGES table (src/temper/stages): `make dvc-yaml` writes it, a test holds it equal.\n"


def dvc_yaml(project: Path, params: Params) -> str:
    """The text of a project's dvc.yaml; paths are relative to the project's folder."""
    stages = {stage.name: _stage(project.resolve(), stage, params) for stage in STAGES}
    stream = io.StringIO()
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 140
    yaml.dump({"stages": stages}, stream)
    return HEADER + stream.getvalue()


def _stage(project: Path, stage: Stage, params: Params) -> dict[str, Any]:
    deps = [os.path.relpath(path, project) for path in stage_sources(stage.name)]
    deps += [f"artifacts/{name}" for name in stage.inputs]
    for dotted in stage.external:
        value: Any = params
        for name in dotted.split("."):
            value = getattr(value, name, None)
        path = watched_file(value) if value is not None else None
        if path is not None and (project / path).exists():
            deps.append(path)
    return {
        "desc": stage.summary,
        # `exec`: no shell stays between DVC and the stage, so that a stage notices when DVC is killed.
        "cmd": f"exec python -m temper stage {stage.name}",
        "deps": deps,
        "params": list(stage.params),
        "outs": [f"artifacts/{stage.name}"],
    }

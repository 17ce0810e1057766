"""Rules of the code base, each one checked by a test."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from typer.main import get_command

from temper.cli.main import app
from temper.config import Params, load
from temper.stages import BY_NAME, STAGES
from temper.stages.dvc_yaml import dvc_yaml
from temper.stages.source_deps import stage_sources

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "temper").rglob("*.py"))
CODE = [*SOURCES, *sorted((ROOT / "tasks").glob("*.py")), *sorted((ROOT / "flows").glob("*.py"))]
PROJECTS = [ROOT, *sorted(path.parent for path in (ROOT / "examples").glob("*/params.yaml"))]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name)
def test_dvc_yaml_is_the_table_of_stages(project: Path):
    assert (project / "dvc.yaml").read_text(encoding="utf-8") == dvc_yaml(project, load(project)), (
        "run `make dvc-yaml`"
    )


def test_every_section_of_the_parameters_belongs_to_a_stage_or_a_task():
    read = {section for stage in STAGES for section in stage.params}
    assert set(Params.model_fields) - read == {"project", "gate", "plan", "retrain", "serve"}


def leaves(kind: Any, seen: set[type]) -> Iterator[tuple[type, str]]:
    """Yield every field of every section, at any depth, with the dataclass that declares it."""
    for part in get_args(kind):
        yield from leaves(part, seen)
    if isinstance(kind, type) and is_dataclass(kind) and kind not in seen:
        seen.add(kind)
        hints = get_type_hints(kind, include_extras=True)
        for item in fields(kind):
            yield kind, item.name
            yield from leaves(hints[item.name], seen)


def names_read(path: Path) -> set[str]:
    """Return the attributes that a file reads.

    If it calls `getattr` with a computed name, every string in the file may be that name.
    """
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    read = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr"]
    if any(not isinstance(call.args[1], ast.Constant) for call in calls):
        read |= {
            node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
    return read


def test_every_parameter_is_read_by_a_stage_that_depends_on_it():
    for section, info in Params.model_fields.items():
        stages = [stage.name for stage in STAGES if section in stage.params]
        paths = {path for stage in stages for path in stage_sources(stage)}
        if any(BY_NAME[stage].ranked for stage in stages):
            # The number of hosts does not change the result: it is read by the start of a stage and by the
            # agent, which no stage depends on.
            paths |= {
                ROOT / "src" / "temper" / name
                for name in ("stages/run_stage.py", "engine/distributed/elastic_agent.py")
            }
        if not stages:
            folders = ("tasks", "flows", "src/temper/ops", "src/temper/gate", "src/temper/serving")
            paths = {path for folder in folders for path in (ROOT / folder).rglob("*.py")}
        read = set[str]().union(*(names_read(path) for path in paths))
        named = {"source", "family", "kind"}  # Discriminators: pydantic reads them.
        for owner, name in leaves(info.annotation, set()):
            assert name in read | named, f"{section}: no code reads {owner.__name__}.{name}"


@pytest.mark.parametrize("stage", ["ingest", "prepare", "augment"])
def test_stages_that_move_files_never_import_torch(stage: str):
    code = (
        f"import sys, temper.cli.main, temper.stages.run_stage, temper.stages.{stage}; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    "module", ["temper.config", "temper.stages.dvc_yaml", "temper.cli.main", "flows.__main__"]
)
def test_planning_needs_neither_torch_nor_prefect_nor_mlflow(module: str):
    code = f"import sys, {module}; assert not {{'torch', 'prefect', 'mlflow'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def outside_problems() -> list[Path]:
    return [path for path in CODE if path.parent.name != "problems"]


def test_no_code_branches_on_a_kind_of_problem():
    """A stage calls methods of the problem and does not look at its kind, its class or its name."""
    kinds = {"multiclass", "multilabel", "segmentation", "regression", "detection"}
    for path in outside_problems():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                key_of_coco = path.name == "coco_objects.py" and node.value == "segmentation"
                assert key_of_coco or node.value not in kinds, f"{where} names the kind {node.value!r}"
            if isinstance(node, ast.Compare | ast.Match):
                found = {ast.unparse(part) for part in ast.walk(node) if isinstance(part, ast.Attribute)}
                assert not [text for text in found if text.endswith("problem.kind")], (
                    f"{where} branches on a kind"
                )
            if isinstance(node, ast.Name | ast.Attribute):
                name = node.id if isinstance(node, ast.Name) else node.attr
                assert name not in {
                    "Multiclass",
                    "Multilabel",
                    "Segmentation",
                    "Regression",
                    "Keypoints",
                    "Detection",
                }, f"{where} names the class {name}"


def test_no_code_knows_an_input_by_its_name():
    """Only inputs and problems do; sources say what they give, and the server's page says what is usual."""
    free = ("data/source_params.py", "data/sources/", "data/intake/", "serving/app.py", "inputs/")
    for path in outside_problems():
        where = path.relative_to(ROOT).as_posix().removeprefix("src/temper/")
        if where.startswith(free):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            keys: list[Any] = []
            if isinstance(node, ast.Subscript):
                keys = [node.slice]
            elif isinstance(node, ast.Dict):
                keys = node.keys
            elif isinstance(node, ast.Compare):
                keys = [node.left, *node.comparators]
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".get"):
                keys = node.args
            named = [key.value for key in keys if isinstance(key, ast.Constant)]
            assert not {"image", "text", "table", "clip"} & {*map(str, named)}, (
                f"{path}:{node.lineno} {named}"
            )


def test_only_measurements_open_the_test_split():
    for path in CODE:
        text = path.read_text(encoding="utf-8")
        if path.name == "packed.py":
            continue
        if "held_out" in text:
            assert path.relative_to(ROOT).as_posix() in ("src/temper/stages/holdout.py",), path
    for stage in ("train", "distill", "quantize", "augment"):
        for path in stage_sources(stage):
            if {"stages", "engine", "compress"} & {*path.parts}:
                assert '"test"' not in path.read_text(encoding="utf-8"), path


def test_weights_are_never_pickles():
    for path in CODE:
        loads, safe = [], []
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                assert not {"pickle", "joblib", "dill", "cloudpickle"} & set(names), path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) != ("torch", "save"), path
                if (node.value.id, node.attr) == ("torch", "load"):
                    loads.append(node)
            if isinstance(node, ast.Call) and any(word.arg == "weights_only" for word in node.keywords):
                # Files of others may be read as plain tensors: this does not run any code in them.
                assert [ast.unparse(word.value) for word in node.keywords if word.arg == "weights_only"] == [
                    "True"
                ]
                safe.append(node.func)
        assert [node.lineno for node in loads if node not in safe] == [], path


def test_annotations_are_real():
    assert [
        path for path in CODE if "from __future__ import annotations" in path.read_text(encoding="utf-8")
    ] == []


def test_files_and_functions_stay_small():
    for path in CODE:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 300, f"{path} has {text.count(chr(10))} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno is not None
                documented = len((ast.get_docstring(node) or "").splitlines())
                length = node.end_lineno - node.lineno + 1 - documented
                assert length <= 60, f"{path}:{node.lineno} {node.name} has {length} lines"


def test_no_two_files_have_one_name():
    """The name of a module identifies a file; only `params` may exist in every package."""
    stems = Counter(path.stem for path in CODE)
    free = {"params", "__init__", "__main__"}
    assert {stem: count for stem, count in stems.items() if count > 1 and stem not in free} == {}


def test_names_of_files_are_not_vague():
    vague = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
    assert [path for path in CODE if path.stem in vague] == []


def test_every_make_target_in_the_docs_exists():
    targets = set(
        re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    for page in PAGES:
        for target in re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8")):
            assert target in targets, f"{page.name} names `make {target}`"


def test_every_command_of_the_library_in_the_docs_exists():
    known = set(get_command(app).commands)
    for page in PAGES:
        for command in re.findall(r"(?:`|python -m )temper ([a-z-]+)", page.read_text(encoding="utf-8")):
            assert command in known, f"{page.name} names `temper {command}`"


def test_every_file_in_the_docs_exists():
    for page in PAGES:
        for name in re.findall(
            r"`((?:src|tasks|flows|tests|bench|docs|examples)/[\w./-]+)`", page.read_text(encoding="utf-8")
        ):
            assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_the_page_of_parameters_is_fresh():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        from make_params import render
    finally:
        sys.path.pop(0)
    assert (ROOT / "docs" / "params.md").read_text(encoding="utf-8") == render(), "run `make docs`"


def test_the_example_of_a_folder_is_what_init_writes():
    r"""Write the example again with this command:

    python -c "from tests.unit.recipe.typical import text; print(text(), end='')" \
        > examples/folder/params.yaml
    """
    from tests.unit.recipe.typical import text

    assert (ROOT / "examples" / "folder" / "params.yaml").read_text(encoding="utf-8") == text()

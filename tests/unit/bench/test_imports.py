"""Benchmarks are run seldom; what they import of temper must still be there."""

import ast
import importlib.util
from pathlib import Path

import pytest

from tests.project import ROOT

FILES = sorted((ROOT / "bench").rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_a_benchmark_imports_exists(file: Path):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "temper":
            module = importlib.import_module(node.module or "")
            for name in node.names:
                known = hasattr(module, name.name) or importlib.util.find_spec(f"{node.module}.{name.name}")
                assert known, f"{node.module} has no {name.name}"

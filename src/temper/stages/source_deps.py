"""Find the source files that a stage runs by following its imports. DVC tracks exactly these files.

Imports inside functions count. Imports under `if TYPE_CHECKING:` do not count, since they never run. The
entry point (`__main__.py`), the parser of params.yaml (`config.py`) and its error messages
(`config_errors.py`) are left out on purpose: they only pass values on, and DVC tracks the values.
"""

import ast
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def stage_sources(stage: str) -> tuple[Path, ...]:
    """Return every file of the package that `temper.stages.<stage>` can reach, sorted."""
    found: set[Path] = set()
    todo = [PACKAGE / "stages" / f"{stage}.py"]
    while todo:
        path = todo.pop()
        if path in found:
            continue
        found.add(path)
        todo += _imports(path)
    # The `__init__.py` of each package on the way runs too. That of `stages` only holds the table.
    found |= {
        folder / "__init__.py"
        for path in list(found)
        for folder in path.parents
        if PACKAGE in (folder, *folder.parents)
    }
    found.discard(PACKAGE / "stages" / "__init__.py")
    return tuple(sorted(path for path in found if path.stat().st_size))


@cache
def _imports(path: Path) -> tuple[Path, ...]:
    names: list[str] = []
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"), str(path))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            todo += node.orelse
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        todo += ast.iter_child_nodes(node)
    return tuple(file for name in names if name.split(".")[0] == "temper" for file in _files(name))


def _files(module: str) -> list[Path]:
    base = PACKAGE.joinpath(*module.split(".")[1:])
    return [file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()]

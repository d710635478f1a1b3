"""The rules of the architecture, read from the source by its syntax tree: imports inside functions count as well."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {"spaces": set(), "objectives": {"spaces"}, "search": {"objectives", "spaces"}}
FILES = sorted(path for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py"))
BY_FILE = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


def module_name(path: Path) -> str:
    """Return the installed name of a file: spaces/space.py -> coreml_pareto.spaces.space."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("coreml_pareto", *(parts[:-1] if parts[-1] == "__init__" else parts)))


MODULES = {module_name(path): path for path in FILES}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def imports(root: ast.AST, without: Sequence[ast.If] = ()) -> set[str]:
    """Return the names of all modules imported below a node; `from a import b` is a.b where that is a module of ours.

    What the bodies of the blocks `without` import counts only where it is imported elsewhere, too.
    """
    found: set[str] = set()
    passed_over = {node for block in without for statement in block.body for node in ast.walk(statement)}
    for node in ast.walk(root):
        if node in passed_over:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            module = node.module or ""
            found |= {f"{module}.{a.name}" if f"{module}.{a.name}" in MODULES else module for a in node.names}
    return found


def typing_only(root: ast.Module) -> list[ast.If]:
    """Return the `if TYPE_CHECKING:` blocks, which import nothing at run time."""
    return [node for node in ast.walk(root) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]


def third_party(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(tree(path))}


def test_the_rooms_are_found() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(MAY_IMPORT)
    assert "coreml_pareto.spaces.space" in MODULES


@BY_FILE
def test_rooms_import_in_one_direction(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    rooms = {name.split(".")[1] for name in imports(tree(path)) if name.startswith("coreml_pareto.")}
    assert rooms <= MAY_IMPORT[room] | {room}
    assert not third_party(path) & {"spaces", "objectives", "search", "studies", "tests", "benchmarks"}


@BY_FILE
def test_imports_of_ours_exist(path: Path) -> None:
    assert {name for name in imports(tree(path)) if name.startswith("coreml_pareto")} <= set(MODULES)


BACK = ("coreml_pareto.objectives.program.program", "coreml_pareto.objectives.program.weights")
"""The one import that goes back, when `Program.weights` is asked: the rows of a record, priced by a later module."""


def test_no_cycle_among_modules() -> None:
    graph = {}
    for name, path in MODULES.items():
        graph[name] = {other for other in imports(tree(path), typing_only(tree(path))) if other in MODULES} - {name}
    module, later = BACK
    graph[module].remove(later)  # fails when it is gone, and so should this exception
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


@BY_FILE
def test_no_file_imports_both_optuna_and_torch(path: Path) -> None:
    assert not {"optuna", "torch"} <= third_party(path)


@BY_FILE
def test_coremltools_is_imported_where_packages_are_written_and_read(path: Path) -> None:
    rooms = ("search/stages", "objectives/program", "objectives/measuring")
    assert any(path.is_relative_to(ROOT / room) for room in rooms) or "coremltools" not in third_party(path)


@BY_FILE
def test_a_module_begins_with_its_docstring(path: Path) -> None:
    assert not tree(path).body or ast.get_docstring(tree(path))


@BY_FILE
def test_files_and_functions_are_short(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) <= 450
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert length <= 60, f"{node.name} has {length} lines"


def test_studies_are_data_only() -> None:
    assert not list((ROOT / "studies").rglob("*.py"))


def test_the_checks_see_imports_inside_functions() -> None:
    source = (
        "def f():\n    import optuna.samplers\n    from coreml_pareto.spaces import space\n    from torch import nn\n"
    )
    assert imports(ast.parse(source)) == {"optuna.samplers", "coreml_pareto.spaces.space", "torch"}


def test_what_is_imported_for_types_and_at_run_time_counts() -> None:
    """Which of the two comes first does not matter; an `else` is run time, too."""
    source = ast.parse(
        "if TYPE_CHECKING:\n    from coreml_pareto.spaces import space\n    import numpy\nelse:\n    import torch\n"
        "def f():\n    from coreml_pareto.spaces import space\n"
    )
    assert imports(source) == {"coreml_pareto.spaces.space", "numpy", "torch"}
    assert imports(source, typing_only(source)) == {"coreml_pareto.spaces.space", "torch"}

"""The structure of the code: who may import whom, who knows Spain, and how long a function may be.

The rules are those of docs/architecture.md.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from demand_assets.settings import PROJECT

PACKAGE = PROJECT / "demand_assets"
MODULES = sorted(PACKAGE.rglob("*.py"))
INTERNALS = "orchestration/dagster_internals/"

LEAVES = {"atomic_write", "grid", "processes", "proxies", "retry"}
MAY_IMPORT = {
    "grid": set(),
    "atomic_write": set(),
    "processes": set(),
    "proxies": set(),
    "retry": {"grid"},
    "settings": {"stores"},
    "demand": {"grid"},
    "forecast": {"demand", "grid", "atomic_write"},
    "redata": {"demand", "grid", "proxies", "retry", "atomic_write"},
    "stores": {"demand", "grid", "proxies", "retry", "atomic_write"},
    "simulator": {"grid", "processes"},
    "launcher": {"dashboards", "demand", "grid", "processes", "settings", "simulator"},
    "doctor": {"forecast", "launcher", "redata", "settings", "stores", *LEAVES},
    "dashboards": {"demand", "stores", "settings", *LEAVES},
    "orchestration": {"dashboards", "demand", "forecast", "redata", "settings", "stores", *LEAVES},
    "definitions": {"orchestration", "settings", "stores"},
    # Aliases for instances that an earlier version has configured.
    "event_log": {"orchestration"},
    "run_launcher": {"orchestration"},
}
"""The parts of the package that each part may import, besides itself."""


def imports(module: Path) -> Iterator[tuple[str, str]]:
    """Each import of a module, as the module imported from and the name."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{module} has a relative import"
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)


def name_of(module: Path) -> str:
    return module.relative_to(PACKAGE).as_posix()


def part_of(path: str) -> str:
    """The part of the package that a file or a dotted name belongs to."""
    return re.split(r"[/.]", path)[0]


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_imports_point_downwards(module: Path) -> None:
    part = part_of(name_of(module))
    if part == "__init__":
        return
    for source, name in imports(module):
        if source.startswith("demand_assets") and name != "__version__":
            imported = part_of(f"{source}.{name}".removeprefix("demand_assets."))
            assert imported in MAY_IMPORT[part] | {part}, f"{part} imports {source}.{name}"


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_only_orchestration_imports_dagster(module: Path) -> None:
    uses_dagster = any(source.split(".")[0] == "dagster" for source, _ in imports(module))
    assert not uses_dagster or name_of(module).startswith(("orchestration/", "definitions.py"))


def test_private_names_are_few_and_in_one_folder() -> None:
    private = {
        (name_of(module), name)
        for module in MODULES
        for source, name in imports(module)
        if not source.startswith("demand_assets") and re.search(r"(^|\.)_[a-z]", source)
    }
    files = {file for file, _ in private}
    assert private, "the internals of Dagster are not found"
    assert all(file.startswith(INTERNALS) for file in files), files
    assert len(private) <= 16
    assert len(files) <= 4


def test_one_file_knows_spain() -> None:
    spain = re.compile(
        r"Europe/Madrid|\bZoneInfo\(|\"(1293|544)\"|\"RealDemand\"|\"ForecastDemand\""
    )
    found = [name_of(module) for module in MODULES if spain.search(module.read_text())]
    # The simulator takes the part of the API, whose series it has to know.
    assert [file for file in found if not file.startswith("simulator/")] == ["grid.py"]


def test_functions_are_short() -> None:
    lengths = {
        f"{name_of(module)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(lengths) > 200
    assert {name: lines for name, lines in lengths.items() if lines > 50} == {}


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_each_module_says_what_it_is_for(module: Path) -> None:
    assert ast.get_docstring(ast.parse(module.read_text()))

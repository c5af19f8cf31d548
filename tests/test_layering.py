"""Imports run one way, graphc -> codegen -> passes -> ir, and every module is named and introduced as it should be."""

import ast
import configparser
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# From the bottom up: a module may import its own layer and those before it.
LAYERS = {"graphc.ir": "ir", "graphc.passes": "passes", "graphc.codegen": "codegen", "graphc": "graphc"}
ORDER = list(LAYERS)


def modules() -> dict[str, Path]:
    """Every module of the four folders, by the name under which it must be imported."""
    found = {}
    for package, folder in LAYERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


def imports(source: str) -> Iterator[str]:
    """Yield the full name of everything that a module imports, wherever in it the statement stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def layer(name: str) -> str | None:
    """Return the layer of a full name: the first that contains it (graphc itself comes last), or None."""
    return next((package for package in ORDER if f"{name}.".startswith(f"{package}.")), None)


def violations(module: str, source: str) -> list[str]:
    """Say what a module imports that it may not."""
    own, found = layer(module), []
    for name in imports(source):
        target = layer(name)
        if name.startswith("."):
            found.append(f"{module} imports {name}: write the full name")
        elif name.split(".")[0] in LAYERS.values() and target is None:
            found.append(f"{module} imports {name}: write graphc.{name}")
        elif own and target and ORDER.index(target) > ORDER.index(own):
            found.append(f"{module} imports {name}: {own} stands below {target}")
    return found


def clashes(package: str, source: str, names: set[str]) -> list[str]:
    """Return the submodules of a package whose names its __init__ gives to something else."""
    bound = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            kept = (alias for alias in node.names if f"{node.module}.{alias.name}" not in names)
            bound |= {alias.asname or alias.name for alias in kept}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
    return sorted(f"{package}.{name}" for name in bound if f"{package}.{name}" in names)


MODULES = modules()


def test_every_folder_is_looked_at() -> None:
    assert {*LAYERS, "graphc.examples"} <= MODULES.keys()


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module: str) -> None:
    assert violations(module, MODULES[module].read_text()) == []


@pytest.mark.parametrize("folder", ["tests", "benchmarks"])
def test_programs_import_the_packages_by_their_full_names(folder: str) -> None:
    found = [line for path in sorted((ROOT / folder).rglob("*.py")) for line in violations(path.stem, path.read_text())]
    assert found == []


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("graphc.ir.core", "from graphc.passes.fuse import fuse", "graphc.ir stands below graphc.passes"),
        ("graphc.ir.core", "import graphc", "graphc.ir stands below graphc"),
        ("graphc.ir.ops.linear", "from graphc import Planner", "graphc.ir stands below graphc"),
        ("graphc.passes.fuse", "def f():\n    from graphc import codegen", "graphc.passes stands below graphc.codegen"),
        ("graphc.codegen.cpu", "import ir.core", "write graphc.ir.core"),
        ("graphc.codegen.cpu", "from passes import fuse", "write graphc.passes.fuse"),
        ("graphc.codegen.cpu", "from . import names", "write the full name"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str, expected: str) -> None:
    (found,) = violations(module, source)
    assert found.endswith(expected)


@pytest.mark.parametrize(
    "source",
    ["import ircam", "import numpy as ir", "from graphc import ir", "import graphc.ir", "from json import codegen"],
)
def test_a_right_import_is_not_found(source: str) -> None:
    assert violations("graphc.passes.fuse", source) == []


@pytest.mark.parametrize("package", [name for name, path in MODULES.items() if path.name == "__init__.py"])
def test_no_module_shares_its_name_with_an_export(package: str) -> None:
    assert clashes(package, MODULES[package].read_text(), set(MODULES)) == []


def test_a_shared_name_is_found() -> None:
    names = {"graphc.compile", "graphc.views", "graphc.ir"}
    source = "from graphc import ir\nfrom graphc.compile import compile\nfrom graphc.views import View\nviews = 1\n"
    assert clashes("graphc", source, names) == ["graphc.compile", "graphc.views"]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_first_says_its_idea(module: str) -> None:
    docstring = ast.get_docstring(ast.parse(MODULES[module].read_text()), clean=False)
    assert docstring, f"{module} has no docstring"
    assert docstring.splitlines()[0].strip(), f"{module}: the first line of the docstring is empty"


def test_setup_cfg_maps_every_package() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    options = config["options"]
    assert set(options["packages"].split()) == {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert dict(line.split(" = ") for line in options["package_dir"].strip().splitlines()) == LAYERS

"""graphc is one copy of every module, and works as a wheel, editable, and as a checkout that nobody installed."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("graphc", "ir", "passes", "codegen")

# Imports every module by its full name; prints, for each of their files, the names under which it is loaded.
LOAD_ALL = """
import importlib.util, json, pkgutil, sys
for layer in ("graphc", "graphc.ir", "graphc.passes", "graphc.codegen"):
    package = importlib.import_module(layer)
    for found in pkgutil.walk_packages(package.__path__[:1], layer + "."):
        if not found.name.endswith("__main__"):
            try:
                importlib.import_module(found.name)
            except ModuleNotFoundError as error:  # what runs on a GPU needs the extra "cuda", which may not be there
                if importlib.util.find_spec("numba_cuda") or not error.name.startswith("numba.cuda"):
                    raise
names = {}
for name, module in sys.modules.items():
    file = getattr(module, "__file__", None)
    if file and name.split(".")[0] in ("graphc", "ir", "passes", "codegen"):
        names.setdefault(file, []).append(name)
print(json.dumps(names))
"""


def python(code: str, cwd: Path, path: Path | None = None, executable: str = sys.executable) -> str:
    """Run a fresh interpreter in a folder, optionally with another on PYTHONPATH, and return what it prints."""
    return command([executable, "-c", code], cwd, path)


def command(arguments: list[str], cwd: Path, path: Path | None = None) -> str:
    """Run a command to its end and return what it prints."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if path:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{arguments} in {cwd} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy what an install needs, so that whatever is installed here cannot stand in for it, nor building change it."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.mark.parametrize("way", ["working directory", "PYTHONPATH"])
def test_an_uninstalled_checkout_is_one_copy(way: str, checkout: Path, tmp_path: Path) -> None:
    path = checkout if way == "PYTHONPATH" else None
    names = json.loads(python(LOAD_ALL, tmp_path if path else checkout, path))
    files = {str(path) for folder in FOLDERS for path in (checkout / folder).rglob("*.py")}
    assert set(names) == {file for file in files if not file.endswith("__main__.py")}
    assert {file: found for file, found in names.items() if len(found) > 1} == {}
    assert {name.split(".")[0] for found in names.values() for name in found} == {"graphc"}


def test_an_uninstalled_checkout_runs_the_example(checkout: Path) -> None:
    assert "loss" in command([sys.executable, "-m", "graphc.examples.digits", "--list"], checkout)


def test_import_leaves_slow_libraries_and_the_compiler_alone(checkout: Path, tmp_path: Path) -> None:
    modules = python("import graphc, sys; print(*sys.modules)", tmp_path, path=checkout).split()
    slow = {"numba", "networkx", "scipy", "tqdm", "safetensors", "pandas", "matplotlib"}
    assert "graphc.views" in modules
    assert {name.split(".")[0] for name in modules} & slow == set()
    assert [name for name in modules if name.startswith(("graphc.passes", "graphc.codegen"))] == []


def test_a_call_on_the_processor_needs_no_library_for_others(checkout: Path, tmp_path: Path) -> None:
    """None for GPUs, nor the one for what passes for these (and for gradients of their own) do with graphs."""
    call = "x = graphc.Input((3,), name='x'); graphc.compile(np.sum(np.exp(x)), wrt=[x]).value_and_grad(x=np.ones(3))"
    code = f"import graphc, sys, numpy as np; {call}; print(*sys.modules)"
    modules = python(code, tmp_path, path=checkout).split()
    assert "numba" in modules
    assert {name for name in modules if name.split(".")[0] in ("networkx", "cuda", "nvmath")} == set()
    assert [name for name in modules if name.startswith("numba.cuda")] == []


def test_what_is_imported_later_is_there(checkout: Path, tmp_path: Path) -> None:
    code = "import graphc; print(*(f'{getattr(graphc, name)} {name in dir(graphc)}' for name in graphc.__all__))"
    assert "False" not in python(code, tmp_path, path=checkout)
    code = "import graphc\ntry: graphc.compil\nexcept AttributeError as error: print(error)"
    assert python(code, tmp_path, path=checkout).strip() == "module 'graphc' has no attribute 'compil'"


def test_the_digits_ship_as_they_are() -> None:
    folder = ROOT / "graphc" / "examples"
    with np.load(folder / "digits.npz", allow_pickle=False) as data:
        x, y = data["x"], data["y"]
    assert (x.shape, x.dtype, int(x.min()), int(x.max())) == ((1797, 64), np.uint8, 0, 16)
    assert (y.shape, y.dtype) == ((1797,), np.int64)
    # The class counts of the test set, as the data set's own description has them.
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    text = (folder / "digits.txt").read_text()
    assert "10.24432/C50P49" in text and "CC BY 4.0" in text


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Make a virtual environment that lacks graphc alone: it reads the other libraries from where the tests run."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    dependencies = tmp_path / "dependencies"
    dependencies.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(("graphc", "__editable__")):
            (dependencies / entry.name).symlink_to(entry)
    # (As a folder of packages, not a plain path: numba-cuda takes numba.cuda's place by a .pth file of its own.)
    (site_packages(home) / "dependencies.pth").write_text(f"import site; site.addsitedir({str(dependencies)!r})\n")
    return home


def site_packages(environment: Path) -> Path:
    """Return the folder into which an environment installs."""
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))


def executable(environment: Path) -> str:
    """Return an environment's interpreter."""
    return str(Path(sysconfig.get_path("scripts", "venv", {"base": str(environment)})) / "python")


@pytest.mark.full
@pytest.mark.parametrize("options", [[], ["--editable"]], ids=["wheel", "editable"])
def test_an_install_works_from_anywhere(options: list[str], checkout: Path, environment: Path, tmp_path: Path) -> None:
    installed = executable(environment)
    command([installed, "-m", "pip", "install", "--quiet", "--no-deps", *options, str(checkout)], tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    home = checkout if options else site_packages(environment)
    for cwd, expected in ((elsewhere, home), (checkout, checkout)):
        names = json.loads(python(LOAD_ALL, cwd, executable=installed))
        assert [file for file in names if not file.startswith(str(expected))] == []
        assert [found for found in names.values() if len(found) > 1] == []
        assert "loss" in command([installed, "-m", "graphc.examples.digits", "--list"], cwd)


@pytest.mark.full
def test_a_wheel_adds_graphc_alone(checkout: Path, environment: Path, tmp_path: Path) -> None:
    site = site_packages(environment)
    before = set(site.iterdir())
    command([executable(environment), "-m", "pip", "install", "--quiet", "--no-deps", str(checkout)], tmp_path)
    assert {path.name.partition("-")[0] for path in set(site.iterdir()) - before} == {"graphc"}
    shipped = {path.relative_to(site / "graphc").as_posix() for path in (site / "graphc").rglob("*")}
    expected = {"py.typed", "examples/digits.npz", "examples/digits.txt", "ir/__init__.py", "ir/ops/__init__.py"}
    assert expected <= shipped

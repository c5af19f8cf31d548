import os
import stat
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numba.core import config
from numba.core.errors import TypingError

from graphc.codegen import cache

SOURCE = """
from numba import float64, njit, void
from numpy import empty, float64 as f64

from graphc.codegen.blas import gemm
from graphc.codegen.runtime import arena, subarray


@njit(void(float64[:, ::1], float64), cache=True)
def shift(x, by):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[i, j] += by


@njit(float64[:, ::1](float64[:, ::1]), cache=True)
def square(x):
    memory = arena(x.size * 8)
    product = subarray(memory, 0, x.shape, f64)
    gemm(x, x, product)
    shift(product, MARK)
    return product
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Give each test a cache folder, and forget what it loaded as a new process would."""
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(config, "CACHE_DIR", "")
    yield tmp_path / "cache" / "graphc"
    forget()


def forget():
    for name in [name for name in sys.modules if name.startswith("graphc._generated.")]:
        del sys.modules[name]


def source(mark):
    return SOURCE.replace("MARK", str(float(mark)))


def works(module, mark):
    x = np.arange(4.0).reshape(2, 2)
    np.testing.assert_array_equal(module.square(x), x @ x + mark)
    return True


def hits(module):
    return [sum(f.stats.cache_hits.values()) for f in (module.shift, module.square)]


def test_a_module_is_a_readable_private_file(folder):
    module = cache.load("Digits.loss", source(1))
    assert works(module, 1)
    assert module.__name__.startswith("graphc._generated.Digits_loss_")
    (path,) = cache.entries()
    assert module.__file__ == str(path) and path.parent == folder
    assert path.read_text() == source(1)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sys.path.count(str(folder)) == 0


def test_loading_again_gives_the_same_module():
    module = cache.load("twice", source(1))
    assert cache.load("twice", source(1)) is module
    assert cache.load("twice", source(2)) is not module
    assert len(cache.entries()) == 2


def run_elsewhere(stem, **environment):
    """Load and call the module in a process of its own; return what it prints: a sum and who answered from where."""
    program = f"""
import sys
import numpy
from graphc.codegen import cache

square = cache.load("{stem}", sys.stdin.read()).square
print(square(numpy.eye(2)).sum(), [*square.stats.cache_hits.values()] if hasattr(square, "stats") else type(square))
"""
    command = [sys.executable, "-c", program]
    environment = {**os.environ, **environment}
    return subprocess.run(command, input=source(1), text=True, capture_output=True, check=True, env=environment).stdout


def test_a_second_process_compiles_nothing_and_leaves_the_file_alone(folder):
    cache.load("again", source(1))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.[pn]*") if path.is_file()}
    assert len(before) >= 5
    assert run_elsewhere("again") == "6.0 [1]\n"
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_without_the_jit_it_is_plain_python():
    assert run_elsewhere("plain", NUMBA_DISABLE_JIT="1") == "6.0 <class 'function'>\n"


DAMAGES = {
    "empty": lambda data: b"",
    "cut short": lambda data: data[: len(data) // 2],
    "short by a byte": lambda data: data[:-1],
    "text": lambda data: b"not a cache entry\n" * 50,
    "zeros": lambda data: bytes(len(data)),
    "another pickle": lambda data: b"\x80\x04K\x01.",
}


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_compiled_again(folder, suffix, damage):
    assert hits(cache.load("damaged", source(1))) == [0, 0]
    forget()
    assert hits(cache.load("damaged", source(1))) == [1, 1]
    forget()
    (victim,) = folder.rglob(f"*.square-*.{suffix}")
    victim.write_bytes(DAMAGES[damage](victim.read_bytes()))
    assert works(cache.load("damaged", source(1)), 1)
    forget()
    assert hits(cache.load("damaged", source(1))) == [1, 1]


def test_a_damaged_entry_where_numba_was_told_to_keep_it(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "elsewhere"))
    cache.load("moved", source(1))
    (victim,) = (tmp_path / "elsewhere").rglob("*.square-*.nbc")
    victim.write_bytes(b"")
    forget()
    assert works(cache.load("moved", source(1)), 1)


def test_a_damaged_source_is_written_again():
    path = cache.load("torn", source(1)).__file__
    forget()
    with open(path, "w") as file:
        file.write("from numba")
    assert works(cache.load("torn", source(1)), 1)


def test_an_honest_error_is_raised_and_leaves_no_module():
    wrong = source(1).replace("x[i, j] += by", "x[i, j] += 'by'")
    for _ in range(2):
        with pytest.raises(TypingError, match="unicode_type") as caught:
            cache.load("wrong", wrong)
    assert caught.value.__context__ is None
    assert not [name for name in sys.modules if name.startswith("graphc._generated.wrong")]


def test_a_traceback_shows_the_line():
    module = cache.load("lines", "def fail():\n    raise ValueError('as asked')  # here\n")
    with pytest.raises(ValueError) as caught:
        module.fail()
    assert "raise ValueError('as asked')  # here" in "".join(traceback.format_exception(caught.value))


def test_threads_get_one_module():
    with ThreadPoolExecutor(8) as pool:
        modules = list(pool.map(lambda _: cache.load("threads", source(1)), range(8)))
    assert len(set(map(id, modules))) == 1
    assert works(modules[0], 1)


def test_processes_race_without_harm():
    with ThreadPoolExecutor(3) as pool:
        outputs = list(pool.map(lambda _: run_elsewhere("race"), range(3)))
    assert [output.split()[0] for output in outputs] == ["6.0"] * 3
    assert hits(cache.load("race", source(1))) == [1, 1]


def test_the_name_depends_on_what_the_code_is_made_from(monkeypatch):
    def name():
        forget()
        return cache.load("named", "from graphc.codegen.blas import gemm\n").__name__

    first = name()
    assert name() == first
    monkeypatch.setattr(config, "BOUNDSCHECK", 1)
    assert name() != first
    monkeypatch.undo()
    monkeypatch.setattr(cache, "_text", lambda module: "changed" if module == "graphc.codegen.intrinsics" else "")
    assert name() != first


def test_size_and_clear_touch_nothing_else(folder):
    cache.load("one", source(1))
    cache.load("two", "value = 2\n")
    foreign = folder / "mine.py"
    foreign.write_text("")
    assert cache.size() == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert cache.clear() == 2
    assert [path for path in folder.rglob("*") if path.is_file()] == [foreign]
    assert cache.size() == 0


def test_a_folder_open_to_others_is_closed(folder):
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    assert stat.S_IMODE(cache.folder().stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_used_is_replaced_and_named(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.warns(RuntimeWarning, match=r"GRAPHC_CACHE_DIR=\S+ cannot be used .*; generated code goes to "):
        chosen = cache.folder()
    assert chosen.parent == tmp_path and chosen.name.startswith("graphc-")


def test_a_link_is_not_followed(folder, tmp_path, monkeypatch):
    folder.parent.mkdir()
    folder.symlink_to(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.warns(RuntimeWarning, match="is not a folder of this user"):
        assert cache.folder() != folder


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="follows the XDG rules")
def test_the_usual_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("GRAPHC_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.folder() == tmp_path / ".cache" / "graphc"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder() == tmp_path / "xdg" / "graphc"

"""Generated source becomes a real file in a private cache, named by all that its machine code depends on, and a module.

Numba's own file cache keeps the machine code beside the source. It notices neither an edited callee in another file nor
most of its own flags, hence the name; and it does not survive a damaged entry, hence `load`.
"""

import contextlib
import functools
import getpass
import hashlib
import importlib.util
import os
import re
import stat
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import llvmlite
import numba
import numpy as np
from numba.core import config
from numba.core.caching import UserProvidedCacheLocator
from numba.core.registry import cpu_target

_PACKAGE = "graphc._generated"
_FLAGS = ("DISABLE_JIT", "OPT", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "SLP_VECTORIZE")
_IMPORT = re.compile(r"^\s*(?:from|import)\s+(graphc[\w.]*)", re.MULTILINE)
_OURS = re.compile(r"\w+_[0-9a-f]{16}\.py")
_LOADING = threading.RLock()


def load(stem: str, source: str) -> ModuleType:
    """Return the module of this source text, compiled before or now.

    Loading the same text again gives the same module. Many threads and processes may load at once: files appear whole
    or not at all, and the worst that a race costs is that two processes compile the same.

    Parameters
    ----------
    stem
        What the file's name begins with, for readers.
    source
        The text of the module. What it calls in graphc it imports as in `from graphc.codegen.blas import gemm`: the
        name follows the text of modules imported so.

    Returns
    -------
    ModuleType
        The module, named `graphc._generated.<stem>_<hash>`. Its `__file__` is the text, so tracebacks show its lines.
    """
    readable = re.sub(r"[^0-9A-Za-z]+", "_", stem)[:60].strip("_") or "module"
    # One lock for all: two threads must not import one module, and Numba compiles under a lock of its own anyway. (The
    # key has a setting in it that `KernelCompiler` changes meanwhile.)
    with _LOADING:
        name = f"{readable}_{_key(source)}"
        module = sys.modules.get(f"{_PACKAGE}.{name}")
        if module is not None:
            return module
        path = folder() / f"{name}.py"
        _write(path, source)
        found = _compiled(path)
        try:
            return _import(path)
        except Exception:
            # Unpickling a damaged entry can raise nearly anything. An honest error comes again without the entries.
            if not found:
                raise
            _delete(found)
        return _import(path)


def folder() -> Path:
    """Return the folder of generated modules, made on demand: the user's own, closed to others (mode 0700).

    It is `graphc` in the platform's cache folder, or `$GRAPHC_CACHE_DIR/graphc`. Where that cannot be used, it is a
    folder in the temporary directory.

    Raises
    ------
    OSError
        Where none of them can be used.
    """
    chosen = os.environ.get("GRAPHC_CACHE_DIR")
    temporary = Path(tempfile.gettempdir()) / f"graphc-{_user()}"
    try:
        return _private((Path(chosen) if chosen else _platform_caches()) / "graphc")
    except OSError as error:
        if chosen:
            message = f"GRAPHC_CACHE_DIR={chosen} cannot be used ({error}); generated code goes to {temporary}"
            warnings.warn(message, RuntimeWarning, stacklevel=3)
        return _private(temporary)


def entries() -> list[Path]:
    """Return the generated modules on disk, by name."""
    return sorted(path for path in folder().glob("*.py") if _OURS.fullmatch(path.name))


def size() -> int:
    """Return the bytes of all generated modules and their machine code."""
    return sum(path.stat().st_size for source in entries() for path in (source, *_compiled(source)))


def clear() -> int:
    """Delete all generated modules and their machine code; return how many modules there were.

    Modules that are loaded go on working.
    """
    sources = entries()
    for source in sources:
        _delete([*_compiled(source), source])
    return len(sources)


def _key(source: str) -> str:
    """Return the hash of all that decides what the source compiles to."""
    versions = (sys.version, np.__version__, numba.__version__, llvmlite.__version__)
    flags = [f"{flag}={getattr(config, flag)}" for flag in _FLAGS]
    # The native target, as Numba's own index counts it. Without the JIT there is none.
    target = () if config.DISABLE_JIT else cpu_target.target_context.codegen().magic_tuple()
    parts = (*_with_imports(source), *versions, *flags, *map(str, target))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _with_imports(source: str) -> list[str]:
    """Return the source and the text of the graphc modules that it imports, directly or through others.

    They are compiled into it, and their text stands for graphc's version.
    """
    texts, names = [source], set[str]()
    for text in texts:  # which grows on the way
        for name in _IMPORT.findall(text):
            if name not in names:
                names.add(name)
                texts.append(_text(name))
    return texts


@functools.cache
def _text(module_name: str) -> str:
    spec = importlib.util.find_spec(module_name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"generated code imports {module_name}, which has no source", name=module_name)
    return Path(spec.origin).read_text(encoding="utf-8")


def _write(path: Path, source: str) -> None:
    """Put the text there in one move; leave a file that has it alone (some Numba versions count its time stamp)."""
    text = source.encode()
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == text:
            return
    handle, temporary = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        _delete([Path(temporary)])
        raise


def _import(path: Path) -> ModuleType:
    name = f"{_PACKAGE}.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: Numba looks the module up by name when it reads an entry
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _compiled(source: Path) -> list[Path]:
    """Return what Python and Numba keep of the module: byte code, indices (.nbi) and machine code (.nbc)."""
    folders = [source.parent / "__pycache__"]
    if config.CACHE_DIR:  # NUMBA_CACHE_DIR moves Numba's part
        folders.append(Path(config.CACHE_DIR, UserProvidedCacheLocator.get_suitable_cache_subpath(str(source))))
    return [path for folder in folders for path in folder.glob(f"{source.stem}.*")]


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)  # another process may be deleting it too


def _private(path: Path) -> Path:
    """Make the folder, or make sure that it is this user's alone: whoever writes there runs code as this user."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid"):
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise PermissionError(f"{path} is not a folder of this user")
        if status.st_mode & 0o077:
            path.chmod(0o700)
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} is not writable")
    return path


def _platform_caches() -> Path:
    """Return the folder where this platform keeps a user's caches."""
    try:
        home = Path.home()
    except RuntimeError as error:
        raise OSError(str(error)) from error
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    if sys.platform == "darwin":
        return home / "Library" / "Caches"
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return chosen if chosen.is_absolute() else home / ".cache"


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()

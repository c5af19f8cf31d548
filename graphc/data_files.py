"""Arrays in files and on the screen: .npz and .safetensors files, nothing unpickled; values as lines of numbers."""

from __future__ import annotations

import io
import os
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphc.ir.errors import FeedTypeError, GraphcError
from graphc.ir.types import DTYPES, is_half, named_dtype


class FileError(GraphcError, OSError):
    """A file that cannot be read or written as asked."""


class Archive(Mapping[str, np.ndarray]):
    """The arrays of an .npz file by name, each read when it is asked for, and none unpickled."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._arrays = _opened(path, lambda: np.load(path, allow_pickle=False), ".npz")
        if not isinstance(self._arrays, np.lib.npyio.NpzFile):
            raise FileError(f"{path} holds one array without a name: write it by np.savez(file, name=array)")

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            array: np.ndarray = self._arrays[name]
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise FileError(f"cannot read {name} in {self._path}: {error}") from None
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays.files)

    def __len__(self) -> int:
        return len(self._arrays.files)


# What a .safetensors file calls the dtypes of graphs: F32, BF16, BOOL.
_SAFETENSORS = {short.upper(): name for name, short in DTYPES.items()}


def read_parameters(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a .safetensors file by name.

    Raises
    ------
    FileError
        (OSError) where there is no such file, or it holds numbers that graphs have no dtype for.
    """
    from safetensors import SafetensorError, deserialize  # whose `load` knows no bfloat16

    with _opened(path, lambda: open(path, "rb"), ".safetensors") as file:
        try:
            arrays = deserialize(file.read())
        except SafetensorError as error:
            raise FileError(f"cannot read {os.fspath(path)} as .safetensors: {error}") from None
    for name, part in arrays:
        if part["dtype"] not in _SAFETENSORS:
            raise FileError(f"cannot read {os.fspath(path)}: {name} is {part['dtype']}, which is no dtype of graphs")
    return {
        name: np.frombuffer(part["data"], named_dtype(_SAFETENSORS[part["dtype"]])).reshape(part["shape"])
        for name, part in arrays
    }


def _opened(path: str | os.PathLike[str], open_it: Callable[[], Any], kind: str) -> Any:
    try:
        return open_it()
    except OSError as error:
        raise FileError(f"cannot read {os.fspath(path)}: {error.strerror or error}") from None
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise FileError(f"{os.fspath(path)} is no {kind} file") from None


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that a reader, or a crash, never sees half of it."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def archive_bytes(arrays: Mapping[str, Any]) -> bytes:
    """The content of an .npz file: the same for the same arrays."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def picked(
    arrays: Mapping[str, Any], wanted: Sequence[str], aliases: Mapping[str, str], source: str, reader: str
) -> dict[str, Any]:
    """The arrays that a computation needs out of those that there are, surplus ones ignored.

    Parameters
    ----------
    arrays : mapping
        By name or alias.
    wanted : sequence of str
        The names.
    aliases : mapping from str to str
        Further names to those in `wanted`.
    source, reader : str
        Where the arrays come from and who needs them, for the error.

    Raises
    ------
    FeedError
        (TypeError) for those that are missing.
    """
    known = {aliases.get(name, name): name for name in arrays}
    missing = [name for name in wanted if name not in known]
    if missing:
        there = f"it has {', '.join(arrays)}" if arrays else "it is empty"
        raise FeedTypeError(f"{source} has no {', '.join(missing)}, which {reader} reads; {there}")
    return {name: arrays[known[name]] for name in wanted}


def array_lines(value: Any) -> str:
    """The elements as text: the last axis along a line (of vectors one element a line), matrices a blank line apart.

    Numbers have as many digits as it takes to read them back.
    """
    array = np.asarray(value)
    if array.ndim < 2:
        array = array.reshape(-1, 1)
    texts: np.ndarray
    if is_half(array.dtype):  # bfloat16 has no cast to text
        texts = np.array([str(each) for each in array.flat], str).reshape(array.shape)
    else:
        texts = array.astype(str)
    width = max((len(text) for text in texts.flat), default=0) if texts.shape[-1] > 1 else 0
    lines: list[str] = []
    for position in np.ndindex(texts.shape[:-1]):
        if lines and position and len(position) > 1 and position[-1] == 0:
            lines.append("")
        lines.append(" ".join(text.rjust(width) for text in texts[position]))
    return "".join(f"{line}\n" for line in lines)


def check_writable(path: str) -> None:
    """Refuse a place where no file can be written, before work is done for it."""
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        raise FileError(f"cannot write {path}: it is a folder")
    if not os.path.isdir(folder):
        raise FileError(f"cannot write {path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise FileError(f"cannot write {path}: the folder is read-only")

"""The stand-in for libcuda.so.1 is compiled: `driver.c`, and a stub for each function of cuda.h that it lacks."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

SOURCE = Path(__file__).parent / "driver.c"


def why_not() -> str | None:
    """What is missing on this machine, if something is."""
    if shutil.which("gcc") is None:
        return "the emulated device needs gcc"
    if find_spec("numba_cuda") is None or find_spec("cuda.pathfinder") is None:
        return "numba-cuda is not installed"
    if headers() is None:
        return "the emulated device needs cuda.h (of nvidia-cuda-runtime)"
    return None


def headers() -> Path | None:
    """The folder of cuda.h, which lies among the packages that numba-cuda needs."""
    from cuda.pathfinder import find_nvidia_header_directory

    folder = find_nvidia_header_directory("cudart")
    return Path(folder) if folder is not None and (Path(folder) / "cuda.h").exists() else None


def build(folder: Path, name: str = "libcuda.so.1") -> Path:
    """Compile into a folder; once it is loaded, whoever asks for a library of that name gets this one."""
    include, library, stubs = headers(), folder / name, folder / "stubs.c"
    assert include is not None
    declared = _functions(_preprocessed(include, '#include "cuda.h"\n'))
    defined = _functions(_preprocessed(include, SOURCE.read_text()), "{")
    lines = ["int emulator_missing(const char *name);"]
    lines += [f'int {name}(void) {{ return emulator_missing("{name}"); }}' for name in sorted(declared - defined)]
    # cuGetProcAddress is asked for names without the versions that macros of cuda.h give them.
    plain = sorted({re.sub(r"_v\d$", "", name) for name in declared} | declared)
    asked = _preprocessed(include, '#include "cuda.h"\n' + "\n".join(f'@"{name}" {name}' for name in plain))
    found = re.findall(r'@"(\w+)" (\w+)', asked)
    lines += [
        "const char *const emulator_names[] = {",
        *(f'    "{name}", "{full}",' for name, full in found),
        "    0};",
    ]
    errors = re.findall(r"(CUDA_(?:ERROR_\w+|SUCCESS))\s*=\s*(\d+)", (include / "cuda.h").read_text())
    lines += ["const char *emulator_error(int code) {", "    switch (code) {"]
    lines += [*(f'    case {code}: return "{name}";' for name, code in errors), "    default: return 0;", "    }", "}"]
    stubs.write_text("\n".join(lines) + "\n")
    options = ["-std=gnu11", "-O2", "-fPIC", "-shared", f"-I{include}", f"-Wl,-soname,{name}", "-pthread"]
    subprocess.run(["gcc", *options, SOURCE, stubs, "-o", library, "-lm", "-ldl"], check=True)
    return library


def _preprocessed(include: Path, text: str) -> str:
    command = ["gcc", "-E", "-P", f"-I{include}", "-x", "c", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def _functions(text: str, ends: str = ";{") -> set[str]:
    """The driver's functions, with their versions, that a preprocessed text declares, or only those that it defines."""
    return {name for name, end in re.findall(r"\bCUresult\s+(cu\w+)\s*\([^(){};]*\)\s*([;{])", text) if end in ends}

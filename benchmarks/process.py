"""A worker process seen from the harness: started in a known environment, asked, timed out, ended."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class WorkerError(Exception):
    """What went wrong in a worker, in one line; `details` has the rest."""

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(reason)
        self.details = details


class Worker:
    """One worker.

    Parameters
    ----------
    workload, implementation : str
        What it runs.
    quick : bool
        Whether at trial size.
    threads : int
        How many threads it may use.
    cache : Path
        The folder of whatever the library caches.
    target : str
        What is measured: "cpu" or "cuda".
    """

    def __init__(
        self, workload: str, implementation: str, quick: bool, threads: int, cache: Path, target: str = "cpu"
    ) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 closed with the worker
        self.began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", workload, implementation, "quick" if quick else "full", target],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=ROOT,
            env=environment(threads, cache, target),
            text=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._answers: queue.Queue[str] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        for line in self._stdout:
            self._answers.put(line)
        self._answers.put("")

    def ask(self, do: str, time_out: float, **arguments: Any) -> dict[str, Any]:
        """The answer to a request.

        Raises
        ------
        WorkerError
            Where the worker reports an error, ends, or does not answer within `time_out` seconds. The last two end it.
        """
        try:
            self._stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._stdin.flush()
            line = self._answers.get(timeout=time_out)
        except queue.Empty:
            self.close()
            raise WorkerError(f"no answer within {time_out:.0f} s") from None
        except BrokenPipeError:
            line = ""
        if not line:
            status, details = self._process.wait(), self._tail()
            self.close()
            last = details.strip().splitlines()[-1:] or [""]
            raise WorkerError(f"ended with status {status} {last[0]}".strip(), details)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"], answer["traceback"])
        return answer

    def _tail(self) -> str:
        if self._errors.closed:
            return ""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-4000:]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._stdin, self._stdout, self._errors):
            with contextlib.suppress(BrokenPipeError):  # what was not yet sent
                pipe.close()


DEVICES = {
    "cpu": {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""},
    "cuda": {
        "JAX_PLATFORMS": "cuda",  # and no other: with "cuda,cpu" it may take the CPU and say nothing
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",
        "NVIDIA_TF32_OVERRIDE": "0",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # others have arrays on the card too
    },
}


def environment(threads: int, cache: Path, target: str = "cpu") -> dict[str, str]:
    """The variables that every library reads its number of threads, its cache folder and its device from.

    Python keeps byte code, as it does for who uses the libraries.
    """
    names = (
        "OMP_NUM", "MKL_NUM", "OPENBLAS_NUM", "VECLIB_MAXIMUM", "NUMEXPR_NUM", "NUMBA_NUM", "GRAPHC_NUM",
    )  # fmt: skip
    folders = {
        "GRAPHC_CACHE_DIR": "graphc",
        "NUMBA_CACHE_DIR": "numba",
        "TORCHINDUCTOR_CACHE_DIR": "inductor",
        "TRITON_CACHE_DIR": "triton",
        "JAX_COMPILATION_CACHE_DIR": "jax",
    }
    return {
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        **{f"{name}_THREADS": str(threads) for name in names},
        "NPROC": str(threads),  # XLA's thread pools
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()}",
        **DEVICES[target],
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "PYTENSOR_FLAGS": f"base_compiledir={cache / 'pytensor'},openmp={threads > 1}",
        **{variable: str(cache / folder) for variable, folder in folders.items()},
    }

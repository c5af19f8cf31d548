"""What programs print: the same text everywhere, that reads back as the program, and source that plain Python runs."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden.network import Network

import graphc
from graphc import Dense, Input, Param, Planner, cross_entropy, grad, one_hot
from graphc.ir.graph import Graph
from graphc.ir.text import parse_graph, print_graph

TESTS = Path(__file__).parent
RNG = np.random.default_rng(2)


class Classifier(Planner):
    x = Input(("N", 4), "float32")
    labels = Input(("N",), "int64")
    hidden = x | Dense(6) | np.tanh
    logits = hidden | Dense(3)
    loss = cross_entropy(logits, labels)


class Mixed(Planner):
    a = Input(("N", "M"))
    i = Input(("K",), "int64")
    w = Param([[0.5], [-1.0]])
    s = Param(2.0)
    rows = a[i] ** 2 / (1 + np.abs(a[:1]))
    picked = np.where(rows > 0.1, np.sqrt(rows), -rows)
    total = np.sum(picked * s) + np.sum(np.max(a, axis=1)) + np.sum(w * w.T) + np.var(a)
    table = one_hot(i, 3) @ np.arange(6.0).reshape(3, 2)
    spread = a.at[i].add(1.0)


class Second(Planner):
    v = Input((3,))
    f = np.sum(np.exp(v)) * np.sum(np.sin(v))
    g = grad(f, v)
    h = grad(np.sum(g * v), v)


CLASSIFIER = ["hidden", "hidden.dense.weight", "hidden.dense.bias", "logits.dense.weight", "logits.dense.bias"]
FEEDS: dict[str, dict[str, Any]] = {
    "network": {"x": RNG.normal(size=(5, 2)), "y": RNG.random((5, 1))},
    "classifier": {"x": RNG.normal(size=(7, 4)).astype("float32"), "labels": np.array([0, 2, 1, -1, 0, 2, 1])},
    "mixed": {"a": RNG.normal(size=(3, 4)), "i": np.array([2, 0, -1, 2])},
    "second": {"v": RNG.normal(size=3)},
}
PROGRAMS: dict[str, Callable[[], graphc.Program]] = {
    "network": lambda: graphc.compile(Network.loss, wrt="params"),
    "classifier": lambda: graphc.compile([Classifier.loss, Classifier.logits], wrt=CLASSIFIER),
    "mixed": lambda: graphc.compile([Mixed.total, Mixed.table, Mixed.spread], wrt=[Mixed.a, Mixed.w, Mixed.s]),
    "second": lambda: graphc.compile([Second.f, Second.g, Second.h], wrt="v"),
}


def results(program: graphc.Program, name: str) -> list[np.ndarray]:
    """Everything that a program computes, as a list."""
    value, grads = program.value_and_grad(**FEEDS[name])
    values = value if isinstance(value, tuple) else (value,)
    return [np.asarray(one) for one in (*values, *grads.values())]


def assert_same(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        one = np.asarray(one)
        assert one.dtype == other.dtype and one.shape == other.shape
        rounding = 1e-5 if one.dtype == np.float32 else 1e-12
        np.testing.assert_allclose(one, other, rtol=rounding, atol=rounding)


# the golden file ------------------------------------------------------------------------------------------------------


def test_the_stages_of_a_network() -> None:
    """Compare with golden/network.txt; ``GRAPHC_UPDATE_GOLDEN=1 pytest tests/test_generated_source.py`` rewrites it."""
    program = graphc.compile(Network.loss, wrt="params")
    sections, previous, before = [], "", ""
    for stage in program.stages:
        text = program.ir(stage)
        sections.append(f"==== {stage} ====\n\n" + (f"(as after {before})\n" if text == previous else text))
        previous, before = text, stage
    golden, text = TESTS / "golden" / "network.txt", "\n".join(sections)
    if os.environ.get("GRAPHC_UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


# texts that read back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_graph_reads_back(name: str) -> None:
    program = PROGRAMS[name]()
    for variant in ("forward", "joint", "split"):
        for stage in program.stages[: program.stages.index("lower")]:
            state = program.graph(stage, variant)
            for graph in (state,) if isinstance(state, Graph) else state:
                text = print_graph(graph)
                assert print_graph(parse_graph(text)) == text


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_parsed_graph_computes_the_same(name: str) -> None:
    program = PROGRAMS[name]()
    expected = results(program, name)
    count = len(program.graph("build").outputs)
    for stage in ("build", "canonicalize", "stabilize", "differentiate", "simplify"):
        target = "cpu" if stage == "build" or (stage == "simplify" and name == "network") else "interpret"
        parsed = graphc.compile(parse_graph(program.ir(stage)), target=target, params=program.params)
        if stage in ("differentiate", "simplify"):  # the gradients are outputs now
            assert_same(list(parsed(**FEEDS[name])), expected)
        else:
            assert_same(results(parsed, name), expected)
    forward = graphc.compile(parse_graph(program.ir("build", "forward")), target="interpret", params=program.params)
    value = forward(**FEEDS[name])
    assert_same(list(value) if isinstance(value, tuple) else [value], expected[:count])


# other processes ------------------------------------------------------------------------------------------------------


def in_another_process(code: str, **environment: str) -> Any:
    """What code that imports this module prints, as JSON."""
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", f"import json, test_generated_source as tests\nprint(json.dumps({code}))"],
        env={**os.environ, "PYTHONPATH": paths, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def hashes() -> dict[str, str]:
    """A hash of all texts of every program."""
    found = {}
    for name, make in PROGRAMS.items():
        program = make()
        texts = [program.ir(stage, variant) for variant in ("forward", "joint", "split") for stage in program.stages]
        found[name] = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    return found


def test_text_does_not_depend_on_the_hash_seed() -> None:
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    assert in_another_process("tests.hashes()", PYTHONHASHSEED=other) == hashes()


def plain_results() -> dict[str, list[Any]]:
    """What every program computes; NaN-free, so that JSON carries it."""
    return {name: [one.tolist() for one in results(make(), name)] for name, make in PROGRAMS.items()}


def test_source_runs_without_the_jit() -> None:
    found = in_another_process("tests.plain_results()", NUMBA_DISABLE_JIT="1")
    for name, make in PROGRAMS.items():
        expected = results(make(), name)
        assert_same([np.asarray(one, like.dtype) for one, like in zip(found[name], expected, strict=True)], expected)

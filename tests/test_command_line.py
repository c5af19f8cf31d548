"""The switches of planner scripts: what they print, byte by byte; what they do; and what bad input gets."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load_file

import graphc
from graphc import Dense, Input, Planner, cross_entropy, grad
from graphc.command_line import main
from graphc.data_files import array_lines
from graphc.dispatch import FUNCTIONS, NAMESAKES, UFUNCS
from graphc.examples.digits import Digits, load
from graphc.expression_text import expression, listing, tree
from graphc.options import UsageError, read_options

TESTS = Path(__file__).parent

SCRIPT = """\
from sys import argv

import numpy as np
from graphc import Dense, Input, Planner, accuracy, cross_entropy


class Small(Planner):
    x = Input(("N", 3), "float32")
    y = Input(("N",), "int64")
    hidden = x | Dense(4) | np.tanh
    logits = hidden | Dense(2)
    scores = logits
    loss = cross_entropy(logits, y)
    acc = accuracy(logits, y)
    steps = np.where(x[1:] > x[:-1], 2 * (x[1:] - x[:-1]) ** 2, -x[1:, ::-1]) / x.shape[0]


if __name__ == "__main__":
    Small().main(argv)
"""


class Outcome(NamedTuple):
    """What a command line came to."""

    status: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line on the script, in a folder with the script and data.npz."""
    monkeypatch.chdir(tmp_path)
    Path("small.py").write_text(SCRIPT, encoding="utf-8")
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 3))
    np.savez("data.npz", x=x, y=(x.sum(axis=1) > 0).astype("int64"), surplus=np.zeros(2))
    planner = runpy.run_path("small.py", run_name="small")["Small"]

    def call(line: str, **own: Any) -> Outcome:
        capsys.readouterr()
        status = main(planner, ["/somewhere/small.py", *line.split()], **own)
        return Outcome(status, *capsys.readouterr())

    return call


# what is printed ------------------------------------------------------------------------------------------------------

SHOWN = {
    "list": "--list",
    "pprint": "--pprint loss",
    "steps": "--steps steps",
    "grad": "--grad loss",
    "tasks": "--tasks loss",
    "plan": "--plan loss",
    "help": "--help",
}


@pytest.mark.parametrize("name", SHOWN)
def test_golden(run: Run, name: str) -> None:
    outcome, golden = run(SHOWN[name]), TESTS / "golden" / f"command_{name}.txt"
    assert (outcome.status, outcome.err) == (0, "")
    if os.environ.get("GRAPHC_UPDATE_GOLDEN"):
        golden.write_text(outcome.out, encoding="utf-8")
    assert outcome.out == golden.read_text(encoding="utf-8")


# Every switch, twice in one process: the second time names and nodes are there already.
EVERYTHING = """
import contextlib, sys
from small import Small
for line in sys.argv[1].split(";") * 2:
    print("$", line, flush=True)
    with contextlib.suppress(SystemExit):
        Small().main(["small.py", *line.split()])
"""
LINES = (
    *SHOWN.values(), "--grad steps", "--tasks steps", "--plan steps", "--check loss", "--check loss --data data.npz",
    "--cat logits --data data.npz --opts target:interpret",
    "--train loss --data data.npz --opts epochs:3,target:interpret,batch_size:16", "--cat", "--steps nothing",
)  # fmt: skip


def test_output_is_the_same_for_every_hash_seed_and_a_second_time(run: Run, tmp_path: Path) -> None:
    def everything(seed: str) -> bytes:
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": f"{tmp_path}:{TESTS.parent}"}
        command = [sys.executable, "-c", EVERYTHING, ";".join(LINES)]
        return subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True).stdout

    first = everything("1")
    assert first == everything("2")
    assert first[: len(first) // 2] == first[len(first) // 2 :]
    assert str(tmp_path).encode() not in first
    assert b" at 0x" not in first


def test_a_view_that_is_no_scalar_shows_its_adjoint_for_any_cotangent(run: Run) -> None:
    assert "%d_steps: f32[N-1,3]" in run("--grad steps").out
    plan = run("--plan steps").out
    assert plan.count("from numba import") == 2
    tasks = run("--tasks steps").out
    assert "Small.steps.forward: " in tasks
    assert "Small.steps.backward: " in tasks


def test_a_view_without_derivative_is_shown_forward_alone(run: Run) -> None:
    outcome = run("--plan acc")
    assert outcome.status == 0
    assert "Returns acc." in outcome.out
    assert outcome.err.startswith("forward only: acc depends on hidden.dense.weight only through ")
    assert run("--tasks y").err == "forward only: it reads no floats\n"


def test_derivatives_are_with_respect_to_the_params_else_the_inputs_else_what_is_asked(run: Run) -> None:
    assert "return %loss, %d_hidden.dense.weight, %d_hidden.dense.bias, " in run("--grad loss").out
    assert run("--grad steps").out.endswith("  return %steps, %d_x\n}\n")
    assert run("--grad loss --opts wrt:x+scores").out.endswith("  return %loss, %d_x, %d_logits\n}\n")


def test_an_alias_is_as_good_as_its_name(run: Run) -> None:
    assert run("--steps scores").out == run("--steps logits").out


# expressions ----------------------------------------------------------------------------------------------------------


X, S = Input((3, 3), name="X"), Input((), name="S")
NAMESAKE_CALLS = {
    "np.linalg.norm(X, -inf, axis=(0, 1))": lambda: np.linalg.norm(X, -np.inf, axis=(0, 1)),
    "norm(X, 3, (0, 1))": lambda: graphc.norm(X, 3, (0, 1)),
    "np.linspace(X, 1, 4, axis=1)": lambda: np.linspace(X, 1, 4, axis=1),
    "linspace(S, 1, 4)": lambda: graphc.linspace(S, 1, 4),
    "np.logspace(S, 2, 4, dtype='int64')": lambda: np.logspace(S, 2, 4, dtype="int64"),
    "logspace(S, 2, 4)": lambda: graphc.logspace(S, 2, 4),
    "np.geomspace(S, 2, 4, axis=-1)": lambda: np.geomspace(S, 2, 4, axis=-1),
    "geomspace(S, 2, 4)": lambda: graphc.geomspace(S, 2, 4),
    "np.i0(X)": lambda: np.i0(X),
    "i0(X)": lambda: graphc.i0(X),
    "np.trace(X, 1)": lambda: np.trace(X, 1),
    "np.linalg.trace(X, offset=1)": lambda: np.linalg.trace(X, offset=1),
    "np.linalg.matrix_transpose(X)": lambda: np.linalg.matrix_transpose(X),
    "np.linalg.vector_norm(X, ord=1)": lambda: np.linalg.vector_norm(X, ord=1),
    "softmax(X, axis=0)": lambda: graphc.softmax(X, axis=0),
}


@pytest.mark.parametrize("text", NAMESAKE_CALLS)
def test_an_expression_is_what_its_text_says(text: str) -> None:
    view = NAMESAKE_CALLS[text]()
    assert expression(view) == text
    names = {name: getattr(graphc, name) for name in graphc.__all__}
    assert eval(text, {**names, "np": np, "inf": np.inf, "X": X, "S": S}).node is view.node


def test_functions_that_both_have_are_told_apart() -> None:
    assert {function.__name__ for function in (*UFUNCS, *FUNCTIONS)} & {*graphc.__all__} == {*NAMESAKES}


def test_expressions_stand_as_they_are_written() -> None:
    class P(Planner):
        x, y = Input(("N", 4)), Input(("N", 4))
        k = Input(("N",), "int64")
        a = (x + y) * -(x - (y - 1)) / 2**x
        b = (-x) ** 2 ** (y @ x.T)[:, :4]
        c = ~((k & 1) == 0) | (k << 2 > 3)
        d = np.sum(x[::2, None], axis=(1, 2), keepdims=True) // 2.5 % -1
        e = np.where(x > np.float32(0.5), x.T[0, 1], [1.0, 2.0, 3.0, 4.0])
        f = x.at[k, 1:].add(np.arange(3.0)).at[..., 0].set(0)
        g = np.concatenate([x, y + 1], axis=1).reshape(-1, 2).astype("float32")
        h = np.max(x) * x.shape[0] / (x.shape[0] - 1)
        i = grad(np.sum(x * y), [x, y])[1]
        j = x | Dense(3, bias=False)
        m = np.linalg.vector_norm(x) + np.arange(20.0)[:, None] * np.sum(x)

    rows = {line.split()[0]: line.split(maxsplit=2)[2] for line in listing(P).splitlines()}
    assert rows == {
        "x": "Input(('N', 4), 'float64')",
        "y": "Input(('N', 4), 'float64')",
        "k": "Input(('N',), 'int64')",
        "a": "(x + y) * -(x - (y - 1)) / 2 ** x",
        "b": "(-x) ** 2 ** (y @ x.T)[:, :4]",
        "c": "~(k & 1 == 0) | (k << 2 > 3)",
        "d": "np.sum(x[::2, None], axis=(1, 2), keepdims=True) // 2.5 % -1",
        "e": "np.where(x > np.float32(0.5), x.T[0, 1], [1.0, 2.0, 3.0, 4.0])",
        "f": "x.at[k, 1:].add(np.array([0.0, 1.0, 2.0], 'float64')).at[..., 0].set(0)",
        "g": "np.reshape(np.concatenate([x, y + 1], axis=1), (-1, 2)).astype('float32')",
        "h": "np.max(x) * N / (N - 1)",
        "i": "grad(np.sum(x * y), [x, y])[1]",
        "j.dense.weight": "Param((4, 3), 'glorot_uniform')",
        "j": "Dense(3)(x)",
        "m": "np.linalg.vector_norm(x) + <float64[20,1]> * np.sum(x)",
    }


def test_a_deep_and_shared_expression_has_a_short_text_and_a_tree() -> None:
    x = Input((), name="x")
    view = x
    for _ in range(3000):
        view = view + view
    assert "... + ..." in expression(view)
    assert len(expression(view)) < 250
    lines = tree(view).splitlines()
    assert len(lines) == 3001
    assert lines[3000] == f"{'| ' * 3000}x = Input((), 'float64') : f64[]"


def test_a_tree_shows_each_view_once() -> None:
    x = Input((), name="x")
    inner = np.sin(x)
    assert tree(inner * x + inner).splitlines() == [
        "add_0 = multiply_0 + sin_0 : f64[]",
        "| multiply_0 = sin_0 * x : f64[]",
        "| | sin_0 = np.sin(x) : f64[]",
        "| | | x = Input((), 'float64') : f64[]",
        "| | x",
        "| sin_0",
    ]


def test_a_view_that_only_derivatives_were_taken_of_has_a_name_in_the_tree() -> None:
    x = Input((3,), name="x")
    lines = tree(grad(np.sum(np.sin(x)), x)).splitlines()
    assert lines[1].lstrip("| ").startswith("grad_")


# what is computed -----------------------------------------------------------------------------------------------------


def test_cat_prints_rows(run: Run) -> None:
    own = {"x": np.ones((2, 3)), "y": np.array([0, 1])}
    assert run("--cat x", data=own).out == "1.0 1.0 1.0\n1.0 1.0 1.0\n"
    assert run("--cat y", data=own).out == "0\n1\n"
    outcome = run("--cat hidden --opts target:interpret", data=own)
    assert np.loadtxt(outcome.out.splitlines()).shape == (2, 4)
    assert run("--cat loss --data data.npz --opts target:interpret").out.count("\n") == 1


def test_numbers_read_back_exactly() -> None:
    values = np.array([[1e-30, -1 / 3], [np.pi, 1e22]])
    assert np.array_equal(np.loadtxt(array_lines(values).splitlines()), values)
    assert array_lines(np.float32(0.1)) == "0.1\n"
    assert array_lines(np.zeros((2, 2, 1), bool)) == "False\nFalse\n\nFalse\nFalse\n"
    assert array_lines(np.zeros((0, 3))) == ""


def test_store_writes_what_cat_prints(run: Run) -> None:
    for _ in range(2):
        outcome = run("--store scores --data data.npz --out out.npz --opts target:interpret")
        assert outcome == (0, "", "wrote out.npz\n")
    with np.load("out.npz") as file:
        assert file.files == ["scores"]
        assert array_lines(file["scores"]) == run("--cat scores --data data.npz --opts target:interpret").out
    assert sorted(path.name for path in Path().iterdir()) == ["data.npz", "out.npz", "small.py"]


def test_train_reports_saves_and_goes_on_from_there(run: Run) -> None:
    options = "--opts epochs:10,lr:0.02,batch_size:16"
    outcome = run(f"--train loss --data data.npz --out w.safetensors {options}")
    assert outcome.status == 0
    assert outcome.err.splitlines()[0] == "48 examples to train on, 12 held out"
    names, numbers = zip(*(line.split() for line in outcome.out.splitlines()), strict=True)
    assert names == ("loss", "acc", "val_loss", "val_acc")
    assert float(numbers[0]) < 0.5
    assert {line.index(number) for line, number in zip(outcome.out.splitlines(), numbers, strict=True)} == {10}
    assert list(load_file("w.safetensors")) == sorted(
        ["hidden.dense.bias", "hidden.dense.weight", "logits.dense.bias", "logits.dense.weight"]
    )
    again = run(f"--train loss --data data.npz --params w.safetensors {options}")
    assert float(again.out.split()[1]) < float(numbers[0])
    trained = run("--cat acc --data data.npz --params w.safetensors --opts target:interpret")
    assert float(trained.out) > 0.8
    checked = run("--check loss --data data.npz --params w.safetensors")
    assert checked.out != run("--check loss --data data.npz").out
    assert checked.out.count("  ok\n") == 4


def test_train_options(run: Run) -> None:
    line = "--train loss --data data.npz --opts epochs:1,target:interpret,"
    assert run(f"{line}validation:0,metrics:acc").out.split()[::2] == ["loss", "acc"]
    assert run(f"{line}metrics:loss").out.split()[::2] == ["loss", "loss_1", "val_loss", "val_loss_1"]
    outcome = run(f"{line}optimizer:sgd,wrt:logits.dense.bias,batch_size:0 --out w.safetensors")
    assert outcome.status == 0
    assert run(f"{line}seed:0").out != run(f"{line}seed:1").out


def test_a_training_that_fails_leaves_the_old_file(run: Run) -> None:
    Path("w.safetensors").write_bytes(b"what was there")
    np.savez("bad.npz", x=np.zeros((9, 3)), y=np.full(9, 5))
    outcome = run("--train loss --data bad.npz --out w.safetensors --opts target:interpret")
    assert outcome.status == 1
    assert "out of range" in outcome.err
    assert Path("w.safetensors").read_bytes() == b"what was there"
    assert sorted(path.name for path in Path().iterdir()) == ["bad.npz", "data.npz", "small.py", "w.safetensors"]


def test_an_interrupted_training_says_so_and_saves_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("graphc.trainer.Trainer.fit", interrupted)
    outcome = run("--train loss --data data.npz --out w.safetensors --opts target:interpret")
    assert (outcome.status, outcome.out, outcome.err.splitlines()[-1]) == (1, "", "small.py: interrupted")
    assert not Path("w.safetensors").exists()


def test_check_says_no_by_its_status(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    table = run("--check loss --opts wrt:x+hidden")
    assert table.status == 0
    assert [line.split()[0] for line in table.out.splitlines()] == ["name", "x", "hidden"]
    monkeypatch.setattr("graphc.gradient_check.TOLERANCE", -1.0)
    wrong = run("--check loss --opts wrt:x+hidden")
    assert wrong.status == 1
    assert wrong.out.count("WRONG") == 2


def test_an_unused_wrt_is_a_warning(run: Run) -> None:
    outcome = run("--grad hidden --opts wrt:hidden.dense.bias+logits.dense.bias")
    assert outcome.status == 0
    assert outcome.err == "warning: hidden does not depend on logits.dense.bias: its gradient is zeros\n"


def test_a_script_brings_data_and_defaults(run: Run) -> None:
    own = {"x": np.zeros((10, 3)), "y": np.zeros(10, int)}
    opts = {"target": "interpret", "epochs": 1, "validation": 0.5, "metrics": ["acc"]}
    outcome = run("--train loss", data=own, opts=opts)
    assert outcome.err.splitlines()[0] == "5 examples to train on, 5 held out"
    assert run("--train loss --opts validation:0.1", data=own, opts=opts).err.startswith("9 examples to train on")
    assert "lr:0.001 epochs:1 " in run("--help", opts=opts).out


def test_the_exit_status_of_a_script() -> None:
    assert Digits().main(["digits.py", "--help"]) == 0
    with pytest.raises(SystemExit) as exit:
        Digits().main(["digits.py", "--cat", "los"])
    assert exit.value.code == 2


def test_the_digits_are_learnt(capsys: pytest.CaptureFixture[str]) -> None:
    data = load()
    assert (data["x"].shape, data["x"].dtype, data["x"].max()) == ((1797, 64), np.float32, 1)
    assert Digits().main(["digits.py", "--train", "loss"], data=data, opts={"epochs": 30, "lr": 0.003}) == 0
    report = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert list(report) == ["loss", "acc", "val_loss", "val_acc"]
    assert float(report["val_acc"]) >= 0.97


# what bad input gets --------------------------------------------------------------------------------------------------

USAGE_ERRORS = {
    "--lits": "no switch '--lits'; did you mean '--list'?",
    "loss": "'loss' stands without a switch, such as --list or --cat loss",
    "--cat": "--cat wants V",
    "--cat --data": "--cat wants V",
    "--list --cat loss": "one thing at a time: --list or --cat",
    "--cat loss --cat acc": "--cat stands there twice",
    "--trace loss --data data.npz": "--trace is not there yet",
    "--draw loss": "--draw is not there yet",
    "--explore": "--explore is not there yet",
    "--pprint los": "no view named 'los' in Small; did you mean 'loss'?",
    "--pprint qqqq": "no view named 'qqqq' in Small; there are x, y, hidden.dense.weight, hidden.dense.bias, hidden, "
    "logits.dense.weight, logits.dense.bias, logits, scores, loss, acc, steps",
    "--cat loss": "--cat wants --data F: Small.loss reads x, y",
    "--cat loss --data none.npz": "cannot read none.npz: No such file or directory",
    "--cat loss --data small.py": "small.py is no .npz file",
    "--cat loss --data one.npy": "one.npy holds one array without a name: write it by np.savez(file, name=array)",
    "--cat loss --data objects.npz": "cannot read x in objects.npz: Object arrays cannot be loaded when "
    "allow_pickle=False",
    "--cat loss --data data.npz --params data.npz": "cannot read data.npz as .safetensors: ",
    "--cat loss --data data.npz --params none": "cannot read none: No such file or directory",
    "--store loss --data data.npz": "--store wants --out F",
    "--store loss --data data.npz --out no/where": "cannot write no/where: there is no folder no",
    "--train loss --data data.npz --out .": "cannot write .: it is a folder",
    "--grad loss --opts wrt:hiden": "the option wrt names 'hiden', which is no view in Small; did you mean 'hidden'?",
    "--train loss --data data.npz --opts metrics:ac": "the option metrics names 'ac', which is no view in Small; did "
    "you mean 'acc'?",
}


@pytest.mark.parametrize("line", USAGE_ERRORS)
def test_a_wrong_command_line_has_status_2(run: Run, line: str) -> None:
    np.save("one.npy", np.zeros(3))
    np.savez("objects.npz", x=np.array([{}], dtype=object), y=np.zeros(1, int))
    outcome = run(line)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith(f"small.py: {USAGE_ERRORS[line]}")
    assert outcome.err.count("\n") == 1


def test_no_switch_prints_what_there_is(run: Run) -> None:
    for line in ("", "--data data.npz"):
        outcome = run(line)
        assert (outcome.status, outcome.out) == (2, "")
        assert outcome.err == run("--help").out
    assert not {"--trace", "--draw", "--explore"} & set(outcome.err.split())


NOES = {
    "--cat loss --data part.npz": "part.npz has no y, which Small.loss reads; it has x",
    "--cat loss --data short.npz --opts target:interpret": "x has N = 4, y has N = 3",
    "--train loss --data short.npz": "x has N = 4, y has N = 3",
    "--cat loss --data wide.npz --opts target:interpret": "x wants float32 of shape (N, 3), got shape (4, 5)",
    "--cat loss --data text.npz --opts target:interpret": "y wants int64, got float64, which does not cast",
    "--cat loss --data labels.npz --opts target:interpret": "Small.loss, small.py:13: y: index out of range: 2 for",
    "--check acc": "acc depends on hidden.dense.weight only through ",
    "--grad y": "y reads no floats to differentiate it with respect to",
    "--grad loss --opts wrt:y": "no derivative with respect to y: it is i64[N], and only floats have one",
    "--train logits --data data.npz": "the gradient of logits wants a scalar, and it is f32[N,2]",
    "--train steps --data data.npz": "",
    "--cat loss --data data.npz --opts target:cuda": "the target 'cuda'",
    "--cat loss --data data.npz --params other.safetensors": "other.safetensors has no hidden.dense.weight, "
    "hidden.dense.bias, logits.dense.weight, logits.dense.bias, which Small.loss reads; it has w",
}


@pytest.mark.parametrize("line", NOES)
def test_a_computation_that_says_no_has_status_1(run: Run, line: str) -> None:
    from safetensors.numpy import save_file

    x, y = np.zeros((4, 3)), np.zeros(4, int)
    np.savez("part.npz", x=x)
    np.savez("short.npz", x=x, y=y[:3])
    np.savez("wide.npz", x=np.zeros((4, 5)), y=y)
    np.savez("text.npz", x=x, y=y + 0.5)
    np.savez("labels.npz", x=x, y=y + 2)
    save_file({"w": x}, "other.safetensors")
    outcome = run(line)
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.splitlines()[-1 - outcome.err.count("\n  ")].startswith(f"small.py: {NOES[line]}")
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch:3", "no option 'epoch'; did you mean 'epochs'?"),
        ("deterministic:yes", "the option deterministic cannot be 'yes': there are false, true"),
        ("epochs", "--opts wants name:value pairs, got 'epochs'"),
        ("epochs:many", "the option epochs cannot be 'many': it is a positive integer"),
        ("epochs:0", "the option epochs cannot be '0': it is a positive integer"),
        ("seed:-1", "the option seed cannot be '-1': it is an integer from 0"),
        ("threads:x", "the option threads cannot be 'x': it is a number of threads, 0 for all"),
        ("lr:nan", "the option lr cannot be 'nan': it is a positive number"),
        ("batch_size:1.5", "the option batch_size cannot be '1.5': it is a number of examples, 0 for all"),
        ("validation:1", "the option validation cannot be '1': it is a fraction from 0, less than 1"),
        ("target:gpu", "the option target cannot be 'gpu': did you mean 'cpu'?"),
        ("optimizer:rmsprop", "the option optimizer cannot be 'rmsprop': there are adam, sgd"),
        ("wrt:a++b", "the option wrt cannot be 'a++b': names are joined by +, as in a+b"),
    ],
)
def test_a_wrong_option_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        read_options(text)
    assert str(error.value) == message


def test_options_of_a_gpu(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    class Wide(Planner):
        a, b = Input((300, 400), "float32"), Input((400, 500), "float32")
        product = a @ b

    assert main(Wide, ["wide.py", "--plan", "product", "--opts", "target:cuda,matmul_precision:bfloat16"]) == 0
    assert 'matmul(a, b, product, stream, precision="bfloat16")' in capsys.readouterr().out
    outcome = run("--plan loss --opts deterministic:true")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("small.py: matmul_precision and deterministic are for target:cuda")


def test_options_are_the_users_then_the_scripts_then_the_tables() -> None:
    options = read_options("lr:0.5,wrt:a+b", {"lr": 0.1, "epochs": 3, "metrics": ("p", "q"), "seed": None})
    assert options == {
        "target": "cpu", "matmul_precision": "float32", "deterministic": "false", "seed": 0, "threads": 0,
        "wrt": ["a", "b"], "optimizer": "adam", "lr": 0.5, "epochs": 3, "batch_size": 64, "validation": 0.2,
        "metrics": ["p", "q"],
    }  # fmt: skip
    with pytest.raises(UsageError, match="no option 'epocs'"):
        read_options(None, {"epocs": 3})


def test_two_planners_in_one_file_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    class Base(Planner):
        x = Input(("N", 2))
        y = Input(("N",), "int64")

    class Child(Base):
        loss = cross_entropy(Base.x, Base.y)

    assert main(Child, ["two.py", "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["x", "y", "loss"]

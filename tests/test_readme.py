"""README says what is so: its examples run and print what it shows, its switches and names exist."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import sys
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from printed import disagreement

import graphc

README = Path(__file__).resolve().parents[1] / "README.md"
SHELL = ("bash", "text")
SCRIPT = re.compile(r"^python (?:curve\.py|-m graphc\.examples\.digits)(.*)$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block of README."""

    line: int
    language: str
    text: str


def blocks() -> list[Block]:
    """Every fenced block, in order."""
    text = README.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(text.count("\n", 0, match.start()) + 1, *match.groups()) for match in found]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with README's curve.py in it, which is the working directory."""
    (script,) = (block.text for block in blocks() if block.text.startswith("# curve.py\n"))
    (tmp_path / "curve.py").write_text(script, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "curve", raising=False)
    return tmp_path


def test_the_examples_print_what_is_shown(folder: Path) -> None:
    namespace: dict[str, object] = {"__name__": "readme"}
    printed = ""
    for before, block in pairwise(blocks()):
        if block.language == "python" and not block.text.startswith("# curve.py\n"):
            source = "\n" * block.line + block.text
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(source, str(README), "exec"), namespace)
            printed = output.getvalue()
        elif block.language in ("text", "py") and before.language == "python":
            assert disagreement(block.text, printed) is None, f"README.md:{block.line}"
            printed = ""
    assert (folder / "curve.safetensors").exists()


def test_the_commands_print_what_is_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = [(before, after) for before, after in pairwise(blocks()) if (before.language, after.language) == SHELL]
    assert len(shown) == 2
    for command, output in shown:
        words = command.text.splitlines()[-1].split()
        run(words[1:], monkeypatch)
        assert disagreement(output.text, capsys.readouterr().out) is None, f"README.md:{output.line}"


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run what stands after `python`, to exit status 0."""
    name = words[1] if words[0] == "-m" else words[0]
    monkeypatch.setattr(sys, "argv", words[1:] if words[0] == "-m" else words)
    monkeypatch.delitem(sys.modules, name, raising=False)
    try:
        if words[0] == "-m":
            runpy.run_module(name, run_name="__main__")
        else:
            runpy.run_path(name, run_name="__main__")
    except SystemExit as end:
        assert not end.code


def test_every_output_has_its_example() -> None:
    languages = [block.language for block in blocks()]
    assert set(languages) == {"bash", "python", "text", "py"}
    assert {before for before, after in pairwise(languages) if after in ("text", "py")} == {"bash", "python"}


def test_its_names_are_exported() -> None:
    source = "".join(block.text for block in blocks() if block.language == "python")
    imported = re.findall(r"^from graphc import (.*)$", source, re.MULTILINE)
    names = {name for line in imported for name in line.split(", ")} | set(re.findall(r"\bgraphc\.(\w+)", source))
    assert {"Planner", "Trainer", "compile", "grad"} <= names
    assert names <= set(graphc.__all__)


def test_its_switches_exist(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from curve import Curve

    with contextlib.suppress(SystemExit):
        Curve().main(["curve.py", "--help"])
    known = set(re.findall(r"--\w+", capsys.readouterr().out))
    commands = SCRIPT.findall("".join(block.text for block in blocks() if block.language == "bash"))
    table = re.findall(r"^\| `(--.*?)` \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    shown = {switch for text in (*commands, *table) for switch in re.findall(r"--\w+", text)}
    assert len(commands) >= 4  # or the pattern finds none
    assert "--train" in shown
    assert shown <= known


def test_what_is_not_there_yet_is_not_exported() -> None:
    text = README.read_text(encoding="utf-8").partition("Not yet there:")[2].partition("\n\nWhere")[0]
    missing = set(re.findall(r"`(\w+)`", text))
    assert {"scan", "while_loop"} <= missing
    assert missing.isdisjoint(graphc.__all__)


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []


def test_the_test_command_stands_where_it_is_looked_for() -> None:
    text = README.read_text(encoding="utf-8")
    command = re.search(r"^<!-- test-command -->\n```bash\n(.*?)```\n<!-- /test-command -->$", text, re.M | re.S)
    assert command is not None
    assert command[1] == 'python -m pip install -e ".[test]"\npython -m pytest -n auto --dist worksteal\n'


@pytest.mark.parametrize(
    ("shown", "printed", "wrong"),
    [
        ("a\nb", "a\nb\n", None),
        ("a\n...\nd", "a\nb\nc\nd\n", None),
        ("...\nd\n...", "a\nb\nc\nd\ne\n", None),
        ("loss 0.61, and", "loss 0.612, and", None),
        ("a\nb", "a\nc\n", "shown but not printed:\nb\nprinted:\nc"),
        ("a\nb", "a\n", "shown but not printed:\nb\nprinted:\n"),
        ("a", "a\nb\n", "printed but not shown:\nb"),
        ("...\nb\nd", "a\nb\nc\nd", "shown but not printed:\nb\nd"),
        ("loss 0.6", "loss 0.7", "shown but not printed:\nloss 0.6\nprinted:\nloss 0.7"),
        ("f64[2]", "f64[3]", "shown but not printed:\nf64[2]\nprinted:\nf64[3]"),
    ],
)
def test_a_difference_is_found(shown: str, printed: str, wrong: str | None) -> None:
    assert disagreement(shown, printed) == wrong

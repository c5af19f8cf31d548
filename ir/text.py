"""The tensor IR as text: a graph printed one typed step a line, with the user's names and places, and read back.

``print_graph(parse_graph(text)) == text`` for every text that `print_graph` made. The grammar is in GRAMMAR.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from graphc.ir.core import INPUT, PARAM, Literal, Node, Op, constant, leaf, scalar_value
from graphc.ir.errors import DeclarationError
from graphc.ir.graph import Graph, naming
from graphc.ir.ops import OPS
from graphc.ir.tokens import Parser, Token, align, name_text, number_text, parse_error, value_text
from graphc.ir.types import TensorType

# A header longer than this has a line for every leaf.
WIDTH = 120
_PLACE = re.compile(r'"(?:[^"\\]|\\.)*"|[^,"]+')
_GENERATED = re.compile(r"(.+)_\d+", re.DOTALL)

# printing -----------------------------------------------------------------------------------------------------------


def print_graph(graph: Graph) -> str:
    """The text of a graph: deterministic, and exact down to the bits of its constants.

    Numbers that elementwise steps read stand in place; so do they lose their own names (which no user gave them) and
    places. What no output, update or wrt needs is not in a graph, and not in its text.
    """
    names = naming(graph)
    named = {*graph.names, *graph.roots}
    named |= _referred(graph, named)
    steps = [step for step in graph.steps if scalar_value(step) is None or step in named]
    lines = list(_header(graph, names))
    lines += [(f"  {step_text(step, names, named)}", _places(graph, step)) for step in steps]
    lines += [(f"  update {_ref(param, names)} = {_ref(value, names)}", "") for param, value in graph.updates]
    lines.append((f"  return {_refs(graph.outputs, names)}".rstrip(), ""))
    return align(lines) + "}\n"


def step_text(node: Node, names: Mapping[Node, str], named: Collection[Node] = ()) -> str:
    """One step: ``%y = multiply(%x, 2.0) : f32[N]``. Numbers stand in place unless they are in `named`."""
    args = [
        number_text(scalar_value(operand)) if inline else _ref(operand, names)
        for operand, inline in zip(node.operands, _inline(node, named), strict=True)
    ]
    args += [f"{attribute}={value_text(value)}" for attribute, value in node.attrs]
    return f"{_ref(node, names)} = {node.op.name}({', '.join(args)}) : {node.type}"


def _inline(node: Node, named: Collection[Node]) -> list[bool]:
    """Which operands are numbers of the type that the statement settles: the first other operand's, or where's own."""
    numbers = [scalar_value(operand) is not None and operand not in named for operand in node.operands]
    if not node.op.is_elementwise or not any(numbers):
        return [False] * len(numbers)
    if node.op.name == "where":
        numbers[0] = False
        settled: TensorType | None = node.type
    else:
        others = (operand.type for operand, number in zip(node.operands, numbers, strict=True) if not number)
        settled = next(others, None)
    fits = all(operand.type == settled for operand, number in zip(node.operands, numbers, strict=True) if number)
    return [number and fits for number in numbers]


def _referred(graph: Graph, named: Collection[Node]) -> set[Node]:
    """What some step needs as a step: a number that does not stand in place everywhere stands nowhere in place."""
    return {
        operand
        for step in graph.steps
        for operand, inline in zip(step.operands, _inline(step, named), strict=True)
        if not inline
    }


def _header(graph: Graph, names: Mapping[Node, str]) -> Iterator[tuple[str, str]]:
    start = f"graph @{name_text(graph.name)}("
    end = f") wrt({_refs(graph.wrt, names)}) {{" if graph.wrt else ") {"
    groups = [[f"{_ref(node, names)}: {node.type}" for node in group] for group in (graph.inputs, graph.params)]
    between = ") params(" if graph.params else ""
    line = f"{start}{', '.join(groups[0])}{between}{', '.join(groups[1])}{end}"
    if len(line) <= WIDTH and not any(graph.origins.get(node) for node in graph.leaves):
        yield line, ""
        return
    yield start, ""
    for group, texts in zip((graph.inputs, graph.params), groups, strict=True):
        if group is graph.params and group:
            yield between, ""
        for node, text in zip(group, texts, strict=True):
            yield f"  {text}{'' if node is group[-1] else ','}", _places(graph, node)
    yield end, ""


def _places(graph: Graph, node: Node) -> str:
    places = graph.origins.get(node, ())
    return ", ".join(
        place if re.fullmatch(r'[^,"\s]([^,"\r\n]*[^,"\s])?', place) else json.dumps(place, ensure_ascii=False)
        for place in places
    )


def _ref(node: Node, names: Mapping[Node, str]) -> str:
    return f"%{name_text(names[node])}"


def _refs(nodes: tuple[Node, ...], names: Mapping[Node, str]) -> str:
    return ", ".join(_ref(node, names) for node in nodes)


# parsing ------------------------------------------------------------------------------------------------------------


def parse_graph(text: str, ops: Mapping[str, Op] = OPS) -> Graph:
    """The graph that a text describes: new leaves, interned steps.

    Parameters
    ----------
    text : str
        What `print_graph` printed, or a person wrote. A step that nothing needs is dropped.
    ops : mapping from str to Op
        The ops by name.

    Raises
    ------
    CompileValueError
        Where the text is no graph: line, column, what was expected, and the line with a caret.
    """
    return _GraphParser(text, ops).graph()


class _GraphParser(Parser):
    """One graph. A comment holds the places of the leaves or the step that end on its line."""

    def __init__(self, text: str, ops: Mapping[str, Op]) -> None:
        super().__init__(text)
        self.ops = ops
        self.comments = {token.line: token.text[2:].strip() for token in self.tokens if token.kind == "comment"}
        self.tokens = [token for token in self.tokens if token.kind != "comment"]
        self.nodes: dict[str, Node] = {}
        self.names: dict[Node, str] = {}
        self.origins: dict[Node, tuple[str, ...]] = {}

    def graph(self) -> Graph:
        self.expect("graph", "'graph @name('")
        self.expect("@")
        name = self.name()
        self.expect("(")
        inputs = self.items(")", lambda: self.leaf(INPUT))
        params = self.section("params", lambda: self.leaf(PARAM))
        wrt = self.section("wrt", self.reference)
        self.expect("{")
        while self.at("%"):
            self.step()
        updates: list[tuple[Node, Node]] = []
        while self.accept("update"):
            param = self.operand()
            self.expect("=")
            updates.append((param, self.operand()))
        self.expect("return", "a step, 'update' or 'return'")
        outputs = [] if self.at("}") else [self.operand()]
        while self.accept(","):
            outputs.append(self.operand())
        self.expect("}")
        if self.token.kind != "end":
            self.expected("the end")
        marked = tuple(self.resolve(*reference) for reference in wrt)
        graph = Graph(name, tuple(inputs), tuple(params), tuple(outputs), marked, tuple(updates))
        present = {*graph.leaves, *graph.steps}
        names = {node: text for node, text in self.names.items() if node in present}
        origins = {node: places for node, places in self.origins.items() if node in present}
        return replace(graph, names=_user_names(graph, names), origins=origins)

    def leaf(self, op: Op) -> Node:
        name, token = self.reference()
        self.expect(":")
        node = leaf(op, self.type())
        self.define(name, token, node)
        return node

    def step(self) -> None:
        name, token = self.reference()
        self.expect("=")
        op_token = self.token
        op = self.ops.get(self.name("an op"))
        if op is None:
            self.unknown("op", op_token.text, self.ops, op_token)
        self.expect("(")
        operands: list[Node | int] = []  # a number is the position of its token: its type is not known yet
        attrs: dict[str, object] = {}
        self.items(")", lambda: self.argument(operands, attrs))
        self.expect(":")
        type_token = self.token
        type = self.type()
        node = self.apply(op, op_token, self.settled(op, operands, type), attrs)
        if node.type != type:
            self.fail(f"{op.name} gives {node.type}, not {type}", type_token)
        self.define(name, token, node)

    def argument(self, operands: list[Node | int], attrs: dict[str, object]) -> None:
        if self.token.kind == "name" and not self.at_number():
            token = self.token
            attribute = self.name()
            self.expect("=")
            if attribute in attrs:
                self.fail(f"{attribute} is given twice", token)
            attrs[attribute] = self.value()
        elif attrs:
            self.expected("an attribute (operands come first)")
        elif self.at("%"):
            operands.append(self.operand())
        elif self.at_number():
            operands.append(self.position)
            self.skip_number()
        else:
            self.expected("an operand or an attribute")

    def skip_number(self) -> None:
        self.accept("-")
        if self.advance().text == "nan" and self.accept("("):
            self.advance()
            self.expect(")")

    def settled(self, op: Op, operands: list[Node | int], type: TensorType) -> list[Node]:
        """The operands with numbers as constants of the type that the statement settles."""
        types = [type] if op.name == "where" else [operand.type for operand in operands if isinstance(operand, Node)]
        if not op.is_elementwise:
            types = []
        end = self.position
        nodes: list[Node] = []
        for operand in operands:
            if isinstance(operand, Node):
                nodes.append(operand)
                continue
            self.position = operand
            if not types:
                self.fail(f"no operand of {op.name} settles the dtype of this number: write a constant step")
            number = self.number(types[0].dtype)
            nodes.append(constant(value=Literal(number), shape=types[0].shape))
        self.position = end
        return nodes

    def apply(self, op: Op, token: Token, operands: list[Node], attrs: dict[str, object]) -> Node:
        try:
            return op(*operands, **attrs)
        except DeclarationError as error:
            raise parse_error(self.text, token, str(error)) from error
        except Exception as error:  # a type rule that gets attributes of other kinds than it wants may raise anything
            raise parse_error(
                self.text, token, f"{op.name} does not take these operands and attributes: {error}"
            ) from error

    def define(self, name: str, token: Token, node: Node) -> None:
        if name in self.nodes:
            self.fail(f"%{name} is defined twice", token)
        self.nodes[name] = node
        self.names.setdefault(node, name)
        if comment := self.comments.get(token.line):
            places = (text.strip() for text in _PLACE.findall(comment))
            read = (json.loads(text) if text.startswith('"') else text for text in places if text)
            self.origins[node] = tuple(dict.fromkeys((*self.origins.get(node, ()), *read)))

    def reference(self) -> tuple[str, Token]:
        token = self.expect("%", "a name such as %x")
        return self.name(), token

    def operand(self) -> Node:
        return self.resolve(*self.reference())

    def resolve(self, name: str, token: Token) -> Node:
        node = self.nodes.get(name)
        if node is None:
            self.unknown("value", f"%{name} above", [f"%{known}" for known in self.nodes], token)
        return node


def _user_names(graph: Graph, names: Mapping[Node, str]) -> dict[Node, str]:
    """The names without those that `naming` gives anyway, so that a parsed graph goes on like the one printed."""
    leaves, given = set(graph.leaves), set(names.values())
    kept: dict[Node, str] = {}
    for node, name in names.items():
        base = _GENERATED.fullmatch(name)
        if node in leaves or base is None or (base[1] not in given and base[1] != node.op.name):
            kept[node] = name
    for _ in range(3):  # a name kept may change what the others would be called
        again = naming(replace(graph, names=kept))
        wrong = {node: name for node, name in names.items() if again[node] != name}
        if not wrong:
            return kept
        kept |= wrong
    return dict(names)

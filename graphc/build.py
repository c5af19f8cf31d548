"""Build: from views to an `ir.Graph`, with everything that users named under its name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from graphc.initializers import Initial
from graphc.ir import ops
from graphc.ir.core import INPUT, PARAM, Node, rebuild
from graphc.ir.errors import CompileTypeError, CompileValueError
from graphc.ir.graph import Graph, naming, toposort
from graphc.leaves import Input, Param, layer_names
from graphc.planner import scopes_of
from graphc.views import View, shown, topological


@dataclass(frozen=True)
class Built:
    """A graph, and what a program needs beside it.

    Parameters
    ----------
    graph : Graph
        Leaves in declaration order; `graph.wrt` holds each node once, inner ones as `anchor` nodes.
    initial : mapping from str to Initial
        What each parameter starts as, by name, in the order of ``graph.params``; see `initial_value`.
    wrt : mapping from str to int
        The name of each view asked for, to the position of its node in ``graph.wrt``: two names of one value share it.
    aliases : mapping from str to str
        Further names that users may use, to the name in the graph.
    """

    graph: Graph
    initial: Mapping[str, Initial]
    wrt: Mapping[str, int] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)


def build(
    outputs: Sequence[View],
    wrt: View | str | Sequence[View | str] | None = None,
    updates: Mapping[View, View] | None = None,
    name: str | None = None,
) -> Built:
    """The graph of some views.

    Parameters
    ----------
    outputs : sequence of View
        What the program returns.
    wrt : View, str, sequence of these, "params" or None
        What derivatives are taken with respect to; names are those of views that the outputs are made of, or of their
        planners' attributes. "params": the parameters that the outputs are made of, in declaration order.
    updates : mapping from View to View, optional
        The next values of parameters.
    name : str, optional
        The graph's name; that of the first output unless given.

    Raises
    ------
    CompileError
        For an unnamed input or parameter, two leaves of one name, an unknown name in `wrt`, an update that does not
        fit its parameter, a view that left the function that `vmap` mapped.
    """
    updates = updates or {}
    roots = [*outputs, *updates, *updates.values()]
    for root in roots:
        if not isinstance(root, View):
            raise CompileTypeError(f"expected a view, got {root!r}")
    asked = _asked(wrt, outputs, roots)
    names = _Names(topological([*roots, *asked]))
    _check_leaves(roots, {view.node for view in names.leaves})
    nodes, anchored = _anchor(
        [view.node for view in names.leaves], [view.node for view in roots], [view.node for view in asked]
    )
    wrt_nodes = tuple(dict.fromkeys(anchored[view.node] for view in asked))
    count = len(outputs)
    graph = Graph(
        name=name or _graph_name(outputs),
        inputs=tuple(view.node for view in names.leaves if isinstance(view, Input)),
        params=tuple(view.node for view in names.leaves if isinstance(view, Param)),
        outputs=tuple(nodes[:count]),
        wrt=wrt_nodes,
        updates=_checked_updates(updates, nodes[count + len(updates) :], names),
    )
    graph = _with_names(graph, names, anchored)
    unnamed = naming(graph)
    return Built(
        graph=graph,
        initial={names.of[view.node]: view.initial for view in names.leaves if isinstance(view, Param)},
        wrt={_asked_name(view, names, unnamed[anchored[view.node]]): wrt_nodes.index(anchored[view.node])
             for view in asked},
        aliases=names.aliases,
    )  # fmt: skip


def _check_leaves(roots: Sequence[View], known: set[Node]) -> None:
    """Refuse what a function was given by `vmap` or `custom_vjp` and kept."""
    for root in roots:
        if any(node.op in (INPUT, PARAM) and node not in known for node in toposort([root.node])):
            raise CompileValueError(
                f"{shown(root)} is made of a view that is there only inside of a function given to vmap or custom_vjp",
                where=str(root.place), hint="return what you need from that function",
            )  # fmt: skip


def named_views(views: Sequence[View]) -> dict[str, View]:
    """Every name that can be used in a program of `views`, aliases too: what they are made of, and their planners'."""
    names = _Names(topological(views))
    found = {name: names.views[node] for node, name in names.of.items()}
    for scope in reversed(scopes_of(topological(views))):
        for name, view in scope.bindings.items():
            found.setdefault(name, view)
    return found


def find_view(name: str, views: Sequence[View]) -> View:
    """The view of a name in a program of `views`."""
    known = named_views(views)
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    raise CompileValueError(
        f"no view is named {name!r} here",
        hint=f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}",
    )


# names ----------------------------------------------------------------------------------------------------------------


class _Names:
    """The names of the views of one program.

    `leaves` are in declaration order, `of` the name of every named node, `views` the view that gave it, `aliases`
    the other names.
    """

    def __init__(self, views: Sequence[View]) -> None:
        self.all = views
        order = _declaration_order(views)
        self.leaves = [view for view in order if isinstance(view, (Input, Param))]
        self.of: dict[Node, str] = {}
        self.views: dict[Node, View] = {}
        self.aliases: dict[str, str] = {}
        self._taken: dict[str, View] = {}
        outside = dict(layer_names(view for view in views if isinstance(view, Param) and view.name is None))
        for leaf in self.leaves:
            self._name_leaf(leaf, leaf.name or (outside.get(leaf) if isinstance(leaf, Param) else None))
        # Where a planner and its parent (or another) have inner views of one name, it is that of the planner itself.
        self._scopes = scopes_of(views)[::-1]
        inner = [view for scope in (*self._scopes, None) for view in order if view._scope is scope]
        for view in inner:
            if view.name is not None and view.node not in self.of:
                self._take(view, self._free(view.name))
        self._find_aliases(inner)

    def _name_leaf(self, view: View, name: str | None) -> None:
        kind = type(view).__name__
        if name is None:
            raise CompileValueError(
                f"the {kind} of type {view.node.type} has no name", where=str(view.place),
                hint=f'bind it to an attribute of a planner, or write {kind}(..., name="x")',
            )  # fmt: skip
        if name in self._taken:
            raise CompileValueError(
                f"two leaves are named {name!r}: the other is declared at {self._taken[name].place}",
                where=str(view.place), hint="rename one of them",
            )  # fmt: skip
        self._take(view, name)

    def _take(self, view: View, name: str) -> None:
        self.of[view.node] = name
        self.views[view.node] = view
        self._taken[name] = view

    def _free(self, name: str) -> str:
        """The name itself, or with a suffix where another planner's view has it."""
        candidate, k = name, 0
        while candidate in self._taken:
            k += 1
            candidate = f"{name}_{k}"
        return candidate

    def _find_aliases(self, order: Sequence[View]) -> None:
        bound = ((name, view) for scope in self._scopes for name, view in scope.bindings.items())
        named = ((view.name, view) for view in order if view.name is not None)
        for name, view in (*named, *bound):
            if view.node in self.of and name not in self._taken:
                self.aliases.setdefault(name, self.of[view.node])


def _declaration_order(views: Sequence[View]) -> list[View]:
    """Views of planners in attribute order, parents first, then the others; of one expression as they appear."""
    scopes = scopes_of(views)
    ranks = {scope: rank for rank, scope in enumerate(scopes)}
    positions = {scope: scope.positions() for scope in scopes}

    def key(view: View) -> tuple[int, int]:
        scope = view._scope
        return (len(ranks), 0) if scope is None else (ranks[scope], positions[scope].get(view, len(positions[scope])))

    return sorted(views, key=key)


def _graph_name(outputs: Sequence[View]) -> str:
    first = outputs[0] if outputs else None
    if first is None or first.name is None:
        return "graph"
    return f"{first._scope.name}.{first.name}" if first._scope is not None else first.name


def _with_names(graph: Graph, names: _Names, anchored: Mapping[Node, Node]) -> Graph:
    """The graph with the names and origins that belong to its nodes."""
    present = {*graph.leaves, *toposort(graph.roots)}
    named = {anchored[node]: name for node, name in names.of.items() if anchored.get(node) in present}
    # A name is found where it is declared: leaves first, as they stand in the signature.
    return Graph(
        graph.name, graph.inputs, graph.params, graph.outputs, graph.wrt, graph.updates, named,
        _origins(names.all, anchored, present),
    )  # fmt: skip


def _origins(views: Iterable[View], anchored: Mapping[Node, Node], present: set[Node]) -> dict[Node, tuple[str, ...]]:
    """The place of each view for its node, and for the nodes below that only it needs."""
    origins: dict[Node, tuple[str, ...]] = {}
    for view in views:
        place = view.place.short
        stack = [view.node]
        while stack:
            node = stack.pop()
            known = origins.get(node)
            if known is None:
                origins[node] = (place,)
                stack.extend(node.operands)
            elif node is view.node and place not in known:
                origins[node] = (*known, place)
    moved = {anchored[node]: places for node, places in origins.items() if anchored.get(node) in present}
    within = {node.operands[0]: places for node, places in moved.items() if node.op is ops.anchor}
    return {**within, **moved}


# wrt and updates ------------------------------------------------------------------------------------------------------


def _asked(wrt: View | str | Sequence[View | str] | None, outputs: Sequence[View], roots: Sequence[View]) -> list[View]:
    if isinstance(wrt, str) and wrt == "params":
        return [view for view in _Names(topological(outputs)).leaves if isinstance(view, Param)]
    asked = () if wrt is None else (wrt,) if isinstance(wrt, View | str) else wrt
    for one in asked:
        if not isinstance(one, View | str):
            raise CompileTypeError(f"wrt is made of views or names, not {one!r}")
    return [find_view(one, roots) if isinstance(one, str) else one for one in asked]


def _asked_name(view: View, names: _Names, otherwise: str) -> str:
    """What a view of `wrt` is called in the result: its own name if that is free or an alias of it."""
    name = view.name
    if name is not None and names.aliases.get(name, name) == names.of.get(view.node):
        return name
    return otherwise


def _anchor(leaves: Iterable[Node], roots: Sequence[Node], wrt: Sequence[Node]) -> tuple[list[Node], dict[Node, Node]]:
    """The roots with an `anchor` around every inner node of `wrt`, and what each leaf and node below became."""
    marked = {node for node in wrt if node.op is not INPUT and node.op is not PARAM}
    new: dict[Node, Node] = {}
    for node in toposort([*leaves, *roots, *wrt]):
        result = rebuild(node, tuple(new[operand] for operand in node.operands)) if marked else node
        new[node] = ops.anchor(result) if node in marked else result
    return [new[root] for root in roots], new


def _checked_updates(
    updates: Mapping[View, View], values: Sequence[Node], names: _Names
) -> tuple[tuple[Node, Node], ...]:
    pairs = []
    for param, value in zip(updates, values, strict=True):
        if not isinstance(param, Param):
            raise CompileTypeError(f"only parameters have updates, and {shown(param)} is none")
        if param.node.type != value.type:
            raise CompileValueError(
                f"the update of {names.of[param.node]}: {param.node.type} is of type {value.type}",
                hint="cast it: value.astype(param.dtype)" if param.shape == value.shape else None,
            )
        pairs.append((param.node, value))
    return tuple(pairs)

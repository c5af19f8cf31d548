"""Check a gradient: against central differences, and against forward mode by the adjoint identity.

Both run on the reference interpreter with every float widened to float64, so that the check is as sharp for a float32
program as for a float64 one, and a failure is a wrong rule and not rounding.

Central differences are taken along directions of one `wrt` at a time: along each axis for small arrays, along random
ones for others. Richardson's extrapolation of two steps gives the value, and their difference its error bar. At a kink
(relu at 0) every slope between those of both sides is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from graphc.build import Built, build
from graphc.expression_text import columns
from graphc.feeds import Inputs
from graphc.initializers import initial_value
from graphc.ir.core import INPUT, Literal, Node, leaf
from graphc.ir.errors import DifferentiationError, DifferentiationTypeError
from graphc.ir.graph import Graph, naming, substitute
from graphc.ir.interpret import interpret
from graphc.ir.types import kind_of
from graphc.parameters import fitting
from graphc.passes.canonicalize import Canonicalize
from graphc.passes.differentiate import Differentiate
from graphc.passes.manager import run_passes
from graphc.passes.simplify import Simplify
from graphc.passes.stabilize import Stabilize
from graphc.passes.transforms import tangent
from graphc.views import View

# Steps are this large relative to the values (or to 1, where those are smaller): the optimum of a second-order formula.
STEP = float(np.cbrt(np.finfo(np.float64).eps))
# The largest relative error of a directional derivative, beside its own error bar.
TOLERANCE = 1e-6
# The largest error of the adjoint identity, relative to the magnitudes that cancel in it.
ROUNDING = 1e-9
# How many directions are tried of an array that has more elements than that.
DIRECTIONS = 32

WIDE = np.dtype("float64")


@dataclass(frozen=True)
class GradientRow:
    """What the check found for one `wrt`.

    Parameters
    ----------
    name, type : str
        As declared.
    largest : float
        The largest element of the gradient, in magnitude.
    difference : float
        How far the derivative along some direction is, at most, from what differences say (per unit of length).
    adjoint : float
        ``|<J'u, v> - <u, Jv>|`` for random u and v, over the sum of the magnitudes of the terms.
    ok : bool
        Whether both are as small as rounding and the differences' own error make them.
    """

    name: str
    type: str
    largest: float
    difference: float
    adjoint: float
    ok: bool


@dataclass(frozen=True)
class GradientTable:
    """What `check_grad` compared, a row per `wrt`; prints as an aligned table."""

    rows: tuple[GradientRow, ...]

    @property
    def ok(self) -> bool:
        """Whether every row is."""
        return all(row.ok for row in self.rows)

    def __str__(self) -> str:
        head = ("name", "type", "largest gradient", "difference", "adjoint error", "")
        body = [
            (row.name, row.type, f"{row.largest:.6g}", f"{row.difference:.1e}", f"{row.adjoint:.1e}",
             "ok" if row.ok else "WRONG")
            for row in self.rows
        ]  # fmt: skip
        return columns([head, *body], right=(2, 3, 4)).rstrip("\n")


def check_grad(
    y: View, wrt: View | str | Sequence[View | str], feeds: Mapping[str, Any], *, seed: int = 0
) -> GradientTable:
    """Check the gradient of a view, in float64.

    Parameters
    ----------
    y : View
        Floats; if it is no scalar, a random cotangent weighs its elements.
    wrt : View, str, sequence of these, or "params"
        Float views, as for `compile`.
    feeds : mapping from str to array
        The inputs by name; parameters start at their initial values unless they are fed too.
    seed : int
        Of initial parameters, cotangents and directions.

    Returns
    -------
    GradientTable
        A row for each in `wrt`: the largest gradient, how far it is from central differences and from forward mode.

    Raises
    ------
    DifferentiationError
        Where they disagree, with the table; or where there is no derivative.
    FeedError
        For feeds that do not fit.
    """
    table = compare_gradients(y, wrt, feeds, seed=seed)
    if not table.ok:
        wrong = ", ".join(row.name for row in table.rows if not row.ok)
        raise DifferentiationError(f"the gradient with respect to {wrong} is wrong\n{table}")
    return table


def compare_gradients(
    y: View, wrt: View | str | Sequence[View | str], feeds: Mapping[str, Any], *, seed: int = 0
) -> GradientTable:
    """The table of `check_grad`, which raises nothing because of what stands in it."""
    built = build([y], wrt)
    if not built.wrt:
        raise DifferentiationTypeError(f"there is nothing to differentiate {built.graph.name} with respect to")
    values = {name: _wide_array(array) for name, array in _prepared(built, feeds, seed).items()}
    graph = widened(built.graph)
    random = np.random.default_rng(seed)
    value, *inner = interpret(graph, values, (graph.outputs[0], *graph.wrt))
    cotangent = random.standard_normal(value.shape) if value.ndim else np.ones(())
    gradients = _reverse(graph, values, cotangent)
    rows = []
    for name, position in built.wrt.items():
        one = _Restriction(graph, graph.wrt[position], values, np.array(inner[position]), cotangent)
        rows.append(_row(name, str(built.graph.wrt[position].type), one, gradients[position], random))
    return GradientTable(tuple(rows))


def _row(name: str, type: str, one: _Restriction, gradient: np.ndarray, random: np.random.Generator) -> GradientRow:
    found, is_close = 0.0, True
    with np.errstate(all="ignore"):
        for direction in _directions(one.point, random):
            expected = float(np.vdot(gradient, direction))
            slope = one.slope(direction)
            error = abs(slope.value - expected)
            error = max(0.0, error - slope.jump) if np.isfinite(error) else np.inf
            found = max(found, error / float(np.linalg.norm(direction)))
            is_close = is_close and error <= TOLERANCE * abs(expected) + slope.uncertainty
        v = random.standard_normal(one.point.shape)
        pushed = one.push(v)
        terms = float(np.sum(np.abs(gradient * v)) + np.sum(np.abs(one.cotangent * pushed)))
        adjoint = abs(float(np.vdot(gradient, v) - np.vdot(one.cotangent, pushed))) / (terms or 1.0)
    largest = float(np.max(np.abs(gradient), initial=0.0))
    # Written so that NaN is not ok.
    return GradientRow(name, type, largest, found, adjoint, bool(is_close and adjoint <= ROUNDING))


def _directions(point: np.ndarray, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Along each axis, or random ones of the same length where there are many; scaled as the values are."""
    scale = np.maximum(1.0, np.abs(point))
    if point.size > DIRECTIONS:
        for _ in range(DIRECTIONS):
            yield scale * random.choice((-1.0, 1.0), point.shape) / np.sqrt(point.size)
        return
    for position in np.ndindex(point.shape):
        direction = np.zeros(point.shape)
        direction[position] = scale[position]
        yield direction


class Slope(NamedTuple):
    """A derivative by differences, the error that it may have, and by how much both sides of a kink differ."""

    value: float
    uncertainty: float
    jump: float


class _Restriction:
    """The scalar ``<cotangent, y>`` as a function of one `wrt`, all else as it is fed."""

    def __init__(
        self, graph: Graph, wrt: Node, feeds: Mapping[str, np.ndarray], point: np.ndarray, cotangent: np.ndarray
    ) -> None:
        self.point, self.cotangent = point, cotangent
        names = naming(graph)
        self._feeds = feeds
        self._name = names[wrt]
        self._graph = replace(graph, wrt=())
        if wrt not in graph.leaves:  # an inner view becomes an input
            self._name = "value of wrt"
            inner = leaf(INPUT, wrt.type)
            outputs = substitute(graph.outputs, {wrt: inner})
            self._graph = Graph(
                graph.name, (*graph.inputs, inner), graph.params, tuple(outputs),
                names={**{node: names[node] for node in graph.leaves}, inner: self._name},
            )  # fmt: skip
        self._wrt = next(node for node in self._graph.leaves if self._graph.names[node] == self._name)

    def at(self, point: np.ndarray) -> np.ndarray:
        """y at another point."""
        (value,) = interpret(self._graph, {**self._feeds, self._name: point})
        return value

    def slope(self, direction: np.ndarray) -> Slope:
        """The derivative along a direction."""
        slopes, gaps, rounding = [], [], 0.0
        here = self.at(self.point)
        for step in (STEP, STEP / 2):
            above, below = self.at(self.point + step * direction), self.at(self.point - step * direction)
            slopes.append(float(np.vdot(self.cotangent, above - below)) / (2 * step))
            gaps.append(float(np.vdot(self.cotangent, (above - here) - (here - below))) / step)
            magnitude = float(np.sum(np.abs(self.cotangent) * (np.abs(above) + np.abs(below))))
            rounding = float(np.finfo(WIDE).eps) * magnitude / (2 * step)
        (coarse, fine), (coarse_gap, fine_gap) = slopes, gaps
        # The sides of a smooth function differ in proportion to the step: nothing remains after extrapolation.
        jump = abs(2 * fine_gap - coarse_gap)
        return Slope((4 * fine - coarse) / 3, 10 * abs(fine - coarse) + 100 * rounding, jump)

    def push(self, direction: np.ndarray) -> np.ndarray:
        """The tangent of y by forward mode."""
        moving = leaf(INPUT, self._wrt.type)
        (result,) = tangent(self._graph.outputs, [self._wrt], [moving])
        if result is None:
            return np.zeros(self.cotangent.shape)
        graph = Graph(
            self._graph.name, (*self._graph.inputs, moving), self._graph.params, (result,),
            names={**self._graph.names, moving: "tangent of wrt"},
        )  # fmt: skip
        (value,) = interpret(graph, {**self._feeds, self._name: self.point, "tangent of wrt": direction})
        return value


def _reverse(graph: Graph, feeds: Mapping[str, np.ndarray], cotangent: np.ndarray) -> list[np.ndarray]:
    """The gradients that the compiler derives."""
    passes = (Canonicalize(), Stabilize(), Differentiate(seeded=False), Simplify())
    (joint,) = run_passes(graph, passes)[-1].state
    seed = naming(joint)[joint.inputs[-1]]
    return [np.asarray(value) for value in interpret(joint, {**feeds, seed: cotangent})[1:]]


# feeds and types ------------------------------------------------------------------------------------------------------


def _prepared(built: Built, feeds: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What every leaf is fed, in its declared dtype."""
    inputs = Inputs(built.graph, built.aliases)
    arrays, fed = inputs.arrays(feeds, built.initial)
    prepared = dict(zip(inputs.names, arrays, strict=True))
    for name, initial in built.initial.items():
        value = initial_value(initial, seed, name)
        prepared[name] = fitting(name, fed[name], value.dtype, value.shape) if name in fed else value
    return prepared


def _wide_array(value: Any) -> np.ndarray:
    array = np.asarray(value)
    return array.astype(WIDE) if kind_of(array.dtype) == "f" else array


def widened(graph: Graph) -> Graph:
    """The graph with float64 wherever it has another float."""
    new: dict[Node, Node] = {}
    for node in graph.leaves:
        wide = node.type.is_float and node.dtype != WIDE
        new[node] = leaf(node.op, node.type.with_dtype(WIDE)) if wide else node
    if all(node.dtype == WIDE or not node.type.is_float for node in (*graph.leaves, *graph.steps)):
        return graph
    for step in graph.steps:
        attrs = {name: _wide_attribute(value) for name, value in step.attrs}
        new[step] = step.op(*(new[operand] for operand in step.operands), **attrs)
    return replace(
        graph,
        inputs=tuple(new[node] for node in graph.inputs),
        params=tuple(new[node] for node in graph.params),
        outputs=tuple(new[node] for node in graph.outputs),
        wrt=tuple(new[node] for node in graph.wrt),
        origins={},
        names={new[node]: name for node, name in graph.names.items() if node in new},
    )


def _wide_attribute(value: Any) -> Any:
    match value:
        case np.dtype() if kind_of(value) == "f":
            return WIDE
        case Literal(array=array) if kind_of(array.dtype) == "f":
            return Literal(array.astype(WIDE))
    return value

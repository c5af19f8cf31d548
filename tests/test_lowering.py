"""Lowering, fusion and the memory plan: programs keep the values of their graphs, are well formed, and fuse."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lowered import Case, assert_same, combined, expected_values, interpreted, stages
from op_samples import SAMPLES, N, draw, samples, tensor

import graphc
from graphc.ir import ops
from graphc.ir.core import INPUT, PARAM, Literal, Node, constant, full, leaf
from graphc.ir.dims import Dim, dim
from graphc.ir.graph import Graph, toposort
from graphc.ir.loop_verify import verify_program
from graphc.ir.loops import Accumulate, Kernel, Let, Loop, Store, walk
from graphc.passes.canonicalize import Canonicalize
from graphc.passes.differentiate import Differentiate
from graphc.passes.fuse import Fuse
from graphc.passes.inline import STATEMENT_LIMIT
from graphc.passes.lower import Lower
from graphc.passes.memory import PlanMemory
from graphc.passes.rows import TILE, tiles
from graphc.passes.simplify import Simplify
from graphc.passes.stabilize import Stabilize

I64 = np.dtype("int64")


def x_of(shape, dtype="float64"):
    """A new input."""
    return leaf(INPUT, tensor(shape, dtype))


def case_of(name, outputs, *, params=(), updates=(), wrt=()):
    """A graph of everything that the outputs need, with random numbers for its leaves."""
    rng = np.random.default_rng(0)
    graph = Graph(name, (), (), tuple(outputs), updates=tuple(updates))
    found = toposort([*params, *graph.roots, *(param for param, _ in updates)])
    leaves = [node for node in found if node.op in (INPUT, PARAM)]
    names = {node: f"{node.op.name}{k}" for k, node in enumerate(leaves)}
    feeds = {names[node]: draw(rng, node.type) for node in leaves}
    inputs = tuple(node for node in leaves if node.op is INPUT)
    params = tuple(node for node in leaves if node.op is PARAM)
    return Case(Graph(name, inputs, params, tuple(outputs), tuple(wrt), tuple(updates), names), feeds)


def check(case, ulp=16.0, magnitude=10.0):
    """The programs of all stages are well formed and give the values of the graph."""
    expected = expected_values(case)
    programs = stages(case.graph)
    for stage, program in programs.items():
        verify_program(program)
        found = interpreted(program, case)
        try:
            assert_same(found, expected, ulp, magnitude)
        except AssertionError as error:
            raise AssertionError(f"after {stage}: {error}") from None
    return programs


def joint(case, wrt):
    """The case with the gradients of its first output, through the passes that precede lowering."""
    graph = case.graph
    graph = Graph(graph.name, graph.inputs, graph.params, graph.outputs, tuple(wrt), graph.updates, graph.names)
    for each in (Canonicalize(), Stabilize(), Differentiate(), Simplify()):
        graph = each.run(graph)
    return Case(graph, case.feeds)


# ops ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLES)
def test_programs_of_ops_keep_their_values(name):
    groups = {}
    for sample in samples(name):
        dtypes = {node.dtype.name for node in (sample.node, *sample.node.operands)}
        if dtypes <= {"float32", "int8", "bool", "int64"}:
            groups.setdefault(sample.node.dtype.name, []).append(sample)
    for dtype, group in groups.items():
        check(combined(f"{name}_{dtype}", group[:40]))


# expressions ----------------------------------------------------------------------------------------------------------


def affine(x, units, name="float64"):
    w, b = leaf(PARAM, tensor((x.shape[-1], units), name)), leaf(PARAM, tensor((units,), name))
    product = ops.matmul(x, w)
    return product + ops.broadcast_to(b, shape=product.shape), (w, b)


def cross_entropy(logits, labels):
    rows, classes = logits.shape
    index = ops.wrap_index(labels, extent=classes)
    row = ops.iota(shape=(rows,), axis=0, dtype=I64)
    picked = ops.gather(logits, row, index, axes=(0, 1))
    return ops.sum_(ops.logsumexp(logits, axes=(1,)) - picked, axes=(0,)) / rows


def layer_norm(x):
    width = x.shape[-1]

    def mean(value):
        return ops.restore(ops.sum_(value, axes=(1,)) / width, (1,), x.shape)

    centred = x - mean(x)
    return centred / ops.sqrt(mean(ops.square(centred)) + 1e-5)


def classifier(dtype="float64"):
    x, labels = x_of((N, 4), dtype), x_of((N,), "int64")
    hidden, first = affine(x, 5, dtype)
    logits, second = affine(ops.tanh(hidden), 3, dtype)
    loss = cross_entropy(logits, labels)
    case = case_of("classifier", [loss])
    return joint(case, [*first, *second])


def normalised():
    x = x_of((N, 6))
    return joint(case_of("norm", [ops.sum_(ops.tanh(layer_norm(x)), axes=(0, 1))]), [x])


def scattered():
    x, k, u = x_of((N, 3)), x_of((4,), "int64"), x_of((4, 3))
    index = ops.wrap_index(k, extent=N)
    added = ops.scatter_add(x, u, index, axes=(0,))
    return [ops.tanh(ops.scatter_set(added, u * 2.0, index, axes=(0,))), ops.gather(added, index, axes=(0,))]


def momentum():
    w, v, g = leaf(PARAM, tensor((3,))), leaf(PARAM, tensor((3,))), x_of((3,))
    velocity = v * 0.9 + g
    return {"outputs": [ops.sum_(w, axes=(0,))], "updates": [(v, velocity), (w, w - velocity * 0.1)]}


def swap(shift=False):
    a, b = leaf(PARAM, tensor((4,))), leaf(PARAM, tensor((4,)))
    flipped = ops.slice_(a, start=(3,), size=(4,), step=(-1,)) if shift else a
    return {"outputs": [a], "updates": [(a, b), (b, flipped)]}


def reversed_update():
    a = leaf(PARAM, tensor((5,)))
    return {"outputs": [], "updates": [(a, ops.slice_(a, start=(4,), size=(5,), step=(-1,)) * 2.0)]}


def transposed_update():
    a, x = leaf(PARAM, tensor((3, 3))), x_of((3, 3))
    return {"outputs": [ops.matmul(a, x)], "updates": [(a, ops.transpose(a, axes=(1, 0)) + ops.matmul(a, x))]}


def scalars():
    a, b, w = x_of(()), x_of(()), leaf(PARAM, tensor(()))
    y = ops.tanh(a) * b + w
    return {"outputs": [y, ops.square(y), a], "updates": [(w, w - 0.1 * y)]}


def pieces(axis):
    x, y = x_of((2, 3)), x_of((2, 3))
    z = ops.concatenate(ops.exp(x), ops.reshape(ops.reshape(y * 2.0, shape=(6,)), shape=(2, 3)), x, axis=axis)
    return [z, ops.sum_(z, axes=(1 - axis,))]


def nested_pieces():
    x = x_of((N,))
    inner = ops.concatenate(ops.exp(x), ops.sin(x), axis=0)
    return [ops.concatenate(inner, inner, ops.cos(x), axis=0), inner]


def reshapes():
    x = x_of((N, 6))
    y = ops.reshape(ops.exp(x), shape=(N, 2, 3))
    z = ops.reshape(ops.transpose(y, axes=(1, 0, 2)), shape=(6 * N,))
    return [z, ops.reshape(z, shape=(2, 3 * N)), ops.sum_(ops.reshape(y, shape=(2 * N, 3)), axes=(0,))]


def windows():
    x = x_of((N, 4))
    middle = ops.slice_(x, start=(1, 3), size=(N - 1, 4), step=(1, -1))
    padded = ops.pad(ops.exp(middle), start=(1, 0), step=(1, 1), shape=(N + 1, 6))
    strided = ops.pad(x, start=(0, 0), step=(2, 1), shape=(2 * N, 4))
    turned = ops.transpose(ops.slice_(x, start=(0, 3), size=(N, 4), step=(1, -1)), axes=(1, 0))  # no part of x
    return [padded, ops.sum_(padded, axes=(1,)), ops.sum_(strided * 3.0, axes=(0,)), middle, turned]


def mirrored():
    """All of a leaf, its columns from right to left: no part of it as it lies in memory."""
    x, w = x_of((N, 40)), leaf(PARAM, tensor((40, 5)))
    turned = ops.slice_(w, start=(0, 4), size=(40, 5), step=(1, -1))
    return [ops.matmul(x, turned), turned * 2.0]


def products():
    a, b = x_of((2, 3, N)), x_of((2, 4, N))
    turned = ops.transpose(b, axes=(0, 2, 1))
    z = ops.matmul(ops.tanh(a), turned)
    return [z, ops.matmul(ops.transpose(z, axes=(0, 2, 1)), z), ops.sum_(z, axes=(0, 1))]


def positions():
    x = x_of((N, 5), "float32")
    best = ops.argmax(x, axis=1)
    picked = ops.gather(x, ops.iota(shape=(N,), axis=0, dtype=I64), best, axes=(0, 1))
    return [best, picked, ops.argmin(x, axis=0), ops.max_(x, axes=(0, 1))]


def statistics():
    x = x_of((N, 4), "float32")
    mean = ops.sum_(x, axes=(0,)) / N
    centred = x - ops.broadcast_to(mean, shape=(N, 4))
    return [mean, ops.sum_(ops.square(centred), axes=(0,)) / N, ops.sum_(ops.sum_(x, axes=(1,)), axes=(0,))]


def truths():
    x = x_of((N, 3))
    positive = ops.greater(x, full(0, x.type))
    count = ops.sum_(ops.cast(positive, dtype=I64), axes=(0, 1))
    return [ops.any_(positive, axes=(1,)), ops.all_(positive, axes=(0,)), count]


def constants():
    x = x_of((2, 3))
    table = constant(value=Literal(np.arange(6.0).reshape(2, 3)), shape=(2, 3))
    product, three = ops.matmul(x, ops.transpose(table, axes=(1, 0))), full(3.0, tensor((3, 2)))
    return [x * table, table, product, ops.matmul(x, three), three, full(N, tensor((N,))) * x_of((N,))]


def nothing():
    x = x_of((0, 3))
    return [ops.sum_(x, axes=(0,)), ops.exp(x), ops.sum_(x, axes=(1,)), ops.concatenate(x, x_of((2, 3)), axis=0)]


def twice():
    x = x_of((N,))
    y = ops.exp(x)
    return [y, y, x, x, ops.reshape(y, shape=(N, 1)), ops.reshape(x, shape=(1, N))]


def read_after_its_update():
    w, x = leaf(PARAM, tensor(())), x_of(())
    y = w + x
    return {"outputs": [ops.sum_(y, axes=()) + w, y], "updates": [(w, x)]}


def a_column_of_one():
    x = x_of((N, 3, 1))
    return [ops.softmax(x, axis=1), ops.softmax(x_of((3, 1)), axis=0), ops.softmax(x_of((2, 2, 3, 2)), axis=2)]


def an_element_of_a_reduction():
    index = ops.wrap_index(x_of((), "int64"), extent=2)
    return [ops.gather(ops.sum_(x_of((2, 3)), axes=(1,)), index, axes=(0,))]


def a_product_of_a_part():
    x, a = x_of((3, 3)), x_of((2, 3))
    y = ops.exp(x)
    return [ops.concatenate(ops.matmul(a, y), x, y, axis=0)]


def diamonds():
    x = x_of((N, 3))
    total = ops.restore(ops.sum_(ops.exp(x), axes=(1,)), (1,), x.shape)
    return [x / total, ops.transpose(x * total, axes=(1, 0)), ops.sum_(x / total, axes=(0,))]


EXPRESSIONS = {
    "classifier": classifier,
    "classifier in float32": lambda: classifier("float32"),
    "softmax": lambda: case_of("softmax", [ops.softmax(x_of((N, 4)), axis=1), ops.softmax(x_of((3, 4)), axis=0)]),
    "layer norm": lambda: case_of("norm", [layer_norm(x_of((N, 6)))]),
    "layer norm's adjoint": normalised,
    "scatter and gather": lambda: case_of("scattered", scattered()),
    "momentum": lambda: case_of("momentum", **momentum()),
    "swap": lambda: case_of("swap", **swap()),
    "swap and flip": lambda: case_of("swap", **swap(shift=True)),
    "an update that reads itself elsewhere": lambda: case_of("reversed", **reversed_update()),
    "an update through a product": lambda: case_of("transposed", **transposed_update()),
    "scalars": lambda: case_of("scalars", **scalars()),
    "concatenation in front": lambda: case_of("pieces", pieces(0)),
    "concatenation behind": lambda: case_of("pieces", pieces(1)),
    "concatenation of concatenations": lambda: case_of("nested", nested_pieces()),
    "reshapes": lambda: case_of("reshapes", reshapes()),
    "slices and pads": lambda: case_of("windows", windows()),
    "products": lambda: case_of("products", products()),
    "mirrored columns": lambda: case_of("mirrored", mirrored()),
    "argmax": lambda: case_of("positions", positions()),
    "statistics": lambda: case_of("statistics", statistics()),
    "truths": lambda: case_of("truths", truths()),
    "constants": lambda: case_of("constants", constants()),
    "no elements": lambda: case_of("nothing", nothing()),
    "an output twice, an input as output": lambda: case_of("twice", twice()),
    "a scalar read after its update": lambda: case_of("read", **read_after_its_update()),
    "a column of one": lambda: case_of("column", a_column_of_one()),
    "an element of a reduction": lambda: case_of("element", an_element_of_a_reduction()),
    "a product of a part": lambda: case_of("part", a_product_of_a_part()),
    "diamonds": lambda: case_of("diamonds", diamonds()),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_programs_of_expressions_keep_their_values(name):
    case = EXPRESSIONS[name]()
    for size in (3, 1):
        rng = np.random.default_rng(size)
        leaves = {case.graph.names[node]: node for node in case.graph.leaves}
        feeds = {}
        for label, node in leaves.items():
            shape = tuple(extent if isinstance(extent, int) else extent.bind({"N": size}) for extent in node.shape)
            low, high = (0, min(size, 3)) if node.dtype.kind == "i" else (-3.0, 3.0)
            feeds[label] = rng.uniform(low, high, shape).astype(node.dtype)
        check(Case(case.graph, feeds))


# random graphs --------------------------------------------------------------------------------------------------------

UNARY = (ops.negative, ops.square, ops.absolute, ops.sin, ops.relu, ops.floor, ops.tanh)
BINARY = (ops.add, ops.subtract, ops.multiply, ops.maximum, ops.minimum)
EXTENTS = (1, 2, 3, N)


def grown(data: st.DataObject, values: list[Node]) -> Node:
    """One more value, of some earlier ones."""
    x = data.draw(st.sampled_from(values))
    shape, rank = x.shape, len(x.shape)
    match data.draw(st.integers(0, 11)):
        case 0 | 1:
            return data.draw(st.sampled_from(UNARY))(x)
        case 2 | 3:
            same = [value for value in values if value.type == x.type]
            return data.draw(st.sampled_from(BINARY))(x, data.draw(st.sampled_from(same)))
        case 4:
            axes = data.draw(st.sets(st.sampled_from(range(rank)))) if rank else ()
            return data.draw(st.sampled_from((ops.sum_, ops.max_)))(x, axes=tuple(sorted(axes)))
        case 5:
            return ops.transpose(x, axes=tuple(data.draw(st.permutations(range(rank)))))
        case 6:
            wider = tuple(data.draw(st.sampled_from(EXTENTS)) if size == 1 else size for size in shape)
            front = (data.draw(st.sampled_from(EXTENTS)),) if rank < 3 and data.draw(st.booleans()) else ()
            return ops.broadcast_to(x, shape=(*front, *wider))
        case 7:
            at = data.draw(st.integers(0, rank))
            return ops.reshape(x, shape=(*shape[:at], 1, *shape[at:]) if rank < 3 else (x.type.size,))
        case 8:
            pairs = [
                (a, b) for a in values for b in values
                if len(a.shape) == len(b.shape) == 2 and a.shape[1] == b.shape[0]
            ]  # fmt: skip
            return ops.matmul(*data.draw(st.sampled_from(pairs))) if pairs else ops.negative(x)
        case 9 if rank:
            mates = [value for value in values if value.shape[1:] == shape[1:] and len(value.shape) == rank]
            return ops.concatenate(x, data.draw(st.sampled_from(mates)), axis=0)
        case 10 if rank:
            start = tuple(data.draw(st.sampled_from((0, 2))) for _ in shape)
            padded = tuple(size + 2 for size in shape)
            return ops.pad(x, start=start, step=(1,) * rank, shape=padded)
        case 11 if rank:
            return ops.slice_(x, start=tuple(size - 1 for size in shape), size=shape, step=(-1,) * rank)
    return ops.where(ops.greater(x, full(0, x.type)), x, full(0.5, x.type))


@given(st.data())
@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_programs_of_random_graphs_keep_their_values(data):
    shapes = data.draw(st.lists(st.lists(st.sampled_from(EXTENTS), max_size=2), min_size=1, max_size=3))
    values = [x_of((N, 2)), *(x_of(tuple(shape)) for shape in shapes)]
    for _ in range(data.draw(st.integers(1, 14))):
        new = grown(data, values)
        if sum(abs(factor) for extent in new.shape if isinstance(extent, Dim) for _, factor in extent.terms) < 20:
            values.append(new)
    outputs = data.draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
    case = case_of("random", [*outputs, values[-1], ops.negative(values[0])])
    check(case, ulp=64, magnitude=max(float(np.max(np.abs(v), initial=1)) for v in expected_values(case).values()) ** 2)


# structure ------------------------------------------------------------------------------------------------------------


def kernels(program):
    return [step for step in program.steps if isinstance(step, Kernel)]


def column_sums(features):
    """The fused kernel of a float32 value and two sums of its columns over unknown rows."""
    h = ops.tanh(x_of((N, features), "float32"))
    graph = case_of("sums", [h, ops.sum_(h, axes=(0,)), ops.sum_(ops.square(h), axes=(0,))]).graph
    (kernel,) = kernels(Fuse().run(Lower().run(graph)))
    return kernel


def test_long_column_sums_are_summed_by_tiles_of_rows_in_their_own_dtype():
    """With a float64 array in it the float32 loop would have vectors of half as many elements."""
    (by_tile,) = (each for each in column_sums(64).body if isinstance(each, Loop) and each.kind == "reduce")
    zeros, rows, totals = (each for each in by_tile.body if isinstance(each, Loop))
    assert by_tile.extent == tiles(N) and rows.share == (by_tile.axis, tiles(N)) and rows.extent is N
    (columns,) = (each for each in rows.body if isinstance(each, Loop))
    sums = [each.target for each in walk(columns.body) if isinstance(each, Accumulate)]
    assert [buffer.dtype.name for buffer in sums] == ["float32", "float32"]
    assert [each.target.dtype.name for each in walk(totals.body) if isinstance(each, Accumulate)] == ["float64"] * 2
    assert [each.buffer for each in walk(zeros.body) if isinstance(each, Store)] == sums


def test_short_column_sums_are_summed_in_the_wider_dtype_at_once():
    (rows,) = (each for each in column_sums(8).body if isinstance(each, Loop) and each.extent is N)
    (columns,) = (each for each in rows.body if isinstance(each, Loop))
    sums = [each.target.dtype.name for each in walk(columns.body) if isinstance(each, Accumulate)]
    assert sums == ["float64", "float64"]


@pytest.mark.parametrize(("rows", "parts"), [(0, 1), (1, 1), (15, 1), (16, 1), (1000, 1), (1000, 3), (5, 2)])
def test_tiles_have_few_rows_and_parts_have_equally_many(rows, parts):
    count = tiles(rows, parts)
    sizes = [(k + 1) * rows // count - k * rows // count for k in range(count)]
    assert sum(sizes) == rows and max(sizes) <= TILE and count % parts == 0


@pytest.mark.parametrize("shape", [("B", "N", 64), ("B", 10, "N"), (7, 5000, "N")])
def test_no_tile_has_more_terms_than_rows(shape):
    """Sums over several axes, together and apart, beside each other, on one thread and on several."""
    x = graphc.Input(shape, "float32", "x")
    sums = [(0, 1), 0, (0, 2), 1, (1, 2), (0, 1, 2), 2]
    values = np.full([size if isinstance(size, int) else 300 for size in shape], np.float32(0.1))
    for threads, chosen in ((1, sums), (2, sums), (1, sums[:1]), (2, sums[2:3])):
        results = graphc.compile([np.sum(x, axis=axes) for axes in chosen], threads=threads)(x=values)
        for axes, result in zip(chosen, results, strict=True):
            expected = np.sum(values, axis=axes, dtype=np.float64)
            np.testing.assert_allclose(result, expected, rtol=TILE * 2.0**-24, err_msg=f"over {axes}")


def test_a_sum_of_all_may_stand_beside_sums_of_columns():
    x = graphc.Input(("N", "M"), "float32", "x")
    values = np.linspace(-1, 2, 77 * 130, dtype=np.float32).reshape(77, 130)
    columns, total = graphc.compile([np.sum(x, axis=0), np.sum(x)])(x=values)
    np.testing.assert_allclose(columns, values.sum(axis=0, dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(total, values.sum(dtype=np.float64), rtol=1e-6)


@pytest.mark.full
def test_the_error_of_long_column_sums_does_not_grow_with_their_length():
    view = graphc.Input(("N", 64), "float32", "x")
    for threads in (1, 2):
        program = graphc.compile(np.sum(view + 1, axis=0), threads=threads)
        for count in (10**3, 10**6):
            x = np.full((count, 64), np.float32(0.1))
            exact = count * float(np.float32(0.1) + np.float32(1))
            np.testing.assert_allclose(program(x=x), exact, rtol=TILE * 2.0**-24)


def test_a_softmax_cross_entropy_and_its_adjoint_are_one_kernel():
    x, labels = x_of((N, 4)), x_of((N,), "int64")
    logits, params = affine(x, 3)
    case = joint(case_of("softmax", [cross_entropy(logits, labels)]), params)
    program = Fuse().run(Lower().run(case.graph))
    (kernel,) = kernels(program)
    assert len([buffer for buffer in kernel.writes if buffer.space != "row"]) >= 2  # the loss, d_logits


def test_a_layer_norm_is_one_kernel_of_several_loops():
    program = check(EXPRESSIONS["layer norm"]())["fuse"]
    assert len(kernels(program)) == 1


def test_refusals_say_what_and_why():
    x = x_of((N, 4))
    shared = ops.exp(x)
    outputs = [shared * 2.0, ops.matmul(ops.transpose(shared, axes=(1, 0)), shared), ops.exp(ops.broadcast_to(
        ops.reshape(ops.sum_(shared, axes=(0,)), shape=(1, 4)), shape=(N, 4)))]
    refusals = Fuse().run(Lower().run(case_of("refused", outputs).graph)).refusals
    assert any("complete only after the outer loop" in reason for reason in refusals), refusals
    assert all(": not " in reason and len(reason.split(": ", 2)) == 3 for reason in refusals), refusals


def chain(length, width=(N,)):
    """A chain of elementwise ops, each cheap."""
    x = x_of(width)
    y = x
    for k in range(length):
        y = ops.tanh(y) if k % 3 == 0 else y + x if k % 3 == 1 else y * 0.5
    return case_of("chain", [y])


def statements(kernel):
    return sum(isinstance(each, Let) for each in walk(kernel.body))


def test_a_long_chain_is_cut_into_kernels_in_near_linear_time():
    seconds = {}
    for length in (750, 3000):
        graph = chain(length).graph
        start = time.perf_counter()
        program = Fuse().run(Lower().run(graph))
        seconds[length] = time.perf_counter() - start
        assert all(statements(kernel) <= STATEMENT_LIMIT for kernel in kernels(program))
    assert seconds[3000] < 5
    assert seconds[3000] < 10 * seconds[750] + 0.5


@pytest.mark.parametrize("width", [(), (4,)])
def test_scalars_are_cut_into_kernels_too(width):
    x = x_of(width)
    y = ops.sum_(x, axes=(0,)) if width else x
    for _ in range(400):
        y = ops.sin(y)
    program = Fuse().run(Lower().run(case_of("scalars", [y]).graph))
    assert all(statements(kernel) <= STATEMENT_LIMIT for kernel in kernels(program))


def test_dims_named_like_axes_are_dims():
    for names in (("i", "j"), ("a0", "r1"), ("c", "c0")):
        x = x_of(tuple(map(dim, names)))
        lowered = Lower().run(Graph("axes", (x,), (), (ops.sum_(ops.exp(x), axes=(0,)), ops.exp(x))))
        verify_program(lowered)
        fused = Fuse().run(lowered)
        verify_program(fused)
        axes = {each.axis for kernel in kernels(fused) for each in walk(kernel.body) if isinstance(each, Loop)}
        assert not axes & set(names)


def test_memory_is_planned_in_near_linear_time():
    x = x_of((8, 8))
    products = [x]
    for _ in range(2000):
        products.append(ops.matmul(products[-1], x))
    y = products[-1]
    for product in reversed(products):  # each lives until it is read again
        y = ops.matmul(y, product)
    program = Lower().run(case_of("products", [y]).graph)
    start = time.perf_counter()
    assert PlanMemory().run(program).arena is not None
    assert time.perf_counter() - start < 1


def test_a_deep_chain_needs_no_recursion():
    program = PlanMemory().run(Fuse().run(Lower().run(chain(50_000).graph)))
    assert program.arena is not None and len(program.steps) > 50_000 // STATEMENT_LIMIT

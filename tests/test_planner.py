"""Planners name views where they are assigned; names, aliases and order follow the class."""

from typing import Any

import numpy as np
import pytest

import graphc
from graphc import Dense, Input, Param, Planner, View
from graphc.build import build, find_view, named_views
from graphc.ir.errors import CompileError, CompileValueError, DeclarationError
from graphc.planner import views_of


class Net(Planner):
    x = Input(("N", 4), "float32")
    hidden = x | Dense(3) | np.tanh
    out = hidden | Dense(2) | np.tanh | Dense(2, bias=False)
    loss = np.mean(out**2)
    also = loss


def params_of(*views: View) -> list[str]:
    return list(build(list(views)).initial)


def test_a_view_takes_the_name_of_its_first_attribute() -> None:
    assert {name: view.name for name, view in views_of(Net).items()} == {
        "x": "x", "hidden": "hidden", "out": "out", "loss": "loss", "also": "loss",
    }  # fmt: skip
    assert repr(Net.loss) == "<view loss: f32[]>"


def test_names_are_there_while_the_class_body_runs() -> None:
    seen = []

    class Line(Planner):
        x = Input(("N",))
        y = 2 * x
        seen.append((x.name, y.name, (y + 1).name))

    assert seen == [("x", "y", None)]
    assert Line.y.name == "y"


def test_parameters_of_layers_are_named_after_the_view_whose_expression_applied_them() -> None:
    assert params_of(Net.loss) == [
        "hidden.dense.weight", "hidden.dense.bias", "out.dense.weight", "out.dense.bias", "out.dense_1.weight",
    ]  # fmt: skip


def test_a_layer_applied_twice_shares_its_parameters() -> None:
    class Twice(Planner):
        x = Input((3,))
        layer = Dense(3)
        once = x | layer
        twice = once | layer
        kernel = layer.weight

    assert params_of(Twice.twice) == ["once.dense.weight", "once.dense.bias"]
    assert Twice.kernel.name == "once.dense.weight"
    assert find_view("kernel", [Twice.twice]) is Twice.kernel


def test_layers_outside_a_planner_are_counted_per_program() -> None:
    x = Input((3,), name="x")
    first = x | Dense(3)
    second = first | Dense(2)
    assert params_of(second) == ["dense.weight", "dense.bias", "dense_1.weight", "dense_1.bias"]
    assert params_of(first | Dense(1, bias=False)) == ["dense.weight", "dense.bias", "dense_1.weight"]


def test_a_rebound_name_belongs_to_its_last_view() -> None:
    class Deep(Planner):
        x = Input((3,))
        h = x | Dense(3)
        keep = h
        h = h | Dense(3) | np.tanh
        g = x | Dense(2)
        g = g | Dense(2)

    assert (Deep.keep.name, Deep.h.name) == ("keep", "h")
    assert params_of(Deep.h) == ["keep.dense.weight", "keep.dense.bias", "h.dense.weight", "h.dense.bias"]
    assert params_of(Deep.g) == ["g.dense.weight", "g.dense.bias", "g.dense_1.weight", "g.dense_1.bias"]


def test_a_deleted_name_is_free() -> None:
    class Short(Planner):
        x = Input((3,))
        t = 2 * x
        y = t + 1
        del t

    assert list(views_of(Short)) == ["x", "y"]
    assert list(build([Short.y]).graph.names.values()) == ["x", "y"]


def test_inherited_views_are_visible_and_never_rewired() -> None:
    class Base(Planner):
        x = Input(("N", 3))
        h = x | Dense(2)
        y = np.sum(h)

    class Child(Base):
        h = 2 * Base.h
        z = Base.y + np.sum(h)

    assert list(views_of(Child)) == ["x", "y", "h", "z"]
    assert Child.x is Base.x
    assert Child.y.args[0] is Base.h
    built = build([Child.z])
    assert built.graph.name == "Child.z"
    assert sorted(built.graph.names.values()) == ["h", "h.dense.bias", "h.dense.weight", "h_1", "x", "y", "z"]
    assert built.graph.names[Base.h.node] == "h_1"
    assert find_view("h", [Child.z]) is Child.h


def test_a_subclass_body_refers_to_its_parent_by_name() -> None:
    with pytest.raises(NameError):

        class Child(Net):
            y = hidden  # type: ignore[name-defined] # noqa: F821


def test_an_instance_shows_the_same_views() -> None:
    assert Net().loss is Net.loss


def test_order_is_attribute_order_parents_first() -> None:
    class First(Planner):
        b = Param(1)
        a = Param(1)

    class Second(First):
        d = Param(1)
        c = Param(1)
        out = c + First.a + d + First.b

    assert params_of(Second.out) == ["b", "a", "d", "c"]
    x, y = Input((), name="x"), Input((), name="y")
    assert [node.type.shape for node in build([y * x]).graph.inputs] == [(), ()]
    assert build([y * x]).graph.inputs == (y.node, x.node)


def test_attributes_set_later_are_named_too() -> None:
    class Open(Planner):
        x = Input(())

    Open.y = 2 * Open.x
    assert Open.y.name == "y"
    assert list(views_of(Open)) == ["x", "y"]


def test_a_planner_made_by_calling_type() -> None:
    x = Input((2,))
    made: Any = type(Planner)("Made", (Planner,), {"x": x, "y": x + 1})
    assert (made.x.name, made.y.name) == ("x", "y")


def test_a_leaf_with_a_name_keeps_it_and_the_attribute_is_an_alias() -> None:
    class Named(Planner):
        x = Input((), name="pixel")
        y = x + 1

    built = build([Named.y])
    assert built.graph.names[Named.x.node] == "pixel"
    assert built.aliases == {"x": "pixel"}


def test_views_of_another_planner_keep_their_names() -> None:
    class Other(Planner):
        hidden = Net.hidden * 2
        again = Net.hidden

    built = build([Other.hidden + Other.again])
    assert built.graph.names[Other.hidden.node] == "hidden"
    assert built.graph.names[Net.hidden.node] == "hidden_1"
    assert built.aliases["again"] == "hidden_1"


def test_leaves_of_one_name_are_an_error() -> None:
    class Other(Planner):
        x = Input(())

    with pytest.raises(CompileError, match=r"test_planner.py:\d+: two leaves are named 'x': the other is"):
        build([Net.loss + Other.x])


def test_an_unnamed_leaf_is_an_error() -> None:
    with pytest.raises(CompileValueError) as caught:
        build([Input((2,)) + 1])
    assert str(caught.value).endswith(
        "the Input of type f64[2] has no name\n"
        '  bind it to an attribute of a planner, or write Input(..., name="x")'
    )
    with pytest.raises(CompileError, match=r"the Param of type f64\[3\] has no name"):
        build([Param(3) + 1])


def test_main_is_no_name_for_a_view() -> None:
    with pytest.raises(DeclarationError, match="'main' belongs to every planner"):

        class Wrong(Planner):
            main = Input(())


def test_a_wrong_name_suggests_the_nearest() -> None:
    with pytest.raises(CompileValueError) as caught:
        find_view("hiden", [Net.loss])
    assert str(caught.value) == "no view is named 'hiden' here\n  did you mean 'hidden'?"
    assert {"x", "hidden", "out", "loss", "also", "hidden.dense.weight"} <= named_views([Net.loss]).keys()


@pytest.mark.parametrize("module", ["__main__", "users", "graphcat", "graphc.examples.digits"])
def test_places_are_the_users(module: str) -> None:
    source = "\n\nfrom graphc import Input, softmax\nx = Input((2,))\ny = softmax(x + 1)\n"
    scope: dict[str, Any] = {"__name__": module}
    exec(compile(source, "/somewhere/digits.py", "exec"), scope)
    assert (str(scope["x"].place), scope["y"].place.short) == ("/somewhere/digits.py:4", "digits.py:5")


def test_a_notebook_has_cells() -> None:
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("import graphc\nx = graphc.Input(2)", "/tmp/ipykernel_77/123.py", "exec"), scope)
    assert scope["x"].place.short == "cell:2"


def test_everything_exported_is_there() -> None:
    assert all(hasattr(graphc, name) for name in graphc.__all__)
    assert sorted(graphc.__all__, key=str.lower) == sorted(set(graphc.__all__), key=str.lower)

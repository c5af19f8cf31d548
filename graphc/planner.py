"""Planners: classes whose attributes are views, named where they are assigned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from graphc.ir.errors import DeclarationValueError
from graphc.leaves import Param, layer_names
from graphc.locations import user_place
from graphc.views import View, topological


class Scope:
    """The names of one planner class: which view each attribute is bound to, in attribute order.

    It exists while the class body still runs, so that errors there can use the names. It alone names views.
    """

    def __init__(self, name: str, parents: tuple[Scope, ...]) -> None:
        self.name = name
        self.parents = parents
        self.bindings: dict[str, View] = {}
        self._layers: dict[str, list[Param]] = {}  # the parameters named after an attribute's view

    def bind(self, name: str, value: Any) -> None:
        """Bind an attribute; the first name of a view is its name, further ones are aliases."""
        previous = self.bindings.get(name)
        if previous is not None:
            if previous is value:
                return
            self.release(name)
        if isinstance(value, View):
            if name in RESERVED:
                raise DeclarationValueError(
                    f"{name!r} belongs to every planner, and cannot be a view", where=f"{user_place()}, {self.name}"
                )
            self.bindings[name] = value
            if value._scope is None:
                object.__setattr__(value, "_scope", self)
            if value.name is None:
                self._name(value, name)

    def release(self, name: str) -> None:
        """Unbind an attribute; its view goes by its next alias, if it has one."""
        view = self.bindings.pop(name, None)
        for param in self._layers.pop(name, ()):
            object.__setattr__(param, "_name", None)
        if view is not None and view._scope is self and view.name == name:
            object.__setattr__(view, "_name", None)
            alias = next((other for other, bound in self.bindings.items() if bound is view), None)
            if alias is not None:
                self._name(view, alias)

    def positions(self) -> dict[View, int]:
        """Where views stand in the attribute order; a layer's parameters stand where the layer was applied."""
        found: dict[View, int] = {}
        for position, (name, view) in enumerate(self.bindings.items()):
            for one in (*self._layers.get(name, ()), view):
                found.setdefault(one, position)
        return found

    def _name(self, view: View, name: str) -> None:
        object.__setattr__(view, "_name", name)
        # The layers applied in this view's expression, and not in that of a view named before, are named after it.
        inner = topological([view], is_known=lambda one: one.name is not None)
        made = [one for one in inner if isinstance(one, Param) and one.role is not None and one.name is None]
        for param, inner_name in layer_names(made):
            object.__setattr__(param, "_name", f"{name}.{inner_name}")
            object.__setattr__(param, "_scope", self)
            self._layers.setdefault(name, []).append(param)


class _Namespace(dict[str, Any]):
    """The body of a planner class: views take their names as they are assigned."""

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self.scope = scope

    def __setitem__(self, name: str, value: Any) -> None:
        self.scope.bind(name, value)
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self.scope.release(name)


class PlannerType(type):
    """The metaclass of planners."""

    _scope: Scope

    @classmethod
    def __prepare__(cls, name: str, bases: tuple[type, ...], /, **kwargs: Any) -> _Namespace:
        """A namespace that names views."""
        return _Namespace(Scope(name, tuple(base._scope for base in bases if isinstance(base, PlannerType))))

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> PlannerType:
        body = namespace
        if not isinstance(body, _Namespace):  # made by type(...) and not by a class statement
            body = cls.__prepare__(name, bases)
            for key, value in namespace.items():
                body[key] = value
        return super().__new__(cls, name, bases, {**body, "_scope": body.scope}, **kwargs)

    def __setattr__(cls, name: str, value: Any) -> None:
        cls._scope.bind(name, value)
        super().__setattr__(name, value)

    def __delattr__(cls, name: str) -> None:
        super().__delattr__(name)
        cls._scope.release(name)


class Planner(metaclass=PlannerType):
    """A computation as a class: the attributes are its views, and take their names from it.

    Examples
    --------
    >>> import numpy as np
    >>> class Line(Planner):
    ...     x = Input(("N",))
    ...     y = 2 * x + 1
    >>> Line.y
    <view y: f64[N]>
    """

    @classmethod
    def main(
        cls, argv: Sequence[str], data: Mapping[str, Any] | None = None, opts: Mapping[str, Any] | None = None
    ) -> int:
        """Run the command line on this planner; ``Digits().main(sys.argv)`` makes a script of it.

        Parameters
        ----------
        argv : sequence of str
            The program's name, then the switches; ``--help`` lists them.
        data : mapping, optional
            Arrays by input name, for when there is no ``--data``.
        opts : mapping, optional
            Defaults of the options that ``--opts`` sets.

        Returns
        -------
        int
            The exit status 0.

        Raises
        ------
        SystemExit
            With the exit status, where it is not 0: 1 where the computation says no, 2 for a wrong command line.
        """
        from graphc import command_line  # the program behind the switches, not needed for declarations

        status: int = command_line.main(cls, argv, data=data, opts=opts)
        if status:
            raise SystemExit(status)
        return status


RESERVED = frozenset({"main", "_scope"})


def views_of(planner: type[Planner]) -> dict[str, View]:
    """Every attribute of a planner that is a view: parents' first, in attribute order; aliases have ``name != key``."""
    found: dict[str, View] = {}
    for base in reversed(planner.__mro__):
        for name, value in vars(base).items():
            found.pop(name, None)
            if isinstance(value, View):
                found[name] = value
    return found


def scopes_of(views: Sequence[View]) -> list[Scope]:
    """The planners that views belong to, in order of first appearance, parents before their children."""
    order: dict[Scope, None] = {}
    for view in views:
        if view._scope is not None:
            order.update(dict.fromkeys(_ancestry(view._scope)))
    return list(order)


def _ancestry(scope: Scope) -> Iterator[Scope]:
    chain = [scope]
    for one in chain:  # grows as it goes
        chain.extend(one.parents)
    return reversed(chain)

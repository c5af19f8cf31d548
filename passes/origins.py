"""Places for the steps that a pass makes: new steps stand where the step they come from stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from graphc.ir.core import Node


class Origins:
    """Growing origins: `attribute` gives a place to the steps not seen before. Linear in all.

    Parameters
    ----------
    places : mapping from Node to tuple of str
        The origins known so far.
    seen : iterable of Node
        Nodes that have a place already, or have none on purpose.
    """

    def __init__(self, places: Mapping[Node, tuple[str, ...]], seen: Iterable[Node]) -> None:
        self.places = dict(places)
        self._seen = set(seen)

    def attribute(self, roots: Iterable[Node], places: tuple[str, ...]) -> None:
        """Say that all unseen nodes below `roots` come from `places`."""
        stack = list(roots)
        while stack:
            node = stack.pop()
            if node not in self._seen:
                self._seen.add(node)
                if places:
                    self.places.setdefault(node, places)
                stack.extend(node.operands)

"""A row: a stage as a group of stages under common outer loops sees it."""

from __future__ import annotations

from dataclasses import dataclass

from graphc.passes.stages import Axes, Stage


@dataclass(frozen=True, slots=True)
class Row:
    """A stage as a group sees it: all its axes in `order`, the group's outer ones first."""

    stage: Stage
    order: Axes

    @classmethod
    def of(cls, stage: Stage) -> Row:
        """The stage with its axes in natural order."""
        return cls(stage, natural_order(stage))

    @property
    def widest(self) -> int:
        """The largest number of outer axes that this stage allows."""
        reduced = {name for name, _ in self.stage.reduce}
        rank = len(self.order)
        if not reduced:
            return max(rank - 1, min(rank, 1))
        leading = 0
        while leading < rank and self.order[leading][0] not in reduced:
            leading += 1
        return leading or max(rank - 1, min(rank, 1))

    def outer(self, rank: int) -> tuple[str, ...]:
        """The names of its outer axes."""
        return tuple(name for name, _ in self.order[:rank])

    def inner(self, rank: int) -> tuple[str, ...]:
        """The names of its inner axes."""
        return tuple(name for name, _ in self.order[rank:])

    def reduces_outer(self, rank: int) -> bool:
        """Whether it is finished only after the outer loops."""
        return bool({name for name, _ in self.stage.reduce} & set(self.outer(rank)))


def natural_order(stage: Stage) -> Axes:
    """All axes of a stage in the order in which memory is walked: that of the load with the most of them.

    Axes that this load does not have keep their place among the output axes, or come last where they are reduced.
    """
    if stage.combine is None:
        return stage.axes
    extents = stage.extents
    longest: list[str] = []
    for load in stage.loads:
        variables = [name for position in load.index for name in position.variables if name in extents]
        variables = list(dict.fromkeys(variables))
        if len(variables) > len(longest):
            longest = variables
    order = longest
    for name, _ in stage.axes:
        if name not in order:
            order.insert(0, name)
    order += [name for name, _ in stage.reduce if name not in order]
    return tuple((name, extents[name]) for name in order)

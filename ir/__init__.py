"""The languages of graphc: types, ops with their rules, the tensor graph, the loop IR, their text and their meaning."""

from graphc.ir.graph import Graph

__all__ = ["Graph"]

"""Prologue values as inputs of the graphs that read them."""

from __future__ import annotations

import math

from pixelsnail_infer.export.analysis.prologue import Prologue
from pixelsnail_infer.export.analysis.widths import is_exact
from pixelsnail_infer.export.emission.builder import GraphBuilder, kind_of
from pixelsnail_infer.export.emission.graph import Kind, Value
from pixelsnail_infer.export.fields import Node

__all__ = ["crosses_as", "crossing", "crossing_keys"]


def crosses_as(g: GraphBuilder, node: Node) -> Kind:
    """What a crossing value holds numbers as."""
    kind = kind_of(node.dtype)
    return g.wide if kind == "float" and is_exact([node]) else kind


def crossing(g: GraphBuilder, prologue: Prologue, node: Node) -> Value:
    """A crossing value, `[B, *shape]`."""
    return g.input(prologue.name(node), crosses_as(g, node), ["B", *prologue.shape(node)])


def crossing_keys(g: GraphBuilder, prologue: Prologue, node: Node) -> Value:
    """An attended condition map as `[B, heads, P, d]`."""
    positions = math.prod(node.frame or (1,))
    heads = [math.prod(node.channels[:-1]), node.channels[-1]]
    flat = g.reshape(crossing(g, prologue, node), [0, positions, *heads])
    return g.transpose(flat, [0, 2, 1, 3])

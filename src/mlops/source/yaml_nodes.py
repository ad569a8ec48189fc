"""YAML text as nodes that know where in it they begin and end, so that a piece can be changed in its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from mlops.resources.yaml_reading import parser_of


@dataclass(frozen=True, slots=True)
class Node:
    """A piece of the text; an alias is a piece of its own, not what it stands for."""

    kind: Literal["scalar", "alias", "mapping", "sequence"]
    start: int
    end: int  # of the last character that means something
    column: int
    anchor: str | None = None
    style: str = ""  # of a scalar: "" for a plain one
    flow: bool = False
    value: str = ""
    fields: tuple[tuple[Node, Node], ...] = ()
    items: tuple[Node, ...] = ()

    def field(self, name: str | int) -> Node | None:
        """The value of a field, or an item of a sequence."""
        if isinstance(name, int):
            return self.items[name] if 0 <= name < len(self.items) else None
        return next((value for key, value in self.fields if key.value == name), None)

    @property
    def empty(self) -> bool:
        """Whether it is a null, written or not."""
        return self.kind == "scalar" and not self.style and self.value in ("", "~", "null", "Null", "NULL")


def trees(text: str) -> list[Node]:
    """The documents of a text that can be read."""
    found: list[Node] = []
    event = parser_of(text).get_event
    current = event()
    while current is not None:
        if type(current) is yaml.DocumentStartEvent:
            found.append(_tree(text, event(), event))
        current = event()
    return found


def _tree(text: str, event: Any, following: Callable[[], Any]) -> Node:
    start, end, column = event.start_mark.index, event.end_mark.index, event.start_mark.column
    if type(event) is yaml.AliasEvent:
        return Node("alias", start, end, column)
    if type(event) is yaml.ScalarEvent:
        style = event.style or ""
        if style in ("|", ">"):  # the mark is behind the empty lines that follow
            end = start + len(text[start:end].rstrip())
        return Node("scalar", start, end, column, event.anchor, style.strip(), value=event.value)
    flow = bool(event.flow_style)
    inside: list[Node] = []
    inner: Any = following()
    while type(inner) not in (yaml.MappingEndEvent, yaml.SequenceEndEvent):
        inside.append(_tree(text, inner, following))
        inner = following()
    end = inner.end_mark.index if flow or not inside else inside[-1].end
    if type(event) is yaml.MappingStartEvent:
        pairs = tuple(zip(inside[::2], inside[1::2], strict=True))
        return Node("mapping", start, end, column, event.anchor, flow=flow, fields=pairs)
    return Node("sequence", start, end, column, event.anchor, flow=flow, items=tuple(inside))

"""YAML to plain values, as fast as PyYAML's C parser gives events, for files that hold nothing unusual.

Whatever is unusual (an anchor, a tag, a repeated key, a mistake) makes it give up with `Unusual`; then
`yaml_places.read_documents` reads the same text slowly, knows every place, and says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

from mlops.errors import MlopsError
from mlops.resources.core_schema import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_DOCUMENT_NODES,
    MAX_DOCUMENTS,
    MAX_NODES,
    TooManyDigits,
    plain_scalar,
)

Start = tuple[int, int]  # line and column of the first key of a document, from 1


class Unusual(Exception):
    """The text needs the slow reader."""


def parser_of(text: str) -> Any:
    """An event parser: libyaml's, or PyYAML's own where it was built without it."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return loader(text)


def read_values(text: str) -> tuple[list[Start], list[Any]]:
    """All documents of a file that are not empty: where each begins, and its plain value.

    Raises Unusual for everything that the slow reader has to see.
    """
    starts: list[Start] = []
    values: list[Any] = []
    try:
        parser = parser_of(text)
        event = parser.get_event
        left = MAX_NODES
        current = event()
        while current is not None:
            if type(current) is yaml.DocumentStartEvent:
                root = event()
                reader = _Reader(event, min(left, MAX_DOCUMENT_NODES))
                value = reader.node(root, 0)
                left -= reader.used
                if value is not None:
                    starts.append((root.start_mark.line + 1, root.start_mark.column + 1))
                    values.append(value)
                    if len(values) > MAX_DOCUMENTS:
                        raise Unusual
            current = event()
    except (yaml.YAMLError, TooManyDigits) as error:
        raise Unusual from error
    return starts, values


def plain_value(data: bytes, file: str) -> Any:
    """The plain value of a file that holds one YAML document, such as an MLproject file.

    The caps and the core schema are those of resources, but anchors, tags and repeated keys are refused.

    Args:
        data: its bytes.
        file: its path, for the error.

    Raises:
        MlopsError: it is too large, not UTF-8, not YAML, or not one document.
    """
    try:
        if len(data) > MAX_BYTES:
            raise Unusual
        _, values = read_values(data.decode("utf-8-sig"))
    except (Unusual, UnicodeDecodeError):
        raise MlopsError(
            "is not plain YAML", where=file, fix="Mend its syntax; no anchors, no tags."
        ) from None
    if len(values) > 1:
        raise MlopsError("holds several documents", where=file, fix="Keep one of them.")
    return values[0] if values else None


class _Reader:
    """Builds one document from events."""

    __slots__ = ("_event", "_limit", "used")

    def __init__(self, event: Callable[[], Any], limit: int) -> None:
        self._event = event
        self._limit = limit
        self.used = 0

    def node(self, event: Any, depth: int) -> Any:
        kind = type(event)
        if event.anchor is not None:  # an alias has one, too
            raise Unusual
        self.used += 1
        if kind is yaml.ScalarEvent:
            if event.tag is not None:
                raise Unusual
            return plain_scalar(event.value) if event.implicit[0] else event.value
        if event.tag is not None or depth >= MAX_DEPTH or self.used > self._limit:
            raise Unusual
        return self._mapping(depth + 1) if kind is yaml.MappingStartEvent else self._sequence(depth + 1)

    def _mapping(self, depth: int) -> dict[str, Any]:
        next_event, node = self._event, self.node
        mapping: dict[str, Any] = {}
        key = next_event()
        while type(key) is not yaml.MappingEndEvent:
            if type(key) is not yaml.ScalarEvent or key.anchor is not None or key.tag is not None:
                raise Unusual
            name = key.value  # a key is text, whatever it looks like
            if name in mapping or (name == "<<" and key.implicit[0]):
                raise Unusual
            mapping[name] = node(next_event(), depth)
            key = next_event()
        return mapping

    def _sequence(self, depth: int) -> list[Any]:
        next_event, node = self._event, self.node
        sequence: list[Any] = []
        event = next_event()
        while type(event) is not yaml.SequenceEndEvent:
            if self.used > self._limit:
                raise Unusual
            sequence.append(node(event, depth))
            event = next_event()
        return sequence

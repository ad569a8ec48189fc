"""Finding fields by path, in validated resources and in raw documents alike.

Checks between documents have to look at broken documents, too, so that one pass names every mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_snake

from mlops.resources.problem import FieldPath

View = BaseModel | Mapping[str, Any]  # a validated resource, or the plain values of a document
Steps = tuple[tuple[str, str], ...]  # (name in documents, name in Python); "*" stands for every item

_RENAMED = {"from": "from_", "int": "int_"}  # reserved words of Python


def steps(pattern: str) -> Steps:
    """A pattern such as `spec.datasets.*`, made ready for `find`."""
    return tuple((name, _RENAMED.get(name, to_snake(name))) for name in pattern.split("."))


def find(view: View, pattern: Steps) -> list[tuple[FieldPath, Any]]:
    """Paths and values of all fields that `pattern` stands for; absent and empty ones are left out."""
    found: list[tuple[FieldPath, Any]] = [((), view)]
    for name, attribute in pattern:
        inner: list[tuple[FieldPath, Any]] = []
        for path, value in found:
            if name == "*":
                if isinstance(value, dict):
                    inner += [((*path, key), item) for key, item in value.items()]
                elif isinstance(value, list | tuple):
                    inner += [((*path, index), item) for index, item in enumerate(value)]
            else:
                item = value.get(name) if isinstance(value, dict) else getattr(value, attribute, None)
                if item is not None:
                    inner.append(((*path, name), item))
        if not inner:
            return inner
        found = inner
    return found


def value_at(view: View, pattern: Steps) -> Any:
    """The value at a pattern without `*`, or None."""
    value: Any = view
    for name, attribute in pattern:
        value = value.get(name) if isinstance(value, dict) else getattr(value, attribute, None)
        if value is None:
            return None
    return value


def text_at(view: View, pattern: Steps) -> str | None:
    """The text that stands there, or None if there is none."""
    value = value_at(view, pattern)
    return value if isinstance(value, str) else None

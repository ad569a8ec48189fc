"""Scalars of the YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema), and the caps on a file.

PyYAML's own resolver speaks YAML 1.1, in which `no` is false, `1e-3` is text and `012` is ten.
"""

from __future__ import annotations

import re

MAX_BYTES = 8 << 20  # of one file
MAX_TOTAL_BYTES = 64 << 20  # of all files of a project
MAX_DOCUMENTS = 20_000  # in one file
MAX_NODES = 500_000  # in one file, aliases expanded
MAX_DOCUMENT_NODES = 100_000
MAX_DEPTH = 40
MAX_ALIASES = 1_000  # in one file
MAX_DIGITS = 100

_CONSTANTS: dict[str, bool | None] = {
    "": None,
    **dict.fromkeys(("~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBER_START = frozenset("+-.0123456789")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o([0-7]+)|0x([0-9a-fA-F]+)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"([-+]?)\.(?:inf|Inf|INF)")
_NOT_A_NUMBER = frozenset((".nan", ".NaN", ".NAN"))


class TooManyDigits(ValueError):
    """A number so long that it can only be a mistake or an attack."""


def plain_scalar(text: str) -> str | int | float | bool | None:
    """The value of a plain (unquoted) scalar.

    Raises:
        TooManyDigits: it is a number of more than MAX_DIGITS digits.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    return _number(text) if text[0] in _NUMBER_START else text


def _number(text: str) -> str | int | float:
    if _INTEGER.fullmatch(text):
        return int(_capped(text))
    if _FLOAT.fullmatch(text):
        return float(_capped(text))
    if match := _BASED.fullmatch(text):
        digits = match[1] or match[2]
        return int(_capped(digits), 8 if match[1] else 16)
    if match := _INFINITY.fullmatch(text):
        return float(f"{match[1]}inf")
    return float("nan") if text in _NOT_A_NUMBER else text


def _capped(text: str) -> str:
    if len(text) > MAX_DIGITS:
        raise TooManyDigits
    return text


def tagged_scalar(tag: str, text: str) -> str | int | float | bool | None:
    """The value of a scalar with an explicit tag of the core schema, such as `!!str 12`.

    Raises:
        KeyError: the tag is not one of the core schema.
        ValueError: the text is not of that type.
    """
    if tag in ("!", "tag:yaml.org,2002:str"):
        return text
    kinds = {"null": type(None), "bool": bool, "int": int, "float": float}
    kind = kinds[tag.removeprefix("tag:yaml.org,2002:")]
    value = plain_scalar(text)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"is not of the type {tag.rpartition(':')[2]}")
    return value

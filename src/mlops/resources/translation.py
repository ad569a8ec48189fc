"""What pydantic says about a document, in words that say what to do."""

from __future__ import annotations

import typing
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from mlops.resources.dataset import DIGEST_PATTERN, PIN_PATTERN
from mlops.resources.document import METRIC_PATTERN, NAME_PATTERN, PARAMETER_PATTERN, VARIABLE_PATTERN
from mlops.resources.experiment import PYTHON_PATTERN
from mlops.resources.model import REGISTERED_NAME_PATTERN
from mlops.resources.monitoring_checks import DETECTOR_PATTERN
from mlops.resources.monitoring_policy import WINDOW_FROM_PATTERN
from mlops.resources.nearest import Nearest
from mlops.resources.problem import FieldPath, Finding, shown
from mlops.resources.project import EMAIL_PATTERN
from mlops.resources.promotion import PROMOTED_PATTERN
from mlops.resources.semver import SEMVER_PATTERN

MAX_FINDINGS = 200  # of one document; who has more needs no longer list

_NAME_FIX = 'Use lower-case letters, digits, "-" and single "."; start and end with a letter or digit.'
_PATTERNS = {
    NAME_PATTERN: ("is not a name", _NAME_FIX),
    SEMVER_PATTERN: ("is not a semantic version", "Write three numbers such as 1.1.0, or 1.1.0-rc.1."),
    PROMOTED_PATTERN: ("is neither a semantic version nor latest", "Write a declared version such as 1.1.0."),
    VARIABLE_PATTERN: ("is not the name of an environment variable", "Use letters, digits and _."),
    PARAMETER_PATTERN: ("is not a name for a parameter", "Use letters, digits, _, - and . after a letter."),
    DIGEST_PATTERN: ("is not a digest", "Write sha256: and 64 hexadecimal digits."),
    PIN_PATTERN: ("is not a digest", "Write sha256: and 64 hexadecimal digits, or delta:<table id>:<version>."),
    EMAIL_PATTERN: ("is not an e-mail address", "Write it as name@example.com."),
    PYTHON_PATTERN: ("is not a Python version", 'Write it in quotes, such as "3.11".'),
    REGISTERED_NAME_PATTERN: (
        "is not a name for a registered model",
        "Use letters, digits, _, -, . and blanks; rename the model in MLflow if it is called otherwise.",
    ),
    DETECTOR_PATTERN: ("is not the name of a detector", "Write a name such as psi, or package/name."),
    WINDOW_FROM_PATTERN: ("is not a time", "Write a date such as 2026-01-31, or start or promotion."),
    METRIC_PATTERN: ("is not the name of a metric", "Use letters, digits, _, -, ., / and blanks."),
}  # fmt: skip
_MUST_BE = {
    "string": ("text", "Put quotes around it."),
    "bool": ("true or false", "YAML 1.2 knows only true and false, without quotes."),
    "int": ("a whole number", "Write digits only, without quotes."),
    "float": ("a number", "Write a number, without quotes."),
    "tuple": ("a list", 'Write [a, b], or one item a line after "- ".'),
    "dict": ("a mapping", 'Write {name: value}, or one "name: value" a line.'),
    "model": ("a mapping", 'Write {name: value}, or one "name: value" a line.'),
}  # fmt: skip
_NOUNS: dict[type, str] = {
    **{bool: "true or false", int: "a number", float: "a number"},
    **{str: "text", list: "a list", dict: "a mapping"},
}
_BOUNDS = {
    "greater_than_equal": "is less than {ge}",
    "greater_than": "is not greater than {gt}",
    "less_than_equal": "is greater than {le}",
    "less_than": "is not less than {lt}",
    "too_short": "has fewer than {min_length} items",
    "too_long": "has more than {max_length} items",
    "string_too_short": "is empty",
    "string_too_long": "has more than {max_length} characters",
}


def findings_of(error: ValidationError, raw: Any, model: type[BaseModel], nearest: Nearest) -> list[Finding]:
    """What is wrong with a document, one finding a field.

    Args:
        error: what validation of `raw` as `model` raised.
        raw: the plain values of the document.
        model: its kind.
        nearest: suggests names of fields and values.
    """
    grouped: dict[FieldPath, list[tuple[Any, FieldPath]]] = {}
    for detail in error.errors(include_url=False, include_input=False)[: 5 * MAX_FINDINGS]:
        path, rest = _path_in(raw, detail["loc"])
        if detail["type"] in ("missing", "refused"):
            path = _extended(path, rest, detail)
        grouped.setdefault(path, []).append((detail, detail["loc"]))
    found = [_finding(path, details, raw, model, nearest) for path, details in grouped.items()]
    return _without_echoes(found)[:MAX_FINDINGS]


def _path_in(raw: Any, location: FieldPath) -> tuple[FieldPath, FieldPath]:
    """The part of a pydantic location that exists in the document (union tags do not), and its tail."""
    path: list[str | int] = []
    value, last = raw, 0
    for index, part in enumerate(location):
        inside = isinstance(value, list | tuple) and isinstance(part, int) and part < len(value)
        if inside or (isinstance(value, dict) and part in value):
            path.append(part)
            value, last = value[part], index + 1
    return tuple(path), location[last:]


def _extended(path: FieldPath, rest: FieldPath, detail: Any) -> FieldPath:
    """The path of something that is missing, or that a validator pointed at from where it stood."""
    at: FieldPath = detail["ctx"]["at"] if detail["type"] == "refused" else ()
    if rest[-1:] != path[-1:]:  # else it is there, and the rest is the tag of a union
        path = (*path, *rest[-1:])  # a default that was refused is not in the document, either
    for part in at:
        path = path[:-1] if part == ".." else (*path, part)
    return path


def _finding(
    path: FieldPath, details: list[tuple[Any, FieldPath]], raw: Any, model: type[BaseModel], nearest: Nearest
) -> Finding:
    detail, location = details[0]
    kind, context = detail["type"], detail.get("ctx") or {}
    value = value_at(raw, path)
    on_key = location[-1:] == ("[key]",)
    if kind == "refused":
        return Finding(path, context["what"], context["fix"], context["on_key"] or value is None)
    if kind == "missing":
        return Finding(path, "is required", "Add it.")
    if kind == "extra_forbidden":
        return Finding(path, "is not a field here", _unknown_field_fix(path, model, nearest), on_key=True)
    if len(details) > 1:  # none of the members of a union
        kinds = list(dict.fromkeys(_must_be(each["type"])[0] for each, _ in details))
        if "a number" in kinds and "a whole number" in kinds:
            kinds.remove("a whole number")
        return Finding(path, f"must be {_either(kinds)}, not {_noun(value)}", "Mend or remove it.", on_key)
    if kind == "literal_error":
        return _not_a_choice(path, value, _choices(context["expected"]), nearest)
    if kind == "string_pattern_mismatch":
        wrong = ("is not of the right form", f"It has to match {context['pattern']}")
        what, fix = _PATTERNS.get(context["pattern"], wrong)
        return Finding(path, what, fix, on_key)
    if kind in _BOUNDS:
        return Finding(path, _bounds(kind, context), "Change it to be within bounds.", on_key)
    if kind == "finite_number":
        return Finding(path, "is not a finite number", "Write a number, or put quotes around it.")
    expected, fix = _must_be(kind)
    if isinstance(value, dict | list) and expected == "text":
        fix = "Write a single text."
    return Finding(path, f"must be {expected}, not {_noun(value)}", fix, on_key)


def _either(options: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(options[:-1]), options[-1]]))


def _must_be(error: str) -> tuple[str, str]:
    return _MUST_BE.get(error.partition("_")[0], ("something else", "See the reference of this kind."))


def value_at(raw: Any, path: FieldPath) -> Any:
    """The plain value at a path, or None."""
    for part in path:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            return None
    return raw


def _bounds(kind: str, context: dict[str, Any]) -> str:
    plain = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in context.items()
    }
    return _BOUNDS[kind].format(**plain)


def _noun(value: Any) -> str:
    return _NOUNS.get(type(value), "empty")


def _choices(expected: str) -> list[str]:
    return [word.strip("' ") for word in expected.replace(" or ", ", ").split(", ")]


def _not_a_choice(path: FieldPath, value: Any, choices: list[str], nearest: Nearest) -> Finding:
    near = nearest.nearest(value, choices) if isinstance(value, str) else None
    options = choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    fix = f"Did you mean {near}?" if near and len(choices) > 1 else f"Write {options}."
    return Finding(path, f"{shown(value)} is not {options}", fix)


def _unknown_field_fix(path: FieldPath, model: type[BaseModel], nearest: Nearest) -> str:
    fields = fields_at(model, path[:-1])
    near = nearest.nearest(str(path[-1]), fields)
    return f"Did you mean {near}?" if near else f"Remove it; the fields here are {', '.join(sorted(fields))}."


def fields_at(model: type[BaseModel], path: FieldPath) -> list[str]:
    """Names of the fields that a document of this kind may have at `path`."""
    models: set[type[BaseModel]] = {model}
    for part in path:
        inner = {
            found
            for outer in models
            for field in outer.model_fields.values()
            if field.alias == part
            for found in _models_in(field.annotation)
        }
        models = inner or models  # an index or a free name leads nowhere else
    names = [field.alias or name for outer in models for name, field in outer.model_fields.items()]
    return list(dict.fromkeys(names))


def _models_in(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


def _without_echoes(found: list[Finding]) -> list[Finding]:
    """Say each mistake once: a misspelt field is not also a missing one."""
    meant = {
        (*finding.path[:-1], finding.fix.removeprefix("Did you mean ").removesuffix("?"))
        for finding in found
        if finding.on_key and finding.fix.startswith("Did you mean ")
    }
    # In a union the mapping is "not text" although it is the mapping's content that is wrong; a list without its broken
    # items is "too short".
    inside = {finding.path[:length] for finding in found for length in range(len(finding.path))}
    return [
        finding
        for finding in found
        if not (finding.what == "is required" and finding.path in meant)
        and not (finding.what.startswith(("must be ", "has fewer than ")) and finding.path in inside)
    ]

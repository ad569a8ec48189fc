"""Edits of YAML text of which only the characters that mean the change differ: no line is laid out anew.

The text is read into nodes that know where they begin and end; a value is replaced in place, a new field is put
behind the last one, a new document at the end of the file. Comments, quotes, flow style, anchors, line ends and a
byte order mark stay as they were written. What was edited is read again and has to mean the intended change and
nothing else; where it does not, nothing is edited and a person is asked to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlops.errors import Stalled
from mlops.resources.core_schema import plain_scalar
from mlops.resources.key import Key
from mlops.resources.problem import FieldPath, field_name
from mlops.resources.yaml_places import read_documents
from mlops.source.yaml_nodes import Node, trees

Plain = str | int | float | bool | None
Value = Plain | Mapping[str, Plain]
_BY_HAND = "Edit it by hand: an alias or an unusual layout stands in the way."
_BYTE_ORDER_MARK = "\ufeff"
_BREAK = re.compile(r"\r\n|[\r\n\x85\u2028\u2029]")
_SAFE = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./+-]*(:[A-Za-z0-9_./+-]+)*")


@dataclass(frozen=True, slots=True)
class SetField:
    """One field of one resource, and what it is to hold; mappings on the way to it are made.

    Attributes:
        resource: whose document it is.
        path: leads to the field, such as `("spec", "datasets", "train")`.
        value: what is to stand there; a mapping replaces a mapping, and is written on one line.
    """

    resource: Key
    path: FieldPath
    value: Value


@dataclass(frozen=True, slots=True)
class RemoveField:
    """One field of one resource that is not to be there; with it go the comments within it and behind it.

    Attributes:
        resource: whose document it is.
        path: leads to the field.
    """

    resource: Key
    path: FieldPath


Edit = SetField | RemoveField


def set_suspend(path: Path, kind: str, name: str, suspended: bool) -> None:
    """Set `spec.suspend` of one resource in a file, or raise Stalled and change nothing."""
    with path.open(encoding="utf-8", newline="") as file:
        text = file.read()
    edited = with_fields(text, [SetField(Key(kind, name), ("spec", "suspend"), suspended)], where=str(path))
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        file.write(edited)
    partial.chmod(path.stat().st_mode)
    partial.replace(path)


def with_fields(text: str, edits: Iterable[Edit], *, where: str = "") -> str:
    """`text` with these fields set or removed; one that is so already is left as it is written.

    Args:
        text: the content of a file, with its line ends and its byte order mark.
        edits: what is to be done, in this order.
        where: the file's path, for the error.

    Raises:
        Stalled: it cannot be done without changing anything else.
    """
    for edit in edits:
        text = _with_field(text, edit, where)
    return text


def with_document(text: str, document: str, *, where: str = "") -> str:
    """`text` with one more document at its end.

    Args:
        text: the content of a file, which may be empty.
        document: the text of a document, with line ends `\\n` and without `---`.
        where: the file's path, for the error.

    Raises:
        Stalled: the text is no YAML, or ends in a way that lets nothing follow.
    """
    before = _values(text, where)
    newline = "\r\n" if "\r\n" in text else "\n"
    bare = text.removeprefix(_BYTE_ORDER_MARK)
    gap = newline if bare and not _BREAK.fullmatch(bare[-1]) else ""
    begin = f"---{newline}" if trees(bare) else ""
    edited = text + gap + begin + document.replace("\n", newline)
    if not _same(_values(edited, where), [*before, *_values(document, where)]):
        raise Stalled("nothing can be added at the end of this file", where=where, fix=_BY_HAND)
    return edited


def _with_field(text: str, edit: Edit, where: str) -> str:
    values = _values(text, where)
    at = [index for index, value in enumerate(values) if _is(value, edit.resource)]
    if len(at) != 1:
        what = "stands more than once" if at else "is not found"
        raise Stalled(f"{edit.resource} {what} in this file", where=where, fix=_BY_HAND)
    wanted = [_apart(value) for value in values]
    _put(wanted[at[0]], edit, where)
    if _same(values, wanted):
        return text
    mark = _BYTE_ORDER_MARK if text.startswith(_BYTE_ORDER_MARK) else ""
    bare = text.removeprefix(mark)
    found = [tree for tree in trees(bare) if not tree.empty]
    edited = _edited(bare, found[at[0]], edit) if at[0] < len(found) else None
    if edited is None or not _means(edited, wanted):
        raise _by_hand(edit, where)
    return mark + edited


def _edited(text: str, node: Node, edit: Edit) -> str | None:
    match edit:
        case SetField(path=path, value=value):
            return _spliced(text, node, path, value)
        case RemoveField(path=path):
            return _removed(text, node, path)


def _means(text: str, wanted: list[Any]) -> bool:
    documents, broken = read_documents(text)
    whole = not broken and not any(document.findings for document in documents)
    return whole and _same([document.value for document in documents], wanted)


def _spliced(text: str, node: Node, path: FieldPath, value: Value) -> str | None:
    """The text with a field of a document changed or added; None where that has no place."""
    colon = 0  # where the name of the field ends
    for depth, name in enumerate(path):
        inner = node.field(name)
        if inner is None:
            return _added(text, node, path[depth:], value)
        colon = next((key.end for key, held in node.fields if held is inner), 0)
        node = inner
    if node.kind == "mapping" and isinstance(value, Mapping):
        plain = colon and re.fullmatch(r":\s*", text[colon : node.start])
        return text[: colon if plain else node.start] + ": " * bool(plain) + as_yaml(value) + text[node.end :]
    if node.kind in ("mapping", "sequence"):
        return None
    anchor = f"&{node.anchor} " if node.anchor and node.kind == "scalar" else ""
    gap = " " if node.start == node.end and text[node.start - 1 : node.start] == ":" else ""
    return text[: node.start] + gap + anchor + as_yaml(value, node.style) + text[node.end :]


def _removed(text: str, node: Node, path: FieldPath) -> str | None:
    """The text without a field: without its lines where it has lines of its own, else without its characters."""
    *above, last = path
    for name in above:
        inner = node.field(name)
        if inner is None:
            return None
        node = inner
    at = next((at for at, (key, _) in enumerate(node.fields) if key.value == last), None)
    if at is None:
        return None
    (key, value), several = node.fields[at], len(node.fields) > 1
    end = max(key.end + 1, value.end)
    if not several:
        whole = text[node.start : node.end] if node.flow else None
        return text[: node.start] + "{}" + text[node.end if whole else end :]
    begins = _line_start(text, key.start)
    rest = re.compile(r"[ \t]*,?[ \t]*(#[^\r\n]*)?(\r\n|\r|\n|\Z)").match(text, end)
    if rest is not None and not text[begins : key.start].strip():
        return text[:begins] + text[rest.end() :]
    if at + 1 < len(node.fields):
        return text[: key.start] + text[node.fields[at + 1][0].start :]
    return text[: node.fields[at - 1][1].end] + text[end:] if node.flow else None


def _line_start(text: str, index: int) -> int:
    return max(text.rfind("\n", 0, index), text.rfind("\r", 0, index)) + 1


def _added(text: str, node: Node, path: FieldPath, value: Value) -> str | None:
    names = [name for name in path if isinstance(name, str)]
    if len(names) != len(path):
        return None
    field = as_yaml(value)
    for name in reversed(names[1:]):
        field = f"{{{as_yaml(name)}: {field}}}"
    field = f"{as_yaml(names[0])}: {field}"
    if node.empty or (node.kind == "mapping" and node.flow and not node.fields):
        gap = " " if text[node.start - 1 : node.start] == ":" else ""
        return text[: node.start] + gap + f"{{{field}}}" + text[node.end :]
    if node.kind != "mapping":
        return None
    (first, _), (last, end) = node.fields[0], node.fields[-1]
    if node.flow:
        return text[: end.end] + f", {field}" + text[end.end :]
    newline = ("\r\n" if "\r\n" in text else "\n") + " " * first.column
    if _BREAK.search(text, last.start, end.end) or end.style in ("|", ">"):
        return text[: first.start] + field + newline + text[first.start :]
    found = _BREAK.search(text, end.end)  # behind a comment on that line
    line_end = found.start() if found else len(text)
    return text[:line_end] + newline + field + text[line_end:]


def as_yaml(value: Value, style: str = "") -> str:
    """A value as YAML text on one line, in quotes where it had some or needs them."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{as_yaml(name)}: {as_yaml(held)}" for name, held in value.items()) + "}"
    if not isinstance(value, str):
        return json.dumps(value)
    if style == "'" and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    if style == '"' or not _SAFE.fullmatch(value) or not _is_text_everywhere(value):
        return json.dumps(value, ensure_ascii=False)
    return value


def _is_text_everywhere(value: str) -> bool:
    """Whether it is a text without quotes, in YAML 1.2 and in the YAML 1.1 of other programs."""
    resolver: Callable[..., str] = yaml.resolver.Resolver().resolve
    return plain_scalar(value) == value and resolver(yaml.ScalarNode, value, (True, False)).endswith(":str")


def _values(text: str, where: str) -> list[Any]:
    """What the documents of a text mean."""
    documents, broken = read_documents(text.removeprefix(_BYTE_ORDER_MARK))
    if broken or any(document.findings for document in documents):
        raise Stalled("this file is broken YAML and cannot be edited", where=where, fix="Mend it first.")
    return [document.value for document in documents]


def _is(value: Any, resource: Key) -> bool:
    metadata = value.get("metadata") if isinstance(value, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name == resource.name and value.get("kind") == resource.kind


def _put(value: Any, edit: Edit, where: str) -> None:
    """Does the edit in the plain value of the document."""
    *above, last = edit.path
    for name in above:
        if isinstance(value, dict):
            if isinstance(edit, RemoveField) and value.get(name) is None:
                return
            value[name] = {} if value.get(name) is None else value[name]
            value = value[name]
        elif isinstance(value, list) and isinstance(name, int) and 0 <= name < len(value):
            value = value[name]
        else:
            raise _by_hand(edit, where)
    if isinstance(edit, RemoveField):
        if not isinstance(value, dict):
            raise _by_hand(edit, where)
        value.pop(last, None)
        return
    known = isinstance(last, int) and isinstance(value, list) and 0 <= last < len(value)
    if not known and not (isinstance(last, str) and isinstance(value, dict)):
        raise _by_hand(edit, where)
    held, mapping = value[last] if known else value.get(last), isinstance(edit.value, Mapping)
    if isinstance(held, list) or (isinstance(held, dict) != mapping and held is not None):
        raise _by_hand(edit, where)
    value[last] = dict(edit.value) if isinstance(edit.value, Mapping) else edit.value


def _apart(value: Any) -> Any:
    """A copy in which no part stands in two places, as what an alias means does."""
    if isinstance(value, dict):
        return {name: _apart(inner) for name, inner in value.items()}
    return [_apart(inner) for inner in value] if isinstance(value, list) else value


def _by_hand(edit: Edit, where: str) -> Stalled:
    done = "set" if isinstance(edit, SetField) else "removed"
    what = f"{edit.resource}: {field_name(edit.path)} cannot be {done} without changing anything else"
    return Stalled(what, where=where, fix=_BY_HAND)


def _same(one: Any, other: Any) -> bool:
    """Whether two plain values are equal, and of the same types: neither 1 and true nor 1 and 1.0 are."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other) or (one != one and other != other)

"""One file: its documents, which of them are valid, and everything that is wrong with the others."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, cast

from pydantic import TypeAdapter, ValidationError

from mlops.errors import Location
from mlops.resources.core_schema import MAX_BYTES
from mlops.resources.document import NAME_PATTERN, Document
from mlops.resources.fields import View
from mlops.resources.key import KINDS, Key
from mlops.resources.kinds import MODELS, AnyResource, Resource
from mlops.resources.nearest import Nearest
from mlops.resources.problem import FieldPath, Finding, Problem, field_name, shown
from mlops.resources.rules import break_rules
from mlops.resources.sharing import share
from mlops.resources.translation import findings_of
from mlops.resources.yaml_places import BrokenText, LocatedDocument, read_documents
from mlops.resources.yaml_reading import Start, Unusual, read_values

_NOT_TEXT = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
MAX_PROBLEMS = 1_000  # of one file
_DIGEST_BYTES = 16
_ESCAPED_CONTROL = re.compile(rb"\\u00[01]")
_NAME = re.compile(NAME_PATTERN.replace("$", r"\Z"))
_IDENTITY = re.compile(r"""^(\s*(?:-\s+)?)(kind|metadata|name|model|version)\s*:\s*["']?([^\s"'#,}]*)""")
_FLOW_NAME = re.compile(r"""[{,]\s*(name|model|version)\s*:\s*["']?([^\s"'#,}]+)""")


class Record(NamedTuple):
    """One document of a file, as far as it is known."""

    key: Key  # its kind and name; where they are wrong, those it most likely means
    values: View  # the document itself, unchecked where it is broken; or `resource`, once it is all that is needed
    file: str
    start: Start
    ordinal: int  # of the document in its file, counting those that can be parsed; -1: it cannot be
    wrong: frozenset[FieldPath] = frozenset()  # fields that are reported already
    valid: bool = True
    resource: Resource | None = None  # a valid one that came from a cache is built when it is asked for

    @property
    def location(self) -> Location:
        """Where the document begins."""
        return Location(self.file, *self.start)


@dataclass(frozen=True, slots=True)
class FileContent:
    """What one file holds."""

    records: tuple[Record, ...] = ()
    problems: tuple[Problem, ...] = ()
    unreadable: bool = False  # some of its documents could not be known
    payload: bytes | None = None  # what to keep for `from_payload`; only of a file without problems


@cache
def _adapter() -> TypeAdapter[tuple[list[Start], list[Resource]]]:
    return TypeAdapter(tuple[list[Start], list[AnyResource]])


def _payload(starts: list[Start], values: list[Any]) -> bytes:
    """The documents of a file as JSON, behind the beginning of its digest."""
    content = json.dumps(
        [starts, values], ensure_ascii=False, allow_nan=False, separators=(",", ":")
    ).encode()
    return _digest(content) + content


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:_DIGEST_BYTES]


def from_payloads(payloads: Mapping[str, bytes]) -> dict[str, FileContent]:
    """Files without problems, by path, from what was kept of them; damaged ones are left out.

    What was kept had been validated, by this very engine (see `engine_version`): it is not validated again.
    """
    contents = {
        file: payload[_DIGEST_BYTES:]
        for file, payload in payloads.items()
        if payload[:_DIGEST_BYTES] == _digest(payload[_DIGEST_BYTES:])
    }
    # One parse of all of them shares the names of fields.
    parsed = json.loads(b"[" + b",".join(contents.values()) + b"]")
    return {
        file: FileContent(_valid_records(file, starts, values), payload=payloads[file])
        for file, (starts, values) in zip(contents, parsed, strict=True)
    }


def _valid_records(
    file: str, starts: list[Start], values: list[Any], resources: list[Resource] | None = None
) -> tuple[Record, ...]:
    records = []
    for index, (start, value) in enumerate(zip(starts, values, strict=True)):
        resource = resources[index] if resources else None
        key = Key(value["kind"], value["metadata"]["name"])
        records.append(Record(key, value, file, start, index, frozenset(), True, resource))
    return tuple(records)


def read_file(file: str, data: bytes, nearest: Nearest) -> FileContent:
    """Parse and validate one file; never raises for what is in it.

    Args:
        file: its path, as problems show it.
        data: its bytes.
        nearest: suggests names.
    """
    if len(data) > MAX_BYTES:
        return refused_file(file, f"is larger than {MAX_BYTES >> 20} MiB", "Split it into several files.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, before = data.count(b"\n", 0, error.start) + 1, data.rfind(b"\n", 0, error.start) + 1
        column = len(data[before : error.start].decode("utf-8", "replace")) + 1
        return refused_file(file, "is not UTF-8 text here", "Save the file as UTF-8.", (line, column))
    return _read_fast(file, text, nearest) or _read_slowly(file, text, nearest)


def refused_file(file: str, what: str, fix: str, at: Start = (1, 1)) -> FileContent:
    """A file that is not read at all."""
    problem = Problem(Location(file, *at), None, None, what, fix)
    return FileContent(problems=(problem,), unreadable=True)


def _read_fast(file: str, text: str, nearest: Nearest) -> FileContent | None:
    """A file in which all is well; None if anything is not."""
    try:
        starts, values = read_values(text)
        payload = _payload(starts, values)
        if _ESCAPED_CONTROL.search(payload):
            return None
        _, resources = _adapter().validate_json(payload[_DIGEST_BYTES:])
    except (Unusual, ValidationError, ValueError):
        return None
    for value in values:
        if any(break_rules(value["kind"], value, nearest)):
            return None
    records = _valid_records(file, starts, values, [share(resource) for resource in resources])
    return FileContent(records, payload=payload)


def _read_slowly(file: str, text: str, nearest: Nearest) -> FileContent:
    """The same with all places and all problems."""
    if match := _NOT_TEXT.search(text):
        line, before = text.count("\n", 0, match.start()) + 1, text.rfind("\n", 0, match.start()) + 1
        what = f"holds the character U+{ord(match[0]):04X}, which YAML does not allow"
        return refused_file(file, what, "Remove it.", (line, match.start() - before + 1))
    documents, broken = read_documents(text)
    records: list[Record] = []
    problems: list[Problem] = []
    unreadable = bool(broken)
    for index, document in enumerate(documents):
        record, found = _check(file, index, document, nearest)
        problems += found
        unreadable = unreadable or record is None
        if record:
            records.append(record)
            unreadable = unreadable or (not record.valid and not _identified(document.value))
    for stretch in broken:
        problems.append(
            Problem(Location(file, stretch.line, stretch.column), None, None, stretch.what, stretch.fix)
        )
        records += _recover(file, stretch)
    problems.sort(key=lambda problem: problem.place)
    if len(problems) > MAX_PROBLEMS:
        last, more = problems[MAX_PROBLEMS - 1], len(problems) - MAX_PROBLEMS
        what = f"this file has {more:,} more problems"
        problems[MAX_PROBLEMS:] = [Problem(last.location, None, None, what, "Mend those above first.")]
    return FileContent(tuple(records), tuple(problems), unreadable)


def _check(
    file: str, index: int, document: LocatedDocument, nearest: Nearest
) -> tuple[Record | None, list[Problem]]:
    """Validate one document."""
    raw = document.value
    start = (document.place.line, document.place.column)
    found = [(line, column, finding) for line, column, finding in document.findings]
    seen = {finding.path for _, _, finding in found}
    if not isinstance(raw, dict):
        finding = Finding((), "is not a resource", "Write apiVersion, kind, metadata and spec.")
        return None, _problems(file, None, [*found, (*start, finding)])
    kind, model, key = _identity(raw, nearest)
    resource: Resource | None = None
    findings: list[Finding] = []
    if model is None:
        findings.append(_unknown_kind(raw, kind))
    else:
        if raw.get("kind") != kind:
            findings.append(_unknown_kind(raw, kind))
            raw = {**raw, "kind": kind}
        try:
            resource = cast(Resource, model.model_validate(raw))
        except ValidationError as error:
            findings += findings_of(error, raw, model, nearest)
        findings += [f for f in break_rules(kind, raw, nearest) if f.path not in {g.path for g in findings}]
    found += [(*document.find(f.path, on_key=f.on_key), f) for f in findings if f.path not in seen]
    valid = resource is not None and not found
    record = None
    if key is not None:
        wrong = frozenset(finding.path for _, _, finding in found)
        record = Record(key, raw, file, start, index, wrong, valid, resource if valid else None)
    return record, _problems(file, str(key) if key else None, found)


def _problems(file: str, resource: str | None, found: list[tuple[int, int, Finding]]) -> list[Problem]:
    return [
        Problem(Location(file, line, column), resource, field_name(f.path) or None, f.what, f.fix)
        for line, column, f in found
    ]


def _identity(raw: dict[str, Any], nearest: Nearest) -> tuple[str, type[Document] | None, Key | None]:
    """The kind that is meant, its model, and the key if there is a name."""
    kind = raw.get("kind")
    metadata = raw.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(kind, str):
        return "", None, None
    if kind not in MODELS:
        kind = nearest.nearest(kind, KINDS) or kind
    key = Key(kind, name) if kind in MODELS and isinstance(name, str) and 0 < len(name) <= 200 else None
    return kind, MODELS.get(kind), key


def _identified(raw: dict[str, Any]) -> bool:
    """Whether a broken document certainly is the resource that its key says."""
    name = raw["metadata"]["name"]
    return raw.get("kind") in MODELS and bool(_NAME.match(name)) and len(name) <= 63


def _unknown_kind(raw: dict[str, Any], meant: str) -> Finding:
    kind = raw.get("kind")
    if "kind" not in raw:
        return Finding(("kind",), "is required", f"Say what it is: one of {', '.join(KINDS)}.")
    if not isinstance(kind, str):
        return Finding(("kind",), "must be text", f"Write one of {', '.join(KINDS)}.")
    fix = f"Did you mean {meant}?" if meant != kind else f"The kinds are {', '.join(KINDS)}."
    return Finding(("kind",), f"{shown(kind)} is not a kind", fix)


def _recover(file: str, stretch: BrokenText) -> list[Record]:
    """What a document that cannot be parsed most likely is, so that nobody takes it for removed."""
    kind, name, inside = "", "", ""
    spec: dict[str, str] = {}
    for line in stretch.text[:100_000].splitlines():
        if line[:1] not in ("", " ", "\t", "-", "#"):
            inside = line.partition(":")[0].strip()
        if match := _IDENTITY.match(line):
            field, value = match[2], match[3]
            if field == "kind" and inside == "kind":
                kind = value
            elif inside == "metadata" and field == "name":
                name = name or value
            elif inside == "spec" and field in ("model", "version"):
                spec.setdefault(field, value)
        for field, value in _FLOW_NAME.findall(line) if "{" in line else ():
            if inside == "metadata" and field == "name":
                name = name or value
            elif inside == "spec" and field != "name":
                spec.setdefault(field, value)
    if kind not in MODELS:
        return []
    if not _NAME.match(name):
        return []
    raw = {"kind": kind, "metadata": {"name": name}, "spec": spec}
    return [Record(Key(kind, name), raw, file, (stretch.line, stretch.column), -1, valid=False)]

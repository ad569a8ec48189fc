"""YAML to plain values with the line and column of every key and value, and with every mistake named.

Slower than `yaml_reading`, and used only where something has to be said: a mistake, or the place of a field.
A document that cannot be parsed does not take the next one with it: reading goes on at the next `---`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from mlops.resources.core_schema import (
    MAX_ALIASES,
    MAX_DEPTH,
    MAX_DIGITS,
    MAX_DOCUMENT_NODES,
    MAX_DOCUMENTS,
    MAX_NODES,
    TooManyDigits,
    plain_scalar,
    tagged_scalar,
)
from mlops.resources.problem import FieldPath, Finding
from mlops.resources.yaml_reading import parser_of

MAX_RESTARTS = 100
_SEPARATOR = re.compile(r"^---(?=\s|\Z)", re.MULTILINE)
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_COLLECTION_TAGS = ("!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_SPLIT = "Split it into several files."


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands, where its key stands, and the places inside it. Lines and columns from 1."""

    line: int
    column: int
    key: tuple[int, int] | None = None
    inside: dict[str | int, Place] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LocatedDocument:
    """One document: its plain value, its places, and what is wrong with it as YAML, with line and column."""

    value: Any
    place: Place
    findings: tuple[tuple[int, int, Finding], ...]

    def find(self, path: FieldPath, *, on_key: bool = False) -> tuple[int, int]:
        """Line and column of a field; of what is not there, those of the nearest thing around it."""
        place = self.place
        for index, part in enumerate(path):
            inner = place.inside.get(part)
            if inner is None:
                return place.key or (place.line, place.column)
            if on_key and index == len(path) - 1 and inner.key:
                return inner.key
            place = inner
        return (place.line, place.column)


@dataclass(frozen=True, slots=True)
class BrokenText:
    """A stretch of a file that is not YAML: what is wrong, where, and the text of its document."""

    line: int
    column: int
    what: str
    fix: str
    text: str


class _Refused(Exception):
    """Reading this document cannot go on."""

    def __init__(self, mark: Any, what: str, fix: str) -> None:
        super().__init__(what)
        self.mark, self.what, self.fix = mark, what, fix


def read_documents(text: str) -> tuple[list[LocatedDocument], list[BrokenText]]:
    """All documents of a file that are not empty, and what could not be read of it. Never raises."""
    documents: list[LocatedDocument] = []
    broken: list[BrokenText] = []
    budget = _Budget()
    offset, first_line = 0, 0
    while True:
        begins = offset  # of the document being read
        try:
            event = parser_of(text[offset:]).get_event
            current: Any = event()
            while current is not None:
                if type(current) is yaml.DocumentStartEvent:
                    mark: Any = current.start_mark
                    begins = offset + mark.index
                    budget.document(mark)
                    document = _LocatedReader(event, first_line, budget).document()
                    if document.value is not None or document.findings:
                        documents.append(document)
                current = event()
            return documents, broken
        except (yaml.YAMLError, _Refused) as error:
            at, reached, what, fix = _explain(error, text, offset)
            match = _SEPARATOR.search(text, max(reached, begins + 1))
            resume = match.start() if match else len(text)
            line, column = (at.line, at.column) if at else (0, 0)
            broken.append(BrokenText(first_line + line + 1, column + 1, what, fix, text[begins:resume]))
            if not match or budget.spent or len(broken) >= MAX_RESTARTS:
                return documents, broken
            first_line += text.count("\n", offset, resume)
            offset = resume


class _Budget:
    """What is left of the caps of one file."""

    def __init__(self) -> None:
        self.nodes = MAX_NODES
        self.documents = MAX_DOCUMENTS
        self.aliases = MAX_ALIASES
        self.spent = False

    def document(self, mark: Any) -> None:
        self.documents -= 1
        if self.documents < 0:
            self.spent = True
            raise _Refused(mark, f"is the {MAX_DOCUMENTS + 1:,}th document of this file", _SPLIT)

    def take(self, nodes: int, mark: Any) -> None:
        self.nodes -= nodes
        if self.nodes < 0:
            self.spent = True
            raise _Refused(mark, f"the file has more than {MAX_NODES:,} values", _SPLIT)


class _LocatedReader:
    """Builds one document and its places from events."""

    def __init__(self, event: Callable[[], Any], first_line: int, budget: _Budget) -> None:
        self._event = event
        self._first_line = first_line
        self._budget = budget
        self._used = 0
        self._findings: list[tuple[int, int, Finding]] = []
        self._anchors: dict[str, tuple[Any, Place, int] | None] = {}  # None: still being read

    def document(self) -> LocatedDocument:
        value, place = self._node(self._event(), (), None)
        return LocatedDocument(value, place, tuple(self._findings))

    def _at(self, mark: Any) -> tuple[int, int]:
        return (self._first_line + mark.line + 1, mark.column + 1)

    def _node(self, event: Any, path: FieldPath, key: tuple[int, int] | None) -> tuple[Any, Place]:
        if type(event) is yaml.AliasEvent:
            return self._alias(event, key)
        self._take(1, event.start_mark)
        before = self._used
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if type(event) is yaml.ScalarEvent:
            value, inside = self._scalar(event, path), {}
        else:
            if len(path) >= MAX_DEPTH:
                raise _Refused(event.start_mark, f"is nested deeper than {MAX_DEPTH} levels", "Nest it less.")
            if event.tag is not None and event.tag not in _COLLECTION_TAGS:
                self._find(event, path, *_UNKNOWN_TAG)
            mapping = type(event) is yaml.MappingStartEvent
            value, inside = self._mapping(path) if mapping else self._sequence(path)
        place = Place(*self._at(event.start_mark), key, inside)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, place, self._used - before + 1)
        return value, place

    def _alias(self, event: Any, key: tuple[int, int] | None) -> tuple[Any, Place]:
        if event.anchor not in self._anchors:
            raise _Refused(
                event.start_mark, "is an alias of an anchor that is not there", "Define the anchor first."
            )
        anchored = self._anchors[event.anchor]
        if anchored is None:
            raise _Refused(
                event.start_mark, "is an alias that stands inside its own anchor", "Write the value out."
            )
        self._budget.aliases -= 1
        if self._budget.aliases < 0:
            self._budget.spent = True
            raise _Refused(
                event.start_mark, f"the file has more than {MAX_ALIASES:,} aliases", "Write values out."
            )
        value, place, size = anchored
        self._take(size, event.start_mark)
        return value, Place(*self._at(event.start_mark), key, place.inside)

    def _take(self, nodes: int, mark: Any) -> None:
        self._budget.take(nodes, mark)
        self._used += nodes
        if self._used > MAX_DOCUMENT_NODES:
            what = f"the document has more than {MAX_DOCUMENT_NODES:,} values, aliases expanded"
            raise _Refused(mark, what, "Split it into several documents.")

    def _scalar(self, event: Any, path: FieldPath) -> Any:
        if CONTROL.search(event.value):
            self._find(event, path, "holds a control character", "Remove it.")
        try:
            if event.tag is not None:
                return tagged_scalar(event.tag, event.value)
            return plain_scalar(event.value) if event.implicit[0] else event.value
        except TooManyDigits:
            what = f"is a number of more than {MAX_DIGITS} digits"
            self._find(event, path, what, "Put quotes around it, or shorten it.")
        except KeyError:
            self._find(event, path, *_UNKNOWN_TAG)
        except ValueError as error:
            self._find(event, path, str(error), "Remove the tag or mend the value.")
        return event.value

    def _mapping(self, path: FieldPath) -> tuple[dict[str, Any], dict[str | int, Place]]:
        values: dict[str, Any] = {}
        places: dict[str | int, Place] = {}
        event = self._event()
        while type(event) is not yaml.MappingEndEvent:
            if type(event) is not yaml.ScalarEvent:
                raise _Refused(event.start_mark, "has a key that is not a text", "Write keys as plain texts.")
            self._take(1, event.start_mark)
            name, at = event.value, self._at(event.start_mark)
            here = (*path, name)
            if event.anchor is not None:
                self._anchors[event.anchor] = (name, Place(*at), 1)
            value, place = self._node(self._event(), here, at)
            if name == "<<" and event.implicit[0]:
                self._find(
                    event, here, "is a merge key, which YAML 1.2 does not have", "Write the fields out."
                )
            elif name in values:
                first = places[name].key or at
                self._find(event, here, f"stands twice, first in line {first[0]}", "Keep one of the two.")
            else:
                values[name], places[name] = value, place
            event = self._event()
        return values, places

    def _sequence(self, path: FieldPath) -> tuple[list[Any], dict[str | int, Place]]:
        values: list[Any] = []
        places: dict[str | int, Place] = {}
        event = self._event()
        while type(event) is not yaml.SequenceEndEvent:
            value, place = self._node(event, (*path, len(values)), None)
            places[len(values)] = place
            values.append(value)
            event = self._event()
        return values, places

    def _find(self, event: Any, path: FieldPath, what: str, fix: str) -> None:
        self._findings.append((*self._at(event.start_mark), Finding(path, what, fix)))


_UNKNOWN_TAG = ("has a tag that is not allowed", "Remove the tag; it is the word that starts with !.")
_SYNTAX = {  # words of the parser's message: ours, and what to do
    "cannot start any token": ("a character that cannot stand there", "Put quotes around the value."),
    "mapping values are not allowed": (
        'a ":" that cannot stand there',
        "Check the indentation, or quote the value.",
    ),
    "could not find expected ':'": (
        'a line that should be "key: value"',
        'Add ":", or check the indentation.',
    ),
    "did not find expected key": (
        "something that is no key",
        "Check the indentation and the quotes around here.",
    ),
    "unexpected end of stream": ("a quote that is never closed", "Close the quote."),
    "unexpected document indicator": ("a quote that is never closed", "Close the quote."),
    "did not find expected ',' or ']'": (
        'a list without its "]"',
        'Put "," between values and "]" after them.',
    ),
    "did not find expected ',' or '}'": (
        'a mapping without its "}"',
        'Put "," between fields and "}" after them.',
    ),
    "did not find expected '-' indicator": ('a list item without "-"', "Check the indentation of the list."),
    "expected <document start>": ("text after the end of a document", 'Put "---" between documents.'),
    "did not find expected node content": ("no value", "Write one, or close the brackets above."),
    "undefined tag handle": ("a tag that is not allowed", "Remove the word that starts with !."),
}


def _explain(error: Exception, text: str, offset: int) -> tuple[Any, int, str, str]:
    """Mark, how far reading got, what is wrong and what to do; the parser's own words may repeat the text."""
    if isinstance(error, _Refused):
        return error.mark, offset + int(error.mark.index), error.what, error.fix
    problem = getattr(error, "problem", None) or ""
    context = getattr(error, "context", None) or ""
    mark: Any = getattr(error, "problem_mark", None)
    reached = offset + mark.index if mark else len(text)
    if "\t" in text[reached : reached + 1] and "simple key" not in context:
        return mark, reached, "is not YAML: a tab cannot indent", "Indent with blanks."
    if "simple key" in context or "quoted scalar" in context or "flow" in context:
        mark = getattr(error, "context_mark", None) or mark  # where it began, not where the parser lost hope
    for words, (what, fix) in _SYNTAX.items():
        if words in problem:
            return mark, reached, f"is not YAML: here is {what}", fix
    return mark, reached, "is not YAML", "Check the indentation and the quotes around here."

"""YAML as the 1.2 core schema reads it, and as it is read with places: the same values, or what is wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlops.errors import MlopsError
from mlops.resources.core_schema import plain_scalar
from mlops.resources.yaml_places import read_documents
from mlops.resources.yaml_reading import Unusual, plain_value, read_values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(text, None) for text in ("", "~", "null", "Null", "NULL")],
        *[(text, True) for text in ("true", "True", "TRUE")],
        *[(text, False) for text in ("false", "False", "FALSE")],
        *[(text, text) for text in ("yes", "no", "on", "off", "y", "N", "tRUE", "nULL")],
        *[("012", 12), ("0", 0), ("-7", -7), ("+3", 3), ("0o14", 12), ("0x1F", 31)],
        *[("1e-3", 0.001), ("1E3", 1000.0), (".5", 0.5), ("-.5", -0.5), ("3.", 3.0), ("+1.5e+2", 150.0)],
        *[(".inf", math.inf), ("-.Inf", -math.inf), ("+.INF", math.inf)],
        *[(text, text) for text in ("1_000", "0b11", "1:30", "2011-01-01", "0o8", "0xG", "-0x1", "1e", "e5", "..")],
        *[(text, text) for text in (".", "-", "+", "1.1.0", "=", "<<", "infinity", "nan", ".infx")],
    ],
)  # fmt: skip
def test_a_plain_scalar_is_read_as_the_core_schema_says(text: str, value: Any) -> None:
    found = plain_scalar(text)
    assert (type(found), found) == (type(value), value)


def test_not_a_number_is_a_number() -> None:
    assert math.isnan(plain_scalar(".nan"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "value"),
    [("!!str 12", "12"), ("! 12", "12"), ("!!int 0o14", 12), ("!!float 1", 1.0), ("!!bool true", True)],
)
def test_a_tag_of_the_core_schema_converts(text: str, value: Any) -> None:
    (document,), broken = read_documents(f"a: {text}\n")
    assert not broken
    assert not document.findings
    assert (type(document.value["a"]), document.value["a"]) == (type(value), value)


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a: b\n\tc: d\n", 2, 1, "tab"),
        ("a: b: c\n", 1, 5, '":"'),
        ("a: b\nfoo bar\nc: d\n", 2, 1, "key: value"),
        ("a: [1, 2\nb: c\n", 1, 4, '"]"'),
        ("a: {b: c\nd: e\n", 1, 4, '"}"'),
        ("a: 'open\nb: c\n", 1, 4, "quote"),
        ("a: @x\n", 1, 4, "character"),
        ("a: !x!y z\n", 1, 4, "tag"),
        ("a: *nowhere\n", 1, 4, "alias"),
        ("a: &a [*a]\n", 1, 8, "inside its own anchor"),
        ("? [a]\n: b\n", 1, 3, "not a text"),
        ("ä: ok\nö: 'x\n", 2, 4, "quote"),
    ],
)
def test_broken_text_is_named_and_the_next_document_is_read(
    text: str, line: int, column: int, words: str
) -> None:
    documents, (broken,) = read_documents(f"{text}---\nok: 1\n")
    assert [document.value for document in documents] == [{"ok": 1}]
    assert (documents[0].place.line, documents[0].place.column) == (text.count("\n") + 2, 1)
    assert (broken.line, broken.column) == (line, column)
    assert words in broken.what
    assert broken.fix
    with pytest.raises(Unusual):
        read_values(f"{text}---\nok: 1\n")


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 1, "stands twice, first in line 1"),
        ("x: {a: 1, a: 2}\n", 1, 11, "stands twice"),
        ("<<: {a: 1}\n", 1, 1, "merge key"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, 4, "tag"),
        ("a: !secret x\n", 1, 4, "tag"),
        ("a: !!timestamp 2011-01-01\n", 1, 4, "tag"),
        ("a: !!int x\n", 1, 4, "not of the type int"),
        ('a: "x\\0y"\n', 1, 4, "control character"),
        ('a: "\\e[31m"\n', 1, 4, "control character"),
        (f"a: {'9' * 101}\n", 1, 4, "digits"),
    ],
)  # fmt: skip
def test_what_yaml_allows_and_resources_do_not_is_found(
    text: str, line: int, column: int, words: str
) -> None:
    (document,), broken = read_documents(text)
    assert not broken
    ((at, across, finding),) = document.findings
    assert (at, across) == (line, column)
    assert words in finding.what


def test_a_quoted_merge_key_is_a_plain_key() -> None:
    assert read_values('"<<": 1\n')[1] == [{"<<": 1}]


def test_keys_are_texts_whatever_they_look_like() -> None:
    assert read_values("0: a\ntrue: b\nnull: c\n1e3: d\n")[1] == [
        {"0": "a", "true": "b", "null": "c", "1e3": "d"}
    ]


def test_aliases_stand_for_their_anchor_and_keep_its_places() -> None:
    (document,), _ = read_documents("a: &x {q: 1}\nb: *x\n")
    assert document.value == {"a": {"q": 1}, "b": {"q": 1}}
    assert document.find(("b",)) == (2, 4)
    assert document.find(("b", "q")) == (1, 11)


def test_places_are_those_of_an_editor() -> None:
    (document,), _ = read_documents("é: {b: [x, \n  'y']}\nlong: |\n  text\n")
    assert document.find(("é",)) == (1, 4)
    assert document.find(("é",), on_key=True) == (1, 1)
    assert document.find(("é", "b", 1)) == (2, 3)
    assert document.find(("é", "b", 7)) == (1, 5)  # what is not there: its list's key
    assert document.find(("nowhere",)) == (1, 1)


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "---\n---\n", "--- ~\n"])
def test_empty_documents_are_none(text: str) -> None:
    assert read_values(text) == ([], [])
    assert read_documents(text) == ([], [])


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(plain)
def test_what_was_dumped_is_read_alike_by_both_readers(value: Any) -> None:
    text = yaml.safe_dump(
        {"v": value}, allow_unicode=True, width=10_000, default_style='"' if value == "" else None
    )
    documents, broken = read_documents(text)
    assert not broken
    try:
        _, fast = read_values(text)
    except Unusual:
        return  # a key "<<", an odd character: then only the slow reader speaks
    assert [document.value for document in documents] == fast


@given(st.text(alphabet="ab:-[]{}\"'&*!|>#%@,?~ \n\t0.", max_size=60))
def test_no_text_breaks_either_reader(text: str) -> None:
    documents, broken = read_documents(text)
    try:
        _, values = read_values(text)
    except Unusual:
        return
    assert not broken
    assert [document.value for document in documents] == values


def test_one_plain_document_is_read_for_others() -> None:
    assert plain_value(b"entry_points: {main: {command: x}}\n", "MLproject") == {
        "entry_points": {"main": {"command": "x"}}
    }
    assert plain_value(b"", "MLproject") is None
    for data in (b"a: [", b"a: &x 1\nb: *x\n", b"\xff", b"a: 1\n---\nb: 2\n", b"x" * (9 << 20)):
        with pytest.raises(MlopsError, match="MLproject"):
            plain_value(data, "MLproject")

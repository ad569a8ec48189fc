"""A plan in Markdown shows every value and lets none of them be more than text."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.cli.plan_text import inert, lines, markdown
from mlops.planning.plan import Block, Change, Plan, Step
from mlops.planning.work import UpdateExperiment

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![x](https://evil.example/x.png)",
    "[click](javascript:alert(1))",
    "https://evil.example",
    "www.evil.example",
    "a|b|c",
    "a\nb",
    "a\r\n\r\n# head",
    "`code`",
    "**bold** _it_ ~~no~~",
    "@everyone",
    "#1 and org/repo#2",
    "GH-12",
    "&lt;b&gt;",
    "<!-- -->",
    "\u202eevil",
    "x\x1b[31mred",
    "x\x00y",
    "\\| \\`",
]


def plan_of(text: str) -> Plan:
    step = Step(
        f"x:{text}", f"Model/{text}", "update", text, UpdateExperiment(text, {}), (Change(text, text, text),)
    )
    return Plan("a" * 40, None, (step,), (Block(f"Model/{text}", text, text, text),))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_values_are_inert_in_markdown(text: str) -> None:
    shown = markdown(plan_of(text))
    rows = [line for line in shown.splitlines() if line.startswith("| ")]
    assert {row.count("|") for row in rows if "~" in row[:4]} == {6}
    assert len(shown.splitlines()) == len(markdown(plan_of("x")).splitlines())
    for banned in ("<script", "<img", "](", "://", "<!--", "**bold", "\x1b", "\x00", "\u202e"):
        assert banned not in shown
    assert not re.search(r"@\w|(?<![&\w])#\d|GH-\d|www\.", shown)
    assert "`" not in shown.replace(f"`{'a' * 12}`", "")


@given(st.text(max_size=40))
def test_what_is_inert_still_reads_as_it_was(text: str) -> None:
    visible = html.unescape(inert(text))
    kept = [char for char in text if char.isalnum()]
    assert [char for char in visible if char.isalnum()] == kept
    assert len(inert(text).splitlines()) <= 1


@pytest.mark.parametrize("text", HOSTILE)
def test_on_the_terminal_a_value_is_one_line_and_no_control(text: str) -> None:
    shown = [line for line, _ in lines(plan_of(text))]
    assert len(shown) == len([line for line, _ in lines(plan_of("x"))])
    assert not any(char in line for line in shown for char in "\x1b\x00\n\r\u202e")


def test_long_values_and_many_changes_are_cut_and_counted() -> None:
    changes = tuple(Change(f"field{i}", None, "x" * 500) for i in range(40))
    step = Step("x", "Model/m", "update", "because", UpdateExperiment("x", {}), changes)
    shown = [line for line, _ in lines(Plan("a" * 40, None, (step,), ()))]
    assert max(map(len, shown)) < 120
    assert "      … and 28 more" in shown
    assert "28 more" in markdown(Plan("a" * 40, None, (step,), ()))

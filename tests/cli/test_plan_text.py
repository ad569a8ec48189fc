"""A plan in Markdown shows every value and lets none of them be more than text."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.cli.plan_markdown import MOST_TEXT, Moving, inert, markdown
from mlops.cli.plan_text import lines
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


def all_of(text: str) -> str:
    gate = {"name": text, "status": text, "observed": {text: text}, "required": text, "message": text}
    one = Moving(f"Promotion/{text}", text, text, [gate], [(text, 0.25, None)])
    return markdown(plan_of(text), project=text, moving=[one], problems=[text], notes=[text])


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_values_are_inert_in_markdown(text: str) -> None:
    shown = all_of(text)
    assert len(shown.splitlines()) == len(all_of("x").splitlines())
    cells = [line.count("|") for line in shown.splitlines() if line.startswith("|")]
    assert cells == [line.count("|") for line in all_of("x").splitlines() if line.startswith("|")]
    ours = re.compile(r"</?(details|summary|sub)>|^> ", re.MULTILINE)
    assert "<" not in ours.sub("", shown)
    for banned in ("](", "://", "<!--", "\x1b", "\x00", "\u202e"):
        assert banned not in shown
    assert shown.count("**") == all_of("x").count("**")
    assert not re.search(r"@\w|(?<![&\w])#\d|GH-\d|www\.", shown)
    assert "`" not in shown.replace(f"`{'a' * 12}`", "")


def test_gates_and_metrics_stand_beside_the_champion_s() -> None:
    gate = {
        "name": "champion",
        "status": "failed",
        "observed": {"challenger": 0.8, "champion": 0.7512345},
        "required": "better",
        "message": "it is worse",
    }
    one = Moving(
        "Promotion/m-production", "1.1.0", "1.0.0", [gate], [("rmse", 0.8, 0.7512345), ("mae", 0.5, None)]
    )
    shown = markdown(plan_of("x"), moving=[one])
    row = next(line for line in shown.splitlines() if line.startswith("| champion |"))
    assert row == "| champion | ❌ failed | challenger 0.8, champion 0.751235 | better | it is worse |"
    assert "| metric of the run | 1.1.0 | champion 1.0.0 |" in shown
    assert "| rmse | 0.8 | 0.751235 |" in shown
    assert "| mae | 0.5 |  |" in shown


def test_a_plan_of_any_size_fits_into_a_comment_and_counts_what_it_leaves_out() -> None:
    def step(index: int) -> Step:
        changes = tuple(Change(f"field{i}", "<" * 500, "|" * 500) for i in range(20))
        return Step(f"x:{index}", f"Model/{index}", "update", "&" * 5000, UpdateExperiment("x", {}), changes)

    gates = [
        {"name": f"g{i}", "status": "failed", "observed": "_" * 900, "required": "*" * 900, "message": "x"}
        for i in range(9)
    ]
    many = [Moving(f"Promotion/{index}", "1.0.0", None, gates, [("m", 1.0, None)]) for index in range(400)]
    blocks = tuple(Block(f"Model/{index}", "Ready", "Broken", "`" * 3000) for index in range(300))
    plan = Plan("a" * 40, None, tuple(map(step, range(300))), blocks)
    shown = markdown(plan, moving=many, problems=["<" * 2000] * 300)
    assert MOST_TEXT - 8000 < len(shown) < MOST_TEXT
    assert "… and 2" in shown
    assert "300 to update, 300 blocked" in shown
    assert shown.count("<details>") == shown.count("</details>")
    assert shown.rstrip().endswith("</sub>")


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

"""The timeline in a terminal, and the picture of an alert."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

from weeks import DAY, START, weeks

from mlops.monitoring.reporting import picture, svg_picture, timeline_text
from mlops.monitoring.verdicts import CheckVerdict, Evaluation


def lines(text: str) -> list[str]:
    return text.splitlines()


def test_a_window_has_a_row_with_its_checks_and_what_fired() -> None:
    made = weeks()
    told = lines(timeline_text(made.evaluations, made.decision))
    assert told[0].split() == ["window", "rows", "verdict", "upstream", "inputs", "concept"]
    assert len(told) == 1 + len(made.evaluations) + 3
    assert told[5].split() == ["2026-02-20", "0", "○", "no", "data", "○", "○", "○"]
    assert told[15].endswith("◀ fired: inputs  ◀ fired: concept")
    assert told[-4].endswith("▲ ~9.4 % (0.761)")
    assert told[-2] == "· quiet  ▲ violated  ? insufficient  ○ no data  ! error  ~ estimate"
    assert told[-1] == "concept: how much worse, and in brackets rocAuc, which is 0.84 on the reference"


def test_windows_that_ended_before_the_promotion_are_marked() -> None:
    made = weeks().evaluations
    told = lines(timeline_text(made, before=[one.start for one in made[:2]]))
    assert ["‹" in line for line in told[1:4]] == [True, True, False]
    assert told[-2].endswith("~ estimate  ‹ before the promotion")
    told = lines(timeline_text(made, before=[one.start for one in made]))
    assert not [line for line in told if "‹" in line]
    assert told[-2] == "all of these windows ended before the promotion"


def test_checks_are_numbered_where_the_line_is_too_short_for_them() -> None:
    told = lines(timeline_text(weeks().evaluations, width=50))
    assert told[:3] == ["  1  upstream", "  2  inputs", "  3  concept"]
    assert told[3].split() == ["window", "rows", "verdict", "1", "2", "3"]
    assert max(map(len, told[3:-3])) <= 50
    assert told[-4].split()[-1] == "▲~"


def test_row_windows_and_hostile_names_are_one_line_each() -> None:
    check = CheckVerdict("a\nb\x1b[31m\u202e", "dataDrift", "error", None, None, ())
    told = timeline_text([Evaluation(0, 5_000, 5_000, "error", (check,), "k", 0)], unit="rows")
    assert len(lines(told)) == 4
    assert lines(told)[1].startswith("row 0  ")
    assert all(line.isprintable() for line in lines(told))


def test_no_windows_are_told_in_words() -> None:
    assert timeline_text([]) == "No window was evaluated yet.\n"


def test_the_timeline_costs_no_heavy_import() -> None:
    code = (
        "import sys, mlops.monitoring.reporting.timeline;"
        "print(*sorted({'numpy', 'jinja2', 'matplotlib', 'pyarrow'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == ""


def test_a_picture_is_a_png_and_the_same_for_the_same_evaluations() -> None:
    made = weeks().evaluations
    one = picture("concept", made)
    assert one.startswith(b"\x89PNG\r\n\x1a\n")
    assert one == picture("concept", made)
    assert one != picture("inputs", made)
    assert b"matplotlib" not in one.lower()


def test_a_picture_is_drawn_without_matplotlib_which_a_daemon_would_keep_in_memory() -> None:
    program = (
        "import sys; from mlops.monitoring.reporting import picture; picture('a', []);"
        "sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_picture_of_a_check_that_nobody_knows_and_of_hostile_names_can_be_made() -> None:
    name = "$\\frac{1}{0}$<script>\n\u202e\x00"
    check = CheckVerdict(name, "dataDrift", "violated", 1e308, 1e-9, ())
    made = [Evaluation(START, START + DAY, 10, "violated", (check,), "k", 0)]
    for evaluations in (made, [*made, replace(made[0], start=START + DAY)], []):
        assert picture(name, evaluations).startswith(b"\x89PNG")
        root = ElementTree.fromstring(svg_picture(name, evaluations))
        assert {one.tag.split("}")[1] for one in root.iter()} <= {
            *("svg", "title", "desc", "style", "rect", "text", "path", "g"),
        }


def test_the_drawn_picture_has_threshold_estimates_and_words() -> None:
    root = ElementTree.fromstring(svg_picture("concept", weeks().evaluations))
    kinds = [one.get("class") for one in root.iter()]
    assert kinds.count("me") == 8
    assert {"limit", "measured", "estimated", "mv", "mo"} <= set(kinds)
    assert root.findtext("{*}desc") == "28 windows, 15 of them violated."

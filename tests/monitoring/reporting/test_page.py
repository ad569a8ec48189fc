"""The page that a person reads: what it answers first, how it looks without colour, script or network."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from weeks import ABOUT, DAY, SETTINGS, START, weeks

from mlops.monitoring.deciding import Watched, fold
from mlops.monitoring.reporting import Executed, page, picture, svg_picture
from mlops.monitoring.reporting.findings import standings
from mlops.monitoring.summaries.plans import Plan
from mlops.monitoring.summaries.reference import plan_of
from mlops.monitoring.summaries.summarising import summarise
from mlops.monitoring.summaries.windowed import Group, WindowSummary
from mlops.monitoring.verdicts import CheckVerdict, ColumnVerdict, Evaluation, MetricValue, Verdict

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Read(HTMLParser):
    """Elements, attributes and visible text of a page; fails where an element is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: Counter[tuple[str, tuple[str, ...]]] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag, tuple(name for name, _ in attrs)] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag not in ("b", "bdi", "span", "small", "code", "a"):
            self.texts.append(" ")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.texts))


def report(days: int = 28) -> str:
    made = weeks(days)
    return page(ABOUT, made.evaluations, made.decision, made.reference, made.window, [("a.parquet", "sha:1")])


def first_screen(text: str) -> str:
    return Read(text).text.split("Timeline")[0]


def evaluation(start: int, *checks: CheckVerdict, verdict: Verdict = "violated") -> Evaluation:
    return Evaluation(start, start + DAY, 1000, verdict, checks, f"{start:x}", 0)


def check(
    name: str, verdict: Verdict, value: float | None, *columns: ColumnVerdict, **more: bool
) -> CheckVerdict:
    return CheckVerdict(name, "dataDrift", verdict, value, 1.0, columns, **more)


def column(name: str, value: float, verdict: Verdict = "violated", part: str | None = None) -> ColumnVerdict:
    return ColumnVerdict(name, part, "psi", value, 0.2, 1e-9, 1e-8, verdict, None)


def test_the_first_screen_says_whether_it_is_healthy_what_changed_since_when_and_what_was_done() -> None:
    seen = first_screen(report())
    assert "▲ Degraded" in seen
    assert "No: upstream, inputs, concept fired." in seen
    assert "price: unitRatio" in seen
    assert "EUR to CFA franc (XOF, XAF)" in seen
    assert "income: psi 2.06, threshold 0.2, p <0.001; in 3 slices, too; since 2026-03-02" in seen
    assert "Since when? 2026-03-02" in seen
    assert "retraining of “loan-gbt” for “inputs” (decided)" in seen
    assert "rollback proposed for “concept”" in seen


def test_what_was_done_stands_beside_what_was_decided() -> None:
    made = weeks()
    kinds = {type(one).__name__: one.id for one in made.decision.actions}
    done = {
        kinds["Alert"]: Executed("failed", "no address answered"),
        kinds["Retrain"]: Executed(
            "proposed",
            "Train loan again",
            "mlops/promotion/x/8",
            "8",
            "4f2a",
            "https://git.example.org/pull/5",
        ),
        kinds["Rollback"]: Executed("dropped", "nothing was there before"),
    }
    text = page(ABOUT, made.evaluations, made.decision, executed=done)
    read = Read(text)
    assert "failed; no address answered" in read.text
    assert (
        "proposed; version 8; branch mlops/promotion/x/8; run 4f2a; Train loan again pull request"
        in read.text
    )
    assert ("href", "https://git.example.org/pull/5") in read.attributes
    assert "not done; nothing was there before" in read.text
    assert "not done" not in Read(page(ABOUT, made.evaluations, made.decision)).text


def test_windows_that_ended_before_the_promotion_are_marked() -> None:
    made = weeks()
    older = [one.start for one in made.evaluations[:9]]
    text = page(ABOUT, made.evaluations, made.decision, before=older)
    assert Read(text).text.count("before the promotion") == 9
    assert text.count("<title>promoted</title>") == 1
    assert "It ended before version" not in Read(text).text
    every = [one.start for one in made.evaluations]
    assert "It ended before version 7 was promoted" in Read(page(ABOUT, made.evaluations, before=every)).text
    assert "promoted" not in Read(report()).text


def test_performance_over_time_is_the_metric_itself_beside_the_references() -> None:
    text = report()
    told = Read(text).text.split("Performance over time")[1]
    assert "rocAuc itself: 0.761, on the reference 0.84" in told
    drawn = text.split("<title>The metric of concept</title>")[1].split("</svg>")[0]
    limit, measured = (re.search(rf'class="{name}" d="([^"]*)"', drawn) for name in ("limit", "measured"))
    assert limit is not None
    assert measured is not None
    heights = [float(one.split()[1]) for one in re.findall(r"[0-9.]+ [0-9.]+", measured[1])]
    reference = float(limit[1].split()[1].split("L")[0])
    assert max(heights) - min(heights) > 30  # it moves visibly, though it is far from 0
    assert all(height > reference for height in heights)  # below the reference: worse


def test_a_quiet_window_shows_how_near_it_came() -> None:
    seen = first_screen(report(days=9))
    assert "✓ Healthy" in seen
    assert "No measure violates. Nearest to the threshold:" in seen
    assert re.search(r"\w+( in country=\w+)?: \w+ [\d.]+( %)?, threshold [\d.]+( %)?, p [\d.]+", seen)
    assert "What was done? Nothing." in seen


def test_the_same_values_give_the_same_page_in_another_process() -> None:
    code = "import hashlib, test_page; print(hashlib.sha256(test_page.report().encode()).hexdigest())"
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "7",
        "PYTHONPATH": str(Path(__file__).parent),
        "TZ": "Asia/Tokyo",
    }
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert ran.stdout.strip() == hashlib.sha256(report().encode()).hexdigest()


def test_the_page_needs_no_network_and_no_script() -> None:
    text = report()
    read = Read(text)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert ("content", policy) in read.attributes
    tags = {tag for tag, _ in read.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "base", "form", "use", "image"}
    assert not [name for name, _ in read.attributes if name.startswith("on") or name in ("src", "style")]
    assert [value for name, value in read.attributes if name == "href"] == [ABOUT.links[0][1]]
    assert "@import" not in text
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {"#hatch", "#band"}


def test_the_page_can_be_printed_heard_and_read_in_the_dark() -> None:
    text = report()
    read = Read(text)
    assert "@media print" in text
    assert "prefers-color-scheme:dark" in text
    drawn = read.elements["svg", ("role", "viewbox", "width", "height")]
    hidden = sum(
        number for (tag, names), number in read.elements.items() if tag == "svg" and "aria-hidden" in names
    )
    assert drawn + hidden == sum(number for (tag, _), number in read.elements.items() if tag == "svg")
    assert text.count("<desc>") == drawn
    headers = sum(
        number for (tag, names), number in read.elements.items() if tag == "th" and "scope" in names
    )
    assert headers == sum(number for (tag, _), number in read.elements.items() if tag == "th")


def test_the_timeline_tells_verdicts_apart_by_shape_and_marks_what_fired() -> None:
    text = report()
    drawn = text[text.index("<h2>Timeline") : text.index("<h2>Checks")]
    assert 'class="mv"' in drawn  # violated: filled
    assert 'class="me"' in drawn  # by an estimate: hollow
    assert 'class="mo"' in drawn  # no data
    assert drawn.count('class="fired"') == 3
    assert re.findall(r">(F|W|C)<title>", drawn) == ["F", "F", "W", "F"]
    assert ">ABR<title>" in drawn


def test_an_estimate_is_called_one() -> None:
    read = Read(report()).text
    part = read[read.index("Performance over time") :]
    assert "this is an estimate, as labels are not here yet: it clears nothing" in part
    assert "estimated, no labels yet" in part
    assert 'class="estimated" d="M' in report()


def test_distributions_lie_over_each_other_and_a_change_of_unit_is_seen_on_a_logarithmic_axis() -> None:
    text = report()
    price = text[text.index("Distribution of price") :].split("</figure>")[0]
    shapes = re.findall(r'class="(ref|win)" d="(M[^"]*)"', price)
    assert [name for name, _ in shapes] == ["ref", "win"]
    assert "logarithmic axis" in price
    highest = [_peak(path) for _, path in shapes]
    assert highest[1] - highest[0] > 100  # pixels to the right: ×656
    country = text[text.index("Categories of country") :].split("</figure>")[0]
    assert "CI (new)" in country
    assert country.count('class="win"') == 5


def _peak(path: str) -> float:
    """Where the highest step of a shape stands."""
    steps = [(float(y), float(x)) for y, x in re.findall(r"V([\d.]+)H([\d.]+)", path)]
    return min(steps)[1]


def test_whole_numbers_have_a_cell_each() -> None:
    text = report()
    age = text[text.index("Distribution of age") :].split("</svg>")[0]
    assert [len(re.findall("H", path)) for path in re.findall(r' d="(M0 92V[^"]*)"', age)] == [
        36,
        36,
    ]  # 25 to 60


def test_without_evaluations_summaries_or_decision_the_page_says_so() -> None:
    seen = first_screen(page(ABOUT, []) + "Timeline")
    assert "No window was evaluated yet." in seen
    undecided = first_screen(page(ABOUT, weeks().evaluations))
    assert "Nothing was decided yet." in undecided
    assert "price: unitRatio" in undecided


def test_row_windows_are_told_by_row_numbers() -> None:
    made = [
        replace(one, start=index * 500, end=index * 500 + 500)
        for index, one in enumerate(weeks().evaluations)
    ]
    decision = fold(SETTINGS, Watched("7"), made, times={one.start: START + one.end for one in made})
    seen = Read(page(replace(ABOUT, unit="rows"), made, decision)).text
    assert "row 13,500 to row 14,000" in seen
    assert "upstream fired at row 12,500" in seen


def test_since_passes_over_windows_that_could_not_be_judged_and_stops_at_a_quiet_one() -> None:
    drifted, calm = column("x", 0.5), column("x", 0.1, "quiet")
    made = [
        evaluation(0, check("a", "violated", 2.5, drifted)),
        evaluation(DAY, check("a", "quiet", 0.5, calm), verdict="quiet"),
        evaluation(2 * DAY, check("a", "violated", 2.5, drifted)),
        evaluation(3 * DAY, check("a", "noData", None), verdict="noData"),
        evaluation(4 * DAY, check("a", "violated", 2.5, drifted)),
    ]
    (found,) = standings(made, None)
    assert found.since == 2 * DAY
    assert found.measures[0].since == 2 * DAY


def test_the_worst_stand_first_and_what_is_quiet_over_its_threshold_says_why() -> None:
    made = [
        evaluation(
            0,
            check(
                *("a", "violated", 4.0, column("mild", 0.25), column("noisy", 0.9, "quiet")),
                *(column("grave", 0.8), column("slight", 0.1, "quiet")),
            ),
        )
    ]
    (found,) = standings(made, None)
    assert [one.measure.column for one in found.measures] == ["grave", "mild", "noisy", "slight"]
    assert [one.note for one in found.measures] == [None, None, "it may be chance", None]


def test_slices_are_told_with_their_worst_measure() -> None:
    made = [
        evaluation(
            0, check("a", "violated", 4.0, column("x", 0.1, "quiet"), column("x", 0.8, part="country=FR"))
        )
    ]
    seen = Read(page(ABOUT, made)).text
    assert "country=FR 1 1 ▲ x in country=FR: psi 0.8, threshold 0.2" in seen.split("Slices")[1]


def test_only_web_addresses_become_links() -> None:
    links = (
        *(("script", "javascript:alert(1)"), ("data", "data:text/html,x"), ("file", "file:///etc/passwd")),
        *(
            ("broken", 'https://x.org/"onmouseover="x'),
            ("spaced", "https://x.org/ y"),
            ("good", "HTTPS://x.org/a"),
        ),
    )
    read = Read(page(replace(ABOUT, links=links), []))
    found = [value for name, value in read.attributes if name == "href"]
    assert found == ['https://x.org/"onmouseover="x', "HTTPS://x.org/a"]
    assert not [name for name, _ in read.attributes if name.startswith("on")]


POISON = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></title></svg><b onclick=x>",
    "]]><!--",
    "' onload='x",
    "{{ 7 * 7 }}{% raw %}",
    "\u202eevil\u2066\x00\x1b[31m\u200b",
    "&lt;i&gt;&#60;u&#62;",
    "\udc80\r\nSet-Cookie: x",
    "x" * 5_000,
]


@pytest.mark.parametrize("poison", POISON, ids=range(len(POISON)))
def test_names_and_values_of_data_are_inert(poison: str) -> None:
    """The page has the very elements and attributes that it has with plain names."""
    plain, poisoned = _everywhere("plain"), _everywhere(poison)
    read = Read(poisoned)
    assert read.elements == Read(plain).elements
    assert not [name for name, _ in read.attributes if name.startswith("on") or name == "src"]
    assert poisoned.encode("utf-8")
    assert "x" * 400 not in poisoned
    controls = [one for one in poisoned if not one.isprintable() and one != "\n"]
    assert controls == []
    if poison.isprintable() and len(poison) < 80:
        assert poison in read.text  # as it is, not cut, not evaluated


def _everywhere(text: str) -> str:
    """A report in which every text that comes from elsewhere is `text`."""
    whole = text.encode("utf-8", "replace").decode()  # Arrow holds no surrogates
    rows = [
        {whole: [1.0, 2.0] * 50, f"{whole}2": [whole, "b"] * 50},
        {whole: [5.0] * 80, f"{whole}2": [f"{whole}!"] * 80},
    ]
    batches = [pa.record_batch(columns) for columns in rows]
    plan = plan_of([batches[0]], {whole: "double", f"{whole}2": "string"}, slices=[f"{whole}2"], threads=1)
    reference, window = (summarise([batch], plan, threads=1).windows[0] for batch in batches)
    told = ColumnVerdict(whole, f"{whole}2={whole}", text, 0.5, 0.2, 0.001, 0.002, "violated", text)
    made = [
        replace(
            evaluation(
                day * DAY,
                CheckVerdict(
                    *(text, text, "violated", 2.0, 1.0, (told, replace(told, slice=None))),
                    metric=MetricValue(text, 0.5, 0.6),
                ),
            ),
            key=text,
        )
        for day in range(4)
    ]
    rules = tuple(replace(rule, on=(text,), notify=(text,)) for rule in SETTINGS.rules)
    retraining = replace(rules[1].retrain, experiment=text) if rules[1].retrain else None
    rules = (replace(rules[1], retrain=retraining), *rules)
    settings = replace(
        SETTINGS, policy=text, checks=(replace(SETTINGS.checks[1], name=text),), rules=rules, warmup=0
    )
    about = replace(
        ABOUT,
        **dict.fromkeys(
            ("project", "policy", "model", "stage", "version", "reference", "window", "engine"), text
        ),
        **dict.fromkeys(("experiment", "revision", "reference_digest"), text),
        links=((text, "https://x.org"),),
    )
    decision = fold(settings, Watched(text), made)
    executed = {
        one.id: Executed(text, text, text, text, text, f"javascript:{text}") for one in decision.actions
    }
    return page(about, made, decision, reference, window, [(text, text)], executed=executed, before=[0])


def test_a_thousand_columns_over_four_hundred_windows_stay_small() -> None:
    names = [f"column_{index:04}_with_a_long_name" for index in range(1_000)]
    source = np.random.default_rng(3)
    batches = [pa.record_batch({"x": source.normal(moved, 1, 3_000)}) for moved in (0.0, 0.4)]
    plan = plan_of([batches[0]], {"x": "double"}, threads=1)
    one = [summarise([batch], plan, threads=1).windows[0].columns["x"] for batch in batches]
    wide = Plan(dict.fromkeys(names, plan.columns["x"]))
    reference, window = (WindowSummary(wide, Group(3_000, dict.fromkeys(names, each))) for each in one)
    columns = [
        tuple(
            column(name, 0.9 - index / 2_000 + day / 100, "violated" if index % 2 else "quiet")
            for index, name in enumerate(names)
        )
        for day in range(8)
    ]
    made = [
        evaluation(
            START + day * DAY,
            *(check(name, "violated", 4.5 + day % 8, *columns[day % 8]) for name in ("a", "b", "c", "d")),
        )
        for day in range(400)
    ]
    text = page(ABOUT, made, None, reference, window, [(f"{name}.parquet", "f" * 64) for name in names])
    assert len(text) < 3_000_000
    seen = Read(text).text
    assert "column_0001_with_a_long_name: psi" in first_screen(text)  # the worst
    assert "Each place stands for 5 windows" in seen
    assert "388 more measures, none of them worse" in seen
    assert "200 newest of 400" in seen
    assert "and 500 more." in seen


def test_numbers_at_the_ends_of_what_doubles_hold_are_drawn() -> None:
    largest = 1.7e308
    rows = {"wide": [-largest, largest, 0.0, None], "flat": [3.0] * 4, "tiny": [5e-324, 1e-300, 1e-10, 1e10]}
    now = {
        "wide": [float("inf"), largest, float("nan"), 1.0],
        "flat": [3.0] * 4,
        "tiny": [0.0, -1.0, 1e300, 2.0],
    }
    batches = [pa.record_batch(each) for each in (rows, now)]
    plan = plan_of([batches[0]], dict.fromkeys(rows, "double"), threads=1)
    reference, window = (summarise([batch], plan, threads=1).windows[0] for batch in batches)
    columns = [column(name, 1e308) for name in rows]
    made = [
        evaluation(index * DAY, check("a", "violated", value, *columns))
        for index, value in enumerate((1e308, 1e-308))
    ]
    text = page(ABOUT, made, None, reference, window)
    assert text.count("Distribution of") == 3
    assert not re.search(r"\b(nan|inf)\b", text.replace("infinite", ""))


def test_a_column_that_is_gone_or_empty_is_told_and_not_drawn() -> None:
    batches = [
        pa.record_batch(each)
        for each in ({"x": [1.0, 2.0], "y": [1.0, 2.0]}, {"x": pa.nulls(2, pa.float64())})
    ]
    plan = plan_of([batches[0]], {"x": "double", "y": "double"}, threads=1)
    reference, window = (summarise([batch], plan, threads=1).windows[0] for batch in batches)
    made = [evaluation(0, check("a", "violated", 1.0, column("x", 1.0), column("y", 1.0)))]
    seen = Read(page(ABOUT, made, None, reference, window)).text
    assert "x Not drawn: all null." in seen
    assert "y rows 2 → –" in seen


def test_a_seasonal_reference_is_drawn_in_the_seasons_of_the_window() -> None:
    source = np.random.default_rng(5)

    def month(number: int, mean: float) -> pa.RecordBatch:
        day = np.array([f"2025-{number:02}-03"], "datetime64[us]")
        return pa.record_batch({"day": day.repeat(800), "x": source.normal(mean, 1, 800)})

    batches = [month(1, 0.0), month(7, 20.0)]
    plan = plan_of(batches, {"x": "double"}, season="month", threads=1)
    reference, january, may = (
        summarise(each, plan, timestamp="day", threads=1).windows[0]
        for each in (batches, [month(1, 0.0)], [month(5, 9.0)])
    )
    made = [evaluation(0, check("a", "quiet", 0.1, column("x", 0.1, "quiet")), verdict="quiet")]
    text = page(ABOUT, made, None, reference, january)
    shapes = re.findall(r' d="(M0 92V[^"]*)"', text)
    assert abs(_peak(shapes[0]) - _peak(shapes[1])) < 60  # July's 20 is not there
    assert "drawn is the reference mixed from its seasons as the window has them" in text
    unknown = Read(page(ABOUT, made, None, reference, may)).text
    assert "x Not drawn: the reference has no rows of this season." in unknown


def test_whatever_verdicts_say_there_is_a_page_and_a_drawing() -> None:
    source = Random(5)
    verdicts: tuple[Verdict, ...] = ("quiet", "violated", "insufficient", "noData", "error")
    numbers = (None, 0.0, 5e-324, 1.7e308, -1e308, -5.0, 0.2, 1.0, 1e12, 1e-12)
    kinds = ("dataDrift", "conceptDrift", "upstreamChange", "own/kind")
    for _ in range(60):
        made = []
        for day in range(source.choice((1, 2, 40))):
            checks = [
                CheckVerdict(
                    *(name, source.choice(kinds), source.choice(verdicts)),
                    *(source.choice(numbers), source.choice(numbers)),
                    tuple(
                        ColumnVerdict(
                            *(
                                source.choice("xy*"),
                                source.choice((None, "s=1")),
                                source.choice(("psi", "tailExceedance")),
                            ),
                            *(
                                source.choice(numbers),
                                source.choice(numbers),
                                None,
                                source.choice((None, 0.2)),
                            ),
                            *(source.choice(verdicts), source.choice((None, "note"))),
                        )
                        for _ in range(source.randint(0, 3))
                    ),
                    estimate=source.random() < 0.3,
                    metric=source.choice(
                        (None, MetricValue("m", source.choice(numbers), source.choice(numbers)))
                    ),
                )
                for name in source.sample(("a", "b", "c"), source.randint(0, 3))
            ]
            start = source.choice((0, 1e9, -1e11, 1e14)) + day * DAY
            made.append(Evaluation(start, start + DAY, 10, source.choice(verdicts), tuple(checks), "k", 0))
        made.sort(key=lambda one: one.start)
        Read(page(ABOUT, made))
        svg_picture("a", made)


@pytest.mark.parametrize(
    ("value", "threshold"), [(1.7e308, 1e-320), (-1.7e308, 1.7e308), (None, None), (5e-324, 0.0)]
)
def test_a_picture_of_any_numbers_can_be_made(value: float | None, threshold: float | None) -> None:
    extreme = CheckVerdict("a", "dataDrift", "violated", value, threshold, ())
    assert picture("a", [evaluation(0, extreme)]).startswith(b"\x89PNG")

"""What an alert says, and that names from data stay text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlops.monitoring.deciding.actions import Alert
from mlops.monitoring.verdicts import CheckVerdict, ColumnVerdict, Evaluation
from mlops.notifying.message import Message
from mlops.notifying.wording import message
from mlops.resources.monitoring_policy import MonitoringPolicy

START = 1_767_225_600  # 2026-01-01
DAY = 86_400
ALERT = Alert(
    *("0123abcd", "inputs", "loan-3", START - DAY, "fired", START, "critical"), ("team",), float(START + DAY)
)


def policy(**window: Any) -> MonitoringPolicy:
    return MonitoringPolicy.model_validate(
        {
            "apiVersion": "mlops/v1",
            "kind": "MonitoringPolicy",
            "metadata": {"name": "loan-production"},
            "spec": {
                "model": "loan",
                "stage": "production",
                "data": {"predictions": "loan-scored"},
                "window": window or {"size": "1d"},
                "checks": [{"name": "inputs", "type": "dataDrift"}],
            },
        }
    )


def column(name: str, value: float, slice: str | None = None, note: str | None = None) -> ColumnVerdict:
    return ColumnVerdict(name, slice, "psi", value, 0.2, 0.001, 0.01, "violated", note)


def evaluation(*columns: ColumnVerdict) -> Evaluation:
    check = CheckVerdict("inputs", "dataDrift", "violated", 0.5, 0.3, columns)
    return Evaluation(START, START + DAY, 12_345, "violated", (check,), "key", 0)


def test_it_says_what_drifted_by_how_much_since_when_what_was_done_and_where_to_look() -> None:
    said = message(
        ALERT,
        policy=policy(),
        evaluation=evaluation(
            column("income", 0.25),
            column("price", 1.234567, "country=CI", "times 655.957: EUR to XOF"),
            ColumnVerdict("age", None, "psi", 0.01, 0.2, 0.5, 0.5, "quiet", None),
            ColumnVerdict("note", None, "psi", None, 0.2, None, None, "insufficient", "all null"),
        ),
        did=["A retraining of loan-gbt was blocked: an upstream change"],
        link="https://mlflow.example.org/#/runs/1?a=b&c=d",
        picture=b"\x89PNG",
    )
    assert said.title == "critical: loan in production: inputs fired"
    assert said.body.splitlines() == [
        "Check inputs (dataDrift, critical) of MonitoringPolicy/loan-production fired.",
        "Watched: model loan, version loan-3, in stage production.",
        "Window: 2026-01-01 00:00 UTC to 2026-01-02 00:00 UTC, 12,345 rows",
        "Since: 2025-12-31 00:00 UTC",
        "",
        "Measured: 0.5 against a threshold of 0.3",
        "What drifted:",
        "- price where country=CI: psi 1.235 against a threshold of 0.2 (times 655.957: EUR to XOF)",
        "- income: psi 0.25 against a threshold of 0.2",
        "Not judged: 1 of 4 measures",
        "",
        "What was done:",
        "- A retraining of loan-gbt was blocked: an upstream change",
        "",
        "Look: mlops monitor status loan-production",
        "Report: https://mlflow.example.org/#/runs/1?a=b&c=d",
        "Id: 0123abcd",
    ]
    assert said.severity == "critical"
    assert [(a.name, a.mime, a.content) for a in said.attachments] == [
        ("loan-production-inputs.png", "image/png", b"\x89PNG")
    ]


@pytest.mark.parametrize(
    ("turn", "says", "severity"),
    [("fired", "fired", "critical"), ("worse", "got worse", "critical"), ("cleared", "cleared", "info")],
)
def test_each_transition_has_its_words_and_the_end_is_good_news(turn: Any, says: str, severity: str) -> None:
    said = message(replace(ALERT, turn=turn), policy=policy())
    assert said.title.endswith(f"inputs {says}")
    assert said.title.startswith("resolved: " if turn == "cleared" else "critical: ")
    assert f" {says}." in said.body.splitlines()[0]
    assert said.severity == severity


def test_windows_of_rows_are_told_in_rows() -> None:
    alert = replace(ALERT, window=5_000, at=10_000, time=None)
    said = message(alert, policy=policy(rows=5000))
    assert "Window: from row 10,000" in said.body
    assert "Since: row 5,000" in said.body


def test_an_estimate_and_a_revision_are_said_to_be_such() -> None:
    judged = evaluation(column("income", 0.25))
    judged = replace(judged, revision=2, checks=(replace(judged.checks[0], estimate=True),))
    said = message(ALERT, policy=policy(), evaluation=judged)
    assert "estimated: labels have not come yet" in said.body
    assert "revision 2 after late rows" in said.body


@pytest.mark.parametrize(
    "name",
    [
        "[click](https://evil.example)",
        "<script>alert(1)</script>",
        "<!channel> @everyone <@U123>",
        "a\nReport: https://evil.example",
        "a\u2028b\u202egnp.exe\x1b[31m\x00",
        "`rm` *bold* ~gone~ |hidden| \\ &lt;b&gt;",
        "half \ud800 a pair",
        "x" * 100_000,
    ],
)
def test_a_poisoned_name_stays_one_line_of_text(name: str) -> None:
    judged = evaluation(column(name, 0.9, slice=name, note=name))
    said = message(
        replace(ALERT, note=name, version=name), policy=policy(), evaluation=judged, did=[name], link=name
    )
    lines = said.body.splitlines()
    assert len(lines) == 15
    assert not set("<>[]@*`~|\\&\x00\x1b\u202e\u2028") & set(said.title + said.body)
    assert "://" not in said.body
    assert len(said.body) < 2_000
    said.body.encode()


def test_a_name_with_usual_signs_is_read_as_it_is() -> None:
    said = message(ALERT, policy=policy(), evaluation=evaluation(column("Prix d'achat (€/m²) _2_ 漢字", 0.9)))
    assert "- Prix d'achat (€/m²) _2_ 漢字: psi" in said.body


def test_a_thousand_columns_are_ten_and_a_count_the_worst_first() -> None:
    said = message(
        ALERT, policy=policy(), evaluation=evaluation(*(column(f"c{n:03}", 0.2 + n) for n in range(1000)))
    )
    listed = [line for line in said.body.splitlines() if line.startswith("- ")]
    assert listed[0].startswith("- c999")
    assert listed[-1] == "- and 990 more"
    assert len(listed) == 11


def test_a_message_is_kept_and_read_again_as_it_was() -> None:
    said = message(ALERT, policy=policy(), evaluation=evaluation(column("é\ud800", 1.0)), picture=b"\xff\x00")
    assert Message.from_json(said.to_json()) == said
    odd = Message("\ud800\0", "b", "info")
    assert Message.from_json(odd.to_json()) == odd


def test_a_metric_is_told_with_its_reference_and_how_much_worse_it_is_in_percent() -> None:
    worse = ColumnVerdict(
        "y", None, "rmse", 0.5, 0.05, 0.001, 0.001, "violated", "rmse 3.1 ± 0.2, reference 2.07"
    )
    check = CheckVerdict("inputs", "conceptDrift", "violated", 0.5, 0.05, (worse,))
    said = message(ALERT, policy=policy(), evaluation=replace(evaluation(), checks=(check,)))
    assert "Measured: 50 % worse than the reference, 5 % are allowed" in said.body
    assert "rmse 3.1 ± 0.2, reference 2.07" in said.body

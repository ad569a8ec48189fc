"""What an alert says: what drifted, by how much, since when, what was done about it, where to look. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, assert_never

from mlops.monitoring.deciding.actions import Alert, Window
from mlops.monitoring.verdicts import CheckVerdict, ColumnVerdict, Evaluation
from mlops.notifying.message import Attachment, Message
from mlops.resources.monitoring_policy import MonitoringPolicy

_MOST_COLUMNS: Final = 10
_MOST_NAME: Final = 120  # characters
_MOST_DONE: Final = 20
# Names come from data. What services take for markup, mentions or links gets its full-width twin: it is read the same.
_MARKUP: Final = str.maketrans({char: chr(ord(char) + 0xFEE0) for char in "<>[]@*`~|\\&"})
# Control characters, line ends, and what turns the direction of writing.
_UNSEEN: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]+"
)


def message(
    alert: Alert,
    *,
    policy: MonitoringPolicy,
    evaluation: Evaluation | None = None,
    did: Sequence[str] = (),
    link: str | None = None,
    picture: bytes | None = None,
) -> Message:
    """The message of one transition.

    Args:
        alert: the transition.
        policy: whose check it is.
        evaluation: of the window that made it (`alert.at`); None where it is no longer known.
        did: what the controller did about it, a sentence each.
        link: where to look; anything but http and https is left out.
        picture: a PNG that shows the drift.
    """
    spec, name = policy.spec, policy.metadata.name
    kind = next((check.type for check in spec.checks if check.name == alert.check), "check")
    verdict = _verdict(alert, evaluation)
    title = f"{_plain(spec.model)} in {_plain(spec.stage)}: {_plain(alert.check)} {_turned(alert)}"
    timed = spec.window.rows is None
    lines = [
        f"Check {_plain(alert.check)} ({kind}, {alert.severity}) of MonitoringPolicy/{_plain(name)} {_turned(alert)}.",
        f"Watched: model {_plain(spec.model)}, version {_plain(alert.version)}, in stage {_plain(spec.stage)}.",
        _window(alert, evaluation, timed=timed),
    ]
    if alert.window != alert.at:
        lines.append(f"Since: {_moment(alert.window, timed=timed)}")
    if alert.note:
        lines.append(f"Note: {_plain(alert.note)}")
    if verdict is not None:
        lines += ["", *_measured(verdict)]
    lines += ["", "What was done:"] if did else []
    lines += [f"- {_plain(sentence, 400)}" for sentence in did[:_MOST_DONE]]
    lines += ["", f"Look: mlops monitor status {_plain(name)}"]
    if link is not None and (clean := _link(link)):
        lines.append(f"Report: {clean}")
    lines.append(f"Id: {alert.id}")
    pictures = (Attachment(f"{name}-{alert.check}.png", "image/png", picture),) if picture else ()
    if alert.turn == "cleared":  # good news, whatever the severity of what is over
        return Message(f"resolved: {title}", "\n".join(lines), "info", pictures)
    return Message(f"{alert.severity}: {title}", "\n".join(lines), alert.severity, pictures)


def _turned(alert: Alert) -> str:
    match alert.turn:
        case "fired":
            return "fired"
        case "worse":
            return "got worse"
        case "cleared":
            return "cleared"
        case _:
            assert_never(alert.turn)


def _verdict(alert: Alert, evaluation: Evaluation | None) -> CheckVerdict | None:
    checks = evaluation.checks if evaluation else ()
    return next((check for check in checks if check.name == alert.check), None)


def _window(alert: Alert, evaluation: Evaluation | None, *, timed: bool) -> str:
    if evaluation is None:
        return f"Window: from {_moment(alert.at, timed=timed)}"
    late = f", revision {evaluation.revision} after late rows" if evaluation.revision else ""
    span = f"{_moment(evaluation.start, timed=timed)} to {_moment(evaluation.end, timed=timed)}"
    return f"Window: {span}, {evaluation.rows:,} rows{late}"


def _moment(window: Window, *, timed: bool) -> str:
    if not timed:
        return f"row {int(window):,}"
    try:
        return datetime.fromtimestamp(window, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return f"{window:g} s"  # a year that no calendar has


def _measured(check: CheckVerdict) -> list[str]:
    estimate = " (estimated: labels have not come yet)" if check.estimate else ""
    lines = [f"Measured: {_against(check.value, check.threshold, check.type)}{estimate}"]
    violated = [column for column in check.columns if column.verdict == "violated"]
    if violated:
        # By how far over their thresholds: units differ between columns.
        violated.sort(
            key=lambda column: (-_excess(column), column.column, column.slice or "", column.detector)
        )
        lines.append("What drifted:")
        lines += [f"- {_column(column, check.type)}" for column in violated[:_MOST_COLUMNS]]
        if len(violated) > _MOST_COLUMNS:
            lines.append(f"- and {len(violated) - _MOST_COLUMNS} more")
    if unjudged := sum(column.verdict not in ("violated", "quiet") for column in check.columns):
        lines.append(f"Not judged: {unjudged} of {len(check.columns)} measures")
    return lines


def _column(one: ColumnVerdict, kind: str) -> str:
    where = f" where {_plain(one.slice)}" if one.slice is not None else ""
    note = f" ({_plain(one.note, 300)})" if one.note else ""
    column = _plain(one.column) if one.column else "all rows"
    return f"{column}{where}: {_plain(one.detector)} {_against(one.value, one.threshold, kind)}{note}"


def _against(value: float | None, threshold: float | None, kind: str) -> str:
    if value is None:
        return "no value"
    if kind == "conceptDrift":  # the metrics themselves stand in the note
        allowed = "" if threshold is None else f", {_percent(threshold)} are allowed"
        turned = "worse" if value >= 0 else "better"
        return f"{_percent(abs(value))} {turned} than the reference{allowed}"
    return f"{value:.4g}" if threshold is None else f"{value:.4g} against a threshold of {threshold:.4g}"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def _excess(one: ColumnVerdict) -> float:
    if one.value is None:
        return 0.0
    return abs(one.value) / abs(one.threshold) if one.threshold else abs(one.value)


def _plain(text: str, most: int = _MOST_NAME) -> str:
    """`text` as one line that no service takes for anything but text."""
    clean = _UNSEEN.sub(" ", text).translate(_MARKUP).replace("://", ":／／")
    return clean if len(clean) <= most else f"{clean[: most - 1]}…"


def _link(link: str) -> str | None:
    return link if re.fullmatch(r"https?://[^\s<>\"'`|\\\x00-\x1f\x7f]{1,2000}", link) else None

"""A proposal as a value, and the words that go with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mlops.resources.key import Key
from mlops.resources.problem import printable

_BARS = "▁▂▃▄▅▆▇█"
_MOST_BARS = 40


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why something is proposed.

    Attributes:
        action: the id of the action.
        policy: the name of the MonitoringPolicy.
        check: the name of the check that fired.
        window: the first window of the firing, as people read it.
        watched: the version of the model that was watched.
        findings: by how much, one line each, such as `price: psi 0.41, threshold 0.2`.
        values: of the check in the windows up to that one, oldest first; None where it could not be judged.
        threshold: of the check.
        report: the MLflow run that holds the report of the window, or a link to it.
    """

    action: str
    policy: str
    check: str
    window: str
    watched: str
    findings: tuple[str, ...] = ()
    values: tuple[float | None, ...] = ()
    threshold: float | None = None
    report: str = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Edits that belong together.

    Attributes:
        branch: where they are to be committed.
        title: one line.
        body: why, in Markdown.
        files: the new text of each changed or new file, by its path from the project's root.
        promotion: the name of the Promotion; empty where none is asked for anything.
        version: the version of the model that it is to name.
        model_version: the name of the new ModelVersion; None where one is there already.
        experiment: the name of the Experiment that has to be trained; None where nothing has to.
        datasets: names of its Datasets by the name that its code knows them by.
    """

    branch: str
    title: str
    body: str
    files: Mapping[str, str] = field(repr=False)
    promotion: str = ""
    version: str = ""
    model_version: str | None = None
    experiment: str | None = None
    datasets: Mapping[str, str] = field(default_factory=dict)

    @property
    def message(self) -> str:
        """The message of its commit."""
        return f"{self.title}\n\n{self.body}"


@dataclass(frozen=True, slots=True)
class Moot:
    """There is nothing to propose any more, because the revision moved on."""

    reason: str


def branch_of(resource: Key, what: str) -> str:
    """The branch of a change of a resource.

    Args:
        resource: what is changed, such as a Promotion.
        what: to what: a version, or a fingerprint.
    """
    return f"mlops/{resource.kind.lower()}/{resource.name}/{what}"


def compared(
    proposal: Proposal,
    watched: str,
    metrics: Mapping[str, tuple[float | None, float | None]],
    code: str = "",
) -> Proposal:
    """The same proposal with the numbers of the new run beside those of the version that was watched.

    Args:
        proposal: as it was before the training.
        watched: the version that was watched.
        metrics: by the metric's name, its value for that version and for the new one; None: not known.
        code: which code changed since, a sentence.
    """
    own = "Metrics, as the run of each version logged them on the data that it was given:"
    lines = [
        "",
        "",
        *([code, ""] if code else []),
        own,
        "",
        f"| metric | {watched} | {proposal.version} |",
        "|---|---:|---:|",
    ]
    for name, (old, new) in sorted(metrics.items()):
        lines.append(f"| {quoted(name)} | {_number(old)} | {_number(new)} |")
    return replace(proposal, body=proposal.body + "\n".join(lines))


def told(evidence: Evidence, *more: str) -> str:
    """The body of a proposal: what was seen, and what else there is to say."""
    seen = (
        f"Check {quoted(evidence.check)} of MonitoringPolicy/{evidence.policy} fired for version "
        f"{evidence.watched} in the window {quoted(evidence.window)}."
    )
    parts = [seen]
    if evidence.findings:
        parts.append("\n".join(f"- {quoted(finding)}" for finding in evidence.findings))
    if any(value is not None for value in evidence.values):
        parts.append(_picture(evidence))
    if evidence.report.startswith("http"):
        parts.append(f"[The report of that window](<{evidence.report}>)")
    elif evidence.report:
        parts.append(f"The report of that window: `report.html` of MLflow run {quoted(evidence.report)}.")
    return "\n\n".join([*parts, *(part for part in more if part), f"Action: {evidence.action}"])


def quoted(text: str) -> str:
    """A text from data, such as the name of a column, so that it is neither markup nor a line of its own."""
    plain = printable(text).replace("`", "'").replace("|", "¦")
    return f"`{plain}`"


def _picture(evidence: Evidence) -> str:
    """The values of the newest windows as a line of bars; text, which every forge and every terminal shows."""
    values = evidence.values[-_MOST_BARS:]
    limit = evidence.threshold
    known = [value for value in values if value is not None and math.isfinite(value)]
    top = max([*known, limit or 0.0], default=0.0) or 1.0
    bars = "".join(
        " " if value is None else _BARS[min(len(_BARS) - 1, max(0, int(value / top * len(_BARS))))]
        for value in (value if value is None or math.isfinite(value) else None for value in values)
    )
    said = f"{bars}  {_number(values[-1])}" + (f", threshold {_number(limit)}" if limit is not None else "")
    return f"{quoted(evidence.check)} in the newest {len(values)} windows: `{said}`"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"

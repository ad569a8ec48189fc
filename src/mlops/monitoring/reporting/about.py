"""What a report says of its policy, as texts that somebody else made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["time", "rows"]  # what windows are made of, and so what `Evaluation.start` counts


@dataclass(frozen=True, slots=True)
class About:
    """Whose report this is. All of it is shown, none of it is trusted.

    Args:
        project, policy, model, stage, version: names.
        reference: what windows are compared with, such as `training data "loans" of version 7`.
        window: their size, such as `1d` or `5000 rows`.
        unit: whether windows are of event time or of rows.
        engine: version of what computed this.
        experiment, revision, reference_digest: where they are known.
        links: text and address; only http and https become links.
    """

    project: str
    policy: str
    model: str
    stage: str
    version: str
    reference: str
    window: str
    engine: str
    unit: Unit = "time"
    experiment: str | None = None
    revision: str | None = None
    reference_digest: str | None = None
    links: tuple[tuple[str, str], ...] = ()

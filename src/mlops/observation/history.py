"""Who put what where, when and on what evidence: every stay of every version, as the ledger keeps it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mlops.errors import MlopsError
from mlops.observation.observed import Ledger, ObservedVersion
from mlops.planning.context import DIGEST_TAG, PROJECT_TAG, VERSION_TAG
from mlops.planning.stays import Stay, history, read_history, stages


@dataclass(frozen=True, slots=True)
class Promoted:
    """One stay of one version in one stage."""

    model: str  # registered name
    stage: str
    version: str | None  # as declared
    number: int  # MLflow's
    digest: str | None
    stay: Stay

    def to_json(self) -> dict[str, Any]:
        return {
            "promotion": self.stay.promotion,
            "model": self.model,
            "stage": self.stage,
            "version": self.version,
            "mlflowVersion": self.number,
            "digest": self.stay.digest or self.digest,
            "since": self.stay.since,
            "until": self.stay.until,
            "revision": self.stay.revision,
            "approvedBy": [dict(approval) for approval in self.stay.approved_by],
            "evidence": self.stay.evidence,
        }

    def lasted_at(self, moment: datetime) -> bool:
        """Whether the version was in the stage at `moment`."""
        until = parse_time(self.stay.until) if self.stay.until else None
        return parse_time(self.stay.since) <= moment and (until is None or moment < until)


def promotions(
    ledger: Ledger,
    project: str,
    read_artifact: Callable[[str, str], bytes | None],
    missing: Callable[[str], None],
) -> tuple[Promoted, ...]:
    """All stays of a project's versions, newest first; older ones are fetched from where they were moved.

    `missing` is told of each part of the history that cannot be read, as nobody may take the rest for the whole.
    """
    found: list[Promoted] = []
    for version in ledger.versions.values():
        if version.tags.get(PROJECT_TAG) != project:
            continue
        for stage in stages(version.tags):
            for stay in _all_stays(version, stage, read_artifact, missing):
                found.append(
                    Promoted(
                        version.model,
                        stage,
                        version.tags.get(VERSION_TAG),
                        version.number,
                        version.tags.get(DIGEST_TAG),
                        stay,
                    )
                )
    found.sort(key=lambda p: (p.stay.since, p.model, p.stage), reverse=True)
    return tuple(found)


def at(rows: Iterable[Promoted], moment: datetime) -> tuple[Promoted, ...]:
    """What was in force at `moment`."""
    return tuple(row for row in rows if row.lasted_at(moment))


def parse_time(text: str) -> datetime:
    """An ISO 8601 date or time; without a zone it is UTC. Raises MlopsError for anything else."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise MlopsError(
            f"{text!r} is not a time",
            fix="Write it like 2026-03-31, 2026-03-31T12:00 or 2026-03-31T12:00:00Z",
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _all_stays(
    version: ObservedVersion,
    stage: str,
    read_artifact: Callable[[str, str], bytes | None],
    missing: Callable[[str], None],
) -> list[Stay]:
    where = f"{version.model} v{version.number} in {stage}"
    past = history(version.tags, stage)
    if not past.legible:
        missing(f"{where}: its history was changed by hand and cannot be read")
    stays = list(past.stays)
    older, seen = past.older, set[str]()
    while older and older not in seen and version.run_id:
        seen.add(older)
        data = read_artifact(version.run_id, older)
        try:
            moved = read_history(data or b"")
        except ValueError:
            what = "is not there" if data is None else "cannot be read"
            missing(f"{where}: the artifact {older} of run {version.run_id} {what}; it holds older stays")
            break
        stays = [*moved.stays, *stays]
        older = moved.older
    return stays

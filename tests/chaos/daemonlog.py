"""The daemons' logs: every line can be read, and together they explain what is seen in MLflow."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from chaos.meddling import STRANGER
from chaos.oracle import World, stays_of

Row = Mapping[str, Any]


def rows(logs: Iterable[Path]) -> Iterator[tuple[Path, str, Row | None]]:
    """Each line with what it says; None where it is no JSON object of an event."""
    for log in logs:
        for line in log.read_bytes().decode("utf-8", "replace").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            yield log, line, row if isinstance(row, dict) and "event" in row else None


def count(logs: Iterable[Path], event: str) -> int:
    """How often the logs tell of an event."""
    return sum(row is not None and row["event"] == event for _, _, row in rows(logs))


def problems(logs: Iterable[Path]) -> list[str]:
    """Lines that no program can read, and defects that the daemon itself noticed."""
    found = []
    for log, line, row in rows(logs):
        if row is None:
            found.append(f"{log}: a line that cannot be read: {line[:500]}")
        elif "traceback" in row or "defect" in str(row.get("message", "")):
            found.append(f"{log}: {line[:3000]}")
    return found


_STEP = re.compile(r"^[·✓] (\w+) (\w+/\S+)", re.MULTILINE)


def unexplained(logs: Iterable[Path], outputs: Iterable[Path], world: World) -> list[str]:
    """What MLflow holds and no log tells, and what logs tell more often than it happened.

    Args:
        logs: of daemons.
        outputs: what other commands printed: an `mlops apply` that meets no daemon does the work itself.
    """
    told = [row for _, _, row in rows(logs) if row is not None]
    applied = {(found[1], found[2]) for path in outputs for found in _STEP.finditer(path.read_text())}
    # A daemon that was killed after a write may have told only that it began.
    said = {(row.get("resource"), row.get("revision")) for row in told}
    begun = {row.get("step", "") for row in told if row["event"] == "Begun"}
    done: Counter[tuple[str, str, str]] = Counter()
    for row in told:
        if row["event"] in ("Promoted", "Bound", "Registered", "Trained"):
            done[row["event"], str(row.get("step")), str(row.get("revision"))] += 1
    found = []
    stays: Counter[tuple[str, str]] = Counter()
    for version in world["versions"]:
        for stage, history in stays_of(version).items():
            for stay in history:
                stays[f"promote:Promotion/{stay['promotion']}", stay["revision"]] += 1
                key = f"Promotion/{stay['promotion']}"
                known = (key, stay["revision"]) in said or f"promote:{key}" in begun
                if not known and ("promote", key) not in applied:
                    found.append(
                        f"{version['model']} v{version['number']} in {stage}: no log tells of {stay}"
                    )
        tags = version["tags"]
        resource = tags.get("mlops.resource")
        known = f"bind:{resource}" in begun or ("bind", resource) in applied
        # One whose name was taken away by hand while it left git is nobody's any more.
        if resource and not known and STRANGER not in tags and "mlops.archived" not in tags:
            found.append(f"no log tells that {resource} was bound")
    for run in world["runs"]:
        fingerprint = run["tags"].get("mlops.fingerprint")
        trained = ("train", str(run["tags"].get("mlops.resource"))) in applied
        if fingerprint and not trained and not any(step.endswith(fingerprint[:12]) for step in begun):
            found.append(f"no log tells of run {run['id']}")
    deleted = Counter(row.get("resource") for row in told if row["event"] == "Deleted")
    for (event, step, revision), count in done.items():
        if event == "Promoted" and count > stays[step, revision] and not deleted:
            found.append(
                f"{step} at {revision[:12]} was told {count} times, was done {stays[step, revision]}"
            )
    once = Counter[tuple[str, str]]()
    for (event, step, _), count in done.items():
        if event in ("Bound", "Trained"):
            once[event, step] += count
    for (event, step), count in once.items():
        if count > 1 + deleted[step.partition(":")[2]]:
            found.append(f"{event} of {step} was told {count} times")
    return found

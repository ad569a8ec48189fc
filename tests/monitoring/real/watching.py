"""Frames as files, watched by the engine, and what a policy makes of its evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scored_tables import assessed, spec, subject, table, written

from mlops.monitoring.deciding import Decision, Watched, fold
from mlops.monitoring.deciding.from_policy import settings_of
from mlops.monitoring.evaluating import Assessed
from mlops.monitoring.verdicts import ColumnVerdict
from mlops.resources.dataset import Columns
from mlops.resources.monitoring_policy import MonitoringPolicy

ROOT = Path(__file__).parents[3]
LATER = 4e9  # seconds since 1970 UTC: everything is past
UPSTREAM = {"name": "upstream", "type": "upstreamChange"}
INPUTS = {"name": "inputs", "type": "dataDrift"}
TARGET = {"name": "target", "type": "targetDrift"}


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of watching."""

    assessed: Assessed
    decision: Decision

    def verdicts(self, check: str) -> list[str]:
        """Of a check, window by window."""
        return [one.verdict for each in self.assessed.evaluations for one in each.checks if one.name == check]

    def violations(self, check: str) -> list[list[ColumnVerdict]]:
        """The columns that violated, window by window."""
        return [
            [column for column in one.columns if column.verdict == "violated"]
            for each in self.assessed.evaluations
            for one in each.checks
            if one.name == check
        ]

    @property
    def fired(self) -> set[str]:
        """The checks that fired in any window."""
        return {one.check for one in self.decision.transitions if one.turn == "fired"}


def watched(
    folder: Path,
    reference: pd.DataFrame,
    windows: pd.DataFrame | Sequence[pd.DataFrame],
    columns: Columns | None = None,
    /,
    *,
    learnt: Columns | None = None,
    features: tuple[str, ...] | None = None,
    **policy: Any,
) -> Seen:
    """Watch `windows` (files) against `reference`; `learnt`: the reference's columns where they are others."""
    columns = columns or Columns()
    frames = [windows] if isinstance(windows, pd.DataFrame) else windows
    past = table("train", [_file(folder, "reference.parquet", reference)], columns=learnt or columns)
    files = [_file(folder, f"scored-{number}.parquet", frame) for number, frame in enumerate(frames)]
    declared = spec(**policy)
    found = assessed(
        subject(declared, past, table("scored", files, columns=columns), features=features), now=LATER
    )
    document = {
        "apiVersion": "mlops/v1",
        "kind": "MonitoringPolicy",
        "metadata": {"name": "watch"},
        "spec": declared.model_dump(mode="json", by_alias=True, exclude_unset=True),
    }
    settings = settings_of(MonitoringPolicy.model_validate(document))
    return Seen(found, fold(settings, Watched("3"), found.evaluations))


def _file(folder: Path, name: str, frame: pd.DataFrame) -> Path:
    return written(folder, name, {str(column): pa.Array.from_pandas(frame[column]) for column in frame})


def times(random: np.random.Generator, rows: int, day: float, days: float = 1.0) -> Any:
    """Times in order, from `day` on."""
    return np.sort((day + days * random.random(rows)) * 86_400e6).astype("datetime64[us]")

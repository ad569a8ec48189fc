"""What is kept of one window's rows, whole and by slice and season."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlops.monitoring.summaries.categorical import CategoricalSummary
from mlops.monitoring.summaries.numeric import NumericSummary
from mlops.monitoring.summaries.plans import Plan, Slice
from mlops.monitoring.summaries.tally import OpaqueSummary
from mlops.monitoring.summaries.vectors import Integers

ColumnSummary = NumericSummary | CategoricalSummary | OpaqueSummary


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Some rows of a window.

    Args:
        rows: how many.
        columns: by name, sorted. A column that only a part of the files has counts fewer rows than these.
    """

    rows: int
    columns: Mapping[str, ColumnSummary]


@dataclass(frozen=True, slots=True, eq=False)
class SeasonGroup:
    """The rows of a window, or of a slice of it, with one season key.

    Args:
        rows: how many.
        cells: column → counts as in `NumericSummary.cells` and `CategoricalSummary.cells`.
    """

    rows: int
    cells: Mapping[str, Integers]


@dataclass(frozen=True, slots=True, eq=False)
class WindowSummary:
    """One window of one file, of several, or of all.

    Args:
        plan: how it was summed up.
        whole: all rows.
        earliest, latest: event times in microseconds since 1970 UTC; None for row windows.
        slices: of each value of each slice column that occurs.
        seasons: by season key and slice (None: all rows); empty if the plan has no season.
    """

    plan: Plan
    whole: Group
    earliest: int | None = None
    latest: int | None = None
    slices: Mapping[Slice, Group] = field(default_factory=dict)
    seasons: Mapping[tuple[int, Slice | None], SeasonGroup] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """All rows."""
        return self.whole.rows

    @property
    def columns(self) -> Mapping[str, ColumnSummary]:
        """Of all rows, by name."""
        return self.whole.columns

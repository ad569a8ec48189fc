"""What is kept of one window's rows, whole and by slice and season."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlops.monitoring.summaries import categorical, numeric, tally
from mlops.monitoring.summaries.categorical import CategoricalSummary
from mlops.monitoring.summaries.numeric import NumericSummary
from mlops.monitoring.summaries.plans import OpaquePlan, Plan, Slice
from mlops.monitoring.summaries.tally import OpaqueSummary
from mlops.monitoring.summaries.vectors import Integers, added

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


def merge(parts: Sequence[WindowSummary]) -> WindowSummary:
    """The summary of all rows of `parts`, which have one plan. Associative and commutative.

    Raises:
        ValueError: they were summed up by different plans.
    """
    plan = parts[0].plan
    if any(part.plan.digest != plan.digest for part in parts):
        raise ValueError("summaries by different plans do not add up")
    if len(parts) == 1:
        return parts[0]
    slices = sorted({key for part in parts for key in part.slices}, key=slice_order)
    seasons = sorted({key for part in parts for key in part.seasons}, key=season_order)
    return WindowSummary(
        plan,
        merge_groups([part.whole for part in parts]),
        min((part.earliest for part in parts if part.earliest is not None), default=None),
        max((part.latest for part in parts if part.latest is not None), default=None),
        {key: merge_groups([part.slices[key] for part in parts if key in part.slices]) for key in slices},
        {
            key: _merge_seasons([part.seasons[key] for part in parts if key in part.seasons])
            for key in seasons
        },
    )


def merge_groups(parts: Sequence[Group]) -> Group:
    """All rows of `parts`."""
    if len(parts) == 1:
        return parts[0]
    names = sorted({name for part in parts for name in part.columns})
    columns = {
        name: merge_columns([part.columns[name] for part in parts if name in part.columns]) for name in names
    }
    return Group(sum(part.rows for part in parts), columns)


def merge_columns(parts: Sequence[ColumnSummary]) -> ColumnSummary:
    """One column of all rows; where a column without a reference is of several kinds, what they have in common."""
    if len(parts) == 1:
        return parts[0]
    numbers = [part for part in parts if isinstance(part, NumericSummary)]
    if len(numbers) == len(parts):
        return numeric.merge(numbers)
    categories = [part for part in parts if isinstance(part, CategoricalSummary)]
    if len(categories) == len(parts):
        return categorical.merge(categories)
    opaque = [part for part in parts if isinstance(part, OpaqueSummary)]
    if len(opaque) == len(parts):
        return tally.merge(opaque)
    empty = all(set(part.types) == {"null"} for part in opaque)
    if empty and len(numbers) + len(opaque) == len(parts):
        return numeric.merge([*numbers, *(numeric.nulls(numbers[0].plan, part) for part in opaque)])
    if empty and len(categories) + len(opaque) == len(parts):
        return categorical.merge(
            [*categories, *(categorical.nulls(categories[0].plan, part) for part in opaque)]
        )
    return tally.merge([_opaque(part) for part in parts])


def slice_order(key: Slice) -> tuple[str, bool, str]:
    """The order of slices: by column, then by value, the others last."""
    return key.column, key.value is None, key.value or ""


def season_order(key: tuple[int, Slice | None]) -> tuple[int, tuple[str, bool, str]]:
    """The order of seasons: by key, then by slice, all rows first."""
    return key[0], ("", False, "") if key[1] is None else slice_order(key[1])


def _merge_seasons(parts: Sequence[SeasonGroup]) -> SeasonGroup:
    names = sorted({name for part in parts for name in part.cells})
    cells = {name: added([part.cells[name] for part in parts if name in part.cells]) for name in names}
    return SeasonGroup(sum(part.rows for part in parts), cells)


def _opaque(part: ColumnSummary) -> OpaqueSummary:
    return OpaqueSummary(OpaquePlan(part.plan.name, "other"), part.rows, part.nulls, part.types)

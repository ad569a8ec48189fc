"""Which types a column came with, and a column of which no more than that is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlops.monitoring.summaries.encoding import Reader, Writer
from mlops.monitoring.summaries.plans import ColumnPlan


@dataclass(frozen=True, slots=True, eq=False)
class OpaqueSummary:
    """A column whose values are not looked into: of lists, or new and a number in one file and a text in the next.

    Args:
        plan: what the reference says of the column.
        rows: rows that had the column.
        nulls: of them, null.
        types: type names as they came → rows.
    """

    plan: ColumnPlan
    rows: int
    nulls: int
    types: Mapping[str, int]


def merge(parts: Sequence[OpaqueSummary]) -> OpaqueSummary:
    """The summary of all rows of `parts`, which have one plan."""
    types = added_types([part.types for part in parts])
    return OpaqueSummary(
        parts[0].plan, sum(part.rows for part in parts), sum(part.nulls for part in parts), types
    )


def added_types(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Rows by type, in the order of the names."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return {name: total[name] for name in sorted(total)}


def write_types(writer: Writer, types: Mapping[str, int]) -> None:
    """Put rows by type."""
    writer.whole(len(types))
    for name in sorted(types):
        writer.text(name)
        writer.whole(types[name])


def read_types(reader: Reader) -> dict[str, int]:
    """What `write_types` put. Raises Damaged."""
    return {reader.text(): reader.count() for _ in range(reader.count())}


def write(writer: Writer, summary: OpaqueSummary) -> None:
    """Put a summary without its plan."""
    writer.whole(summary.rows)
    writer.whole(summary.nulls)
    write_types(writer, summary.types)


def read(reader: Reader, plan: ColumnPlan) -> OpaqueSummary:
    """What `write` put. Raises Damaged."""
    return OpaqueSummary(plan, reader.count(), reader.count(), read_types(reader))

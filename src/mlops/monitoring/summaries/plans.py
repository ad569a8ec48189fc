"""How each column is summed up, fixed by the reference: on which edges, by which categories, in which slices."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from mlops.monitoring.summaries.encoding import Writer
from mlops.monitoring.summaries.vectors import Floats, Hashes, Integers
from mlops.monitoring.windows import Season

SLICES_PER_COLUMN: Final = 50
VERSION: Final = 1  # raise it when a summary of the same rows would come out differently


class Slice(NamedTuple):
    """The rows with one value of a column; `value` None is all values that the reference has too few rows of."""

    column: str
    value: str | None

    @property
    def label(self) -> str:
        """For people and for verdicts: `country=FR`, `country (others)`."""
        return f"{self.column} (others)" if self.value is None else f"{self.column}={self.value}"


@dataclass(frozen=True, slots=True, eq=False)
class NumericPlan:
    """A column of numbers, of timestamps (seconds since 1970 UTC) or of dates.

    Args:
        name: the column.
        type: its type in the reference: `integer`, `double`, `timestamp`, `date`.
        edges: ascending and distinct, shape (e,). A bin is [edge, next edge); below the first and from the last on are
            two bins more. A value with ties over a quantile has an edge at itself and at the next double.
    """

    name: str
    type: str
    edges: Floats


@dataclass(frozen=True, slots=True, eq=False)
class CategoricalPlan:
    """A column of categories.

    Args:
        name: the column.
        type: its type in the reference: `string`, `boolean`, `integer`, …
        categories: those counted one by one, the most frequent of the reference first.
        known: hashes of all categories of the reference that are known, ascending, shape (k,).
        slots: for each of `known`, its place in `categories`, or `len(categories)` for the others, shape (k,).
        complete: whether `known` holds every category of the reference. Where it does not (there are too many),
            "unseen" means not among those held, in the reference as in a window.
    """

    name: str
    type: str
    categories: tuple[str, ...]
    known: Hashes
    slots: Integers
    complete: bool


@dataclass(frozen=True, slots=True)
class OpaquePlan:
    """A column of neither (lists, structs, binary, times): only its rows, nulls and types are counted."""

    name: str
    type: str


ColumnPlan = NumericPlan | CategoricalPlan | OpaquePlan


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How a dataset's rows are summed up.

    Args:
        columns: by name. A column that is not here is summed up too, as far as that goes without a reference.
        slices: column → the values that have a slice of their own, most frequent first, at most 50.
        season: by which key of the event time rows are counted apart.
        excluded: columns that are not looked at.
        digest: of all of this; part of the cache key of a summary.
    """

    columns: Mapping[str, ColumnPlan]
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    season: Season = "none"
    excluded: frozenset[str] = frozenset()
    digest: str = field(init=False, default="")

    def __post_init__(self) -> None:
        writer = Writer()
        write_plan(writer, self)
        object.__setattr__(self, "digest", hashlib.sha256(writer.done()).hexdigest())


def write_plan(writer: Writer, plan: Plan) -> None:
    """Put a plan, so that equal plans give equal bytes."""
    writer.whole(VERSION)
    writer.text(plan.season)
    writer.whole(len(plan.slices))
    for name in sorted(plan.slices):
        writer.text(name)
        writer.texts(plan.slices[name])
    writer.texts(sorted(plan.excluded))
    writer.whole(len(plan.columns))
    for name in sorted(plan.columns):
        _write_column(writer, plan.columns[name])


def _write_column(writer: Writer, plan: ColumnPlan) -> None:
    match plan:
        case NumericPlan():
            writer.text("numeric")
            writer.text(plan.name)
            writer.text(plan.type)
            writer.array(plan.edges)
        case CategoricalPlan():
            writer.text("categorical")
            writer.text(plan.name)
            writer.text(plan.type)
            writer.texts(plan.categories)
            writer.array(plan.known)
            writer.array(plan.slots)
            writer.whole(int(plan.complete))
        case OpaquePlan():
            writer.text("opaque")
            writer.text(plan.name)
            writer.text(plan.type)


def unplanned(name: str, kind: str) -> ColumnPlan:
    """The plan of a column that the reference does not have; `kind` is its type's name."""
    if kind in NUMERIC_TYPES:  # one type for all of them: the first file does not decide
        return NumericPlan(name, "double", np.empty(0))
    if kind in CATEGORICAL_TYPES:
        return CategoricalPlan(
            name, "string", (), np.empty(0, np.uint64), np.empty(0, np.int64), complete=True
        )
    return OpaquePlan(name, "other")


NUMERIC_TYPES: Final = ("integer", "double", "timestamp", "date")
CATEGORICAL_TYPES: Final = ("string", "boolean")

"""What `expect` asks of a dataset, against what its profile says. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from mlops.data.profiles import Profile
from mlops.data.request import Bound, ColumnExpectation, Expectation, printable
from mlops.data.tallies import TEMPORAL, ColumnProfile

# What people call the types that a profile tells; every width of a kind is one type.
_CALLED = {
    "integer": ("integer", "int", "int8", "int16", "int32", "int64", "long", "bigint", "short"),
    "double": ("double", "float", "float32", "float64", "number", "decimal"),
    "boolean": ("boolean", "bool"),
    "string": ("string", "str", "text", "utf8", "object", "category"),
    "timestamp": ("timestamp", "datetime", "datetime64"),
    "date": ("date", "date32"),
}
_TYPES = {called: name for name, names in _CALLED.items() for called in names}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def violations(expect: Expectation, profile: Profile) -> list[str]:
    """Every expectation that does not hold, as a phrase each; empty if all hold.

    Nothing passes for want of values: a column with `type`, `min` or `max` but without one value is a
    violation, unless `minRows` is 0 and there are no rows. NaN counts as missing; an infinity lies outside
    any bound.
    """
    return list(_violations(expect, profile))


def _violations(expect: Expectation, profile: Profile) -> Iterator[str]:
    max_rows: int | None = getattr(expect, "max_rows", None)
    if expect.min_rows is not None and profile.rows < expect.min_rows:
        yield f"{profile.rows} rows are fewer than minRows {expect.min_rows}"
    if max_rows is not None and profile.rows > max_rows:
        yield f"{profile.rows} rows are more than maxRows {max_rows}"
    columns = {column.name: column for column in profile.columns}
    empty_is_fine = profile.rows == 0 and (expect.min_rows == 0 or max_rows == 0)
    for name, wanted in expect.columns.items():
        column = columns.get(name)
        if column is None:
            yield f"column {printable(name)} is missing"
            continue
        for found in _column_violations(wanted, column, profile.rows, empty_is_fine):
            yield f"column {printable(name)}: {found}"


def _column_violations(
    wanted: ColumnExpectation, column: ColumnProfile, rows: int, empty_is_fine: bool
) -> Iterator[str]:
    share = column.missing / rows if rows else 0.0
    if wanted.max_null is not None and share > wanted.max_null:
        yield f"{share:.4g} of its values are missing, more than maxNull {wanted.max_null:g}"
    checked = any(one is not None for one in (wanted.type, wanted.min, wanted.max))
    if not checked:
        return
    if column.missing >= rows:
        if not empty_is_fine:
            yield "it has no values to check"
        return
    kind = column.type if wanted.type is None else _TYPES.get(wanted.type.lower())
    if kind is None:
        yield f"type {printable(wanted.type or '')} is none of {', '.join(_CALLED)}"
        return
    if kind not in column.accepts:
        yield f"its type is {column.type}, not {kind}"
        return
    if wanted.min is not None:
        yield from _bound(wanted.min, "min", kind, column)
    if wanted.max is not None:
        yield from _bound(wanted.max, "max", kind, column)


def _bound(bound: Bound, called: str, kind: str, column: ColumnProfile) -> Iterator[str]:
    limit = _comparable(bound, kind)
    extremes = column.extremes.get(kind)
    if limit is None or extremes is None:
        yield f"{called} {bound} cannot be compared with values of type {kind}"
        return
    least, greatest = extremes
    if called == "min" and not least >= limit:
        yield f"its least value {_shown(least, kind)} is below min {bound}"
    if called == "max" and not greatest <= limit:
        yield f"its greatest value {_shown(greatest, kind)} is above max {bound}"


def _comparable(bound: Bound, kind: str) -> int | float | None:
    """The bound as extremes of `kind` are kept, or None if it has no such form."""
    if kind in ("integer", "double"):
        return bound if isinstance(bound, int | float) and not isinstance(bound, bool) else None
    if kind not in TEMPORAL:
        return None
    if isinstance(bound, str):
        try:
            bound = datetime.fromisoformat(bound)
        except ValueError:
            return None
    if isinstance(bound, date) and not isinstance(bound, datetime):
        bound = datetime(bound.year, bound.month, bound.day)
    if not isinstance(bound, datetime):
        return None
    return ((bound if bound.tzinfo else bound.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def _shown(value: int | float, kind: str) -> str:
    if kind not in TEMPORAL:
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    try:
        moment = _EPOCH + timedelta(microseconds=value)
    except OverflowError:  # Arrow's timestamps reach further than Python's
        return f"{value} µs since 1970"
    return str(moment.date()) if kind == "date" else moment.isoformat()

"""Plans and summaries as bytes: the same for the same rows, so that their hash can stand in a key."""

from __future__ import annotations

import numpy as np

from mlops.monitoring.summaries import categorical, numeric, tally
from mlops.monitoring.summaries.categorical import CategoricalSummary
from mlops.monitoring.summaries.encoding import Damaged, Reader, Writer
from mlops.monitoring.summaries.numeric import NumericSummary
from mlops.monitoring.summaries.plans import (
    VERSION,
    CategoricalPlan,
    ColumnPlan,
    NumericPlan,
    OpaquePlan,
    Plan,
    Slice,
    unplanned,
    write_plan,
)
from mlops.monitoring.summaries.tally import OpaqueSummary
from mlops.monitoring.summaries.vectors import frozen
from mlops.monitoring.summaries.windowed import ColumnSummary, Group, SeasonGroup, WindowSummary
from mlops.monitoring.windows import Season

_PLAN, _WINDOW = "plan 1", "window 1"
_SEASONS: tuple[Season, ...] = ("none", "hourOfWeek", "dayOfWeek", "month")


def encode_plan(plan: Plan) -> bytes:
    """Bytes that `decode_plan` reads."""
    writer = Writer()
    writer.text(_PLAN)
    write_plan(writer, plan)
    return writer.done()


def decode_plan(value: bytes | None) -> Plan | None:
    """What `encode_plan` gave; None for anything else: then it is made again."""
    if value is None:
        return None
    try:
        reader = Reader(value)
        _expect(reader, _PLAN)
        plan = _read_plan(reader)
        reader.end()
    except Damaged:  # cut off, of another version, or not ours
        return None
    return plan


def encode(summary: WindowSummary) -> bytes:
    """Bytes that `decode` reads; equal for equal rows and plans, however the rows came."""
    writer = Writer()
    writer.text(_WINDOW)
    writer.text(summary.plan.digest)
    for time in (summary.earliest, summary.latest):
        writer.whole(int(time is not None))
        writer.whole(time or 0)
    _write_group(writer, summary.whole)
    writer.whole(len(summary.slices))
    for key, group in summary.slices.items():
        _write_slice(writer, key)
        _write_group(writer, group)
    writer.whole(len(summary.seasons))
    for (season, each), cells in summary.seasons.items():
        writer.whole(season)
        writer.whole(int(each is not None))
        if each is not None:
            _write_slice(writer, each)
        writer.whole(cells.rows)
        writer.whole(len(cells.cells))
        for name, counts in cells.cells.items():
            writer.text(name)
            writer.array(counts)
    return writer.done()


def decode(value: bytes | None, plan: Plan) -> WindowSummary | None:
    """What `encode` gave for a summary by this plan; None for anything else: then the rows are read again."""
    if value is None:
        return None
    try:
        reader = Reader(value)
        _expect(reader, _WINDOW)
        _expect(reader, plan.digest)
        earliest, latest = _read_time(reader), _read_time(reader)
        whole = _read_group(reader, plan)
        slices = {_read_slice(reader): _read_group(reader, plan) for _ in range(reader.count())}
        seasons = {}
        for _ in range(reader.count()):
            key = reader.whole(), _read_slice(reader) if reader.count() else None
            rows = reader.count()
            cells = {reader.text(): frozen(reader.array(np.int64)) for _ in range(reader.count())}
            seasons[key] = SeasonGroup(rows, cells)
        reader.end()
    except Damaged:  # cut off, of another version or plan, or not ours
        return None
    return WindowSummary(plan, whole, earliest, latest, slices, seasons)


def _expect(reader: Reader, text: str) -> None:
    if reader.text() != text:
        raise Damaged("of another version or plan")


def _read_time(reader: Reader) -> int | None:
    known, time = reader.count(), reader.whole()
    return time if known else None


def _write_slice(writer: Writer, key: Slice) -> None:
    writer.text(key.column)
    writer.whole(int(key.value is not None))
    writer.text(key.value or "")


def _read_slice(reader: Reader) -> Slice:
    column, known, value = reader.text(), reader.count(), reader.text()
    return Slice(column, value if known else None)


def _write_group(writer: Writer, group: Group) -> None:
    writer.whole(group.rows)
    writer.whole(len(group.columns))
    for name, summary in group.columns.items():
        writer.text(name)
        match summary:
            case NumericSummary():
                writer.text("double")
                numeric.write(writer, summary)
            case CategoricalSummary():
                writer.text("string")
                categorical.write(writer, summary)
            case OpaqueSummary():
                writer.text("other")
                tally.write(writer, summary)


def _read_group(reader: Reader, plan: Plan) -> Group:
    rows = reader.count()
    columns: dict[str, ColumnSummary] = {}
    for _ in range(reader.count()):
        name, kind = reader.text(), reader.text()
        found: ColumnPlan = plan.columns.get(name) or unplanned(name, kind)
        match found:
            case NumericPlan() if kind == "double":
                columns[name] = numeric.read(reader, found)
            case CategoricalPlan() if kind == "string":
                columns[name] = categorical.read(reader, found)
            case OpaquePlan() if kind == "other":
                columns[name] = tally.read(reader, found)
            case _:
                raise Damaged("a column of another kind than the plan's")
    return Group(rows, columns)


def _read_plan(reader: Reader) -> Plan:
    if reader.count() != VERSION:
        raise Damaged("of another version")
    name = reader.text()
    season = next((each for each in _SEASONS if each == name), None)
    if season is None:
        raise Damaged("no season")
    slices = {reader.text(): reader.texts() for _ in range(reader.count())}
    excluded = frozenset(reader.texts())
    columns = [_read_column(reader) for _ in range(reader.count())]
    return Plan({column.name: column for column in columns}, slices, season, excluded)


def _read_column(reader: Reader) -> ColumnPlan:
    kind, name, told = reader.text(), reader.text(), reader.text()
    match kind:
        case "numeric":
            return NumericPlan(name, told, reader.array(np.float64))
        case "categorical":
            categories, known, slots = reader.texts(), reader.array(np.uint64), reader.array(np.int64)
            if len(known) != len(slots) or (len(slots) and slots.max() > len(categories)):
                raise Damaged("categories that are none")
            return CategoricalPlan(name, told, categories, known, slots, bool(reader.count()))
        case "opaque":
            return OpaquePlan(name, told)
        case _:
            raise Damaged("a column of no kind")

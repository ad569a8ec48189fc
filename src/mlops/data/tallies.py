"""What is known of one column after all its values went by: type, missing share, extremes. Bounded memory.

Types are named `string`, `integer`, `double`, `boolean`, `timestamp`, `date`; a column without a value is
`null`, and what has none of these names is called by Arrow's (`list`, `struct`, `binary`, `time`, …).
Extremes of a timestamp or date are microseconds since 1970 UTC; a time without zone counts as UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Extremes = tuple[int | float, int | float]
TEMPORAL = ("timestamp", "date")

_PER_SECOND = 1_000_000
_MICROSECONDS = {"s": _PER_SECOND, "ms": 1000, "us": 1}


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """One column. `accepts` holds every type that all its values have, the told `type` first.

    A CSV column of whole numbers is an integer and accepts double as well; one read from Parquet or Delta
    has the type that is written there and no other. `missing` counts nulls and NaN.
    """

    name: str
    type: str
    accepts: tuple[str, ...]
    missing: int
    extremes: Mapping[str, Extremes] = field(default_factory=dict)  # by accepted type


class TypedTally:
    """Of a column whose type is written in the file."""

    def __init__(self) -> None:
        self._type = "null"
        self._missing = 0
        self._extremes: Extremes | None = None

    def takes(self, arrow_type: Any) -> bool:
        """Whether values of this Arrow type can be counted with those before."""
        found = type_name(arrow_type)
        return "null" in (found, self._type) or found == self._type

    def add(self, values: Any, rows: int = 1) -> None:
        """Count `values` (a pyarrow array), each standing for `rows` rows."""
        import pyarrow as pa

        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        found = type_name(values.type)
        if self._type == "null":
            self._type = found
        self._missing += rows * values.null_count
        if found in ("integer", "double", *TEMPORAL):
            nan, extremes = _extremes_of(values)
            self._missing += rows * nan
            self._extremes = _wider(self._extremes, extremes)

    def profile(self, name: str) -> ColumnProfile:
        """What is known so far."""
        extremes = {self._type: self._extremes} if self._extremes is not None else {}
        return ColumnProfile(name, self._type, (self._type,), self._missing, extremes)


class TextTally:
    """Of a column of strings (CSV, or a folder name `year=2012`) whose type is told from all its values."""

    def __init__(self) -> None:
        self._possible: dict[str, Extremes | None] = dict.fromkeys(_READERS)
        self._nan = 0
        self._missing = 0
        self._values = 0

    def takes(self, arrow_type: Any) -> bool:
        """Whether values of this Arrow type can be counted: strings can."""
        return type_name(arrow_type) == "string"

    def add(self, values: Any, rows: int = 1) -> None:
        """Count `values` (a pyarrow string array), each standing for `rows` rows."""
        import pyarrow as pa
        import pyarrow.compute as pc

        self._missing += rows * values.null_count
        present = values.drop_null()
        if not len(present):
            return
        self._values += len(present)
        trimmed = pc.utf8_trim_whitespace(present)
        for name in list(self._possible):
            try:
                read = _READERS[name](trimmed)
            except pa.ArrowInvalid:  # not of this type: that is the answer
                del self._possible[name]
                continue
            if name != "boolean":
                nan, extremes = _extremes_of(read)
                self._nan += rows * nan  # only a double has any
                self._possible[name] = _wider(self._possible[name], extremes)

    def profile(self, name: str) -> ColumnProfile:
        """What is known so far: the first of integer, double, boolean, date, timestamp that all are."""
        if not self._values:
            return ColumnProfile(name, "null", (), self._missing)
        accepts: list[str] = []
        extremes: dict[str, Extremes] = {}
        for possible, found in self._possible.items():
            called = "timestamp" if possible == "zoned" else possible
            if called not in accepts:
                accepts.append(called)
            if found is not None:
                extremes[called] = found
        told = accepts[0] if accepts else "string"
        missing = self._missing + (self._nan if told == "double" else 0)
        return ColumnProfile(name, told, (*accepts, "string"), missing, extremes)


def typed(values: Any) -> Any:
    """A pyarrow string array as the type that `TextTally` tells of it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if values.null_count == len(values):
        return pa.nulls(len(values))
    trimmed = pc.utf8_trim_whitespace(values)
    for read in _READERS.values():
        try:
            return read(trimmed)
        except pa.ArrowInvalid:  # not of this type: the next
            continue
    return values


def type_name(arrow_type: Any) -> str:
    """Our name for an Arrow type; every width of a kind has one name, and a decimal is a double."""
    import pyarrow.types as t

    named = (
        ("integer", t.is_integer),
        ("double", t.is_floating),
        ("double", t.is_decimal),
        ("boolean", t.is_boolean),
        ("timestamp", t.is_timestamp),
        ("date", t.is_date),
        ("string", t.is_string),
        ("string", t.is_large_string),
        ("string", t.is_string_view),
        ("null", t.is_null),
        ("time", t.is_time),
        ("duration", t.is_duration),
        ("list", t.is_list),
        ("list", t.is_large_list),
        ("list", t.is_fixed_size_list),
        ("struct", t.is_struct),
        ("map", t.is_map),
    )
    if t.is_dictionary(arrow_type):
        return type_name(arrow_type.value_type)
    return next((name for name, test in named if test(arrow_type)), "binary")


def _integers(values: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    read = values.cast(pa.int64())
    if pc.any(pc.match_substring(values, "x", ignore_case=True)).as_py():
        raise pa.ArrowInvalid("hexadecimal")  # Arrow reads 0x1F, no training code does
    return read


def _timestamps(values: Any) -> Any:
    import pyarrow as pa

    try:
        return values.cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        return values.cast(pa.timestamp("ns"))


def _to(name: str) -> Any:
    def read(values: Any) -> Any:
        import pyarrow as pa

        types = {
            "double": pa.float64(),
            "boolean": pa.bool_(),
            "date": pa.date32(),
            "zoned": pa.timestamp("us", "UTC"),
        }
        return values.cast(types[name])

    return read


# In the order in which they are told; "zoned" is a timestamp that names its offset from UTC.
_READERS: dict[str, Any] = {
    "integer": _integers,
    "double": _to("double"),
    "boolean": _to("boolean"),
    "date": _to("date"),
    "timestamp": _timestamps,
    "zoned": _to("zoned"),
}


def _extremes_of(values: Any) -> tuple[int, Extremes | None]:
    """How many values are NaN, and the least and the greatest of the rest; numbers, timestamps, dates."""
    import pyarrow as pa
    import pyarrow.compute as pc

    nan = 0
    if pa.types.is_floating(values.type):
        if pa.types.is_float16(values.type):
            values = values.cast(pa.float32())
        flags = pc.is_nan(values)
        nan = pc.sum(flags).as_py() or 0
        if nan:
            values = values.filter(pc.invert(flags))
    found = pc.min_max(values)
    least, greatest = found["min"], found["max"]
    if not least.is_valid:
        return nan, None
    return nan, (_number(least), _number(greatest))


def _number(scalar: Any) -> int | float:
    import pyarrow.types as t

    if t.is_timestamp(scalar.type):
        unit = scalar.type.unit
        return int(scalar.value // 1000 if unit == "ns" else scalar.value * _MICROSECONDS[unit])
    if t.is_date32(scalar.type):
        return int(scalar.value) * 86_400 * _PER_SECOND
    if t.is_date64(scalar.type):
        return int(scalar.value) * 1000
    value = scalar.as_py()
    return value if isinstance(value, int) else float(value)


def _wider(one: Extremes | None, other: Extremes | None) -> Extremes | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one[0], other[0]), max(one[1], other[1])

"""Arrow arrays as numbers, categories or event times, whatever they came as: a column may change its type."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops.data.tallies import type_name
from mlops.monitoring.summaries.hashing import hashes_of
from mlops.monitoring.summaries.plans import NUMERIC_TYPES
from mlops.monitoring.summaries.vectors import Flags, Floats, Hashes, Integers

_NUMBER: Final = (
    r"^[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
    r"|[iI][nN][fF]|[iI][nN][fF][iI][nN][iI][tT][yY]|[nN][aA][nN])$"
)
_DATE: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME: Final = _DATE + r"([ T][0-9]{2}(:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?)?)?$"
_ZONED: Final = _DATE + r"[ T][0-9]{2}(:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"
_NUMBERS: Final = ((_NUMBER, pa.float64()),)
_TIMES: Final = ((_TIME, pa.timestamp("us")), (_ZONED, pa.timestamp("us", "UTC")))
_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_DAY: Final = 86_400
_LATEST: Final = 9.2e12  # seconds; microseconds beyond do not fit 64 bits
_WHOLE: Final = 2.0**53


@dataclass(frozen=True, slots=True)
class Numbers:
    """`values` with NaN where there is none, shape (n,); `unparsable` marks the text that is no number, or is None."""

    values: Floats
    unparsable: Flags | None

    def ordered(self, order: Integers | None) -> Numbers:
        """The rows of these numbers, in this order; None: all as they stand."""
        if order is None:
            return self
        return Numbers(self.values[order], None if self.unparsable is None else self.unparsable[order])


@dataclass(frozen=True, slots=True)
class Categories:
    """`codes` into `names` (a pyarrow string array) and their `hashes`; -1 is null. Two names may be equal."""

    codes: Integers
    names: Any
    hashes: Hashes

    def ordered(self, order: Integers | None) -> Categories:
        """The rows of these numbers, in this order; None: all as they stand."""
        return self if order is None else Categories(self.codes[order], self.names, self.hashes)


def plain(array: Any) -> Any:
    """`array` without a dictionary."""
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def numbers_of(array: Any, kind: str) -> Numbers:
    """The values of a column that in the reference is of type `kind` (`integer`, `double`, `timestamp`, `date`)."""
    array = plain(array)
    found = type_name(array.type)
    if found == "string":
        return _parsed(array, temporal=kind in ("timestamp", "date"))
    if found in ("timestamp", "date"):
        return Numbers(_seconds(array), None)
    if found in ("integer", "double", "boolean", "null"):
        return Numbers(_doubles(array), None)
    return Numbers(np.full(len(array), np.nan), pc.is_valid(array).to_numpy(zero_copy_only=False))


def categories_of(array: Any, kind: str) -> Categories:
    """The values of a column that in the reference is of type `kind`, as texts: `1` and `1.0` are one number."""
    found = type_name(array.type)
    if found not in ("string", "boolean", "null", *NUMERIC_TYPES):
        filled = np.where(pc.is_valid(array).to_numpy(zero_copy_only=False), 0, -1).astype(np.int64)
        names = pa.array([f"({found})"])
        return Categories(filled, names, hashes_of(names))
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    names = _names(array.dictionary, kind)
    codes = pc.fill_null(array.indices.cast(pa.int64()), -1).to_numpy()
    if names.null_count:  # NaN among the distinct values
        present = pc.is_valid(names).to_numpy(zero_copy_only=False)
        places = np.append(np.where(present, np.cumsum(present) - 1, -1), -1)
        codes, names = places[codes], names.drop_null()
    return Categories(codes, names, hashes_of(names))


def times_of(array: Any) -> tuple[Integers, Flags]:
    """Event times in microseconds since 1970 UTC, and which rows have one; a number counts as seconds."""
    array = plain(array)
    if pa.types.is_timestamp(array.type):
        per_second = _PER_SECOND[array.type.unit]
        ticks = pc.fill_null(array.cast(pa.int64()), 0).to_numpy()
        known = pc.is_valid(array).to_numpy(zero_copy_only=False)
        if per_second >= 1_000_000:
            return ticks // (per_second // 1_000_000), known
        fits = np.abs(ticks // per_second) < _LATEST
        return np.where(fits, ticks, 0) * (1_000_000 // per_second), known & fits
    seconds = numbers_of(array, "timestamp").values
    known = np.abs(seconds) < _LATEST  # false for NaN
    whole = np.floor(np.where(known, seconds, 0.0))
    rest = np.where(known, seconds, 0.0) - whole
    return whole.astype(np.int64) * 1_000_000 + np.rint(rest * 1e6).astype(np.int64), known


def _doubles(array: Any) -> Floats:
    if pa.types.is_float16(array.type):
        array = array.cast(pa.float32())
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    if not pa.types.is_float64(array.type):
        array = array.cast(pa.float64(), safe=False)
    if array.null_count:
        array = pc.fill_null(array, np.nan)
    values: Floats = array.to_numpy()
    return values


def _seconds(array: Any) -> Floats:
    if pa.types.is_timestamp(array.type):
        per_second = _PER_SECOND[array.type.unit]
    elif pa.types.is_date64(array.type):
        per_second = 1_000
    else:
        per_second = 0
    known = pc.is_valid(array).to_numpy(zero_copy_only=False)
    ticks = pc.fill_null(array.cast(pa.int32() if per_second == 0 else pa.int64()), 0).to_numpy()
    if per_second == 0:
        seconds = ticks.astype(np.float64) * _DAY
    else:  # whole seconds and the rest apart, so that every unit of the same time gives the same double
        seconds = (ticks // per_second).astype(np.float64) + (ticks % per_second) / per_second
    return np.where(known, seconds, np.nan)


def _parsed(array: Any, *, temporal: bool) -> Numbers:
    """Text as Arrow reads it: all at once where that goes, else those that look like it. Both read the same texts."""
    trimmed = pc.utf8_trim_whitespace(array)
    readers = _TIMES if temporal else _NUMBERS
    for _, kind in readers:
        if pc.any(pc.match_substring(trimmed, "(")).as_py():
            break  # "nan(7)" is a number to Arrow only
        try:
            return Numbers(_numbers(trimmed.cast(kind)), None)
        except pa.ArrowInvalid:  # not all of them: read those that are
            continue
    return _scattered(pc.replace_substring_regex(trimmed, r"(:[0-9]{2}\.[0-9]{6})[0-9]+", r"\1"), readers)


def _scattered(texts: Any, readers: Iterable[tuple[str, Any]]) -> Numbers:
    values = np.full(len(texts), np.nan)
    unparsable = pc.is_valid(texts).to_numpy(zero_copy_only=False).copy()
    for pattern, kind in readers:
        matching = pc.fill_null(pc.match_substring_regex(texts, pattern), False)
        places = np.flatnonzero(matching.to_numpy(zero_copy_only=False))
        if not len(places):
            continue
        chosen = texts.filter(matching)
        read, good = _cast(chosen, kind)
        values[places] = read
        unparsable[places] = ~good
    return Numbers(values, unparsable if unparsable.any() else None)


def _cast(texts: Any, kind: Any) -> tuple[Floats, Flags]:
    """Numbers of texts that look like some; one by one where one of them (a 30th of February) is none after all."""
    try:
        return _numbers(texts.cast(kind)), np.ones(len(texts), np.bool_)
    except pa.ArrowInvalid:
        values, good = np.full(len(texts), np.nan), np.zeros(len(texts), np.bool_)
        distinct = texts.dictionary_encode()
        codes = distinct.indices.to_numpy()
        for code in range(len(distinct.dictionary)):
            try:
                value = _numbers(distinct.dictionary.slice(code, 1).cast(kind))[0]
            except pa.ArrowInvalid:  # this is the one: it stays unparsable
                continue
            values[codes == code], good[codes == code] = value, True
        return values, good


def _numbers(array: Any) -> Floats:
    return _seconds(array) if pa.types.is_timestamp(array.type) else _doubles(array)


def _names(distinct: Any, kind: str) -> Any:
    """Distinct values as texts; null for NaN."""
    found = type_name(distinct.type)
    if found == "string" and kind in NUMERIC_TYPES:
        texts = pc.utf8_trim_whitespace(distinct).cast(pa.string())
        numbers = numbers_of(texts, kind).values
        return pc.if_else(pa.array(np.isnan(numbers)), texts, _numerals(numbers))
    if found == "string" and kind == "boolean":
        lower = pc.ascii_lower(pc.utf8_trim_whitespace(distinct)).cast(pa.string())
        return pc.replace_substring_regex(pc.replace_substring_regex(lower, "^1$", "true"), "^0$", "false")
    if found in ("string", "boolean", "null"):
        return distinct.cast(pa.string())
    numerals = (
        distinct.cast(pa.string()) if found == "integer" else _numerals(numbers_of(distinct, kind).values)
    )
    if kind == "boolean":
        return pc.replace_substring_regex(pc.replace_substring_regex(numerals, "^1$", "true"), "^0$", "false")
    return numerals


def _numerals(values: Floats) -> Any:
    """Shortest texts of doubles, whole ones without a point; null for NaN."""
    texts = [
        None
        if value != value
        else str(int(value))
        if value.is_integer() and abs(value) < _WHOLE
        else repr(value)
        for value in values.tolist()
    ]
    return pa.array(texts, pa.string())

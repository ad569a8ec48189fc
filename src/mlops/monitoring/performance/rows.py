"""Predictions and labels that meet later: what is kept of a file's rows until they do, and how they are joined.

An id is kept as 64 bits of hash. Among n ids, two have the same with a chance of about n**2 / 2**65: 3 in 100,000 for
33 million. Rows so mixed up are two of a window's, and move no metric that anyone could see.

An id that comes again counts with its last row: of the file with the greatest position, the last in it. Of predictions
that holds within a window (a customer scored each day is a row of each day), of labels everywhere: a label put right
later replaces the one before. So the result depends on the positions of files, and not on the order they are read in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlops.errors import Stalled
from mlops.monitoring.performance.packing import pack, unpack, unreadable
from mlops.monitoring.summaries.hashing import hashes_of

ENOUGH = 0.9  # of a window's predictions with labels: the rest will not change what they say by much


@dataclass(frozen=True, slots=True, eq=False)
class PredictionRows:
    """Of one file, or of several put together. All arrays are [rows].

    `windows` are windows' keys, `times` microseconds since 1970 UTC (or row numbers), `predictions` values or codes of
    classes, `scores` [rows, score columns], `slices` codes [rows, slicing columns]; NaN is missing.
    """

    ids: NDArray[np.uint64]
    windows: NDArray[np.int64]
    times: NDArray[np.int64]
    predictions: NDArray[np.float64]
    scores: NDArray[np.float64]
    slices: NDArray[np.int32]

    def encode(self) -> bytes:
        """As bytes: equal for equal rows."""
        return pack("predictions", {}, self._arrays())

    @classmethod
    def decode(cls, packed: bytes) -> PredictionRows:
        """What `encode` gave. Raises `Stalled` for other bytes."""
        arrays = _decoded(
            "predictions", packed, ("<u8", "<i8", "<i8", "<f8", "<f8", "<i4"), (1, 1, 1, 1, 2, 2)
        )
        return cls(*arrays)

    def take(self, places: NDArray[Any]) -> PredictionRows:
        """The rows at `places` (indices, or a flag for each row)."""
        return PredictionRows(*(array[places] for array in self._arrays()))

    def _arrays(self) -> list[NDArray[Any]]:
        return [self.ids, self.windows, self.times, self.predictions, self.scores, self.slices]


@dataclass(frozen=True, slots=True, eq=False)
class LabelRows:
    """Of one file, or of several put together: `targets` are values or codes of classes, NaN is missing."""

    ids: NDArray[np.uint64]
    targets: NDArray[np.float64]

    def encode(self) -> bytes:
        """As bytes: equal for equal rows."""
        return pack("labels", {}, [self.ids, self.targets])

    @classmethod
    def decode(cls, packed: bytes) -> LabelRows:
        """What `encode` gave. Raises `Stalled` for other bytes."""
        return cls(*_decoded("labels", packed, ("<u8", "<f8"), (1, 1)))


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """A window's predictions, one row an id, ids ascending, and for each its target; NaN where no label is known."""

    rows: PredictionRows
    targets: NDArray[np.float64]

    @property
    def labelled(self) -> int:
        """How many rows have a label."""
        return int(np.isfinite(self.targets).sum())

    def by_time(self) -> Joined:
        """The same in the order of event time, and of ids where that is equal."""
        order = np.lexsort((self.rows.ids, self.rows.times))
        return Joined(self.rows.take(order), self.targets[order])


def hash_ids(ids: Any) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Hashes of those ids that are there, and a flag for each row whether it is.

    `ids` is an Arrow array. 17, 17.0 and "17" are the same id, since one side may come from CSV. Null and NaN are
    missing; a row without an id meets no label. Raises `Stalled` for ids that are no scalars or no UTF-8.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_decode()
    present = ids.is_valid()
    if pa.types.is_floating(ids.type):
        present = pc.fill_null(pc.and_(present, pc.invert(pc.is_nan(ids))), False)
        whole = pc.fill_null(pc.less(pc.abs(ids), 2.0**53), False)
        if pc.all(pc.or_(pc.invert(present), pc.and_(whole, pc.equal(pc.floor(ids), ids)))).as_py():
            ids = ids.filter(present).cast(pa.int64())
        else:
            ids = ids.filter(present)
    else:
        ids = ids.filter(present)
    try:
        texts = ids.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # without its text, which may quote data
        what = f"Ids of type {ids.type} cannot be joined on"
        raise Stalled(what, fix="Use a column of integers or of text") from None
    return hashes_of(texts), np.asarray(present.to_numpy(zero_copy_only=False), np.bool_)


def latest_labels(files: Sequence[tuple[int, LabelRows]]) -> LabelRows:
    """One row an id, ids ascending, of files with their positions: its last label. A missing one says nothing."""
    files = sorted(files, key=lambda file: file[0])
    ids = np.concatenate([rows.ids for _, rows in files] or [np.zeros(0, np.uint64)])
    targets = np.concatenate([rows.targets for _, rows in files] or [np.zeros(0)])
    told = np.isfinite(targets)
    ids, targets = ids[told], targets[told]
    last = _last_of_each(ids)
    return LabelRows(ids[last], targets[last])


def joined(files: Sequence[tuple[int, PredictionRows]], labels: LabelRows, window: int) -> Joined:
    """The predictions of one window from files with their positions, with their labels.

    `labels` is what `latest_labels` gave. `window` is the window's key.
    """
    parts = [rows.take(rows.windows == window) for _, rows in sorted(files, key=lambda file: file[0])]
    if not parts:
        none = np.zeros(0, np.int64)
        empty = np.zeros((0, 0))
        found = PredictionRows(none.astype(np.uint64), none, none, np.zeros(0), empty, empty.astype(np.int32))
        return Joined(found, np.zeros(0))
    columns = zip(*(part._arrays() for part in parts), strict=True)
    together = PredictionRows(*(np.concatenate(column) for column in columns))
    rows = together.take(_last_of_each(together.ids))
    return Joined(rows, _targets_of(rows.ids, labels))


def labels_are_due(
    predicted: int, labelled: int, *, end: float, watermark: float | None, max_delay: float
) -> bool:
    """Whether a window may be judged on its labels.

    That is when they are as good as complete, or when event time says that no more are to come: labels that come
    early are often not like the others (a default shows before a loan is paid back).

    `end` is the latest event time of the window, `watermark` the one that predictions have reached, `max_delay` how
    long labels may take; all in one unit.
    """
    if predicted and labelled >= ENOUGH * predicted:
        return True
    return watermark is not None and watermark >= end + max_delay


def _last_of_each(ids: NDArray[np.uint64]) -> NDArray[np.intp]:
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    last: NDArray[np.intp] = order[
        np.append(ordered[1:] != ordered[:-1], np.ones(min(1, len(ids)), np.bool_))
    ]
    return last


def _targets_of(ids: NDArray[np.uint64], labels: LabelRows) -> NDArray[np.float64]:
    if not len(labels.ids):
        return np.full(len(ids), np.nan)
    places = np.minimum(np.searchsorted(labels.ids, ids), len(labels.ids) - 1)
    return np.where(labels.ids[places] == ids, labels.targets[places], np.nan)


def _decoded(kind: str, packed: bytes, dtypes: Sequence[str], depths: Sequence[int]) -> list[NDArray[Any]]:
    _, arrays = unpack(kind, packed)
    found = [(array.dtype.newbyteorder("<").str, array.ndim, array.shape[:1]) for array in arrays]
    if found != [(dtype, depth, arrays[0].shape[:1]) for dtype, depth in zip(dtypes, depths, strict=True)]:
        raise unreadable(kind, ValueError("shape"))
    return arrays

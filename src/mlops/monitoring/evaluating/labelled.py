"""Rows with prediction, scores and target, kept of each file until labels are here; and labels in their own files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlops.errors import Stalled
from mlops.monitoring.evaluating.files import Tap
from mlops.monitoring.evaluating.keys import digest_of
from mlops.monitoring.evaluating.roles import Roles
from mlops.monitoring.performance.rows import Joined, LabelRows, PredictionRows, hash_ids
from mlops.monitoring.performance.sums import Layout, predicted
from mlops.monitoring.summaries.plans import CategoricalPlan, NumericPlan, Plan, Slice
from mlops.monitoring.summaries.reading import categories_of, numbers_of, times_of
from mlops.monitoring.windows import EventWindows, RowWindows

MOST_CLASSES: Final = 1_000
_HEAD: Final = 8
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX: Final = np.uint64(0xBF58476D1CE4E5B9)
_HALF: Final = np.uint64(32)

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RowPlan:
    """What is kept of each row.

    Args:
        plan: of the columns.
        roles: what they mean.
        layout: task and classes.
        kind: the type of the target in the reference, by which classes are read.
    """

    plan: Plan
    roles: Roles
    layout: Layout
    kind: str

    @property
    def digest(self) -> str:
        """Of all of this; part of the cache key of what is kept."""
        layout, roles = self.layout, self.roles
        return digest_of(
            [layout.task, layout.classes, self.kind, roles.target, roles.inline, roles.prediction, roles.id],
            sorted((label or "", name) for label, name in roles.probabilities.items()),
            [[name, values] for name, values in sorted(self.plan.slices.items())],
        )

    @property
    def slices(self) -> list[dict[int, str]]:
        """For each slicing column, the labels of its codes."""
        found = []
        for name in sorted(self.plan.slices):
            values = self.plan.slices[name]
            labels = {code: Slice(name, value).label for code, value in enumerate(values)}
            found.append(labels | {len(values): Slice(name, None).label})
        return found

    def scores(self) -> list[str]:
        """The columns of probabilities in the order of the layout; none where one of them is not named."""
        known = self.roles.probabilities
        if self.layout.task == "regression" or not known:
            return []
        classes = self.layout.classes[1:] if self.layout.task == "binary" else self.layout.classes
        if self.layout.task == "binary" and None in known:
            return [known[None]]
        return [known[label] for label in classes] if all(label in known for label in classes) else []

    def coded(self, array: Any) -> Values:
        """Targets or predictions as numbers, or as codes of classes (one more for a class that is not known)."""
        if self.layout.task == "regression":
            return numbers_of(array, self.kind).values
        found = categories_of(array, self.kind)
        codes = {label: float(code) for code, label in enumerate(self.layout.classes)}
        unknown = float(len(codes))
        values = np.array([*(codes.get(name, unknown) for name in found.names.to_pylist()), np.nan])
        return values[found.codes]


def layout_of(task: str, plan: Plan, roles: Roles) -> tuple[Layout, str] | str:
    """The layout of sums with the type that classes are read as, or why there is none.

    Classes are those of the reference's target (of a rolling one without it, of its predictions), in the order of
    numbers, or else of texts: of two, the second is the positive one.
    """
    target = plan.columns.get(roles.target or "")
    known = target if target is not None else plan.columns.get(roles.prediction or "")
    if known is None:
        return "the reference has no target"
    if task == "regression":
        edges = known.edges if isinstance(known, NumericPlan) else np.empty(0)
        if not len(edges):
            return "the reference's target holds no numbers"
        return Layout("regression", (), float(edges[len(edges) // 2])), known.type
    if not isinstance(known, CategoricalPlan):
        return "the reference's target holds no classes"
    classes = sorted(known.categories, key=_class_order)
    if len(classes) < 2 or (task == "binary" and len(classes) > 2):
        wanted = "two" if task == "binary" else "at least two"
        return f"the reference's target has {len(classes)} classes, not {wanted}"
    if len(classes) > MOST_CLASSES or not known.complete:
        return f"the reference's target has more than {MOST_CLASSES} classes"
    return Layout("binary" if len(classes) == 2 else "multiclass", tuple(classes)), known.type


class RowTap(Tap):
    """Keeps the rows of each window."""

    name = "rows"

    def __init__(
        self, plan: RowPlan, windows: EventWindows | RowWindows | None, timestamp: str | None, first: int
    ) -> None:
        self.digest = plan.digest
        self._plan, self._windows, self._timestamp, self._at = plan, windows, timestamp, first
        self._parts: list[tuple[PredictionRows, Values]] = []
        self._starts: set[int] = set()

    def add(self, batch: Any) -> None:
        """Keep the batch's rows that have a window and, where labels come apart, an id."""
        rows = batch.num_rows
        if not rows:
            return
        first, self._at = self._at, self._at + rows
        names = batch.schema.names
        times, inside = np.zeros(rows, np.int64), np.zeros(rows, np.bool_)
        if self._timestamp in names:
            times, inside = times_of(batch.column(self._timestamp))
        if isinstance(self._windows, EventWindows):
            keys = self._windows.starts(times)
        else:
            inside = np.ones(rows, np.bool_)
            keys = np.zeros(rows, np.int64)
            if self._windows is not None:
                keys = self._windows.starts(first, rows)
        plan = self._plan
        columns = plan.scores()
        scores = (
            np.column_stack([_numbers(batch, name) for name in columns]) if columns else np.empty((rows, 0))
        )
        predictions = _column(plan, batch, plan.roles.prediction)
        if plan.roles.prediction is None and columns:
            predictions = predicted(scores)
        targets = _column(plan, batch, plan.roles.target)
        slices = (
            np.column_stack([_slice_codes(plan.plan, batch, name) for name in sorted(plan.plan.slices)])
            if (plan.plan.slices)
            else np.empty((rows, 0), np.int32)
        )
        self._starts.update(np.unique(keys[inside]).tolist())
        if self._windows is None or plan.roles.inline:
            ids = _content(times, predictions, targets, *scores.T, *slices.T)
        else:
            ids, present = _ids(batch, plan.roles.id)
            inside = inside & present
        kept = PredictionRows(ids, keys, times, predictions, scores, slices.astype(np.int32))
        self._parts.append((kept.take(inside), targets[inside]))

    def windows(self) -> Mapping[int, bytes]:
        """The rows, by the start of their window; of one whose rows have no id there are none."""
        found: dict[int, bytes] = {}
        together = put_together(self._parts, self._plan)
        for start in sorted(self._starts):
            here = together.rows.windows == start
            found[start] = encode(Joined(together.rows.take(here), together.targets[here]))
        return found

    def rows(self) -> Joined:
        """All of them, as of a reference."""
        return ordered(put_together(self._parts, self._plan))


def put_together(parts: Sequence[tuple[PredictionRows, Values]], plan: RowPlan) -> Joined:
    """Rows of several batches or files as one."""
    if not parts:
        none, wide = np.zeros(0, np.int64), len(plan.scores())
        empty = np.zeros((0, wide))
        slices = np.zeros((0, len(plan.plan.slices)), np.int32)
        return Joined(
            PredictionRows(none.astype(np.uint64), none, none, np.zeros(0), empty, slices), np.zeros(0)
        )
    if len(parts) == 1:
        return Joined(*parts[0])
    names = ("ids", "windows", "times", "predictions", "scores", "slices")
    columns = [np.concatenate([getattr(rows, name) for rows, _ in parts]) for name in names]
    return Joined(PredictionRows(*columns), np.concatenate([targets for _, targets in parts]))


def ordered(rows: Joined) -> Joined:
    """By id, so that files and batches do not show: rows of one content have one id and are alike."""
    order = np.lexsort((rows.rows.times, rows.rows.ids))
    return Joined(rows.rows.take(order), rows.targets[order])


def encode(rows: Joined) -> bytes:
    """Bytes that `decode` reads."""
    body = rows.rows.encode()
    return len(body).to_bytes(_HEAD, "little") + body + LabelRows(rows.rows.ids, rows.targets).encode()


def decode(value: bytes | None) -> Joined | None:
    """What `encode` gave; None for anything else: then the file is read again."""
    if value is None:
        return None
    size = int.from_bytes(value[:_HEAD], "little")
    try:
        rows = PredictionRows.decode(value[_HEAD : _HEAD + size])
        return Joined(rows, LabelRows.decode(value[_HEAD + size :]).targets)
    except Stalled:  # cut off, or not ours
        return None


def label_rows(batches: Iterable[Any], plan: RowPlan, joined_on: str, target: str) -> LabelRows:
    """Ids and targets of a file of labels."""
    ids: list[NDArray[np.uint64]] = [np.zeros(0, np.uint64)]
    targets: list[Values] = [np.zeros(0)]
    for batch in batches:
        missing = [name for name in (joined_on, target) if name not in batch.schema.names]
        if missing:
            raise Stalled(
                f"It has no column {missing[0]!r}, by which labels are found",
                fix="Mend `columns` of the Dataset of labels, or `joinOn` of the policy.",
            )
        found, present = hash_ids(batch.column(joined_on))
        ids.append(found)
        targets.append(plan.coded(batch.column(target))[present])
    return LabelRows(np.concatenate(ids), np.concatenate(targets))


def _column(plan: RowPlan, batch: Any, name: str | None) -> Values:
    if name is None or name not in batch.schema.names:
        return np.full(batch.num_rows, np.nan)
    return plan.coded(batch.column(name))


def _numbers(batch: Any, name: str) -> Values:
    if name not in batch.schema.names:
        return np.full(batch.num_rows, np.nan)
    return numbers_of(batch.column(name), "double").values


def _ids(batch: Any, name: str | None) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    none = np.zeros(batch.num_rows, np.uint64)
    if name is None or name not in batch.schema.names:
        return none, np.zeros(batch.num_rows, np.bool_)
    found, present = hash_ids(batch.column(name))
    none[present] = found
    return none, present


def _slice_codes(plan: Plan, batch: Any, name: str) -> NDArray[np.int32]:
    values = plan.slices[name]
    if name not in batch.schema.names:
        return np.full(batch.num_rows, len(values), np.int32)
    known = plan.columns.get(name)
    found = categories_of(batch.column(name), known.type if known is not None else "string")
    codes = {value: code for code, value in enumerate(values)}
    told = [codes.get(text, len(values)) for text in found.names.to_pylist()]
    return np.array([*told, len(values)], np.int32)[found.codes]


def _content(*columns: NDArray[Any]) -> NDArray[np.uint64]:
    """A hash of what each row holds."""
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        values = column.astype(np.float64) + 0.0
        values[np.isnan(values)] = np.nan  # one NaN of the many
        mixed = (mixed ^ values.view(np.uint64)) * _MULTIPLIER
        mixed = (mixed ^ (mixed >> _HALF)) * _MIX
        mixed ^= mixed >> _HALF
    return mixed


def _class_order(label: str) -> tuple[bool, float, str]:
    try:
        return False, float(label), label
    except ValueError:
        return True, 0.0, label

"""What windows are compared with: the reference read once, its sums stored under its digest.

A rolling reference is the windows of so much time before each window. Its edges are fixed by the rows of the first so
much time that there is data for, so that they do not depend on the order in which files came.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlops.errors import Stalled
from mlops.monitoring import samples
from mlops.monitoring.checks.pairs import RUN
from mlops.monitoring.engine import SUMMED
from mlops.monitoring.evaluating.keys import digest_of
from mlops.monitoring.evaluating.roles import Roles, probabilities_of, renamed, renamed_types
from mlops.monitoring.evaluating.values import DataFile, Subject, Summaries, Table
from mlops.monitoring.summaries import storing
from mlops.monitoring.summaries.plans import Plan
from mlops.monitoring.summaries.reading import times_of
from mlops.monitoring.summaries.reference import plan_of
from mlops.monitoring.summaries.summarising import summarise
from mlops.monitoring.summaries.windowed import WindowSummary
from mlops.monitoring.windows import EventWindows, RowWindows

MOST_OWN: Final = (
    200  # of a reference's own windows that are looked at; fewer of tables of many columns and slices
)
_LEAST_OWN: Final = 10
_OWN_CELLS: Final = 100_000  # columns of windows and slices, a few kilobytes each


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A reference table with what it says about columns.

    Args:
        plan: on which edges everything is summed up.
        summary: of all its rows.
        digest: of that: the same rows in other files are the same reference.
        batches: reads it again: record batches under the names of here, with the model's outputs.
        key: under which what is made of it is stored.
    """

    plan: Plan
    summary: WindowSummary
    digest: str
    batches: Callable[[], Iterator[Any]]
    key: str


def read_reference(
    subject: Subject, table: Table, roles: Roles, summaries: Summaries, *, threads: int
) -> Reference:
    """The plan and the sums of a reference, from the store, or else from its files.

    Raises:
        MlopsError: it cannot be read. Nothing can be judged without it.
    """
    types = renamed_types(table.types, roles)
    asked = _is_asked(subject, types, roles)
    if asked:
        types |= _output_types(subject, roles)
    batches = _Reading(subject, table, roles, asked).batches
    files = [file.digest for file in sorted(table.files, key=lambda file: (file.position, file.name))]
    basis = [SUMMED, table.digest, files, sorted(types.items()), table.text, table.columns.timestamp]
    meant = [sorted(roles.excluded), sorted(roles.categorical), roles.slices, sorted(roles.renamed.items())]
    key = digest_of(basis, meant, subject.spec.reference.season, subject.version if asked else None)
    known = summaries.get_many([f"plan:{key}", f"reference:{key}"])
    plan = storing.decode_plan(known.get(f"plan:{key}"))
    if plan is None:
        plan = planned(subject, batches(), types, roles, threads=threads)
        summaries.put_many({f"plan:{key}": storing.encode_plan(plan)})
    summary = storing.decode(known.get(f"reference:{key}"), plan)
    if summary is None:
        found = summarise(
            batches(), plan, timestamp=table.columns.timestamp, text=table.text, threads=threads
        )
        summary = found.windows[0]
        summaries.put_many({f"reference:{key}": storing.encode(summary)})
    return Reference(plan, summary, digest_of_summary(summary), batches, key)


def planned(
    subject: Subject, batches: Iterable[Any], types: Mapping[str, str], roles: Roles, *, threads: int
) -> Plan:
    """The plan that these rows make."""
    unknown = {name for name in (roles.target, *roles.outputs) if name is not None and name not in types}
    return plan_of(
        batches,
        types,
        categorical=roles.categorical,
        slices=roles.slices,
        season=subject.spec.reference.season,
        excluded=roles.excluded | unknown,  # what the model makes is no feature that is new
        threads=threads,
    )


def digest_of_summary(summary: WindowSummary) -> str:
    """A hash of what was summed up."""
    return hashlib.sha256(storing.encode(summary)).hexdigest()


def own_windows(
    reference: Reference,
    table: Table,
    windows: EventWindows | RowWindows,
    summaries: Summaries,
    *,
    threads: int,
) -> Sequence[WindowSummary]:
    """The reference cut in windows of the watched size, from the store, or else from its files; none where it has no
    event times to cut by. Memory is columns × bins × windows: of more than 200 runs of neighbours, spread evenly."""
    timestamp = table.columns.timestamp
    if isinstance(windows, EventWindows) and timestamp is None:
        return ()
    segments = 1 + len(reference.summary.slices)
    size = ("rows", windows.rows) if isinstance(windows, RowWindows) else ("seconds", windows.size)
    key = f"own:{digest_of(reference.key, size, MOST_OWN)}"
    known = _kept_windows(key, reference.plan, summaries)
    if known is not None:
        return known
    if isinstance(windows, RowWindows):
        whole = reference.summary.rows // windows.rows
        starts = [number * windows.rows for number in range(whole)]
    else:
        starts = sorted(
            {start for keys, _ in _keyed(reference, windows, timestamp) for start in set(keys.tolist())}
        )
    most = min(MOST_OWN, max(_LEAST_OWN, _OWN_CELLS // max(1, len(reference.plan.columns) * segments)))
    if len(starts) > most:
        runs = most // RUN
        first = [(len(starts) - RUN) * run // (runs - 1) for run in range(runs)]
        starts = [starts[one + place] for one in first for place in range(RUN)]
    found = summarise(
        _within(reference, windows, timestamp, frozenset(starts)),
        reference.plan,
        windows,
        timestamp=timestamp,
        text=table.text,
        threads=threads,
    ).windows
    entries = {f"{key}:{start}": storing.encode(one) for start, one in found.items()}
    summaries.put_many({**entries, key: json.dumps(list(map(int, found))).encode()})
    return tuple(found.values())


def _keyed(
    reference: Reference, windows: EventWindows | RowWindows, timestamp: str | None
) -> Iterator[tuple[NDArray[np.int64], Any]]:
    """The reference's rows that are in a window, with the start of each one's."""
    import pyarrow as pa

    at = 0
    for batch in reference.batches():
        if isinstance(windows, RowWindows):
            yield windows.starts(at, batch.num_rows), batch
            at += batch.num_rows
        elif timestamp in batch.schema.names:
            times, dated = times_of(batch.column(timestamp))
            yield windows.starts(times)[dated], batch if dated.all() else batch.filter(pa.array(dated))


def _within(
    reference: Reference, windows: EventWindows | RowWindows, timestamp: str | None, starts: frozenset[int]
) -> Iterator[Any]:
    """The reference's rows that are in one of these windows; each window of rows is whole."""
    import pyarrow as pa

    for keys, batch in _keyed(reference, windows, timestamp):
        inside = np.isin(keys, np.fromiter(starts, np.int64))
        if inside.any():
            yield batch if inside.all() else batch.filter(pa.array(inside))


def _kept_windows(key: str, plan: Plan, summaries: Summaries) -> Sequence[WindowSummary] | None:
    """All windows that were stored under `key`; None if one of them is gone or damaged."""
    listed = summaries.get_many([key]).get(key)
    try:
        starts = json.loads(listed or b"null")
    except ValueError:
        return None
    if not isinstance(starts, list):
        return None
    names = [f"{key}:{start}" for start in starts]
    entries = summaries.get_many(names)
    windows = [storing.decode(entries.get(name), plan) for name in names]
    whole = [one for one in windows if one is not None]
    return whole if len(whole) == len(windows) else None


def sample_of(
    reference: Reference, layout: samples.Layout, timestamp: str | None, summaries: Summaries
) -> samples.Sketch:
    """A bounded sample of the reference's rows."""
    key = f"sample:{reference.key}:{layout.digest}"
    found = samples.decode(summaries.get_many([key]).get(key), layout)
    if found is None:
        sampler = samples.Sampler(layout, timestamp=timestamp)
        for batch in reference.batches():
            sampler.add(batch)
        found = sampler.sketches()[0]
        summaries.put_many({key: samples.encode(found)})
    return found


def first_rows(
    files: Sequence[DataFile], starts: range, windows: EventWindows, timestamp: str
) -> Iterator[Any]:
    """The rows of `files` whose window is one of `starts`, by which a rolling reference fixes its edges."""
    import pyarrow as pa

    for file in files:
        for batch in file.batches(None):
            if timestamp not in batch.schema.names:
                continue
            times, dated = times_of(batch.column(timestamp))
            keys = windows.starts(times)
            within = dated & (keys >= starts.start) & (keys < starts.stop)
            if within.any():
                yield batch if within.all() else batch.filter(pa.array(within))


class _Reading:
    """Reads the reference as often as needed; the model is asked once a file."""

    def __init__(self, subject: Subject, table: Table, roles: Roles, asked: bool) -> None:
        self._subject, self._table, self._roles, self._asked = subject, table, roles, asked
        self._outputs: dict[str, Any] = {}

    def batches(self) -> Iterator[Any]:
        """All record batches, under the names of here."""
        for file in sorted(self._table.files, key=lambda file: (file.position, file.name)):
            at = 0
            for batch in file.batches(None):
                known = renamed(batch, self._roles)
                if self._asked:
                    known = self._with_outputs(file, known, at)
                at += batch.num_rows
                yield known

    def _with_outputs(self, file: DataFile, batch: Any, at: int) -> Any:
        import pyarrow as pa

        if file.name not in self._outputs:
            self._outputs[file.name] = self._said(file)
        said = self._outputs[file.name].slice(at, batch.num_rows)
        if said.num_rows != batch.num_rows:
            raise Stalled(
                "The model did not give one prediction for each row of the reference",
                where=file.name,
                fix="Let its predict return one row for each row that it is given.",
            )
        arrays = {name: batch.column(name) for name in batch.schema.names}
        for name in said.schema.names:
            arrays[name] = said.column(name).combine_chunks()
        return pa.RecordBatch.from_arrays(
            [one.chunk(0) if isinstance(one, pa.ChunkedArray) else one for one in arrays.values()],
            names=list(arrays),
        )

    def _said(self, file: DataFile) -> Any:
        """What the model says of a file's rows, under the names of the predictions' columns."""
        import pyarrow as pa

        assert self._subject.predict is not None
        told = pa.Table.from_batches(list(self._subject.predict(file.batches(None))))
        names = output_names(self._subject, self._roles)
        there = [name for name in names if name in told.schema.names]
        return told.select(there).rename_columns([names[name] for name in there])


def output_names(subject: Subject, roles: Roles) -> dict[str, str]:
    """Column that `Predict` gives → column of the predictions' table."""
    names = {} if roles.prediction is None else {"prediction": roles.prediction}
    for label, column in probabilities_of(subject.predictions).items():
        names["probability" if label is None else f"probability:{label}"] = column
    return names


def _is_asked(subject: Subject, types: Mapping[str, str], roles: Roles) -> bool:
    wanted = any(check.type in ("targetDrift", "conceptDrift") for check in subject.spec.checks)
    lacking = bool(roles.outputs) and not any(name in types for name in roles.outputs)
    return wanted and lacking and subject.predict is not None


def _output_types(subject: Subject, roles: Roles) -> dict[str, str]:
    """The types of what the model says: those of the predictions, which it made as well."""
    known = subject.predictions.types
    return {
        name: known.get(name, "double" if name != roles.prediction else subject.output or "double")
        for name in roles.outputs
    }

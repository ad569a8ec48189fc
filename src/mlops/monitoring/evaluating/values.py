"""What an assessment is given and what it gives: plain values, and the few things that it may ask of the outside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mlops.errors import MlopsError
from mlops.monitoring.summaries.windowed import WindowSummary
from mlops.monitoring.verdicts import Evaluation
from mlops.monitoring.windows import RowOrder
from mlops.resources.dataset import Columns, Expect
from mlops.resources.monitoring_policy import MonitoringPolicySpec

Start = float | int  # of a window: seconds since 1970 UTC, or the number of its first row
Batches = Callable[[Sequence[str] | None], Iterator[Any]]
Predict = Callable[[Iterable[Any]], Iterator[Any]]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of a dataset, or one add-file of a Delta table.

    Args:
        digest: of its bytes (or the add-file's identity): what its summaries are stored under.
        name: its relative path, to be shown.
        position: in which order it was first seen; files first seen together have one and are taken by name.
        batches: opens and reads it, giving pyarrow record batches of the columns asked for (None: all), without those
            that it lacks. Raises MlopsError where it cannot be read.
    """

    digest: str
    name: str
    position: int
    batches: Batches


@dataclass(frozen=True, slots=True)
class Table:
    """A dataset as an evaluation sees it.

    Args:
        name: of the Dataset.
        digest: of all of it, or None where there is none.
        types: column → name of its type as `data.tallies` names them; needed of a reference, of CSV too.
        files: in any order.
        columns: what its columns mean.
        text: whether all values come as text because the format (CSV) knows no types.
        expect: what the Dataset asks of its columns; tested of each window's rows.
    """

    name: str
    digest: str | None
    types: Mapping[str, str]
    files: tuple[DataFile, ...]
    columns: Columns
    text: bool = False
    expect: Expect | None = None


class Summaries(Protocol):
    """Where summaries are kept between assessments; it may forget any of them at any time."""

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """The values of those keys that are known."""
        ...

    def put_many(self, entries: Mapping[str, bytes]) -> None:
        """Remember each entry, replacing what was there."""
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """What is watched, and with what it is compared.

    Args:
        spec: of the policy.
        policy: its name.
        version: the watched version of the model.
        predictions: the table of `data.predictions`.
        labels: the table of `data.labels`, where there is one.
        reference: the table of `reference.source`; None for `{rolling: …}`.
        promoted_at: seconds since 1970 UTC, for `window.from: promotion`.
        features: the inputs that the model's signature names; None: columns of the reference that mean nothing else.
        output: the type of the model's output in its signature, as `data.tallies` names types, or None.
        predict: the watched model, for a reference without predictions: is given record batches with all columns of
            the reference and gives one for each, of as many rows, with the columns `prediction` and (where the model
            tells them) `probability` of the positive class or `probability:<class>` for each. None: there is none.
    """

    spec: MonitoringPolicySpec
    policy: str
    version: str
    predictions: Table
    labels: Table | None = None
    reference: Table | None = None
    promoted_at: float | None = None
    features: tuple[str, ...] | None = None
    output: str | None = None
    predict: Predict | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """What is known of a window's newest evaluation: its key and revision, and the digest of its rows (`record`)."""

    key: str
    revision: int
    record: str


@dataclass(frozen=True, slots=True)
class Unread:
    """A file that could not be read, of the table `table`, and why. What else there is was judged without it."""

    table: str
    file: str
    error: MlopsError


@dataclass(frozen=True, slots=True)
class Assessed:
    """What came of an assessment.

    Args:
        evaluations: those that are new or changed, by window.
        records: of each of these windows, the digest of its rows, to be stored beside the evaluation.
        files: of each of these windows, name and digest of the files that its rows came from.
        windows: how many closed windows there are, those without rows between others included.
        waiting: how many windows have rows and are not closed.
        future: rows whose event time has not come yet; they are in no window.
        undated: rows without a readable event time; they are in no window of event time.
        unread: files that could not be read.
        times: event time of the end of each closed window of rows, for those that have one; None for event windows.
        order: which row numbers each file has, to be handed in next time; None for event windows.
        watermark: before which event time no more rows are expected; None without data.
        reference_of, window_of: summaries for a report, by the window's start; None where they are gone.
    """

    evaluations: tuple[Evaluation, ...]
    records: Mapping[Start, str]
    files: Mapping[Start, tuple[tuple[str, str], ...]]
    windows: int
    waiting: int
    future: int
    undated: int
    unread: tuple[Unread, ...]
    times: Mapping[Start, float] | None
    order: RowOrder | None
    watermark: float | None
    reference_of: Callable[[Start], WindowSummary | None] = field(compare=False)
    window_of: Callable[[Start], WindowSummary | None] = field(compare=False)

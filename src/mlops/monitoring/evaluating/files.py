"""Each file of predictions read once: what it adds to each window, and an index of its windows.

The index says which windows a file touches without the summaries being decoded, so that a new day on a year of history
reads one file and decodes one window. It is written last: where a kill came before it, the file is read again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mlops.errors import MlopsError, Stalled, Transient
from mlops.monitoring import samples
from mlops.monitoring.engine import SUMMED
from mlops.monitoring.evaluating.keys import digest_of
from mlops.monitoring.evaluating.values import DataFile, Progress, Summaries, Table, Unread
from mlops.monitoring.summaries import storing
from mlops.monitoring.summaries.plans import Plan
from mlops.monitoring.summaries.summarising import summarise
from mlops.monitoring.summaries.windowed import WindowSummary, merge
from mlops.monitoring.windows import EventWindows, RowWindows

_AGAIN = "See what is told of the file; it is tried again."

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part:
    """What one file has of one window: rows, and its first and last event time in microseconds since 1970 UTC."""

    rows: int
    earliest: int | None
    latest: int | None


@dataclass(frozen=True, slots=True)
class Index:
    """Of one file: all its rows, those without a readable event time, and its windows by start."""

    rows: int
    undated: int
    parts: Mapping[int, Part]

    def encode(self) -> bytes:
        """As bytes."""
        parts = [[start, part.rows, part.earliest, part.latest] for start, part in sorted(self.parts.items())]
        return json.dumps([self.rows, self.undated, parts], separators=(",", ":")).encode()

    @classmethod
    def decode(cls, value: bytes | None) -> Index | None:
        """What `encode` gave; None for anything else: then the file is read again."""
        if value is None:
            return None
        try:
            rows, undated, parts = json.loads(value)
            return cls(int(rows), int(undated), {int(start): Part(*rest) for start, *rest in parts})
        except (ValueError, TypeError):  # cut off, or not ours
            return None


class Tap:
    """Keeps more of a file's rows than sums, while it is read.

    `name` and `digest` say what and how; `windows` gives what is kept of each, as bytes, once all batches are in.
    """

    name: str
    digest: str

    def add(self, batch: Any) -> None:
        """A record batch goes by."""
        raise NotImplementedError

    def windows(self) -> Mapping[int, bytes]:
        """What is kept, by the start of the window."""
        raise NotImplementedError


class SampleTap(Tap):
    """A bounded sample of the rows of each window."""

    def __init__(
        self,
        name: str,
        layout: samples.Layout,
        windows: EventWindows | RowWindows | None,
        timestamp: str | None,
        first: int,
    ) -> None:
        self.name, self.digest = name, layout.digest
        self._sampler = samples.Sampler(layout, windows, timestamp=timestamp, first_row=first)

    def add(self, batch: Any) -> None:
        """Sample the batch."""
        self._sampler.add(batch)

    def windows(self) -> Mapping[int, bytes]:
        """The samples."""
        return {start: samples.encode(sketch) for start, sketch in self._sampler.sketches().items()}


MakeTap = Callable[[int], Tap]  # of the number of the file's first row


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """How files are summed up.

    Args:
        plan: on which edges.
        windows: how rows are put into windows.
        timestamp: the column of the event time.
        text: whether the format knows no types.
        hidden: columns that are not what their name says in the plan, and are left out.
        asked: the only columns that are read; None: all, so that a new one is seen.
        taps: what else is kept of rows, by file.
    """

    plan: Plan
    windows: EventWindows | RowWindows
    timestamp: str | None
    text: bool
    hidden: frozenset[str] = frozenset()
    asked: tuple[str, ...] | None = None
    taps: tuple[MakeTap, ...] = ()
    digest: str = field(init=False, default="")

    def __post_init__(self) -> None:
        kind = ["rows", self.windows.rows] if isinstance(self.windows, RowWindows) else self.windows.size
        kept = sorted((tap.name, tap.digest) for tap in (make(0) for make in self.taps))
        basis = digest_of(
            *(SUMMED, self.plan.digest, kind, self.timestamp, self.text),
            *(sorted(self.hidden), self.asked, kept),
        )
        object.__setattr__(self, "digest", basis)


class Files:
    """The files of predictions, each with its index; what cannot be read is told and left out."""

    def __init__(
        self,
        table: Table,
        recipe: Recipe,
        summaries: Summaries,
        *,
        progress: Progress | None = None,
        threads: int = 2,
    ) -> None:
        self.recipe = recipe
        self.unread: list[Unread] = []
        self.indexes: dict[DataFile, Index] = {}
        self._table, self._summaries, self._threads = table, summaries, threads
        self._progress = progress
        self._first: dict[DataFile, int] = {}
        self._by_start: dict[int, list[DataFile]] | None = None

    def index(self, files: Sequence[DataFile], first: Mapping[DataFile, int] | None = None) -> None:
        """Find the indexes of `files`, reading those of which there is none. `first`: numbers of their first rows."""
        self._first |= dict.fromkeys(files, 0) if first is None else first
        keys = {file: self._key("index", file) for file in files}
        known = self._summaries.get_many(keys.values())
        found = {file: Index.decode(known.get(key)) for file, key in keys.items()}
        new = sum(index is None for index in found.values())
        done = 0
        self._by_start = None
        for file, index in found.items():
            if index is None:
                if self._progress is not None:
                    self._progress(done, new, file.name)
                done += 1
                index = self._read(file)
            if index is not None:
                self.indexes[file] = index

    def starts(self) -> list[int]:
        """The windows that have rows, in order."""
        return list(self._windows())

    def files_of(self, start: int) -> list[DataFile]:
        """Those with rows in the window, by digest."""
        return self._windows().get(start, [])

    def identity(self, file: DataFile) -> list[str | int]:
        """What tells a file from others: its bytes and, of row windows, where its rows begin."""
        return [file.digest, self._first[file] if isinstance(self.recipe.windows, RowWindows) else 0]

    def window(self, start: int) -> WindowSummary | None:
        """The sums of all rows of a window; None without rows. Raises Transient as `kept` does."""
        plan = self.recipe.plan
        parts = [part for _, part in self.kept("window", start, lambda value: storing.decode(value, plan))]
        return merge(parts) if parts else None

    def kept(
        self, name: str, start: int, decode: Callable[[bytes | None], T | None]
    ) -> list[tuple[DataFile, T]]:
        """What is kept under `name` of each file of a window; where it was forgotten, the file is read again.

        Raises:
            Transient: one of the files cannot be read any more (told in `unread`): a part of a window is not judged.
        """
        files = self.files_of(start)
        keys = {file: self._key(name, file, start) for file in files}
        known = self._summaries.get_many(keys.values())
        found = []
        for file, key in keys.items():
            value = decode(known.get(key))
            if value is None and self._read(file) is not None:
                value = decode(self._summaries.get_many([key]).get(key))
                if value is None:
                    lost = Transient("What was made of it was forgotten at once", where=file.name, fix=_AGAIN)
                    self.unread.append(Unread(self._table.name, file.name, lost))
            if value is None:
                raise Transient("A file of the window cannot be read again", where=file.name, fix=_AGAIN)
            found.append((file, value))
        return found

    def _windows(self) -> dict[int, list[DataFile]]:
        if self._by_start is None:
            found: dict[int, list[DataFile]] = {}
            for file in sorted(self.indexes, key=lambda file: (file.digest, self._first[file])):
                for start in self.indexes[file].parts:
                    found.setdefault(start, []).append(file)
            self._by_start = {start: found[start] for start in sorted(found)}
        return self._by_start

    def _read(self, file: DataFile) -> Index | None:
        try:
            return self._summed(file)
        except MlopsError as error:
            found = error
        except Exception as error:  # whatever reading raises stops only this file, and is told
            found = unreadable(file.name, error)
        self.unread.append(Unread(self._table.name, file.name, found))
        return None

    def _summed(self, file: DataFile) -> Index:
        recipe, first = self.recipe, self._first[file]
        taps = [make(first) for make in recipe.taps]
        found = summarise(
            _tapped(self._shown(file.batches(recipe.asked)), taps),
            recipe.plan,
            recipe.windows,
            timestamp=recipe.timestamp,
            first_row=first,
            text=recipe.text,
            threads=self._threads,
        )
        entries = {
            self._key("window", file, start): storing.encode(summary)
            for start, summary in found.windows.items()
        }
        for tap in taps:
            kept = tap.windows()
            entries |= {self._key(tap.name, file, start): kept[start] for start in kept}
        self._summaries.put_many(entries)
        parts = {
            start: Part(summary.rows, summary.earliest, summary.latest)
            for start, summary in found.windows.items()
        }
        index = Index(found.rows, found.undated, parts)
        self._summaries.put_many({self._key("index", file): index.encode()})
        return index

    def _shown(self, batches: Iterable[Any]) -> Iterator[Any]:
        for batch in batches:
            hidden = self.recipe.hidden.intersection(batch.schema.names)
            yield batch.drop_columns(sorted(hidden)) if hidden else batch

    def _key(self, name: str, file: DataFile, start: int | None = None) -> str:
        first = self._first[file] if isinstance(self.recipe.windows, RowWindows) else ""
        return ":".join(
            str(part) for part in (name, file.digest, self.recipe.digest, first, start) if part is not None
        )


def unreadable(name: str, error: Exception) -> MlopsError:
    """What is told of a file whose reading broke: without the error's text, which may quote data."""
    what = f"It could not be read ({type(error).__name__})"
    return Stalled(what, where=name, fix="Write it again completely, and check that it can be reached.")


def _tapped(batches: Iterable[Any], taps: Sequence[Tap]) -> Iterator[Any]:
    for batch in batches:
        for tap in taps:
            tap.add(batch)
        yield batch

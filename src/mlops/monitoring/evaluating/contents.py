"""What each window holds, known by digests as long as its files are the same, and its sums and rows when asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from mlops.monitoring import samples
from mlops.monitoring.evaluating.files import Files
from mlops.monitoring.evaluating.keys import digest_of
from mlops.monitoring.evaluating.late_labels import in_order
from mlops.monitoring.evaluating.performing import Performances, rows_digest
from mlops.monitoring.evaluating.referencing import digest_of_summary
from mlops.monitoring.evaluating.values import Summaries
from mlops.monitoring.performance.rows import Joined
from mlops.monitoring.summaries.windowed import Group, WindowSummary

ROWS: Final = "sample"  # under which rows for detectors are kept


@dataclass(frozen=True, slots=True)
class Content:
    """Of a window, digests and counts.

    Args:
        summary: of its sums, and of its sample where one is drawn.
        rows: how many it has.
        labels: of its predictions with their labels.
        labelled: how many predictions have one.
        predicted: how many there are; of those with one id, the last.
    """

    summary: str
    rows: int
    labels: str
    labelled: int
    predicted: int

    @property
    def digest(self) -> str:
        """Of all of it."""
        return digest_of(self.summary, self.labels)


class Contents:
    """The windows of an assessment by start.

    Sums and labels are known apart, so that new labels decode no sums.
    """

    def __init__(
        self,
        files: Files,
        performances: Performances | None,
        drawn: samples.Layout | None,
        summaries: Summaries,
    ) -> None:
        self._drawn = drawn
        self._files, self._performances, self._summaries = files, performances, summaries
        self._known: dict[str, list[Any]] = {}
        self._new: dict[str, bytes] = {}

    def recall(self, starts: Iterable[int]) -> None:
        """Find what is known of these windows from when they were last looked at."""
        keys = [key for start in starts for key in (self._sums_key(start), self._labels_key(start))]
        for key, value in self._summaries.get_many(keys).items():
            try:
                found = json.loads(value)
            except ValueError:  # cut off, or not ours: found again
                continue
            if isinstance(found, list) and len(found) == (2 if key.startswith("sums:") else 3):
                self._known[key] = found

    def keep(self) -> None:
        """Write what was found, all at once."""
        if self._new:
            self._summaries.put_many(self._new)
            self._new = {}

    def of(self, start: int) -> Content:
        """What the window holds. Raises Transient where one of its files cannot be read again."""
        key = self._sums_key(start)
        if key not in self._known:
            window = self.window(start)
            digest = digest_of_summary(window)
            if self._drawn is not None and (sketch := self.sample(start, ROWS, self._drawn)) is not None:
                digest = digest_of(digest, hashlib.sha256(samples.encode(sketch)).hexdigest())
            self._remember(key, [digest, window.rows])
        summary, rows = self._known[key]
        if self._performances is None:
            return Content(summary, rows, "", 0, rows)
        key = self._labels_key(start)
        if key not in self._known:
            joined = self.rows(start)
            found: list[Any] = [rows_digest(joined), joined.labelled, len(joined.targets)]
            if self._performances.unread:  # labels that may be there next time, of the same files
                return Content(summary, rows, *found)
            self._remember(key, found)
        return Content(summary, rows, *self._known[key])

    def window(self, start: int) -> WindowSummary:
        """Its sums, without labels that come apart."""
        return self._files.window(start) or WindowSummary(self._files.recipe.plan, Group(0, {}))

    def with_labels(self, start: int) -> WindowSummary:
        """Its sums, the labels there are among them."""
        window = self.window(start)
        if self._performances is None or not window.rows:
            return window
        return self._performances.with_target(window, self.rows(start))

    def rows(self, start: int) -> Joined:
        """Its rows with the labels there are."""
        assert self._performances is not None
        return self._performances.rows_of(self._files, start)

    def sample(self, start: int, name: str, layout: samples.Layout) -> samples.Sketch | None:
        """A bounded sample of its rows, kept under `name`."""
        parts = self._files.kept(name, start, lambda value: samples.decode(value, layout))
        return samples.merge([sketch for _, sketch in parts]) if parts else None

    def lost_rows(self, start: int, size: int) -> bool:
        """Whether it has fewer rows than a window of rows had when it was closed."""
        files = self._files.files_of(start)
        return sum(self._files.indexes[file].parts[start].rows for file in files) < size

    def _remember(self, key: str, found: list[Any]) -> None:
        self._new[key] = json.dumps(found).encode()
        self._known[key] = found

    def _sums_key(self, start: int) -> str:
        files = [self._files.identity(file) for file in self._files.files_of(start)]
        return "sums:" + digest_of(files, self._files.recipe.digest, start)

    def _labels_key(self, start: int) -> str:
        if self._performances is None:
            return self._sums_key(start)
        files = [self._files.identity(file) for file in in_order(self._files.files_of(start))]
        return "joined:" + digest_of(
            files, self._files.recipe.digest, self._performances.labels_digest, start
        )

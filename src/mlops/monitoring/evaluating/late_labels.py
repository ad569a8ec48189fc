"""Labels in files of their own: each read once, the last of each id kept."""

from __future__ import annotations

from collections.abc import Sequence

from mlops.errors import MlopsError
from mlops.monitoring.evaluating.files import unreadable
from mlops.monitoring.evaluating.keys import digest_of
from mlops.monitoring.evaluating.labelled import RowPlan, label_rows
from mlops.monitoring.evaluating.values import DataFile, Summaries, Table, Unread
from mlops.monitoring.performance.rows import LabelRows, latest_labels


class LateLabels:
    """The labels of a table; what cannot be read is told and left out.

    Args:
        table: of labels.
        plan: how targets are read.
        summaries: where ids and targets of files are kept.
    """

    def __init__(self, table: Table, plan: RowPlan, summaries: Summaries) -> None:
        self.unread: list[Unread] = []
        self._table, self._plan, self._summaries = table, plan, summaries
        self._files = in_order(table.files)
        self._latest: LabelRows | None = None
        self.digest = digest_of([file.digest for file in self._files])

    def latest(self) -> LabelRows:
        """The last label of each id, of all files."""
        if self._latest is None:
            found = [self._of(file) for file in self._files]
            self._latest = latest_labels(
                [(place, rows) for place, rows in enumerate(found) if rows is not None]
            )
        return self._latest

    def _of(self, file: DataFile) -> LabelRows | None:
        try:
            return self._read(file)
        except MlopsError as error:
            self.unread.append(Unread(self._table.name, file.name, error))
        except Exception as error:  # whatever reading raises stops only this file, and is told
            self.unread.append(Unread(self._table.name, file.name, unreadable(file.name, error)))
        return None

    def _read(self, file: DataFile) -> LabelRows | None:
        target, joined_on = self._table.columns.target, self._plan.roles.id
        if joined_on not in self._table.types and self._table.columns.id is not None:
            joined_on = self._table.columns.id
        if target is None or joined_on is None:
            return None
        key = f"labels:{file.digest}:{digest_of(self._plan.digest, joined_on, target)}"
        known = self._summaries.get_many([key]).get(key)
        if known is not None:
            try:
                return LabelRows.decode(known)
            except MlopsError:  # cut off, or not ours: it is read again
                pass
        found = label_rows(file.batches([joined_on, target]), self._plan, joined_on, target)
        self._summaries.put_many({key: found.encode()})
        return found


def in_order(files: Sequence[DataFile]) -> list[DataFile]:
    """As first seen; those seen together by name."""
    return sorted(files, key=lambda file: (file.position, file.name))

"""A training log that is read in pieces while it grows, without secrets.

An offset counts bytes of the log *without secrets*, which is also what becomes the run's artifact: so whoever
follows a log goes on where it was when the job's folder is gone and the artifact is all there is, and nobody can
ask for a piece that begins in the middle of a secret.
"""

from __future__ import annotations

import base64
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Final

from mlops.applying.collect import LOG_ARTIFACT
from mlops.errors import MlopsError
from mlops.execution.jobs import LOG_CHUNK, Executor
from mlops.observation.observed import ObservedRun
from mlops.planning.runs import FINGERPRINT, is_open
from mlops.planning.work import TrainTrial
from mlops.redaction import RedactingStream, Redactor
from mlops.resources import Experiment, Key
from mlops.resources.nearest import Nearest
from mlops.view import View

MOST_KEPT: Final = 8  # logs that are kept ready to be read on; others are read again from their beginning


@dataclass(frozen=True, slots=True)
class LogPiece:
    """A piece of a run's log.

    `ended`: nothing more comes of this run. Then `next_run` is the run of its trial's next attempt, once there is
    one, and `due` says that another attempt, or the end of this one in MLflow, is still to come.
    """

    run_id: str
    name: str
    status: str  # MLflow's, in lower case
    data: bytes
    next_offset: int
    ended: bool
    next_run: str | None = None
    due: bool = False

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form; the data, which may end within a character, in base64."""
        return {
            "runId": self.run_id,
            "name": self.name,
            "status": self.status,
            "data": base64.b64encode(self.data).decode(),
            "nextOffset": self.next_offset,
            "ended": self.ended,
            "nextRun": self.next_run,
            "due": self.due,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LogPiece:
        """Read what `to_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            str(data["runId"]),
            str(data["name"]),
            str(data["status"]),
            base64.b64decode(data["data"], validate=True),
            int(data["nextOffset"]),
            data["ended"] is True,
            None if data["nextRun"] is None else str(data["nextRun"]),
            data["due"] is True,
        )


@dataclass(frozen=True, slots=True)
class Sources:
    """Where logs come from.

    Attributes:
        look: the project as it is; asked for whenever it may have moved on.
        executor: the executor of a name.
        artifact: a file of a run by run id and path, None where there is none.
        redactor: what masks secrets.
        attended: whether anybody is there to go on with what is planned.
    """

    look: Callable[[], View]
    executor: Callable[[str], Executor]
    artifact: Callable[[str, str], bytes | None]
    redactor: Callable[[], Redactor]
    attended: Callable[[], bool]


class TrainingLogs:
    """Reads logs of a project's runs. Threads may share it."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._kept: OrderedDict[str, _RunLog] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, experiment: str, run_id: str | None, offset: int, limit: int = LOG_CHUNK) -> LogPiece:
        """At most `limit` bytes of a run's log from `offset`.

        Args:
            experiment: the name of the Experiment.
            run_id: one of its runs; None for the newest.

        Raises MlopsError where there is no such experiment or run, or a run that ended has no log.
        """
        with self._lock:
            known = self._kept.get(run_id) if run_id is not None else None
            if known is not None and known.grows():
                return known.piece(offset, limit)
        view = self._sources.look()
        declared = _declared(view, experiment)
        full = view.desired.ledger_name(experiment)
        runs = [
            r for r in view.observed.ledger.runs.values() if r.experiment == full and FINGERPRINT in r.tags
        ]
        run = _chosen(experiment, sorted(runs, key=_age), run_id)
        kept = None if is_open(run) else self._artifact(run.run_id)
        with self._lock:
            log = self._log(run, declared)
            ended = log.pump() if is_open(run) else log.complete(kept)
            later = min((r for r in runs if _same(r, run) and _age(r) > _age(run)), key=_age, default=None)
            piece = log.piece(offset, limit)
        return LogPiece(
            piece.run_id,
            piece.name,
            piece.status,
            piece.data,
            piece.next_offset,
            ended and piece.next_offset >= log.size,
            later.run_id if later else None,
            later is None and self._due(view, run),
        )

    def close(self) -> None:
        """Forget what is kept."""
        with self._lock:
            while self._kept:
                self._kept.popitem()[1].clean.close()

    def _artifact(self, run_id: str) -> bytes | None:
        """The log that was kept with a run; nothing is read of one that is here whole."""
        with self._lock:
            log = self._kept.get(run_id)
            if log is not None and log.whole:
                return b""
        return self._sources.artifact(run_id, LOG_ARTIFACT)

    def _log(self, run: ObservedRun, experiment: Experiment) -> _RunLog:
        log = self._kept.get(run.run_id)
        if log is None:
            jobs = self._sources.executor(experiment.spec.executor)
            log = self._kept[run.run_id] = _RunLog(run, jobs, self._sources.redactor().stream())
        log.run = run
        self._kept.move_to_end(run.run_id)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)[1].clean.close()
        return log

    def _due(self, view: View, run: ObservedRun) -> bool:
        works = (step.work for step in view.planned.plan.steps)
        planned = {work.trial.fingerprint for work in works if isinstance(work, TrainTrial)}
        return run.tags[FINGERPRINT] in planned and self._sources.attended()


@dataclass(slots=True)
class _RunLog:
    """The log of one run without secrets, as far as it has come, in a file without a name."""

    run: ObservedRun
    jobs: Executor
    stream: RedactingStream
    clean: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    raw: int = 0  # bytes of the job's own log that were read
    size: int = 0  # bytes in `clean`
    whole: bool = False  # nothing more comes

    def grows(self) -> bool:
        """Take in what the job has printed; False when it does not run, here and now."""
        if self.whole or self.jobs.poll(self.run.run_id).state not in ("starting", "running"):
            return False
        self._take_in()
        return True

    def pump(self) -> bool:
        """Take in what the job has printed; True when that was all of it."""
        if self.whole:
            return True
        ended = self.jobs.poll(self.run.run_id).ended
        self._take_in()
        # Looked at again: a job that was collected meanwhile took its log along.
        if ended and self.jobs.poll(self.run.run_id).ended:
            self._add(self.stream.flush())
            self.whole = True
        return self.whole

    def complete(self, artifact: bytes | None) -> bool:
        """Take the rest from what was kept with the run."""
        if not self.whole and artifact is None and not self.size:
            raise MlopsError(
                f"run {self.run.run_id} has no log",
                fix="It was not trained by mlops, or its artifacts are gone",
            )
        if not self.whole:
            self._add((artifact or b"")[self.size :])
            self.whole = True
        return True

    def piece(self, offset: int, limit: int) -> LogPiece:
        """What is there from `offset`, as of a run that goes on."""
        self.clean.seek(offset)
        data = self.clean.read(limit)
        run = self.run
        return LogPiece(run.run_id, run.name, run.status.lower(), data, offset + len(data), ended=False)

    def _take_in(self) -> None:
        while chunk := self.jobs.log(self.run.run_id, self.raw):
            self.raw += len(chunk)
            self._add(self.stream.feed(chunk))

    def _add(self, data: bytes) -> None:
        self.clean.seek(self.size)
        self.clean.write(data)
        self.size += len(data)


def _declared(view: View, name: str) -> Experiment:
    found = view.desired.resources.get(Key("Experiment", name))
    if isinstance(found, Experiment):
        return found
    names = [key.name for key in view.desired.resources if key.kind == "Experiment"]
    near = Nearest().nearest(name, names)
    fix = f"Did you mean {near}?" if near else "See `mlops get Experiment`"
    raise MlopsError(f"Experiment/{name} is not declared", fix=fix)


def _chosen(experiment: str, runs: list[ObservedRun], run_id: str | None) -> ObservedRun:
    if not runs:
        raise MlopsError(f"Experiment/{experiment} has no run yet", fix="Train it with `mlops apply`")
    if run_id is None:
        return runs[-1]
    for run in runs:
        if run.run_id == run_id:
            return run
    raise MlopsError(f"Experiment/{experiment} has no run {run_id[:64]!r}", fix="See `mlops runs`")


def _same(one: ObservedRun, other: ObservedRun) -> bool:
    return one.tags[FINGERPRINT] == other.tags[FINGERPRINT]


def _age(run: ObservedRun) -> tuple[int, str]:
    return run.started_ms, run.run_id

"""What is kept of a policy between evaluations: in the state, in one transaction, and in MLflow, to come back from.

The state is a cache. What an evaluation said and what was decided then also stands in the evaluation's run, so that a
lost state is built again from there: nothing that was decided is decided, or done, a second time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from mlops.observation.policies import RECORDS, PolicyRecord

if TYPE_CHECKING:  # the monitoring room stands on numpy: it is imported by who evaluates
    from mlops.monitoring.deciding import Decided, Watched
    from mlops.monitoring.evaluating import Stored
    from mlops.monitoring.verdicts import Evaluation
    from mlops.state import State, StateReader

_WINDOW: Final = "window/"
_WATCHED: Final = "watched/"
_DECIDED: Final = "decided"
_REFERENCE: Final = "reference/"


def space(policy: str) -> str:
    """The namespace of the state that holds what is known of a policy."""
    return f"{RECORDS}/{policy}"


@dataclass(frozen=True, slots=True)
class Window:
    """A window as it was evaluated last: what was said, the digest of its rows, its files, the run that tells it."""

    version: str
    evaluation: Evaluation
    record: str
    files: tuple[tuple[str, str], ...] = ()
    run_id: str | None = None
    time: float | None = None  # event time of the end of a window of rows

    @property
    def key(self) -> str:
        """Where it stands in the namespace of its policy."""
        return f"{_WINDOW}{self.version}/{self.evaluation.start:+.6f}"

    def before(self, promoted: float | None) -> bool:
        """Whether it ended by the time its version was promoted."""
        end = self.evaluation.end if self.time is None else self.time
        return promoted is not None and end <= promoted

    def encode(self) -> bytes:
        """As the state and MLflow hold it."""
        document = {
            "version": self.version,
            "evaluation": self.evaluation.document(),
            "record": self.record,
            "files": self.files,
            "runId": self.run_id,
            "time": self.time,
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def decode(cls, value: bytes) -> Window | None:
        """Read what `encode` wrote; None for anything else: then it is evaluated again."""
        from mlops.errors import Stalled
        from mlops.monitoring.verdicts import Evaluation

        try:
            raw = json.loads(value)
            evaluation = Evaluation.from_json(json.dumps(raw["evaluation"]))
            files = tuple((name, digest) for name, digest in raw["files"])
            return cls(raw["version"], evaluation, raw["record"], files, raw["runId"], raw["time"])
        except (ValueError, TypeError, KeyError, Stalled):
            return None


@dataclass(frozen=True, slots=True)
class Reference:
    """The files that a dataset had at a digest: where it has grown since, they are still the reference."""

    types: Mapping[str, str]
    text: bool
    files: tuple[tuple[str, str], ...]  # name and digest

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Reference:
        """The inverse of `asdict`."""
        return cls(raw["types"], raw["text"], tuple((name, digest) for name, digest in raw["files"]))


@dataclass(slots=True)
class Kept:
    """All that is kept of one policy."""

    windows: dict[str, Window] = field(default_factory=dict)  # by `Window.key`
    watched: dict[str, Watched] = field(default_factory=dict)  # by version
    decided: dict[str, Decided] = field(default_factory=dict)  # by id
    references: dict[str, Reference] = field(default_factory=dict)  # by digest
    promoted: float | None = (
        None  # since when the version that is watched is in its stage; the record holds it
    )

    @classmethod
    def read(cls, state: StateReader, policy: str) -> Kept:
        """What the state holds of a policy; what is damaged in it is left out."""
        from mlops.errors import Stalled
        from mlops.monitoring.deciding import Watched, from_document

        kept = cls()
        for key, value in state.all(space(policy)).items():
            try:
                if key.startswith(_WINDOW):
                    if (window := Window.decode(value)) is not None:
                        kept.windows[key] = window
                elif key.startswith(_WATCHED):
                    watched = Watched(**json.loads(value))
                    kept.watched[watched.version] = watched
                elif key.startswith(_REFERENCE):
                    kept.references[key.removeprefix(_REFERENCE)] = Reference.of(json.loads(value))
                elif key == _DECIDED:
                    kept.decided = {one.id: one for one in map(from_document, json.loads(value))}
            except (ValueError, TypeError, KeyError, Stalled):
                continue
        return kept

    def of(self, version: str) -> list[Window]:
        """The windows of a version, oldest first."""
        found = (window for window in self.windows.values() if window.version == version)
        return sorted(found, key=lambda window: window.evaluation.start)

    def stored(self, version: str) -> dict[float | int, Stored]:
        """What an assessment is told of the windows that were evaluated before."""
        from mlops.monitoring.evaluating import Stored

        return {
            one.evaluation.start: Stored(one.evaluation.key, one.evaluation.revision, one.record)
            for one in self.of(version)
        }

    def write(
        self, state: State, policy: str, record: PolicyRecord, changed: Iterable[Window], **more: Any
    ) -> None:
        """Write changed windows with all decisions and the record: all of it, or nothing.

        Args:
            more: entries of other namespaces that belong to it: `puts`, by namespace.
        """
        from mlops.monitoring.deciding import document_of

        entries = {window.key: window.encode() for window in changed}
        for watched in self.watched.values():
            entries[f"{_WATCHED}{watched.version}"] = json.dumps(asdict(watched)).encode()
        for digest, reference in self.references.items():
            entries[f"{_REFERENCE}{digest}"] = json.dumps(asdict(reference)).encode()
        decided = [document_of(self.decided[id]) for id in sorted(self.decided)]
        entries[_DECIDED] = json.dumps(decided, sort_keys=True, separators=(",", ":")).encode()
        puts: Mapping[str, Mapping[str, bytes]] = more.get("puts", {})
        state.write({**puts, space(policy): entries, RECORDS: {policy: record.encode()}})

    def restore(self, contents: Iterable[tuple[str, bytes]]) -> str | None:
        """Take in what runs tell: id and content, oldest first. Gives the version that was watched last."""
        from mlops.errors import Stalled
        from mlops.monitoring.deciding import Watched, from_document

        version = None
        for run_id, content in contents:
            try:
                raw = json.loads(content)
                window = Window.decode(json.dumps(raw["window"]).encode())
                watched = Watched(**raw["watched"])
                decided = [from_document(one) for one in raw["decided"]]
                references = {digest: Reference.of(one) for digest, one in raw["references"].items()}
                promoted = None if raw.get("promoted") is None else float(raw["promoted"])
            except (ValueError, TypeError, KeyError, Stalled):
                continue
            if window is None:
                continue
            known = self.windows.get(window.key)
            if known is None or known.evaluation.revision <= window.evaluation.revision:
                self.windows[window.key] = Window(
                    window.version, window.evaluation, window.record, window.files, run_id, window.time
                )
            self.watched.setdefault(watched.version, watched)
            self.decided |= {one.id: one for one in decided}
            self.references |= references
            version, self.promoted = watched.version, promoted
        return version


def told(window: Window, watched: Watched, kept: Kept) -> bytes:
    """What the run of an evaluation holds for `Kept.restore`."""
    from mlops.monitoring.deciding import document_of

    document = {
        "window": json.loads(window.encode()),
        "watched": asdict(watched),
        "decided": [document_of(kept.decided[id]) for id in sorted(kept.decided)],
        "references": {digest: asdict(one) for digest, one in kept.references.items()},
        "promoted": kept.promoted,
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def window_documents(kept: Kept, version: str | None, promoted: float | None = None) -> list[dict[str, Any]]:
    """The windows of a version, promoted then, as `mlops monitor status -o json` prints them, oldest first."""
    if version is None:
        return []
    firing = _firing(kept, version)
    documents = []
    for window in kept.of(version):
        one = window.evaluation
        checks = []
        for check in one.checks:
            fired = any(since <= one.start < until for since, until in firing.get(check.name, ()))
            checks.append({**check.document(), "fired": fired})
        rows = window.time is not None
        documents.append(
            {
                "start": one.start if rows else moment(one.start),
                "end": one.end if rows else moment(one.end),
                "rows": one.rows,
                "verdict": one.verdict,
                "revision": one.revision,
                "beforePromotion": window.before(promoted),
                "runId": window.run_id,
                "checks": checks,
            }
        )
    return documents


def moment(seconds: float) -> str | float:
    """ISO 8601 in UTC; what no calendar holds as it is."""
    try:
        return datetime.fromtimestamp(float(seconds), UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return seconds


def _firing(kept: Kept, version: str) -> dict[str, list[tuple[float, float]]]:
    """By check: from which window to which it was firing."""
    from mlops.monitoring.deciding import Happened

    turns = sorted(
        (one for one in kept.decided.values() if isinstance(one, Happened) and one.version == version),
        key=lambda one: one.at,
    )
    found: dict[str, list[tuple[float, float]]] = {}
    for one in turns:
        spans = found.setdefault(one.check, [])
        if one.turn == "fired":
            spans.append((one.at, math.inf))
        elif one.turn == "cleared" and spans:
            spans[-1] = (spans[-1][0], one.at)
    return found

"""What is known of the monitoring policies: how each was left by its last evaluation, read from the state."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

RECORDS: Final = "monitoring"  # namespace of the state: one record a policy
UNFINISHED: Final = "unfinished "  # before the digest in `seen`
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class PolicyAction:
    """One action that was decided, and how far it has come.

    Args:
        id: of the decision; names what was done about it wherever that can be seen.
        type: `alert`, `retrain` or `rollback`.
        check: whose firing asks for it.
        window: start of the first window of that firing: seconds since 1970 UTC, or a row number.
        state: of an alert `pending`, `sent` or `failed`; of the others `due`, `blocked`, `dropped`, `training`,
            `proposed`, `moot` (its branch is to be withdrawn), `merged` or `failed`.
        message: why it is blocked, dropped, moot or failed, for people.
        branch: of its proposal, and `commit` the revision of it.
        experiment: what is trained for it, and `run_id` the run that came of it.
        version: that it proposes; `watched` the one whose data asked for it.
        pull_request: address of the one that shows it, where there is a forge.
    """

    id: str
    type: str
    check: str
    window: float
    state: str
    message: str = ""
    branch: str | None = None
    commit: str | None = None
    experiment: str | None = None
    run_id: str | None = None
    version: str | None = None
    watched: str | None = None
    pull_request: str | None = None

    @property
    def standing(self) -> bool:
        """Whether there is a branch for it that people have not decided about."""
        return self.state in ("training", "proposed")

    def to_json(self) -> dict[str, Any]:
        """As `mlops get -o json` prints it."""
        return {
            "id": self.id,
            "type": self.type,
            "check": self.check,
            "window": self.window,
            "state": self.state,
            "runId": self.run_id,
            "branch": self.branch,
            "commit": self.commit,
            "message": self.message,
            "version": self.version,
            "pullRequest": self.pull_request,
        }


@dataclass(frozen=True, slots=True)
class PolicyRecord:
    """How a policy was left by its last evaluation.

    Args:
        seen: digest of all that went into it: policy, version, data. Empty: it was never evaluated. Behind
            `UNFINISHED`: not all of it is written down, or could be read.
        at: when data was looked for, seconds since the epoch.
        version: that was watched.
        verdict: `Healthy`, `Degraded` or `Unknown`, and `reason` and `message` why.
        windows: how many were evaluated.
        fired: the checks that are firing.
        actions: what was decided, oldest first.
        rows: the order of files by which row windows count: names and rows.
        promoted: since when the version that was watched is in its stage, seconds since 1970 UTC.
    """

    seen: str = ""
    at: float = 0.0
    version: str | None = None
    verdict: str = "Unknown"
    reason: str = "NoData"
    message: str = ""
    windows: int = 0
    fired: tuple[str, ...] = ()
    actions: tuple[PolicyAction, ...] = ()
    rows: tuple[tuple[str, int], ...] = ()
    promoted: float | None = None

    def encode(self) -> bytes:
        """As the state holds it."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def decode(cls, value: bytes | None) -> PolicyRecord:
        """Read what `encode` wrote; anything else is a policy that was never evaluated."""
        try:
            raw = json.loads(value or b"null")
            if raw is None or raw.pop("format") != _FORMAT:
                return cls()
            raw["actions"] = tuple(PolicyAction(**action) for action in raw["actions"])
            raw["fired"] = tuple(raw["fired"])
            raw["rows"] = tuple((name, rows) for name, rows in raw["rows"])
            return cls(**raw)
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls()

    @property
    def unfinished(self) -> bool:
        """Whether an evaluation is to be gone on with, whatever the schedule says."""
        return self.seen.startswith(UNFINISHED)

    def with_action(self, action: PolicyAction) -> PolicyRecord:
        """The same with `action` in the place of the one with its id."""
        return replace(self, actions=tuple(action if one.id == action.id else one for one in self.actions))

    def action(self, id: str) -> PolicyAction | None:
        """The action of this id."""
        return next((one for one in self.actions if one.id == id), None)


@dataclass(frozen=True, slots=True)
class ObservedPolicy:
    """A policy's record, and what else decides about its steps.

    Args:
        due: whether its schedule asks for another look at its data.
        trained: by id of an action, the best run of the training that its proposal asks for, once there is nothing left
            to train.
        stuck: by id of an action, why that training does not go on.
        moved: by id of an action, why what it proposes has to be looked at again.
    """

    record: PolicyRecord
    due: bool
    trained: Mapping[str, str] = field(default_factory=dict)
    stuck: Mapping[str, str] = field(default_factory=dict)
    moved: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Training:
    """What came of the training that a proposal asks for: its best run, or why it does not go on; neither yet."""

    run_id: str | None = None
    problem: str | None = None


def observe_policies(
    schedules: Iterable[tuple[str, float]],
    stored: Mapping[str, bytes],
    now: float,
    trainings: Mapping[str, Training],
    moved: Mapping[str, str],
) -> dict[str, ObservedPolicy]:
    """The records of policies.

    Args:
        schedules: name of each policy, and how often its data is looked for, in seconds.
        stored: the namespace `RECORDS`.
        now: seconds since the epoch.
        trainings: by commit of a proposal, how far its training has come.
        moved: by commit of a proposal, why it has to be looked at again.
    """
    found = {}
    for name, seconds in schedules:
        record = PolicyRecord.decode(stored.get(name))
        under_way = {
            action.id: training
            for action in record.actions
            if action.state == "training" and (training := trainings.get(action.commit or "")) is not None
        }
        found[name] = ObservedPolicy(
            record,
            not 0 <= now - record.at < seconds,
            {id: one.run_id for id, one in under_way.items() if one.run_id is not None},
            {id: one.problem for id, one in under_way.items() if one.problem is not None},
            {
                action.id: why
                for action in record.actions
                if action.standing and (why := moved.get(action.commit or "")) is not None
            },
        )
    return found

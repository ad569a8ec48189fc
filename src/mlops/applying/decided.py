"""What was decided about a policy, as its record holds it: how it stands, and how far each action has come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from mlops.applying.monitored import Kept, Window
from mlops.applying.watching import Watching
from mlops.observation.policies import RECORDS, PolicyAction, PolicyRecord
from mlops.resources import MonitoringPolicy, Notifier

if TYPE_CHECKING:  # the monitoring room stands on numpy: it is imported by the functions that evaluate
    from mlops.monitoring.deciding import Decided, Decision, Watched
    from mlops.monitoring.deciding.actions import Alert, Retrain, Rollback
    from mlops.monitoring.evaluating import Assessed
    from mlops.state import State
    from mlops.tracking import Tracker

_SETTLED: Final = ("sent", "failed", "past", "training", "proposed", "moot", "merged", "dropped")
_OPEN: Final = ("due", "blocked", "training", "proposed")


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What came of an evaluation: all windows of the version, those that are new or changed, and what was decided."""

    watching: Watching
    windows: tuple[Window, ...]
    changed: tuple[Window, ...]
    decision: Decision
    record: PolicyRecord
    watched: Watched
    assessed: Assessed

    @property
    def version(self) -> str:
        """The version that is watched, as people call it."""
        return self.watching.number


def with_earlier(decision: Decision, kept: Kept, version: str) -> Decision:
    """A decision with the retrainings that earlier ones asked for, which a fold does not ask for again."""
    from mlops.monitoring.deciding.actions import Retrain

    known = {one.id for one in decision.actions}
    earlier = (
        one
        for one in kept.decided.values()
        if isinstance(one, Retrain) and one.version == version and one.id not in known
    )
    return replace(decision, actions=(*decision.actions, *earlier))


def folded(
    resource: MonitoringPolicy, notifiers: Iterable[Notifier], kept: Kept, watched: Watched
) -> Decision:
    """What follows from all windows of a version, and what was decided before."""
    from mlops.monitoring.deciding import fold, settings_of

    windows = kept.of(watched.version)
    times = None
    if resource.spec.window.size is None:
        times = {one.evaluation.start: one.time for one in windows if one.time is not None}
    return fold(
        settings_of(resource, list(notifiers)),
        watched,
        [window.evaluation for window in windows],
        done=kept.decided.values(),
        times=times,
    )


def recorded(
    record: PolicyRecord,
    watching: Watching,
    kept: Kept,
    decision: Decision,
    assessed: Assessed,
    *,
    inputs: str,
    at: float,
) -> PolicyRecord:
    """The record after an evaluation.

    Args:
        record: as it was.
        inputs: digest of all that went into the evaluation.
        at: when data was looked for, seconds since the epoch.
    """
    from mlops.monitoring.deciding.actions import Alert, Retrain, Rollback

    number = watching.number
    standing = standing_of(decision, kept.of(number))
    first = not record.seen
    known = {action.id: action for action in record.actions}
    for one in decision.actions:
        before = known.get(one.id)
        if before is not None and before.state in _SETTLED:
            continue
        over = first and one.check not in standing["fired"]
        match one:
            case Alert():
                action = _action(one, "alert", "past" if over else "pending", f"{one.check} {one.turn}")
            case Retrain():
                why = f"{one.reason}" if one.reason else ""
                action = replace(_action(one, "retrain", one.state, why), experiment=one.experiment)
            case Rollback():
                action = _action(one, "rollback", "due", "")
        if over and action.type != "alert":
            why = "it had cleared before the policy was first evaluated"
            action = replace(action, state="dropped", message=why)
        known[one.id] = action
    known = {id: _settled(action, number, kept, decision) for id, action in known.items()}
    if assessed.future or assessed.undated:
        standing["message"] += (
            f"; {assessed.future} rows from the future and {assessed.undated} without a time are left out"
        )
    return PolicyRecord(
        seen=inputs,
        at=at,
        version=number,
        actions=tuple(known.values()),
        rows=assessed.order.files if assessed.order is not None else (),
        promoted=watching.promoted_at,
        **standing,
    )


def _settled(action: PolicyAction, number: str, kept: Kept, decision: Decision) -> PolicyAction:
    """The action, moot where its firing is none any more, or where another version is watched by now."""
    if action.type == "alert" or action.state not in _OPEN:
        return action
    if action.watched != number:
        if action.state != "blocked":
            return action  # whether it is asked for elsewhere by now is seen from its edits
        return replace(action, state="dropped", message=f"{number} is watched now")
    firing = (action.check, action.window)
    fired = any((one.check, one.window) == firing for one in decision.transitions if one.turn == "fired")
    known = any(window.evaluation.start == action.window for window in kept.of(number))
    if fired or not known:
        return action
    state = "moot" if action.branch is not None else "dropped"
    return replace(action, state=state, message="its firing was taken back by late data or a new policy")


def restore(state: State, tracker: Tracker, project: str, resource: MonitoringPolicy) -> None:
    """Read back from MLflow what a lost state held of a policy, so that nothing is done again."""
    policy = resource.metadata.name
    record = PolicyRecord.decode(state.get(RECORDS, policy))
    kept = Kept.read(state, policy)
    if record.seen or kept.windows:
        return
    version = kept.restore(tracker.evaluations(f"{project}/monitoring/{policy}"))
    if version is None:
        return
    decision = folded(resource, (), kept, kept.watched[version])
    record = replace(
        record,
        seen="restored",  # it was evaluated before, and is to be looked at again
        version=version,
        promoted=kept.promoted,
        actions=tuple(
            sorted(_restored(kept.decided.values()), key=lambda action: (action.window, action.id))
        ),
        **standing_of(decision, kept.of(version)),
    )
    kept.write(state, policy, record, kept.windows.values())


def _restored(decided: Iterable[Decided]) -> Iterator[PolicyAction]:
    """Actions as they stood: people were told; what was proposed is found by its branch."""
    from mlops.monitoring.deciding.actions import Alert, Retrain, Rollback

    for one in decided:
        match one:
            case Alert():
                yield _action(one, "alert", "sent", f"{one.check} {one.turn}")
            case Retrain():
                action = _action(one, "retrain", one.state, one.reason or "")
                yield replace(action, experiment=one.experiment)
            case Rollback():
                yield _action(one, "rollback", "due", "")


def standing_of(decision: Decision, windows: Sequence[Window]) -> dict[str, Any]:
    """How a policy stands after its decisions, and why: fields of its record."""
    fired = tuple(check.name for check in decision.state.checks if check.fired)
    verdict = decision.state.verdict
    reason, message = "NoData", "no window is closed yet"
    if verdict == "Degraded":
        reason, message = "Drift", f"{', '.join(fired)} fired"
    elif verdict == "Healthy":
        reason, message = "Quiet", f"{len(windows)} windows evaluated"
    elif windows:
        reason, message = "Insufficient", "the newest windows could not be judged"
    return {
        "verdict": verdict,
        "reason": reason,
        "message": message,
        "fired": fired,
        "windows": len(windows),
    }


def did(record: PolicyRecord, check: str, window: float) -> list[str]:
    """What is done about the firing of a check that began in `window`, a sentence each."""
    sentences = []
    for action in record.actions:
        if action.type == "alert" or (action.check, action.window) != (check, window):
            continue
        if action.state in ("proposed", "failed"):
            continue
        what = "a retraining" if action.type == "retrain" else "a rollback"
        why = f" ({action.message})" if action.message else ""
        words = {"due": f"{what} is proposed on a branch", "blocked": f"{what} is held back{why}"}
        sentences.append(words.get(action.state, f"{what}: {action.state}{why}"))
    return sentences


def _action(one: Alert | Retrain | Rollback, kind: str, state: str, message: str) -> PolicyAction:
    return PolicyAction(one.id, kind, one.check, one.window, state, message, watched=one.version)

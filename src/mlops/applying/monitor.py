"""Evaluate a policy: read what is new, judge, decide, and write down what is to be done about it.

Evaluations, decisions and messages to be sent are one transaction of the state; then each evaluation becomes a run in
MLflow, found by its key. Killed anywhere, the next pass evaluates the same bytes again, decides the same, and finds
what was done by the ids of the decisions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from mlops.applying.monitored import Kept, Reference, Window, told
from mlops.applying.outcomes import Done, Outcome
from mlops.applying.predicting import predicting
from mlops.applying.world import NOW, World
from mlops.errors import Stalled
from mlops.observation.history import parse_time
from mlops.observation.observed import ObservedVersion
from mlops.observation.policies import RECORDS, UNFINISHED, PolicyAction, PolicyRecord
from mlops.planning.context import PROJECT_TAG, RESOURCE_TAG, REVISION_TAG, VERSION_TAG
from mlops.planning.plan import Step
from mlops.planning.policies import inputs_of
from mlops.planning.runs import DATASET_DIGEST
from mlops.planning.stays import Stay, lasting
from mlops.planning.work import MonitorPolicy
from mlops.resources import Experiment, Key, Model, MonitoringPolicy, Notifier

if TYPE_CHECKING:  # the monitoring room stands on numpy: it is imported by the functions that evaluate
    from mlops.monitoring.deciding import Decided, Decision, Watched
    from mlops.monitoring.deciding.actions import Alert, Retrain, Rollback
    from mlops.monitoring.evaluating import Assessed, Subject, Table
    from mlops.monitoring.verdicts import Evaluation
    from mlops.state import State
    from mlops.tracking import Tracker

SUMMARIES: Final = "summaries"  # namespace of the state
REPORT: Final = "report.html"
_TRAIN: Final = "train"
_SETTLED: Final = ("sent", "failed", "past", "training", "proposed", "moot", "merged", "dropped")
_OPEN: Final = ("due", "blocked", "training", "proposed")


def monitor(world: World, step: Step, work: MonitorPolicy) -> Outcome:
    """Evaluate the windows of a policy that are new or changed, and decide about all of them."""
    resource = world.desired.resources[Key("MonitoringPolicy", work.policy)]
    assert isinstance(resource, MonitoringPolicy)
    version, stay = _in_stage(world, resource)
    record = PolicyRecord.decode(world.state.get(RECORDS, work.policy))
    kept = Kept.read(world.state, work.policy)
    place = f"{world.desired.project}/monitoring/{work.policy}"
    if not record.seen and not kept.windows:
        world.check_lease()
        restore(world.state, world.tracker, world.desired.project, resource)
        record = PolicyRecord.decode(world.state.get(RECORDS, work.policy))
        kept = Kept.read(world.state, work.policy)
    return _Evaluating(world, step, resource, work.version, version, stay, kept, record, place).run()


def _in_stage(world: World, resource: MonitoringPolicy) -> tuple[ObservedVersion, Stay]:
    """The version in the policy's stage as this apply left it, and its stay."""
    spec = resource.spec
    model = world.desired.resources.get(Key("Model", spec.model))
    registered = (model.spec.registered_name if isinstance(model, Model) else None) or spec.model
    stays = [
        (stay.since, version.number, version, stay)
        for version in world.versions_of(registered)
        if (stay := lasting(version.tags, spec.stage)) is not None
    ]
    if not stays:
        raise Stalled(f"no version of {spec.model} is in {spec.stage} any more", fix="Promote one")
    _, _, version, stay = max(stays, key=lambda row: row[:2])
    return version, stay


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What came of an evaluation: all windows of the version, those that are new or changed, and what was decided."""

    version: str
    windows: tuple[Window, ...]
    changed: tuple[Window, ...]
    decision: Decision
    record: PolicyRecord
    watched: Watched
    assessed: Assessed


def evaluated(world: World, step: Step, resource: MonitoringPolicy, *, afresh: bool = False) -> Evaluated:
    """Evaluate a policy and write nothing; `afresh`: as if it had never been, over all the data there is."""
    version, stay = _in_stage(world, resource)
    name = resource.metadata.name
    kept = Kept() if afresh else Kept.read(world.state, name)
    record = PolicyRecord() if afresh else PolicyRecord.decode(world.state.get(RECORDS, name))
    number = version.tags.get(VERSION_TAG) or f"v{version.number}"
    return _Evaluating(world, step, resource, number, version, stay, kept, record, "").evaluate()


def unread(policy: str, assessed: Assessed) -> Stalled:
    """The error of data files that could not be read."""
    first = assessed.unread[0]
    more = f" and {len(assessed.unread) - 1} more" if len(assessed.unread) > 1 else ""
    return Stalled(
        f"{first.file} of Dataset/{first.table}{more} could not be read: {first.error.what}",
        where=f"MonitoringPolicy/{policy}",
        fix="The rest was evaluated. Mend or remove the file; it is looked at again when it changes",
    )


@dataclass(slots=True)
class _Evaluating:
    world: World
    step: Step
    resource: MonitoringPolicy
    number: str  # the version that is watched, as people call it
    version: ObservedVersion
    stay: Stay
    kept: Kept
    record: PolicyRecord
    place: str  # the full name of the policy's MLflow experiment

    @property
    def policy(self) -> str:
        return self.resource.metadata.name

    def evaluate(self) -> Evaluated:
        """Read, judge and decide; writes nothing but the cache of summaries."""
        from mlops.monitoring.alibi.worker import Worker
        from mlops.monitoring.evaluating import assess
        from mlops.monitoring.windows import RowOrder

        world = self.world
        subject, digests = self._subject()
        tables = subject.reference, subject.predictions
        about = world, self.step, self.resource, self.version, self.number
        with predicting(*about, *tables) as predict, Worker() as alibi:
            assessed = assess(
                replace(subject, predict=predict),
                world.state.namespace(SUMMARIES),
                self.kept.stored(self.number),
                now=world.now(),
                order=RowOrder(self.record.rows),
                progress=self._says,
                alibi=alibi.measure,
            )
        changed = tuple(self._window(one.start, assessed) for one in assessed.evaluations)
        self.kept.windows |= {window.key: window for window in changed}
        watched = self._watched()
        decision = self._decide(watched)
        self.record = self._recorded(decision, assessed, inputs_of(self.resource, self.number, digests))
        return Evaluated(
            self.number, tuple(self.kept.of(self.number)), changed, decision, self.record, watched, assessed
        )

    def run(self) -> Outcome:
        """Evaluate, and write all of it down."""
        found = self.evaluate()
        world, assessed = self.world, found.assessed
        world.check_lease()
        untold = [window for window in found.windows if window.run_id is None]
        whole = self.record
        if untold or assessed.unread:  # until it is, the next apply goes on with it
            self.record = replace(whole, seen=f"{UNFINISHED}{whole.seen}")
        self.kept.write(world.state, self.policy, self.record, found.changed, puts=self._messages(found))
        if not assessed.unread:
            self.record = whole
        self._tell(untold, found.watched, found.decision, assessed)
        if assessed.unread:
            raise unread(self.policy, assessed)
        return Done(f"{len(found.changed)} windows evaluated, {self.record.verdict}")

    def _says(self, done: int, todo: int, name: str) -> None:
        if self.world.stop.is_set():
            raise Stalled("stopped while it was evaluated", fix="It goes on where it was")
        if name:
            self.world.progress.says(self.step, f"{name} ({done + 1} of {todo})")

    def _subject(self) -> tuple[Subject, dict[str, str]]:
        """What the engine is given, and the digests of the data as it is read."""
        from mlops.monitoring.evaluating import Subject

        spec = self.resource.spec
        predictions = self._table(spec.data.predictions)
        labels = self._table(spec.data.labels.dataset) if spec.data.labels is not None else None
        source = spec.reference.source
        read = [predictions, *([labels] if labels else [])]
        reference: Table | None = None
        if source == "training":
            reference = self._training_data()
        elif hasattr(source, "dataset"):
            reference = self._table(source.dataset)
            read.append(reference)
        subject = Subject(
            spec=spec,
            policy=self.policy,
            version=self.number,
            predictions=predictions,
            labels=labels,
            reference=reference,
            promoted_at=parse_time(self.stay.since).timestamp(),
        )
        return subject, {table.name: table.digest or "" for table in read}

    def _table(self, name: str, digest: str | None = None, revision: str | None = None) -> Table:
        """A Dataset with its files; with `digest` and `revision` as it was there and then."""
        from mlops.monitoring.evaluating import DataFile, Table

        dataset, rows = self.world.rows(name, digest, revision)
        files = tuple(DataFile(one.digest, one.name, at, one.batches) for at, one in enumerate(rows.files))
        spec = dataset.spec
        return Table(name, rows.digest, rows.types, files, spec.columns, rows.text, spec.expect)

    def _training_data(self) -> Table:
        """What the version was trained on: the experiment's dataset `train`, or its only one."""
        run = self.world.run(self.version.run_id) if self.version.run_id else None
        name = (run.tags.get(RESOURCE_TAG, "") if run is not None else "").partition("/")[2]
        experiment = self.world.desired.resources.get(Key("Experiment", name))
        if run is None or not isinstance(experiment, Experiment):
            raise Stalled(
                f"it is not known on what {self.number} was trained",
                where=f"MonitoringPolicy/{self.policy}",
                fix="Name a Dataset in spec.reference.source",
            )
        roles = experiment.spec.datasets
        role = _TRAIN if _TRAIN in roles else next(iter(roles), None)
        if role is None or (role != _TRAIN and len(roles) > 1):
            raise Stalled(
                f"Experiment/{name} has no dataset named train, and not just one",
                where=f"MonitoringPolicy/{self.policy}",
                fix="Name a Dataset in spec.reference.source",
            )
        digest = run.tags.get(f"{DATASET_DIGEST}{role}")
        try:
            table = self._table(roles[role], digest, run.tags.get(REVISION_TAG))
        except Stalled as error:
            known = self.kept.references.get(digest or "")
            if known is None:
                raise
            return self._grown(roles[role], digest or "", known, error)
        if table.digest is not None:
            listed = tuple((file.name, file.digest) for file in table.files)
            self.kept.references[table.digest] = Reference(dict(table.types), table.text, listed)
        return table

    def _grown(self, name: str, digest: str, known: Reference, error: Stalled) -> Table:
        """The training data as it was, of a dataset that has changed since: most often it only has more files.

        What is gone of it may be summed up already; only if it has to be read again `error` is raised.
        """

        from mlops.monitoring.evaluating import DataFile

        def gone(columns: object) -> Iterator[Any]:
            raise error

        now = self._table(name, NOW)
        there = {(file.name, file.digest): file for file in now.files}
        files = tuple(
            there[one] if one in there else DataFile(one[1], one[0], at, gone)
            for at, one in enumerate(known.files)
        )
        return replace(now, digest=digest, types=known.types, text=known.text, files=files)

    def _window(self, start: float, assessed: Assessed) -> Window:
        evaluation = next(one for one in assessed.evaluations if one.start == start)
        time = assessed.times.get(start) if assessed.times is not None else None
        return Window(
            self.number, evaluation, assessed.records[start], assessed.files.get(start, ()), None, time
        )

    def _watched(self) -> Watched:
        """From where on windows are this version's own; noted when it is first watched."""
        from mlops.monitoring.deciding import Watched

        known = self.kept.watched.get(self.number)
        if known is None:
            others = [one.evaluation.end for one in self.kept.windows.values() if one.version != self.number]
            proposed = any(
                one.version == self.number and one.state in ("proposed", "merged")
                for one in self.record.actions
            )
            known = Watched(self.number, max(others, default=None), proposed)
            self.kept.watched[self.number] = known
        return known

    def _decide(self, watched: Watched) -> Decision:
        notifiers = [one for one in self.world.desired.resources.values() if isinstance(one, Notifier)]
        decision = _folded(self.resource, notifiers, self.kept, watched)
        self.kept.decided |= {one.id: one for one in (*decision.transitions, *decision.actions)}
        return decision

    def _recorded(self, decision: Decision, assessed: Assessed, inputs: str) -> PolicyRecord:
        from mlops.monitoring.deciding.actions import Alert, Retrain, Rollback

        standing = _standing(decision, self.kept.of(self.number))
        first = not self.record.seen
        known = {action.id: action for action in self.record.actions}
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
        known = {id: self._settled(action, decision) for id, action in known.items()}
        if assessed.future or assessed.undated:
            standing["message"] += (
                f"; {assessed.future} rows from the future and {assessed.undated} without a time are left out"
            )
        return PolicyRecord(
            seen=inputs,
            at=self.world.now(),
            version=self.number,
            actions=tuple(known.values()),
            rows=assessed.order.files if assessed.order is not None else (),
            **standing,
        )

    def _settled(self, action: PolicyAction, decision: Decision) -> PolicyAction:
        """The action, moot where its firing is none any more, or where another version is watched by now."""
        if action.type == "alert" or action.state not in _OPEN:
            return action
        if action.watched != self.number:
            if action.state != "blocked":
                return action  # whether it is asked for elsewhere by now is seen from its edits
            return replace(action, state="dropped", message=f"{self.number} is watched now")
        firing = (action.check, action.window)
        fired = any((one.check, one.window) == firing for one in decision.transitions if one.turn == "fired")
        known = any(window.evaluation.start == action.window for window in self.kept.of(self.number))
        if fired or not known:
            return action
        state = "moot" if action.branch is not None else "dropped"
        return replace(action, state=state, message="its firing was taken back by late data or a new policy")

    def _messages(self, found: Evaluated) -> Mapping[str, Mapping[str, bytes]]:
        """The rows of the outbox for alerts that nobody was told of yet."""
        from mlops.monitoring.deciding import Alert
        from mlops.monitoring.reporting import picture
        from mlops.notifying.outbox import Outbox
        from mlops.notifying.wording import message

        world = self.world
        outbox = Outbox(world.state, redact=world.redactor.redact)
        puts: dict[str, dict[str, bytes]] = {}
        evaluations = [window.evaluation for window in found.windows]
        for alert in found.decision.actions:
            action = self.record.action(alert.id)
            if not isinstance(alert, Alert) or action is None or action.state != "pending":
                continue
            told = [
                notifier
                for name in alert.notify
                if isinstance(notifier := world.desired.resources.get(Key("Notifier", name)), Notifier)
            ]
            until = [one for one in evaluations if one.start <= alert.at]
            text = message(
                alert,
                policy=self.resource,
                evaluation=until[-1] if until else None,
                did=_did(self.record, alert.check, alert.window),
                picture=picture(alert.check, until, unit=_unit(self.resource)),
            )
            for namespace, rows in outbox.rows_for(alert.id, text, told, world.now()).items():
                puts.setdefault(namespace, {}).update(rows)
        return puts

    def _tell(
        self, windows: Iterable[Window], watched: Watched, decision: Decision, assessed: Assessed
    ) -> None:
        """Log evaluations as runs; the newest, and each that violates, with a report."""
        windows = list(windows)
        if not windows:
            return
        world = self.world
        world.check_lease()
        tags = {PROJECT_TAG: world.desired.project, RESOURCE_TAG: f"MonitoringPolicy/{self.policy}"}
        experiment = world.tracker.ensure_experiment(self.place, description="", tags=tags)
        logged = []
        newest = max(window.evaluation.start for window in windows)
        for number, window in enumerate(windows):
            world.check_lease()
            one = window.evaluation
            self._says(number, len(windows), f"writing down window {number + 1}")
            artifacts = {"evaluation.json": told(window, watched, self.kept)}
            if one.start == newest or one.verdict == "violated":
                artifacts[REPORT] = self._report(window, decision, assessed).encode()
            run_id = world.tracker.log_evaluation(
                experiment,
                key=f"{one.key}.{one.revision}"[:250],
                name=f"{self.policy} {_moment(window)}",
                tags={
                    **tags,
                    REVISION_TAG: world.desired.revision,
                    VERSION_TAG: self.number,
                    "mlops.verdict": one.verdict,
                    **{f"mlops.verdict.{check.name}": check.verdict for check in one.checks},
                },
                metrics=_metrics(window),
                at=window.time if window.time is not None else float(one.end),
                step=int(one.start // max(one.end - one.start, 1)),
                artifacts=artifacts,
            )
            logged.append(replace(window, run_id=run_id))
        self.kept.windows |= {window.key: window for window in logged}
        world.check_lease()
        self.kept.write(world.state, self.policy, self.record, logged)

    def _report(self, window: Window, decision: Decision, assessed: Assessed) -> str:
        start = window.evaluation.start
        until = [one.evaluation for one in self.kept.of(self.number) if one.evaluation.start <= start]
        whose = about(self.world.desired.project, self.world.desired.revision, self.resource, self.number)
        return _page(whose, until, decision, assessed, window)


def report_of(project: str, revision: str, resource: MonitoringPolicy, found: Evaluated) -> str:
    """The page of the newest window of an evaluation."""
    if not found.windows:
        name = resource.metadata.name
        raise Stalled(f"MonitoringPolicy/{name} has no closed window yet", fix="Wait for data")
    whose = about(project, revision, resource, found.version)
    windows = [window.evaluation for window in found.windows]
    return _page(whose, windows, found.decision, found.assessed, found.windows[-1])


def _page(
    whose: Any, windows: list[Evaluation], decision: Decision, assessed: Assessed, window: Window
) -> str:
    from mlops.monitoring.reporting import page

    start = window.evaluation.start
    reference, shown = assessed.reference_of(start), assessed.window_of(start)
    return page(whose, windows, decision, reference, shown, window.files)


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
    decision = _folded(resource, (), kept, kept.watched[version])
    record = replace(
        record,
        seen="restored",  # it was evaluated before, and is to be looked at again
        version=version,
        actions=tuple(
            sorted(_restored(kept.decided.values()), key=lambda action: (action.window, action.id))
        ),
        **_standing(decision, kept.of(version)),
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


def _folded(
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


def _standing(decision: Decision, windows: Sequence[Window]) -> dict[str, Any]:
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


def about(project: str, revision: str, resource: MonitoringPolicy, version: str) -> Any:
    """Whose report it is."""
    from mlops import __version__
    from mlops.monitoring.reporting import About
    from mlops.resources.quantities import render_duration

    spec = resource.spec
    source = spec.reference.source
    reference = (
        "training data" if isinstance(source, str) else next(iter(source.model_dump(mode="json").items()))
    )
    return About(
        project=project,
        policy=resource.metadata.name,
        model=spec.model,
        stage=spec.stage,
        version=version,
        reference=reference if isinstance(reference, str) else " ".join(map(str, reference)),
        window=f"{spec.window.rows} rows" if spec.window.size is None else render_duration(spec.window.size),
        engine=__version__,
        unit=_unit(resource),
        revision=revision,
    )


def _unit(resource: MonitoringPolicy) -> Literal["time", "rows"]:
    return "rows" if resource.spec.window.size is None else "time"


def _did(record: PolicyRecord, check: str, window: float) -> list[str]:
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


def _metrics(window: Window) -> dict[str, float]:
    """Check and column values by name: `inputs`, `inputs.psi.temp`, `inputs.psi.temp.country=FR`."""
    found: dict[str, float] = {"rows": float(window.evaluation.rows)}
    for check in window.evaluation.checks:
        if check.value is not None:
            found[check.name] = check.value
        for one in check.columns:
            if one.value is not None:
                part = f".{one.slice}" if one.slice else ""
                found[f"{check.name}.{one.detector}.{one.column}{part}"] = one.value
    return found


def _moment(window: Window) -> str:
    from datetime import UTC, datetime

    if window.time is not None:
        return f"rows {window.evaluation.start} to {window.evaluation.end}"
    try:
        return datetime.fromtimestamp(float(window.evaluation.start), UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return str(window.evaluation.start)

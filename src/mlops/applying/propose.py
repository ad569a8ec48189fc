"""Proposals of policies: written to a branch, trained there, and then shown to people.

The commit is the same for the same revision, data and decision, so a proposal that was killed half-way is gone on with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mlops.applying.firing import code_since, evidence_of
from mlops.applying.monitored import Kept
from mlops.applying.outcomes import Done, Outcome
from mlops.applying.request_text import request_text
from mlops.applying.world import World
from mlops.applying.writing_back import Written, publish, request, take_back, write
from mlops.errors import MlopsError, Stalled, Transient
from mlops.observation.policies import RECORDS, PolicyAction, PolicyRecord
from mlops.planning.context import VERSION_TAG
from mlops.planning.experiments import MOVED
from mlops.planning.plan import Step
from mlops.planning.stays import history
from mlops.planning.work import ProposeChange
from mlops.resources import Experiment, Key, Model, MonitoringPolicy
from mlops.state import LeaseLost

if TYPE_CHECKING:
    from mlops.forges import PullRequest
    from mlops.proposing.proposal import Moot, Proposal
    from mlops.resources.monitoring_actions import Retrain


def propose(world: World, step: Step, work: ProposeChange) -> Outcome:
    """Write a proposal to its branch, or publish one that is trained."""
    resource = world.desired.resources[Key("MonitoringPolicy", work.policy)]
    assert isinstance(resource, MonitoringPolicy)
    record = PolicyRecord.decode(world.state.get(RECORDS, work.policy))
    action = record.action(work.action)
    if action is None:
        raise Stalled(
            "what it proposes is not known any more", where=step.resource, fix="It is decided again"
        )
    return _Proposing(world, resource, record, action, Kept.read(world.state, work.policy)).run(work.run_id)


def take_back_orphans(world: World) -> tuple[str, ...]:
    """Withdraw what policies proposed that git does not declare any more; gives what could not be done yet."""
    if world.desired.prune_refused is not None or world.desired.invalid:
        return ()  # what is absent may only be broken
    troubles: list[str] = []
    try:
        stored = world.state.all(RECORDS)
    except Transient as error:
        return (f"what policies proposed cannot be read now: {error}",)
    for name, raw in stored.items():
        key, record = Key("MonitoringPolicy", name), PolicyRecord.decode(raw)
        if key in world.desired.resources:
            continue
        for action in record.actions:
            if action.branch is None or not (action.standing or action.state == "moot"):
                continue
            reason = f"{key} is not declared any more"
            try:
                world.check_lease()
                take_back(world.desk(), action.branch, reason)
            except LeaseLost:
                raise
            except MlopsError as error:
                troubles.append(f"{action.branch} cannot be withdrawn yet: {error}")
                continue
            record = record.with_action(replace(action, state="dropped", message=reason))
            world.state.put_many(RECORDS, {name: record.encode()})
    return tuple(troubles)


@dataclass(slots=True)
class _Proposing:
    world: World
    resource: MonitoringPolicy
    record: PolicyRecord
    action: PolicyAction
    kept: Kept

    def run(self, run_id: str | None) -> Outcome:
        action = self.action
        if action.state == "moot":
            return self._take_back(action.message)
        if run_id is not None and run_id == self._watched_run():
            return self._take_back(
                "there is nothing new to train on: code, parameters and data are those it was trained with"
            )
        if run_id is not None:
            proposal, base = self._trained(run_id)
            return self._shown(proposal, self._commit(proposal, base), run_id)
        if action.standing:
            return self._again()
        return self._made(self._proposal())

    def _made(self, made: Proposal | Moot) -> Outcome:
        """Write a proposal on the revision that is looked at; a retraining is trained before it is shown."""
        from mlops.proposing.proposal import Moot

        if isinstance(made, Moot):
            return self._take_back(made.reason)
        sha = self._commit(made, self.world.desired.revision)
        self.action = replace(self.action, branch=made.branch, commit=sha, version=made.version)
        if self.action.type == "retrain":
            self._keep(replace(self.action, state="training", experiment=made.experiment))
            return Done(f"{made.title}, on {made.branch}; it is trained there")
        return self._shown(made, sha, None)

    def _again(self) -> Outcome:
        """Look again at a proposal that was overtaken: by its merge, by its refusal, or by other changes."""
        from mlops.proposing.proposal import Moot
        from mlops.source.publishing import merged

        action, repository, head = self.action, self.world.repository, self.world.desired.revision
        branch = action.branch or ""
        tip = repository.tip(branch)
        if merged(repository, head, tip or action.commit or head):
            self._close_request(f"{action.version} is asked for")
            self._keep(replace(action, state="merged", message=""))
            return Done(f"{branch} is merged")
        if tip is None:
            return self._take_back(f"{branch} was deleted")
        if (there := self._request()) is not None and there.state == "closed":
            return self._take_back("its pull request was closed")
        try:
            made = self._proposal()
        except Stalled as problem:  # what it would change is not there any more
            return self._take_back(problem.what)
        if not isinstance(made, Moot) and made.branch != branch:
            take_back(self.world.desk(), branch, f"it is proposed anew as {made.branch}")
        return self._made(made)

    def _shown(self, proposal: Proposal, sha: str, run_id: str | None) -> Outcome:
        """Bring a proposal to where people review it."""
        world = self.world
        world.check_lease()
        desk = world.desk()
        written = publish(desk, Written(proposal, sha, new=True))
        if desk.forge is not None and written.pushed:
            written = request(desk, written, request_text(proposal.body, world.planned_at(sha)))
        url = written.pull_request.url if written.pull_request is not None else None
        shown = replace(self.action, state="proposed", commit=sha, run_id=run_id, message=proposal.title)
        self._keep(replace(shown, pull_request=url))
        where = url or proposal.branch
        return Done(f"{proposal.title}: review and merge {where}")

    def _take_back(self, reason: str) -> Outcome:
        """Withdraw a proposal that is moot; one that nobody has seen is just not made."""
        action = self.action
        if action.branch is None:
            self._keep(replace(action, state="dropped", message=reason))
            return Done(f"not proposed: {reason}")
        self.world.check_lease()
        ours = take_back(self.world.desk(), action.branch, reason)
        self._keep(replace(action, state="dropped", message=reason))
        left = "" if ours else f"; {action.branch} stays, as somebody else works on it"
        return Done(f"not proposed any more: {reason}{left}")

    def _request(self) -> PullRequest | None:
        forge, branch = self.world.desk().forge, self.action.branch
        return forge.proposed(branch) if forge is not None and branch is not None else None

    def _close_request(self, reason: str) -> None:
        """Close a pull request whose edits were merged without it."""
        forge, there = self.world.desk().forge, self._request()
        if forge is not None and there is not None and there.state == "open":
            forge.close(there.number, f"Closed by the reconciler: {reason}.")

    def _trained(self, run_id: str) -> tuple[Proposal, str]:
        """The proposal as it was trained, with the numbers that came of it, and the commit that it stands on."""
        from mlops.proposing.proposal import Proposal, compared
        from mlops.source.objects import read_objects
        from mlops.source.proposing import MARK, look

        world, action = self.world, self.action
        there = look(world.repository, action.commit or "")
        base = there.commit.parents[0]
        paths = world.repository.changed(base, there.commit.sha)
        names = [f"{there.commit.sha}:{path}" for path in paths]
        texts = [
            one.data.decode("utf-8", "surrogateescape") for one in read_objects(world.repository.root, names)
        ]
        title, _, body = there.message.rpartition(f"\n\n{MARK}: ")[0].partition("\n\n")
        top = f"{world.folder}/" if world.folder else ""
        proposal = Proposal(
            branch=action.branch or "",
            title=title,
            body=body,
            files={path.removeprefix(top): text for path, text in zip(paths, texts, strict=True)},
            promotion="",
            version=action.version or "",
        )
        watched = action.watched or ""
        code = code_since(world, self._watched_run(), watched, action.experiment or "", base)
        return compared(proposal, watched, self._metrics(run_id), code), base

    def _proposal(self) -> Proposal | Moot:
        from mlops.proposing.proposal import Moot
        from mlops.proposing.retraining import promotion_of, retraining
        from mlops.proposing.rollback import rollback

        world, spec = self.world, self.resource.spec
        loaded, texts = world.loaded(), world.texts()
        why = evidence_of(world, self.resource, self.action, self.kept)
        if self.action.type == "rollback":
            before = self._before()
            if before is None:
                return Moot(f"no other version of {spec.model} was in {spec.stage} before")
            promotion = promotion_of(loaded, self.resource)
            return rollback(
                loaded,
                texts,
                promotion.metadata.name,
                before,
                why,
            )
        retrain = self._retrain()
        experiment = world.desired.resources.get(Key("Experiment", retrain.experiment))
        named = set(retrain.datasets.values())
        if isinstance(experiment, Experiment):
            named |= set(experiment.spec.datasets.values())
        outside: dict[str, str] = {}
        for name in sorted(named):
            seen = world.observed.datasets.get(name)
            if seen is None or not seen.outside:
                continue
            moved = name in retrain.datasets.values() or seen.reason == MOVED
            digest = world.fresh(name) if moved else seen.digest
            if digest is not None:
                outside[name] = digest
        registered = [v.tags.get(VERSION_TAG, "") for v in world.versions_of(self._registered(spec.model))]
        # Those of other proposals that stand, of any policy, are as good as taken.
        standing = (
            one for raw in world.state.all(RECORDS).values() for one in PolicyRecord.decode(raw).actions
        )
        registered += [one.version or "" for one in standing if one.id != self.action.id and one.standing]
        known = set(registered) - {self.action.version}
        return retraining(
            loaded,
            texts,
            self.resource,
            retrain,
            outside,
            why,
            registered=filter(None, known),
        )

    def _registered(self, model: str) -> str:
        resource = self.world.desired.resources.get(Key("Model", model))
        return (resource.spec.registered_name if isinstance(resource, Model) else None) or model

    def _retrain(self) -> Retrain:
        """The policy's action that asks for it."""
        for one in self.resource.spec.actions:
            if one.retrain is None or self.action.check not in one.on:
                continue
            if self.action.experiment in (None, one.retrain.experiment):
                return one.retrain
        raise Stalled(
            f"MonitoringPolicy/{self.resource.metadata.name} asks for no such retraining any more",
            fix="Nothing: it is not proposed",
        )

    def _before(self) -> str | None:
        """The version whose stay in the stage was the last one before the version that is watched; None: none was."""
        spec = self.resource.spec
        versions = self.world.versions_of(self._registered(spec.model))
        stays = [
            (stay.since, version.number, version.tags.get(VERSION_TAG))
            for version in versions
            for stay in history(version.tags, spec.stage).stays
        ]
        others = [row for row in stays if row[2] not in (None, self.action.watched)]
        return str(max(others, key=lambda row: row[:2])[2]) if others else None

    def _watched_run(self) -> str | None:
        """The run of the version that is watched."""
        versions = self.world.versions_of(self._registered(self.resource.spec.model))
        found = (one.run_id for one in versions if one.tags.get(VERSION_TAG) == self.action.watched)
        return next(found, None)

    def _metrics(self, run_id: str) -> dict[str, tuple[float | None, float | None]]:
        """The objective and the other metrics, of the version that is watched and of the new run."""
        world = self.world
        new = world.run(run_id)
        before = self._watched_run()
        old = world.run(before) if before else None
        names = sorted({*(new.metrics if new else ()), *(old.metrics if old else ())})
        experiment = world.desired.resources.get(Key("Experiment", self.action.experiment or ""))
        objective = experiment.spec.objective if isinstance(experiment, Experiment) else None
        if objective is not None:
            names.sort(key=lambda name: name != objective.metric)
        return {
            name: (old.metrics.get(name) if old else None, new.metrics.get(name) if new else None)
            for name in names
        }

    def _commit(self, proposal: Proposal, base: str) -> str:
        world = self.world
        world.check_lease()
        return write(world.desk(), proposal, base, datetime.fromtimestamp(self.record.at, UTC)).commit

    def _keep(self, action: PolicyAction) -> None:
        """Write down how far the action has come, on the record as it is now."""
        self.world.check_lease()
        name = self.resource.metadata.name
        record = PolicyRecord.decode(self.world.state.get(RECORDS, name))
        self.world.state.put_many(RECORDS, {name: record.with_action(action).encode()})

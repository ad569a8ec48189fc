"""Look at a revision: read it, observe what is, plan. Looking again costs only what has moved."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

from mlops.errors import MlopsError, Transient
from mlops.observation.admission import Admission, unsure_of
from mlops.observation.held import Held, held
from mlops.observation.observed import Ledger, Observed, ObservedDataset
from mlops.observation.settings import substitute
from mlops.planning.context import (
    APPLIED_FOLDER,
    APPLIED_GOOD,
    Options,
    revision_in_force,
)
from mlops.resources import Dataset, Experiment, Key, Loaded, MonitoringPolicy, Project, load
from mlops.resources.loading import PROJECT_FILE, without_garbage_collection
from mlops.source.snapshot import GitSnapshot, Snapshot
from mlops.view import View
from mlops.workspace import Workspace

if TYPE_CHECKING:  # what a command may not need is imported where it is used: `validate` and `plan` are quick
    from mlops.approvals import Asked, Decision
    from mlops.forges import Forge
    from mlops.notifying.rows import Standing
    from mlops.observation.approving import Approving
    from mlops.observation.policies import ObservedPolicy, Training
    from mlops.observation.rules import Bases
    from mlops.planning.authority import Rules
    from mlops.planning.desired import Desired
    from mlops.resources.project import Forge as ForgeSpec


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the last look found. A commit stays as it is: next time only the world has to be looked at."""

    view: View
    read: Desired  # as the revision says, before what else decides about what it lacks


class Looker(Workspace):
    """A workspace with the eyes on it: any number of looks, one at a time."""

    _seen: _Seen | None = None
    _token: str | None = None  # of the MLflow store, before the last look
    _trainings: Mapping[str, Training] = MappingProxyType({})  # by commit of a proposal
    _beside: Mapping[str, _Seen] = MappingProxyType({})  # what was seen of proposals
    _forge: tuple[ForgeSpec, Forge] | None = None
    _folder: str | None = None  # that the revision in force was applied from
    _moved: Mapping[str, str] = MappingProxyType(
        {}
    )  # by commit of a proposal: why it is to be looked at again

    def close(self) -> None:
        """Close the stores, and forget what was seen in them."""
        super().close()
        self._seen = self._token = None
        self._beside = {}

    def look(
        self,
        revision: str | None = None,
        *,
        working_tree: bool = False,
        targets: Collection[Key] = (),
        training: Collection[str] | None = None,
        options: Options | None = None,
    ) -> View:
        """Observe and plan; the very view of the last look where nothing in it has moved since.

        Args:
            targets: keep only what these resources need.
            training: keep only the training of these experiments; empty for all, None to keep everything.
        """
        with without_garbage_collection():
            return self._look(revision, working_tree, targets, training, options or Options())

    def _look(
        self,
        revision: str | None,
        working_tree: bool,
        targets: Collection[Key],
        training: Collection[str] | None,
        options: Options,
    ) -> View:
        snapshot = self._files(revision, working_tree)
        held = self._hold(snapshot)
        loaded = held.loaded
        unknown = [key for key in targets if key not in loaded.resources and key not in loaded.invalid]
        unknown += [
            Key("Experiment", name)
            for name in training or ()
            if Key("Experiment", name) not in loaded.resources
        ]
        if unknown:
            raise MlopsError(
                f"{unknown[0]} is not declared at this revision", fix="`mlops get` lists what is"
            )
        return self._view(snapshot, held, options, targets, training)

    def _files(self, revision: str | None, working_tree: bool) -> Snapshot:
        """The files of a revision; those of the last look where it was the same commit."""
        seen = self._seen.view.snapshot if self._seen is not None else None
        if working_tree or not isinstance(seen, GitSnapshot):
            return self.snapshot(revision, working_tree=working_tree)
        if revision == seen.revision:
            return seen
        snapshot = self.snapshot(revision)
        return seen if (snapshot.revision, snapshot.root) == (seen.revision, seen.root) else snapshot

    def _hold(self, snapshot: Snapshot) -> Held:
        """What counts of a revision: its resources, with the last good text of those that are broken."""
        before = self._seen.view.held if self._seen is not None else None
        if before is not None and self._seen is not None and self._seen.view.snapshot is snapshot:
            good = before.good.revision if before.good is not None else None
            if before.loaded.whole or (before.problem is None and good == self._good()):
                return before
        project, loaded = self.load(snapshot, before.loaded if before is not None else None)
        if loaded.whole:
            return Held(loaded.settled())
        found = held(loaded, project.metadata.name, self._good(), self._read)
        if found.loaded.project is None:
            raise self.no_project(snapshot)
        return found

    def _good(self) -> str | None:
        """The last revision in force that was whole, as MLflow has it now."""
        return self.tracker.experiment_tags(self.project_name).get(APPLIED_GOOD)

    def _read(self, sha: str) -> tuple[Snapshot, Loaded]:
        """A revision of before; where this folder held no project then, in the one that it was applied from."""
        snapshot = self.snapshot(sha)
        if self._folder not in (None, snapshot.root) and PROJECT_FILE not in snapshot.entries():
            snapshot = GitSnapshot(self.repository, sha, self._folder)
        return snapshot, load(snapshot, self._parsed())

    def ledger_moved(self) -> bool:
        """Whether something was committed to the MLflow store since the last look; False where it cannot tell."""
        token = self.tracker.token()
        return token is not None and token != self._token

    def proposed(self, view: View) -> dict[str, View]:
        """The training that proposals of policies wait for, as a view each, by the commit of the proposal.

        How far it has come is told to the next look.
        """
        from mlops.observation.policies import Training
        from mlops.planning.runs import best

        self._moved = self._overtaken(view)
        found: dict[str, View] = {}
        trainings: dict[str, Training] = {}
        for policy in view.observed.policies.values():
            for action in policy.record.actions:
                if action.state != "training" or not action.commit or not action.experiment:
                    continue
                if action.commit in self._moved:
                    continue
                try:
                    asked = self._aside(action.commit, action.experiment)
                except Transient:
                    raise
                except MlopsError as error:
                    trainings[action.commit] = Training(problem=error.what)
                    continue
                plan = asked.planned.plan
                if plan.steps:
                    found[action.commit] = asked
                elif plan.blocked:
                    trainings[action.commit] = Training(problem=plan.blocked[0].message)
                else:
                    runs = [
                        s.run for s in asked.planned.trials.get(action.experiment, ()) if s.run is not None
                    ]
                    experiment = asked.desired.resources[Key("Experiment", action.experiment)]
                    assert isinstance(experiment, Experiment)
                    goal = experiment.spec.objective
                    chosen = (
                        best(runs, goal.metric, goal.goal) if goal is not None else runs[-1] if runs else None
                    )
                    trainings[action.commit] = Training(run_id=chosen.run_id if chosen else None)
        self._trainings = trainings
        self._beside = {commit: seen for commit, seen in self._beside.items() if commit in found}
        return found

    def _overtaken(self, view: View) -> dict[str, str]:
        """The proposals that what was committed since, or somebody at their branch, has overtaken; by commit."""
        from mlops.source.publishing import overtaken

        head = view.desired.revision
        found: dict[str, str] = {}
        if view.desired.dirty or not head or view.refused is not None:
            return found
        versions = view.planned.graph.versions
        now: dict[tuple[str, str | None, str], str | None] = {}
        for name, policy in view.observed.policies.items():
            resource = view.desired.resources.get(Key("MonitoringPolicy", name))
            model = resource.spec.model if isinstance(resource, MonitoringPolicy) else ""
            for action in policy.record.actions:
                if not action.standing or not action.commit or not action.branch:
                    continue
                asked = (action.commit, self.repository.tip(action.branch), head)
                if asked not in self._asked:
                    self._asked[asked] = overtaken(self.repository, action.commit, action.branch, head)
                why = now[asked] = self._asked[asked]
                if why is None and action.type == "retrain" and action.version in versions.get(model, {}):
                    why = f"{action.version} was declared by somebody else"
                if why is not None:
                    found[action.commit] = why
        self._asked = now
        return found

    def aside(self, commit: str) -> View:
        """The whole view of another revision, without forgetting what was seen of the one that counts."""
        mine, self._seen = self._seen, None
        try:
            return self.look(commit)
        finally:
            self._seen = mine

    def _aside(self, commit: str, experiment: str) -> View:
        """The training of a proposal, without forgetting what was seen of the revision that counts."""
        mine, self._seen = self._seen, self._beside.get(commit)
        try:
            view = self.look(commit, training={experiment})
            if self._seen is not None:
                self._beside = {**self._beside, commit: self._seen}
            return view
        finally:
            self._seen = mine

    @cached_property
    def _asked(self) -> dict[tuple[str, str | None, str], str | None]:
        """Of proposals, what they had been overtaken by: by commit, tip of the branch and head."""
        return {}

    @property
    def trainings(self) -> Mapping[str, Training]:
        """How far the training of proposals had come when it was looked at last, by commit."""
        return self._trainings

    def _view(
        self,
        snapshot: Snapshot,
        held: Held,
        options: Options,
        targets: Collection[Key],
        training: Collection[str] | None,
    ) -> View:
        from mlops.planning.planner import only, only_training

        view = self._whole_view(snapshot, held, options)
        if targets:
            view = replace(view, planned=only(view.planned, targets))
        if training is not None:
            view = replace(view, planned=only_training(view.planned, training))
        return view

    def _whole_view(self, snapshot: Snapshot, held: Held, options: Options) -> View:
        from mlops.planning.planner import make_plan

        seen = self._seen if self._seen is not None and self._seen.view.held is held else None
        read = seen.read if seen is not None else read_revision(snapshot, held)
        self._token = self.tracker.token()
        ledger = self.sight.look(read)
        before = ledger.experiments.get(read.project)
        tags = before.tags if before is not None else {}
        self._folder = tags.get(APPLIED_FOLDER)
        self.refuse_twin(snapshot, read.project, self._folder)
        base = revision_in_force(tags)
        unsure = None if options.refused else unsure_of(tags, snapshot.revision, options)
        last = {base: tags.get(APPLIED_GOOD)}

        def rules(base: str) -> Rules:
            return self._bases.rules(base, last.get(base), held.project, self._at_hand(base))

        refused = options.refused
        if refused is None and base is not None:
            refused = self._admission.refused(base, read, lambda: rules(base).people, options)
        no_pruning = refused or unsure
        desired = replace(read, prune_refused=no_pruning) if no_pruning is not None else read
        observed = self._observe(snapshot, held, ledger, seen.view if seen is not None else None)

        def decisions(asking: Collection[Asked]) -> Mapping[Asked, Decision]:
            return self._decisions(asking, snapshot, held, rules)

        if seen is not None:
            desired = replace(desired, decisions=decisions(seen.view.planned.asking))
            if seen.view.answers(observed, desired, options):
                return seen.view

        if base not in (None, snapshot.revision) and self._at_hand(base) is not None:
            desired = replace(desired, rules={base: rules(base)})  # most often all that planning asks for
        planned = make_plan(desired, observed, options)
        if not planned.bases <= desired.rules.keys():  # promotions asked for under yet another revision
            desired = replace(desired, rules={one: rules(one) for one in sorted(planned.bases)})
            planned = make_plan(desired, observed, options)
        if not planned.asking <= desired.decisions.keys():
            desired = replace(desired, decisions=decisions(planned.asking))
            planned = make_plan(desired, observed, options)
        view = View(snapshot, held, desired, observed, planned, options, unsure if refused is None else None)
        self._seen = _Seen(view, read)
        return view

    @cached_property
    def _approving(self) -> Approving:
        from mlops.observation.approving import Approving

        return Approving(self.repository, self.state, lambda sha: self._read(sha)[1], self.forge_of, self.now)

    def forge_of(self, spec: ForgeSpec) -> Forge:
        """A forge that a Project names; the same object again, as it knows until when it takes no requests.

        Raises:
            ForgeRefused: the token in the environment belongs to another host.
        """
        from mlops.forges import forge_of

        if self._forge is None or self._forge[0] != spec:
            answers = self.state.namespace("forge")
            made = forge_of(spec, environment=self.environ, answers=answers, now=self.now)
            assert made is not None
            self._forge = (spec, made)
        return self._forge[1]

    def _decisions(
        self, asking: Collection[Asked], snapshot: Snapshot, held: Held, rules: Callable[[str], Rules]
    ) -> Mapping[Asked, Decision]:
        from mlops.approvals import People

        def people(base: str) -> People:
            if base == snapshot.revision:  # the first one stands for itself
                return People.of(held.project.spec)
            return rules(base).people

        return self._approving.look(asking, people, snapshot.root) if asking else {}

    def decision(self, view: View, asked: Asked) -> Decision:
        """Who approved a promotion, looked at afresh: tags come and go while others train."""
        rules = view.desired.rules.__getitem__
        return self._decisions((asked,), view.snapshot, view.held, rules)[asked]

    def _at_hand(self, revision: str | None) -> Loaded | None:
        """All of a revision where it was the one looked at last and nothing in it is broken."""
        seen = self._seen.view if self._seen is not None else None
        if seen is None or not isinstance(seen.snapshot, GitSnapshot) or seen.snapshot.revision != revision:
            return None
        return seen.held.loaded if seen.held.loaded.whole else None

    def _observe(self, snapshot: Snapshot, held: Held, ledger: Ledger, last: View | None) -> Observed:
        """The whole picture; that of `last`, a view of the same revision, where nothing in it differs."""
        before = last.observed if last is not None else None
        wakes_at = last.planned.wakes_at if last is not None else None
        from mlops.observation.datasets import observe_again

        loaded, good = held.loaded, held.good or snapshot

        def declared(names: Iterable[str]) -> Mapping[str, ObservedDataset]:
            found = [r for name in names if isinstance(r := loaded.resources[Key("Dataset", name)], Dataset)]
            places = [(r, good if r.key in loaded.kept else snapshot) for r in found]
            return self._datasets(held.project, places)

        def earlier(names: Iterable[str]) -> Mapping[str, ObservedDataset]:
            return self._datasets(held.project, [(loaded.kept_data[name], good) for name in names])

        if before is None:
            names = [key.name for key in loaded.resources if key.kind == "Dataset"]
            kept = earlier(loaded.kept_data)
            policies = self._policies(loaded)
            return Observed(ledger, declared(names), kept, policies, self._standings(loaded), self.now())
        datasets = observe_again(before.datasets, declared)
        kept = observe_again(before.kept_data, earlier)
        policies = self._policies(loaded)
        policies = before.policies if policies == before.policies else policies
        standings = self._standings(loaded)
        standings = before.notifiers if standings == before.notifiers else standings
        passed = wakes_at is not None and self.now() >= wakes_at
        now = Observed(ledger, datasets, kept, policies, standings, self.now() if passed else before.now)
        parts = ("ledger", "datasets", "kept_data", "policies", "notifiers", "now")
        return before if all(getattr(before, part) is getattr(now, part) for part in parts) else now

    def _standings(self, loaded: Loaded) -> Mapping[str, Standing]:
        names = [key.name for key in loaded.resources if key.kind == "Notifier"]
        if not names:
            return {}
        from mlops.notifying.outbox import rows_in
        from mlops.notifying.rows import standing

        rows = rows_in(self.state)
        return {name: standing(name, rows) for name in names}

    def _policies(self, loaded: Loaded) -> Mapping[str, ObservedPolicy]:
        keys = [key for key in loaded.resources if key.kind == "MonitoringPolicy"]
        if not keys:
            return {}
        from mlops.observation.policies import RECORDS, observe_policies

        found = [r for key in keys if isinstance(r := loaded.resources[key], MonitoringPolicy)]
        schedules = [(one.metadata.name, one.spec.schedule) for one in found]
        return observe_policies(schedules, self.state.all(RECORDS), self.now(), self._trainings, self._moved)

    def _datasets(
        self, project: Project, datasets: Iterable[tuple[Dataset, Snapshot]]
    ) -> Mapping[str, ObservedDataset]:
        from mlops.observation.datasets import observe_datasets

        return observe_datasets(
            datasets,
            root=self.root,
            substitute=lambda text: substitute(text, project, self.environ),
            cache=self.state.namespace("digests"),
            now=self.now,
        )

    @cached_property
    def _admission(self) -> Admission:
        return Admission(self.repository, lambda sha: self.project_at(self.snapshot(sha)))

    @cached_property
    def _bases(self) -> Bases:
        from mlops.observation.rules import Bases

        return Bases(self.repository, self._read)


def read_revision(snapshot: Snapshot, held: Held) -> Desired:
    """A revision as planning takes it, before what else decides about what it lacks."""
    from mlops.observation import revision

    return revision.read_revision(
        snapshot,
        held.loaded,
        held.project,
        executors=_executors(held.loaded),
        prune_refused=None,
        good=held.good,
        not_held=held.problem,
    )


def _executors(loaded: Loaded) -> frozenset[str]:
    """Names of the executors there are; installed packages are searched only if one is asked for."""
    resources = loaded.resources.values()
    if all(not isinstance(r, Experiment) or r.spec.executor == "local" for r in resources):
        return frozenset({"local"})
    from mlops.execution.registry import installed

    return frozenset(installed())

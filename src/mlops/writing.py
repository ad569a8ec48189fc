"""Changes that people ask the command line to write: a promotion, a way back, pins. Git is written, and nothing else.

Neither the working tree nor the index is touched, nor MLflow, nor the state: a daemon may run beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mlops.errors import MlopsError, Stalled
from mlops.resources import Dataset, Experiment, Key, Loaded, Model, ModelVersion, Project, Promotion
from mlops.source.snapshot import Snapshot

if TYPE_CHECKING:
    from mlops.applying.writing_back import Written
    from mlops.controller import Controller
    from mlops.proposing.proposal import Moot, Proposal
    from mlops.source.editing import Edit
    from mlops.view import View

_PINNABLE = ("Dataset", "ModelVersion")


@dataclass(frozen=True, slots=True)
class Ground:
    """The revision that a change is made for: its files, what it declares, and the text that it stands in."""

    revision: str
    snapshot: Snapshot
    loaded: Loaded
    project: Project
    texts: Mapping[str, str]


class Writer:
    """Writes changes for the branch that is in force.

    Args:
        controller: of the project.
        revision: what the changes are made for; by default the head of `source.branch`, or HEAD where this
            repository has no such branch.
    """

    def __init__(self, controller: Controller, revision: str | None = None) -> None:
        self._controller = controller
        self._ground = self._read(revision)

    @property
    def branch(self) -> str:
        """The branch that changes are to be merged into."""
        return self._ground.project.spec.source.branch

    def promote(self, model: str, version: str, stage: str) -> Written | Moot:
        """Ask for a version of a model in a stage.

        Raises:
            Stalled: one of them is not declared.
        """
        from mlops.proposing.asked import promotion

        it = self._ground
        return self._written(promotion(it.loaded, it.texts, model, version, stage), "mlops promote")

    def roll_back(self, promotion: str, version: str | None = None) -> Written | Moot:
        """Ask for the version that was in the stage before, or for another one that was there.

        Raises:
            Stalled: the promotion is not declared, or no other version was in its stage.
        """
        from mlops.proposing.asked import known_version, named
        from mlops.proposing.proposal import Moot, Proposal, branch_of
        from mlops.proposing.rollback import promoted

        it = self._ground
        resource = named(it.loaded, Promotion, promotion)
        spec = resource.spec
        model = it.loaded.resources.get(Key("Model", spec.model))
        registered = (model.spec.registered_name if isinstance(model, Model) else None) or spec.model
        now, before = self._stays(registered, spec.stage)
        to = version or next((one for one in before if one != (now or spec.version)), None)
        if to is None:
            what = f"no other version of {spec.model} was in {spec.stage} before"
            raise Stalled(what, where=str(resource.key), fix="See `mlops history`, and name one with --to.")
        known_version(it.loaded, spec.model, to)
        if spec.version == to:
            return self._written(Moot(f"{resource.key} asks for {to} already"), "")
        was = "It was there before." if to in before else "It was not in this stage before."
        proposal = Proposal(
            branch=branch_of(resource.key, to),
            title=f"Roll {promotion} back to {to}",
            body=f"{resource.key} asked for {spec.version}. {was}",
            files=promoted(it.loaded, it.texts, promotion, to),
            promotion=promotion,
            version=to,
        )
        return self._written(proposal, "mlops rollback")

    def pin(self, keys: Sequence[Key]) -> Written | Moot:
        """Pin Datasets to what they hold now, and ModelVersions to the run that they are, and to its bytes.

        Raises:
            Stalled: there is nothing yet that one of them could be pinned to.
        """
        from mlops.proposing.asked import pinned

        it = self._ground
        view = self._controller.look(it.revision)
        edits = {key: self._pins(view, key) for key in keys}
        return self._written(pinned(it.loaded, it.texts, edits), "mlops pin")

    def _read(self, revision: str | None) -> Ground:
        controller = self._controller
        if revision is None:
            project = controller.open(controller.snapshot())
            tip = controller.repository.tip(project.spec.source.branch)
            revision = tip or controller.repository.head()
        snapshot = controller.snapshot(revision)
        project, loaded = controller.load(snapshot)
        paths = sorted({place.file for place in loaded.locations.values()})
        texts = {path: data.decode("utf-8", "surrogateescape") for path, data in snapshot.read(paths).items()}
        return Ground(snapshot.revision, snapshot, loaded, project, texts)

    def _written(self, made: Proposal | Moot, command: str) -> Written | Moot:
        from mlops.applying.writing_back import write
        from mlops.proposing.declared import check_whole
        from mlops.proposing.proposal import Moot

        if isinstance(made, Moot):
            return made
        it = self._ground
        check_whole(it.loaded, it.snapshot, made.files)
        body = f"{made.body}\n\nAsked for with `{command}`{self._by()}."
        at = datetime.fromtimestamp(self._controller.now(), UTC)
        desk = self._controller.desk(it.project)
        return write(desk, replace(made, body=body), it.revision, at, reworded=False)

    def publish(self, written: Written) -> Written:
        """Push what was written, where there is a remote.

        Raises:
            Transient, Stalled: the host did not take it; the branch is here.
        """
        from mlops.applying.writing_back import publish

        return publish(self._controller.desk(self._ground.project), written)

    @property
    def missing_token(self) -> str | None:
        """The variable that would hold the token of the Project's forge, where it is not set."""
        from mlops.forges import missing_token

        forge = self._ground.project.spec.forge
        return missing_token(forge, self._controller.environ) if forge is not None else None

    def request(self, written: Written) -> Written:
        """Open its pull request, or bring the open one up to date, where there is a forge.

        Raises:
            Transient, Stalled: the forge did not take it; the branch is pushed.
        """
        from mlops.applying.request_text import request_text
        from mlops.applying.writing_back import request

        desk = self._controller.desk(self._ground.project)
        if desk.forge is None or not written.pushed:
            return written
        view = self._controller.look(written.commit)
        return request(desk, written, request_text(written.proposal.body, view.planned))

    def difference(self, written: Written) -> str:
        """The lines that differ, as a patch without lines around them."""
        from difflib import unified_diff

        texts = self._ground.texts
        parts: list[str] = []
        for path, text in sorted(written.proposal.files.items()):
            before, after = texts.get(path, "").splitlines(), text.splitlines()
            parts += unified_diff(before, after, path, path, lineterm="", n=0)
        return "".join(f"{line}\n" for line in parts)

    def _by(self) -> str:
        """Who asks, as git knows them: the commit itself is the reconciler's."""
        from mlops.proposing.proposal import quoted
        from mlops.source.git import run

        said = run(["var", "GIT_AUTHOR_IDENT"], self._controller.repository.root, accept=range(256))
        who = said.stdout.decode("utf-8", "replace").rpartition(">")[0] if said.status == 0 else ""
        return f" by {quoted(who + '>')}" if who else ""

    def _stays(self, registered: str, stage: str) -> tuple[str | None, list[str]]:
        """The version that is in a stage, and all that were there, the last one first."""
        from mlops.planning.context import VERSION_TAG
        from mlops.planning.stays import history

        view = self._controller.look(self._ground.revision)
        rows = sorted(
            (stay.since, version.number, stay.until is None, version.tags.get(VERSION_TAG, ""))
            for version in view.planned.versions_of(registered)
            for stay in history(version.tags, stage).stays
        )
        now = next((version for _, _, lasts, version in reversed(rows) if lasts), None)
        return now, [version for *_, version in reversed(rows) if version]

    def _pins(self, view: View, key: Key) -> Sequence[Edit]:
        from mlops.proposing.asked import named
        from mlops.proposing.retraining import pins_of

        it = self._ground
        if key.kind == "ModelVersion":
            return self._version_pins(view, named(it.loaded, ModelVersion, key.name))
        if key.kind != "Dataset":
            what = f"a {key.kind} has nothing to pin"
            raise MlopsError(what, where=str(key), fix=f"Name a {' or a '.join(_PINNABLE)}.")
        dataset = named(it.loaded, Dataset, key.name)
        seen = view.observed.datasets.get(key.name)
        if seen is not None and not seen.outside and seen.digest is not None:
            return ()  # git has its bytes
        digest = self._controller.fresh(view, key.name)
        if digest is None:
            raise Stalled(
                f"{key} cannot be read, so there is nothing to pin it to", fix="See `mlops describe`."
            )
        return pins_of(it.loaded, dataset, {key.name: digest}, again=True)

    def _version_pins(self, view: View, version: ModelVersion) -> Sequence[Edit]:
        """The run that a version is bound to, or would be, with the digest of its model."""
        from mlops.planning.context import DIGEST_TAG
        from mlops.planning.experiments import best_run
        from mlops.source.editing import RemoveField, SetField

        key, source = version.key, version.spec.source
        bound = view.planned.bound.get(key.name)
        run_id = bound.run_id if bound is not None else source.run_id
        if run_id is None and source.experiment is not None:
            experiment = view.desired.resources.get(Key("Experiment", source.experiment))
            states = view.planned.trials.get(source.experiment, ())
            whole = bool(states) and all(state.state == "finished" for state in states)
            best = best_run(experiment, states) if whole and isinstance(experiment, Experiment) else None
            run_id = best.run_id if best is not None else None
        if run_id is None:
            raise Stalled(f"{key} has no finished run yet", fix="Train it first: `mlops train`.")
        digest = bound.tags.get(DIGEST_TAG) if bound is not None else None
        if digest is None:
            artifact = self._controller.tracker.artifact(run_id, source.artifact)
            if artifact is None:
                raise Stalled(
                    f"run {run_id} has no {source.artifact}", where=str(key), fix="Name another artifact."
                )
            digest = artifact.digest
        edits: list[Edit] = []
        if source.run_id is None:
            edits = [
                SetField(key, ("spec", "source", "runId"), run_id),
                RemoveField(key, ("spec", "source", "experiment")),
            ]
        if version.spec.digest != digest:
            edits.append(SetField(key, ("spec", "digest"), digest))
        return edits

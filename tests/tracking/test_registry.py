"""The registry: nothing twice, nothing half, and nobody else's."""

from __future__ import annotations

import pytest

from mlops.errors import Stalled
from mlops.tracking import Tracker

IDENTITY = {"mlops.resource": "ModelVersion/m-1.0.0", "mlops.version": "1.0.0"}


@pytest.fixture
def run_id(tracker: Tracker, project: str) -> str:
    experiment = tracker.ensure_experiment(f"{project}/a", description="", tags={})
    made = tracker.create_run(experiment, name="x", tags={}, parameters={}, inputs=[])
    tracker.write_artifact(made, "model/weights.bin", b"weights")
    return made


@pytest.fixture
def source(tracker: Tracker, run_id: str) -> str:
    artifact = tracker.artifact(run_id, "model")
    assert artifact is not None
    return artifact.uri


def test_a_model_is_made_once_and_put_right_afterwards(tracker: Tracker, project: str) -> None:
    tracker.ensure_model(project, description="one", tags={"mlops.project": project, "a": "1"})
    tracker.ensure_model(project, description="two", tags={"mlops.project": project, "b": "2"})
    model = tracker.observe(project, []).models[project]
    assert (model.description, dict(model.tags)) == ("two", {"mlops.project": project, "a": "1", "b": "2"})
    tracker.update_model(project, description=None, tags={"a": None, "never": None, "b": "3"})
    model = tracker.observe(project, []).models[project]
    assert (model.description, dict(model.tags)) == ("two", {"mlops.project": project, "b": "3"})


def test_a_version_asked_for_twice_is_made_once(
    tracker: Tracker, project: str, run_id: str, source: str
) -> None:
    tracker.ensure_model(project, description="", tags={})
    made = [
        tracker.create_version(project, source_uri=source, run_id=run_id, tags=IDENTITY, description="d")
        for _ in range(2)
    ]
    assert made == [1, 1]
    version = tracker.version(project, 1)
    assert version is not None
    assert (version.source, version.run_id, version.description) == (source, run_id, "d")
    other = {**IDENTITY, "mlops.version": "1.1.0"}
    assert tracker.create_version(project, source_uri=source, run_id=run_id, tags=other, description="") == 2
    assert [number for _, number in tracker.observe(project, [project]).versions] == [1, 2]


def test_a_bound_version_never_changes_its_run(
    tracker: Tracker, project: str, run_id: str, source: str
) -> None:
    tracker.ensure_model(project, description="", tags={})
    tracker.create_version(project, source_uri=source, run_id=run_id, tags=IDENTITY, description="")
    with pytest.raises(Stalled, match="declare a new version"):
        tracker.create_version(project, source_uri=source, run_id="0" * 32, tags=IDENTITY, description="")


def test_tags_of_a_version_are_set_changed_and_deleted(
    tracker: Tracker, project: str, run_id: str, source: str
) -> None:
    tracker.ensure_model(project, description="", tags={})
    number = tracker.create_version(project, source_uri=source, run_id=run_id, tags=IDENTITY, description="")
    history = '[{"since": "2026-01-01"}]' * 2000
    tracker.tag_version(project, number, {"a": "1", "b": "2", "history": history})
    tracker.tag_version(project, number, {"a": "3", "b": None, "never": None}, description="new")
    version = tracker.version(project, number)
    assert version is not None
    assert dict(version.tags) == {**IDENTITY, "a": "3", "history": history}
    assert version.description == "new"


def test_tags_are_written_together_or_not_at_all(
    sqlite_tracker: Tracker, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite_tracker.ensure_model(project, description="", tags={})
    number = sqlite_tracker.create_version(
        project, source_uri="file:///x", run_id="0" * 32, tags=IDENTITY, description=""
    )
    with pytest.raises(Stalled):
        sqlite_tracker.tag_version(project, number, {"a": "1", "b": "2", "k" * 300: "too long a key"})
    version = sqlite_tracker.version(project, number)
    assert version is not None
    assert dict(version.tags) == IDENTITY


def test_an_alias_is_moved_seen_and_taken_away(
    tracker: Tracker, project: str, run_id: str, source: str
) -> None:
    assert tracker.aliases(project) == {}
    tracker.ensure_model(project, description="", tags={})
    for version in ("1.0.0", "1.1.0"):
        tags = {**IDENTITY, "mlops.version": version}
        tracker.create_version(project, source_uri=source, run_id=run_id, tags=tags, description="")
    tracker.move_alias(project, "production", 1, tags={})
    tracker.move_alias(project, "production", 2, tags={})
    tracker.move_alias(project, "production", 2, tags={})
    assert tracker.aliases(project) == {"production": 2}
    tracker.delete_alias(project, "production")
    tracker.delete_alias(project, "production")
    assert tracker.aliases(project) == {}
    with pytest.raises(Stalled):
        tracker.move_alias(project, "production", 99, tags={})


def test_a_deleted_version_is_gone_and_may_be_deleted_again(
    tracker: Tracker, project: str, run_id: str, source: str
) -> None:
    tracker.ensure_model(project, description="", tags={})
    number = tracker.create_version(project, source_uri=source, run_id=run_id, tags=IDENTITY, description="")
    tracker.delete_version(project, number)
    tracker.delete_version(project, number)
    assert tracker.version(project, number) is None
    assert tracker.read_artifact(run_id, "model/weights.bin") == b"weights"


def test_observing_finds_tagged_models_and_named_ones_with_versions_and_aliases(
    tracker: Tracker, project: str, run_id: str, source: str
) -> None:
    names = [f"{project}-{n:03}" for n in range(30)]
    for name in names:
        tags = {"mlops.project": project} if name != names[0] else {}
        tracker.ensure_model(name, description="", tags=tags)
    for name in names[:2]:
        tracker.create_version(name, source_uri=source, run_id=run_id, tags=IDENTITY, description="")
        tracker.move_alias(name, "dev", 1, tags={})
    tracker.ensure_model(f"{project}-stranger", description="", tags={})
    ledger = tracker.observe(project, [names[0], f"{project}-absent", "it's"])
    assert set(ledger.models) == set(names)
    assert set(ledger.versions) == {(name, 1) for name in names[:2]}
    assert dict(ledger.models[names[0]].aliases) == {"dev": 1}
    assert ledger.versions[names[1], 1].tags["mlops.version"] == "1.0.0"


def test_observing_takes_no_call_per_model(
    sqlite_tracker: Tracker, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(60):
        sqlite_tracker.ensure_model(f"{project}-{n:03}", description="", tags={"mlops.project": project})
    calls = []
    store = sqlite_tracker._client()._get_registry_client().store
    real = store.ManagedSessionMaker

    def counted(*args: object, **kwargs: object) -> object:
        calls.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(store, "ManagedSessionMaker", counted)
    assert len(sqlite_tracker.observe(project, []).models) == 60
    assert len(calls) <= 4

"""A project's part of a store, looked at by one sight for long and by another for the first time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mlops.observation.ledger import LedgerSight
from mlops.observation.observed import Ledger
from mlops.planning.desired import Desired
from mlops.resources import Key, Model, ModelVersion, Resource
from mlops.tracking import Tracker


class Cache:
    """Bytes by key, as the state keeps them."""

    def __init__(self) -> None:
        self.items: dict[str, bytes] = {}
        self.writes = 0

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        return {key: self.items[key] for key in keys if key in self.items}

    def put_many(self, items: Mapping[str, bytes]) -> None:
        self.writes += 1
        self.items |= items


class Clock:
    """Seconds, standing until somebody moves them."""

    def __init__(self) -> None:
        self.time = time.time()

    def __call__(self) -> float:
        return self.time


def desired(project: str, models: Iterable[str] = (), runs: Iterable[str] = ()) -> Desired:
    """A revision that names registered models and runs."""
    declared: list[Resource] = [
        Model.model_validate(
            {
                "apiVersion": "mlops/v1",
                "kind": "Model",
                "metadata": {"name": f"m{number}"},
                "spec": {"registeredName": name},
            }
        )
        for number, name in enumerate(models)
    ]
    declared += [
        ModelVersion.model_validate(
            {
                "apiVersion": "mlops/v1",
                "kind": "ModelVersion",
                "metadata": {"name": f"v{number}"},
                "spec": {"model": "m0", "version": f"{number}.0.0", "source": {"runId": run_id}},
            }
        )
        for number, run_id in enumerate(runs)
    ]
    resources: Mapping[Key, Resource] = {one.key: one for one in declared}
    return Desired("", False, project, True, True, resources, frozenset(), True, {})


class Watched:
    """One sight that looks again and again, and what it asks of the store meanwhile."""

    def __init__(self, tracker: Tracker, cache: Cache | None = None, clock: Clock | None = None) -> None:
        self.cache, self.clock = cache or Cache(), clock or Clock()
        self.tracker = Tracker(tracker.store.uri, tracker._artifacts, environ={}, now=self.clock)
        self.asked: list[str] = []
        self.tracker.on_call = lambda doing, seconds, failed: self.asked.append(doing)
        self.sight = LedgerSight(self.tracker, self.cache, now=self.clock)

    def look(self, at: Desired) -> Ledger:
        self.asked.clear()
        return self.sight.look(at)

    @property
    def read_whole(self) -> bool:
        """Whether the last look read everything."""
        return "reading experiments" in self.asked


def at_first_sight(tracker: Tracker, at: Desired) -> Ledger:
    """Everything, as who has never looked reads it."""
    return LedgerSight(tracker, Cache(), now=time.time).look(at)


def populate(tracker: Tracker, name: str) -> dict[str, str]:
    """Two runs of project `name`, one of them ended, and two models, one with two versions; by what they are."""
    tracker.ensure_experiment(name, description="", tags={"mlops.applied.revision": "r1"})
    experiment = tracker.ensure_experiment(f"{name}/a", description="d", tags={})
    ended = tracker.create_run(
        experiment, name="x", tags={"mlops.attempt": "1"}, parameters={"p": "1"}, inputs=[]
    )
    tracker.log_metrics(ended, {"rmse": 1.0, "nan": float("nan")})
    tracker.terminate(ended, "FINISHED", name="x", tags={"mlops.outcome": "succeeded"})
    running = tracker.create_run(experiment, name="y", tags={"mlops.attempt": "1"}, parameters={}, inputs=[])
    for model in (f"{name}-1", f"{name}-2"):
        tracker.ensure_model(model, description="", tags={"mlops.project": name})
    for number in ("1", "2"):
        tags = {"mlops.resource": f"ModelVersion/{number}", "mlops.version": number}
        tracker.create_version(f"{name}-1", source_uri="/x/model", run_id=ended, tags=tags, description="")
    tracker.move_alias(f"{name}-1", "champion", 1, tags={})
    return {
        "experiment": experiment,
        "ended": ended,
        "running": running,
        "model": f"{name}-1",
        "project": name,
    }


Hand = Callable[[Any, dict[str, str]], None]  # what somebody does to the store with MLflow's own client

HANDS: dict[str, Hand] = {
    "an experiment's tag": lambda c, m: c.set_experiment_tag(m["experiment"], "t", "1"),
    "a renamed experiment": lambda c, m: c.rename_experiment(m["experiment"], f"{m['project']}/b"),
    "an experiment renamed away": lambda c, m: c.rename_experiment(
        m["experiment"], f"no longer {m['project']}/a"
    ),
    "a deleted experiment": lambda c, m: c.delete_experiment(m["experiment"]),
    "a tag of an ended run": lambda c, m: c.set_tag(m["ended"], "mlops.outcome", "failed"),
    "a tag taken from a run": lambda c, m: c.delete_tag(m["ended"], "mlops.outcome"),
    "a metric of an ended run": lambda c, m: c.log_metric(m["ended"], "rmse", 0.1, step=5),
    "a hardly other metric": lambda c, m: c.log_metric(m["ended"], "rmse", 1.0000000000000002, step=5),
    "a parameter of a run": lambda c, m: c.log_param(m["running"], "q", "2"),
    "the end of a run": lambda c, m: c.set_terminated(m["running"], "FAILED"),
    "another name of a run": lambda c, m: c.update_run(m["ended"], name="z"),
    "a new run": lambda c, m: c.create_run(m["experiment"]),
    "a deleted run": lambda c, m: c.delete_run(m["ended"]),
    "a tag of a model": lambda c, m: c.set_registered_model_tag(m["model"], "t", "1"),
    "a model's description": lambda c, m: c.update_registered_model(m["model"], "by hand"),
    "a model that is no longer the project's": lambda c, m: c.delete_registered_model_tag(
        m["model"], "mlops.project"
    ),
    "a deleted model": lambda c, m: c.delete_registered_model(m["model"]),
    "a moved alias": lambda c, m: c.set_registered_model_alias(m["model"], "champion", "2"),
    "a deleted alias": lambda c, m: c.delete_registered_model_alias(m["model"], "champion"),
    "a tag of a version": lambda c, m: c.set_model_version_tag(m["model"], "2", "mlops.version", "7"),
    "a version's description": lambda c, m: c.update_model_version(m["model"], "2", "by hand"),
    "a new version": lambda c, m: c.create_model_version(m["model"], "/x/other", m["ended"]),
    "a deleted version": lambda c, m: c.delete_model_version(m["model"], "2"),
}

"""A picture of MLflow brought up to date: only what has another mark than before is read again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from mlops.observation.observed import Ledger, ObservedExperiment, ObservedRun
from mlops.planning.runs import is_open
from mlops.tracking import Marks, Tracker

K = TypeVar("K")
V = TypeVar("V")

MANY: Final = 200  # objects that are always read again alone, however few there are in all


def read_moved(tracker: Tracker, before: Ledger, was: Marks, marks: Marks) -> Ledger | None:
    """The picture `before`, seen at the marks `was`, as it is at `marks`, or a little later.

    It is the same object where nothing in it differs. None where it is better read whole.
    """
    runs = _moved(was.runs, marks.runs) | (_metrics_moved(was, marks) & marks.runs.keys())
    models, versions = _moved(was.models, marks.models), _moved(was.versions, marks.versions)
    everything = len(marks.runs) + len(marks.models) + len(marks.versions)
    if len(runs) + len(models) + len(versions) > max(MANY, everything // 2):
        return None
    experiments = _experiments(tracker, before, was, marks)
    if experiments is None:
        return None
    ran = {run_id: run for run_id in sorted(runs) if (run := tracker.run(run_id)) is not None}
    registered = tracker.models_again(models) if models else {}
    found = tracker.versions_again(versions) if versions else ()
    made = {place: version for version in found if (place := (version.model, version.number)) in versions}
    after = Ledger(
        experiments,
        _merged(before.runs, was.runs.keys() - marks.runs.keys() | runs, ran, _age),
        _merged(before.models, was.models.keys() - marks.models.keys() | models, registered, None),
        _merged(before.versions, was.versions.keys() - marks.versions.keys() | versions, made, None),
    )
    same = (
        after.experiments is before.experiments
        and after.runs is before.runs
        and after.models is before.models
        and after.versions is before.versions
    )
    return before if same else after


def without_late_metrics(before: Ledger, was: Marks, marks: Marks) -> Marks:
    """`marks` as if the metrics of runs that go on had not moved; `marks` itself where they did not."""
    late = {one for one in _metrics_moved(was, marks) if one in before.runs and is_open(before.runs[one])}
    if not late:
        return marks
    others = {run_id: mark for run_id, mark in marks.metrics.items() if run_id not in late}
    return replace(marks, metrics=others | {one: was.metrics[one] for one in late if one in was.metrics})


def covers(marks: Marks, ledger: Ledger) -> bool:
    """Whether each object of the picture has a mark, so that it will be seen to move."""
    return (
        {one.experiment_id for one in ledger.experiments.values()} <= marks.experiments.keys()
        and ledger.runs.keys() <= marks.runs.keys()
        and ledger.models.keys() <= marks.models.keys()
        and ledger.versions.keys() <= marks.versions.keys()
    )


def _experiments(
    tracker: Tracker, before: Ledger, was: Marks, marks: Marks
) -> Mapping[str, ObservedExperiment] | None:
    """By name, as they are now; None where one has another name, which all its runs repeat."""
    known = {one.experiment_id: one.name for one in before.experiments.values()}
    moved = _moved(was.experiments, marks.experiments)
    fresh = tracker.experiments_again(sorted(moved)) if moved else []
    if any(known.get(one.experiment_id, one.name) != one.name for one in fresh):
        return None
    stale = moved | (was.experiments.keys() - marks.experiments.keys())
    names = {known[one] for one in stale if one in known}
    return _merged(before.experiments, names, {one.name: one for one in fresh}, None)


def _moved(was: Mapping[K, int], marks: Mapping[K, int]) -> set[K]:
    return {key for key, mark in marks.items() if was.get(key) != mark}


def _metrics_moved(was: Marks, marks: Marks) -> set[str]:
    return _moved(was.metrics, marks.metrics) | (was.metrics.keys() - marks.metrics.keys())


def _merged(
    before: Mapping[K, V],
    stale: Collection[K],
    fresh: Mapping[K, V],
    order: Callable[[tuple[K, V]], Any] | None,
) -> Mapping[K, V]:
    """`before` with `fresh` in place of what is stale; `before` itself where nothing differs."""
    gone = {key for key in stale if key in before and key not in fresh}
    changed = {key: value for key, value in fresh.items() if before.get(key) != value}
    if not gone and not changed:
        return before
    merged = {key: value for key, value in before.items() if key not in gone} | changed
    return merged if changed.keys() <= before.keys() else dict(sorted(merged.items(), key=order))


def _age(item: tuple[str, ObservedRun]) -> tuple[int, str]:
    return item[1].started_ms, item[0]

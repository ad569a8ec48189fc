"""Revisions and what is observed of them, generated: consistent sets of resources, some of them in trouble."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from mlops.observation.observed import Ledger, Observed, ObservedDataset
from mlops.planning.desired import Code, Desired
from mlops.resources import Key, Resource
from mlops.resources.kinds import MODELS

PROJECT = "p"


def resource(kind: str, name: str, spec: Mapping[str, Any] | None = None, **metadata: Any) -> Resource:
    """A resource as the loader makes it of a document."""
    document = {"apiVersion": "mlops/v1", "kind": kind, "metadata": {"name": name, **metadata}}
    made: Resource = MODELS[kind].model_validate({**document, "spec": dict(spec or {})})
    return made


def experiment(name: str = "fit", *, labels: Mapping[str, str] | None = None, **spec: Any) -> Resource:
    base = {"source": {"path": "training"}, "command": ["python", "train.py"], "parameters": {"depth": 1}}
    return resource("Experiment", name, {**base, **spec}, labels=dict(labels or {}))


def code(text: str = "print()", command: Iterable[str] = ("python", "train.py"), **given: Any) -> Code:
    blob = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Code(
        given.get("files", {"train.py": blob}),
        tuple(command),
        given.get("defaults", {}),
        given.get("environment", "reconciler"),
        given.get("problem"),
    )


def revision(name: str = "1") -> str:
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()


def desired(*resources: Resource, **given: Any) -> Desired:
    """A revision that declares these resources; every experiment runs the same code."""
    declared = {one.key: one for one in resources}
    experiments = [key.name for key in declared if key.kind == "Experiment"]
    settings: dict[str, Any] = {
        "revision": revision(),
        "dirty": False,
        "project": PROJECT,
        "self_heal": True,
        "prune": True,
        "resources": declared,
        "invalid": frozenset(),
        "whole": True,
        "code": {name: code() for name in experiments},
    }
    return Desired(**{**settings, **given})


def data(name: str = "rows", content: str = "1", **given: Any) -> ObservedDataset:
    digest = "sha256:" + hashlib.sha256(content.encode()).hexdigest()
    return ObservedDataset(name, f"data/{name}.csv", given.pop("digest", digest), **given)


def observed(ledger: Ledger | None = None, datasets: Iterable[ObservedDataset] = ()) -> Observed:
    return Observed(ledger or Ledger(), {one.name: one for one in datasets})


@dataclass(frozen=True)
class Case:
    """A revision and the datasets that are found with it."""

    desired: Desired
    datasets: Mapping[str, ObservedDataset]

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # what hypothesis shows of a failure
        rows = [
            f"{key}{' INVALID' if key in self.desired.invalid else ''}: {_declared(one)}"
            for key, one in self.desired.resources.items()
        ]
        rows += [f"{name}: {seen.digest} {seen.reason}" for name, seen in self.datasets.items()]
        flags = ("whole", "prune", "self_heal", "prune_refused", "invalid")
        rows += [f"{flag}={getattr(self.desired, flag)}" for flag in flags]
        printer.text("Case(\n    " + "\n    ".join(rows) + "\n)")


def _declared(one: Resource) -> Any:
    return one.spec.model_dump(exclude_defaults=True)


_rarely = st.sampled_from([False] * 7 + [True])


def _some(names: list[str], most: int | None = None) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(names), unique=True, max_size=most) if names else st.just([])


@st.composite
def cases(draw: st.DrawFn, *, name: str = "1", healthy: bool = False) -> Case:
    """A revision of up to three of each kind; `healthy`: nothing in it is invalid, suspended or missing."""
    rarely = st.just(False) if healthy else _rarely
    found: list[Resource] = []
    seen: dict[str, ObservedDataset] = {}
    for dataset in draw(_some(["d0", "d1"])):
        found.append(resource("Dataset", dataset, {"uri": f"data/{dataset}.csv", "suspend": draw(rarely)}))
        outside = draw(st.booleans())
        content = draw(st.sampled_from("12"))
        gone = draw(rarely)
        trouble = {"digest": None, "reason": "NotFound", "message": "there is no such file"} if gone else {}
        seen[dataset] = data(dataset, content, outside=outside, **trouble)
    codes: dict[str, Code] = {}
    for fit in draw(_some(["e0", "e1"])):
        found.append(_experiment(draw, fit, sorted(seen), rarely))
        codes[fit] = code(
            draw(st.sampled_from(["a", "b"])), problem="no such folder" if draw(rarely) else None
        )
    models = draw(_some(["m0", "m1"]))
    for model in models:
        spec: dict[str, Any] = {"description": draw(st.sampled_from(["", "About bikes"]))}
        spec["tags"] = draw(st.sampled_from([{}, {"domain": "mobility"}]))
        if draw(rarely):
            spec["registeredName"] = f"reg-{model}"
        found.append(resource("Model", model, {**spec, "suspend": draw(rarely)}))
    sources = [one.metadata.name for one in found if one.kind == "Experiment"]
    numbers: dict[str, list[str]] = {}
    for model in models:
        for number in draw(_some(["1.0.0", "1.1.0", "2.0.0"])):
            origin = draw(st.sampled_from([{"experiment": fit} for fit in sources] + [{"runId": "f" * 32}]))
            spec = {"model": model, "version": number, "source": {**origin, "artifact": "model"}}
            spec["deletionPolicy"] = draw(st.sampled_from(["Retain", "Retain", "Delete"]))
            # Now and then a resource keeps its name and asks for another number.
            label = (
                "x" if draw(rarely) and f"{model}-x" not in {one.metadata.name for one in found} else number
            )
            found.append(resource("ModelVersion", f"{model}-{label}", {**spec, "suspend": draw(rarely)}))
            numbers.setdefault(model, []).append(number)
    stages = _stages(draw, rarely)
    found += stages
    targets = [(model, stage.metadata.name) for model in numbers for stage in stages]
    for index, (model, stage) in enumerate(
        draw(st.lists(st.sampled_from(targets), unique=True)) if targets else []
    ):
        wanted = draw(st.sampled_from([*numbers[model], "latest"]))
        spec = {"model": model, "stage": stage, "version": wanted, "suspend": draw(rarely)}
        found.append(resource("Promotion", f"q{index}", spec))
    declared = {one.key: one for one in found}
    invalid = frozenset(key for key in declared if draw(rarely) and draw(rarely))
    return Case(
        Desired(
            revision=revision(name),
            dirty=False,
            project=PROJECT,
            self_heal=healthy or not draw(rarely),
            prune=healthy or not draw(rarely),
            resources={key: one for key, one in declared.items() if key not in invalid},
            invalid=invalid,
            whole=not invalid,
            code=codes,
            prune_refused="history was rewritten" if draw(rarely) else None,
        ),
        {name: one for name, one in seen.items() if Key("Dataset", name) not in invalid},
    )


def _experiment(draw: st.DrawFn, name: str, datasets: list[str], rarely: st.SearchStrategy[bool]) -> Resource:
    spec: dict[str, Any] = {
        "parameters": {"depth": draw(st.integers(1, 2))},
        "datasets": dict(zip(("train", "test"), draw(_some(datasets)), strict=False)),
        # Of two experiments with one content, each would be answered by the runs of the other.
        "seed": draw(st.sampled_from([None, 7] if name == "e0" else [8, 9])),
        "retries": draw(st.integers(0, 1)),
        "onDataChange": draw(st.sampled_from(["hold", "train"])),
        "suspend": draw(rarely),
        "executor": "nowhere" if draw(rarely) else "local",
    }
    grid = {"strategy": "grid", "parameters": {"depth": [1, 2]}}
    random = {"strategy": "random", "parameters": {"rate": {"logUniform": [0.001, 1]}}, "trials": 2}
    if (sweep := draw(st.sampled_from([None, grid, random]))) is not None:
        spec["sweep"] = sweep
    if not draw(rarely):
        spec["objective"] = {"metric": "rmse", "goal": "minimize"}
    return experiment(name, labels=draw(st.sampled_from([{}, {"team": "a"}])), **spec)


def _stages(draw: st.DrawFn, rarely: st.SearchStrategy[bool]) -> list[Resource]:
    stages: list[Resource] = []
    for name in draw(st.sampled_from([[], ["dev"], ["dev", "prod"], ["dev", "prod", "far"]])):
        spec: dict[str, Any] = {"suspend": draw(rarely)}
        if stages and draw(st.booleans()):
            spec["after"] = stages[-1].metadata.name
        if draw(rarely):
            spec["alias"] = f"alias-{name}"
        if draw(st.booleans()):
            spec["gates"] = [{"metric": {"name": "rmse", "max": draw(st.sampled_from([5, 30, 100]))}}]
        if draw(rarely):
            spec["gates"] = [{"soak": "24h"}]
        if draw(rarely):
            spec["approvals"] = {"required": 1, "from": ["leads"]}
        stages.append(resource("Stage", name, spec))
    return stages


def key(text: str) -> Key:
    return Key(*text.split("/", 1))

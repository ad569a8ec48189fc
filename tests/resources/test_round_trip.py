"""Whatever set of valid resources is written down, loading gives it back, however it was written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snapshots import FileEntry, MemoryCache

from mlops.resources import Key, load
from mlops.resources.kinds import MODELS

letters = "abcdefghijklmnopqrstuvwxyz0123456789"
names = st.text(letters, min_size=1, max_size=8).map(lambda text: f"n{text}")
texts = st.text(st.characters(exclude_categories=("Cs", "Cc", "Co", "Cn")), max_size=30)
scalars = (
    st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False) | texts
)
durations = st.builds(lambda number, unit: f"{number}{unit}", st.integers(1, 999), st.sampled_from("smhdw"))
sizes = st.builds(
    lambda number, unit: f"{number}{unit}", st.integers(1, 999), st.sampled_from(["Ki", "Mi", "Gi"])
)
versions = st.builds(
    lambda a, b, tail: f"{a}.{b}.0{tail}", *[st.integers(0, 99)] * 2, st.sampled_from(["", "-rc.1", "+b1"])
)
goals = st.sampled_from(["minimize", "maximize"])
metrics = st.sampled_from(["rmse", "r2", "val loss", "a/b-c.d_e"])
metadata = st.fixed_dictionaries({}, optional={"labels": st.dictionaries(texts, texts, max_size=2)})


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={**fields, "suspend": st.booleans()})


datasets = optional(
    digest=st.just(f"sha256:{'0' * 64}"),
    columns=st.fixed_dictionaries(
        {}, optional={"target": st.just("y"), "categorical": st.lists(st.just("c"), max_size=2)}
    ),
    expect=st.fixed_dictionaries({}, optional={"minRows": st.integers(0, 9)}),
)
experiments = optional(
    seed=st.integers(0, 2**32 - 1),
    timeout=durations,
    retries=st.integers(0, 9),
    resources=st.fixed_dictionaries({}, optional={"memory": sizes, "cpu": st.integers(1, 8)}),
    onDataChange=st.sampled_from(["hold", "train"]),
)
sweeps = st.none() | st.one_of(
    st.builds(lambda values: {"parameters": {"p": values}}, st.lists(scalars, min_size=1, max_size=3)),
    st.builds(
        lambda low, width: {
            "strategy": "random",
            "trials": 3,
            "parameters": {"p": {"uniform": [low, low + width]}},
        },
        *[st.integers(1, 99)] * 2,
    ),
)
models = optional(
    description=texts,
    owners=st.lists(st.just("leads"), max_size=2),
    tags=st.dictionaries(metrics, texts, max_size=2),
)
gates = st.lists(
    st.builds(lambda name, least: {"metric": {"name": name, "min": least}}, metrics, st.integers(-9, 9))
    | st.builds(
        lambda goal: {"champion": {"metric": "m", "goal": goal, "dataset": "d0", "minImprovement": "0.5%"}},
        goals,
    )
    | st.just({"signature": True})
    | st.just({"reproducible": {"tolerance": 0.25}}),
    max_size=3,
)


@st.composite
def projects(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Documents of one valid project, in any order, its Project left out."""
    made: list[dict[str, Any]] = []

    def add(kind: str, name: str, spec: dict[str, Any]) -> None:
        head = {"apiVersion": "mlops/v1", "kind": kind, "metadata": {"name": name, **draw(metadata)}}
        made.append({**head, "spec": spec})

    for number in range(draw(st.integers(1, 3))):
        add("Dataset", f"d{number}", {**draw(datasets), "uri": f"data/{number}.csv"})
    add("Stage", "s0", {"gates": draw(gates)})
    add("Stage", "s1", {"after": "s0", "gates": [*draw(gates), {"soak": draw(durations)}]})
    for name in draw(st.lists(names, max_size=3, unique=True)):
        spec: dict[str, Any] = {
            **draw(experiments),
            "source": {"path": "training"},
            "command": ["python", "{p}"],
        }
        spec |= {"parameters": {"p": draw(scalars), "q": draw(scalars)}, "datasets": {"train": "d0"}}
        spec["objective"] = {"metric": draw(metrics), "goal": draw(goals)}
        if sweep := draw(sweeps):
            spec["sweep"] = sweep
        add("Experiment", name, spec)
        add("Model", name, draw(models))
        version = draw(versions)
        add("ModelVersion", f"{name}-1", {"model": name, "version": version, "source": {"experiment": name}})
        add(
            "Promotion",
            name,
            {"model": name, "stage": "s1", "version": draw(st.sampled_from([version, "latest"]))},
        )
    return draw(st.permutations(made))


class TextSnapshot:
    """Files that are only texts."""

    revision = ""
    dirty = False

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.data = {path: text.encode() for path, text in texts.items()}

    def entries(self) -> dict[str, FileEntry]:
        return {
            path: FileEntry(path, "100644", hashlib.sha1(data, usedforsecurity=False).hexdigest(), len(data))
            for path, data in self.data.items()
        }

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        return {path: self.data[path] for path in paths}


def written(document: dict[str, Any], how: str) -> str:
    match how:
        case "json":
            return json.dumps(document, ensure_ascii=False)
        case "tagged":
            return yaml.safe_dump(document, default_style='"', allow_unicode=True)
        case _:
            # PyYAML writes YAML 1.1, where texts such as 1e3 need no quotes; so only its layout is taken.
            return json.dumps(document, ensure_ascii=False, indent=2)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(projects(), st.sampled_from(["json", "tagged", "indented"]), st.integers(1, 5))
def test_what_is_written_is_what_is_loaded(documents: list[dict[str, Any]], how: str, per_file: int) -> None:
    project = '{"apiVersion": "mlops/v1", "kind": "Project", "metadata": {"name": "p"}, "spec": {}}'
    files = {"mlops.yaml": project, "training/train.py": ""}
    for start in range(0, len(documents), per_file):
        batch = [written(document, how) for document in documents[start : start + per_file]]
        files[f"resources/{start}.yaml"] = "\n---\n".join(batch)
    cache = MemoryCache()
    fresh = load(TextSnapshot(files), cache)
    assert list(map(str, fresh.problems)) == []
    expected = {}
    for document in documents:
        resource = MODELS[document["kind"]].model_validate(document)
        expected[resource.key] = resource
    assert {key: resource for key, resource in fresh.resources.items() if key.kind != "Project"} == expected
    cached = load(TextSnapshot(files), cache)
    assert dict(cached.resources) == dict(fresh.resources)
    assert cached.locations == fresh.locations
    for key, resource in fresh.resources.items():
        again = json.loads(resource.model_dump_json(by_alias=True, exclude_unset=True))
        assert MODELS[key.kind].model_validate(again) == resource


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(projects(), st.randoms(use_true_random=False))
def test_the_order_of_documents_and_files_changes_nothing(
    documents: list[dict[str, Any]], chance: Any
) -> None:
    broken = [
        {**each, "spec": {**each["spec"], "unknown": 1}} if chance.random() < 0.3 else each
        for each in documents
    ]

    def loaded(order: list[dict[str, Any]]) -> Any:
        files = {"mlops.yaml": json.dumps({"kind": "Project"}), "training/train.py": ""}
        files |= {
            f"resources/{place}.yaml": json.dumps(each, ensure_ascii=False)
            for place, each in enumerate(order)
        }
        found = load(TextSnapshot(files))
        return (
            dict(found.resources),
            found.invalid,
            sorted((p.resource or "", p.what) for p in found.problems),
        )

    first = loaded(broken)
    shuffled = broken[:]
    chance.shuffle(shuffled)
    assert loaded(shuffled) == first
    assert first[1] == {Key(d["kind"], d["metadata"]["name"]) for d in broken if "unknown" in d["spec"]}

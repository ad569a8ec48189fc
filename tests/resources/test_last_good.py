"""A broken revision over the last good one: what counts of each."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snapshots import FileEntry, MemoryCache

from mlops.resources import Key, Loaded, ModelVersion, Promotion, load, references
from mlops.resources.last_good import hold
from mlops.resources.nearest import Nearest
from mlops.resources.relations import check_relations

CACHE = MemoryCache()
SYNTAX = "kind: [\n"

Document = dict[str, Any]


def document(kind: str, name: str, **spec: Any) -> Document:
    return {"apiVersion": "mlops/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def dataset(name: str = "rows", **spec: Any) -> Document:
    return document("Dataset", name, **{"uri": f"data/{name}.csv", "format": "csv", **spec})


def experiment(name: str = "fit", **spec: Any) -> Document:
    base = {"source": {"path": "training"}, "command": ["python"], "datasets": {"train": "rows"}}
    return document(
        "Experiment", name, **{**base, "objective": {"metric": "rmse", "goal": "minimize"}, **spec}
    )


def version(number: str, name: str | None = None, **spec: Any) -> Document:
    base = {"model": "m", "version": number, "source": {"experiment": "fit", "artifact": "model"}}
    return document("ModelVersion", name or f"m-{number}", **{**base, **spec})


def promotion(stage: str = "prod", number: str = "1.0.0", name: str | None = None, **spec: Any) -> Document:
    return document(
        "Promotion", name or f"m-{stage}", **{"model": "m", "stage": stage, "version": number, **spec}
    )


def lifecycle(**changed: Document | None) -> list[Document]:
    """A small whole project; `rows=…` puts another document in the place of that name, None leaves it out."""
    documents = {
        "rows": dataset(),
        "fit": experiment(),
        "m": document("Model", "m"),
        "v1": version("1.0.0"),
        "dev": document("Stage", "dev"),
        "prod": document("Stage", "prod", after="dev"),
        "in_dev": promotion("dev"),
        "in_prod": promotion("prod"),
    }
    return [one for one in {**documents, **changed}.values() if one is not None]


def broken(one: Document) -> Document:
    return {**one, "spec": {**one["spec"], "nonsense": 1}}


class Texts:
    """Files of a commit, in memory."""

    dirty = False

    def __init__(self, files: Mapping[str, str], revision: str) -> None:
        self.files = {path: text.encode() for path, text in files.items()}
        self.revision = revision

    def entries(self) -> Mapping[str, FileEntry]:
        blobs = {
            path: hashlib.sha1(data, usedforsecurity=False).hexdigest() for path, data in self.files.items()
        }
        return {path: FileEntry(path, "100644", blobs[path], len(data)) for path, data in self.files.items()}

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        return {path: self.files[path] for path in paths}


def loaded(
    documents: Iterable[Document],
    sha: str = "b" * 40,
    *,
    project: Document | str | None = None,
    more: Mapping[str, str] | None = None,
) -> Loaded:
    """A revision with each document in a file of its own."""
    head = document("Project", "p") if project is None else project
    files = {
        "mlops.yaml": head if isinstance(head, str) else json.dumps(head),
        "training/train.py": "print()",
    }
    for index, one in enumerate(documents):
        files[f"resources/{index:02}-{one['kind']}-{one['metadata']['name']}.yaml"] = json.dumps(one)
    return load(Texts({**files, **(more or {})}, sha), CACHE)


def good(documents: Iterable[Document] | None = None, **given: Any) -> Loaded:
    made = loaded(lifecycle() if documents is None else documents, "a" * 40, **given)
    assert made.whole, [str(problem) for problem in made.problems]
    return made


def keys(*texts: str) -> frozenset[Key]:
    return frozenset(Key(*text.split("/")) for text in texts)


def version_in(held: Loaded, stage: str) -> str:
    found = held.resources[Key("Promotion", f"m-{stage}")]
    assert isinstance(found, Promotion)
    return found.spec.version


def test_a_whole_revision_is_taken_as_it_is() -> None:
    new = loaded(lifecycle(rows=dataset(uri="data/other.csv")))
    assert hold(new, good()) is new


def test_a_broken_document_keeps_its_last_good_text_and_the_others_are_new() -> None:
    more = [
        *lifecycle(in_prod=broken(promotion("prod", "1.1.0")), in_dev=promotion("dev", "1.1.0")),
        version("1.1.0"),
    ]
    held = hold(loaded(more), good())
    assert held.kept == keys("Promotion/m-prod")
    assert held.invalid == frozenset()
    assert (version_in(held, "dev"), version_in(held, "prod")) == ("1.1.0", "1.0.0")
    why = held.why[Key("Promotion", "m-prod")]
    assert "its document at bbbbbbbbbbbb is broken: resources/07-Promotion-m-prod.yaml:1:" in why
    assert "nonsense" in why
    assert why.endswith("; it is kept as at aaaaaaaaaaaa")


def test_what_depends_on_something_broken_keeps_its_last_good_text_and_says_on_what() -> None:
    changed = lifecycle(
        rows=broken(dataset()), fit=experiment(seed=7), m=document("Model", "m", description="new")
    )
    held = hold(loaded(changed), good())
    assert held.kept == keys(
        "Dataset/rows", "Experiment/fit", "ModelVersion/m-1.0.0", "Promotion/m-dev", "Promotion/m-prod"
    )
    assert held.resources[Key("Experiment", "fit")] == good().resources[Key("Experiment", "fit")]
    assert held.why[Key("Experiment", "fit")].startswith(
        "it needs Dataset/rows, whose document at bbbbbbbbbbbb"
    )
    assert held.resources[Key("Model", "m")] != good().resources[Key("Model", "m")]


def test_what_is_new_and_needs_something_broken_waits_and_says_for_what() -> None:
    more = [
        *lifecycle(fit=broken(experiment())),
        version("1.1.0"),
        document("Stage", "far"),
        promotion("far"),
    ]
    held = hold(loaded(more), good())
    assert held.invalid == keys("ModelVersion/m-1.1.0", "Promotion/m-far")
    assert "it needs Experiment/fit, whose document" in held.why[Key("ModelVersion", "m-1.1.0")]
    assert (
        "at aaaaaaaaaaaa, the last good revision, it was not declared" in held.why[Key("Promotion", "m-far")]
    )
    assert Key("Stage", "far") in held.resources
    assert Key("Stage", "far") not in held.kept


def test_what_is_broken_and_was_never_good_stays_invalid() -> None:
    held = hold(loaded([*lifecycle(), broken(dataset("other"))]), good())
    assert held.invalid == keys("Dataset/other")
    assert held.kept == frozenset()
    assert held.why == {}


def test_what_was_removed_beside_a_broken_document_is_removed() -> None:
    held = hold(loaded(lifecycle(in_prod=None, in_dev=broken(promotion("dev")))), good())
    assert Key("Promotion", "m-prod") not in held.resources
    assert held.kept == keys("Promotion/m-dev")


def test_what_was_removed_is_kept_where_something_kept_needs_it() -> None:
    held = hold(
        loaded(lifecycle(dev=None, prod=document("Stage", "prod"), in_dev=broken(promotion("dev")))), good()
    )
    assert held.kept == keys("Promotion/m-dev", "Stage/dev")
    assert "but Promotion/m-dev, which is kept, needs it" in held.why[Key("Stage", "dev")]


def test_nothing_counts_as_removed_where_a_file_cannot_be_read() -> None:
    held = hold(
        loaded(lifecycle(in_prod=None, rows=dataset(uri="data/x.csv")), more={"resources/x.yaml": SYNTAX}),
        good(),
    )
    assert held.kept == keys("Promotion/m-prod")
    assert "resources/x.yaml cannot be read at bbbbbbbbbbbb" in held.why[Key("Promotion", "m-prod")]


def test_a_document_that_moved_to_another_file_and_broke_there_is_the_same_one() -> None:
    text = json.dumps(promotion("prod", "1.1.0"), indent=1).replace('"1.1.0"', "1.1.0:")
    held = hold(loaded(lifecycle(in_prod=None), more={"resources/moved/there.yml": text}), good())
    assert held.kept == keys("Promotion/m-prod")
    assert version_in(held, "prod") == "1.0.0"


def test_a_broken_project_is_kept_with_everything_that_may_have_been_in_its_folders() -> None:
    project = broken(document("Project", "p", resources=["elsewhere"]))
    held = hold(loaded([], project=project), good())
    assert held.project is not None
    assert held.project == good().project
    assert held.kept == frozenset(good().resources)


def test_a_missing_project_file_keeps_the_project_and_takes_the_other_documents() -> None:
    new = lifecycle(prod=document("Stage", "prod", after="dev", alias="champion"))
    held = hold(loaded(new, project=""), good())
    assert held.kept == keys("Project/p")
    assert held.project == good().project


def test_a_project_that_is_kept_keeps_its_lists_too() -> None:
    before = good(lifecycle(), project=document("Project", "p", variables=["OLD"]))
    project = broken(document("Project", "p", variables=["OLD", "NEW"]))
    held = hold(loaded(lifecycle(rows=dataset(uri="s3://${NEW}/x")), project=project), before)
    assert held.resources[Key("Dataset", "rows")] == before.resources[Key("Dataset", "rows")]
    assert "the Project that is kept" in held.why[Key("Dataset", "rows")]


def test_latest_of_a_kept_promotion_is_the_version_that_it_was() -> None:
    before = good([*lifecycle(in_prod=promotion("prod", "latest")), version("1.1.0")])
    new = [*lifecycle(in_prod=broken(promotion("prod", "latest"))), version("1.1.0"), version("2.0.0")]
    assert version_in(hold(loaded(new), before), "prod") == "1.1.0"


@pytest.mark.parametrize("number", ["1.2.0", ["1.2.0"]])
def test_latest_does_not_fall_back_while_a_version_of_the_model_is_broken(number: Any) -> None:
    before = good([*lifecycle(in_prod=promotion("prod", "latest")), version("1.1.0")])
    unsure = version(number, "m-next", nonsense=1)  # and 1.1.0 was removed
    held = hold(loaded([*lifecycle(in_prod=promotion("prod", "latest")), unsure]), before)
    assert version_in(held, "prod") == "1.1.0"
    assert Key("ModelVersion", "m-1.1.0") in held.kept


def test_a_promotion_whose_version_may_be_the_broken_one_is_kept() -> None:
    unsure = version("1.1.0", "m-next")
    unsure["spec"]["version"] = ["1.1.0"]
    held = hold(loaded([*lifecycle(in_prod=promotion("prod", "1.1.0")), unsure]), good())
    assert version_in(held, "prod") == "1.0.0"


def test_of_two_texts_that_do_not_go_together_the_last_good_one_counts() -> None:
    before = good(lifecycle(dev=document("Stage", "dev", alias="champion")))
    # prod takes over the alias that dev gives up, but what dev is now cannot be read
    new = lifecycle(dev=broken(document("Stage", "dev")), prod=document("Stage", "prod", alias="champion"))
    held = hold(loaded(new), before)
    assert held.resources[Key("Stage", "prod")] == before.resources[Key("Stage", "prod")]
    assert "does not go together with what is kept" in held.why[Key("Stage", "prod")]
    assert Key("Promotion", "m-prod") in held.kept


def test_a_new_document_that_does_not_go_together_with_what_is_kept_is_left_out() -> None:
    renamed = lifecycle(in_prod=None)
    new = loaded([*renamed, promotion("prod", "1.0.0", "champion")], more={"resources/x.yaml": SYNTAX})
    held = hold(new, good())
    assert held.invalid == keys("Promotion/champion")
    assert "already has a promotion of this model" in held.why[Key("Promotion", "champion")]


def test_a_resource_that_took_another_number_gives_way_to_a_kept_promotion() -> None:
    new = lifecycle(
        v1=version("2.0.0", "m-1.0.0"), in_prod=broken(promotion("prod")), in_dev=promotion("dev", "2.0.0")
    )
    held = hold(loaded(new), good())
    assert version_in(held, "dev") == version_in(held, "prod") == "1.0.0"


def test_a_sweep_that_lost_its_objective_gives_way_to_a_version_that_is_kept() -> None:
    sweep = {"strategy": "grid", "parameters": {"depth": [1, 2]}}
    fit = experiment(sweep=sweep, objective=None)
    del fit["spec"]["objective"]
    held = hold(loaded(lifecycle(fit=fit, v1=broken(version("1.0.0")))), good())
    assert held.resources[Key("Experiment", "fit")] == good().resources[Key("Experiment", "fit")]
    assert Key("Model", "m") not in held.kept


def test_kept_experiments_know_the_datasets_that_they_had() -> None:
    held = hold(loaded(lifecycle(rows=dataset(uri="data/new.csv"), fit=broken(experiment()))), good())
    assert Key("Dataset", "rows") not in held.kept
    assert held.kept_data == {"rows": good().resources[Key("Dataset", "rows")]}


def test_a_long_chain_of_conflicts_ends_with_the_last_good_revision() -> None:
    names = [f"s{index:03}" for index in range(60)]
    before = good([document("Stage", name, alias=f"alias-{name}") for name in names])
    shifted = [document("Stage", name, alias=f"alias-{after}") for name, after in itertools.pairwise(names)]
    held = hold(loaded([*shifted, broken(document("Stage", names[-1]))]), before)
    assert held.resources == before.resources


NUMBERS = ["1.0.0", "1.1.0", "2.0.0"]


@st.composite
def documents(draw: st.DrawFn) -> list[Document]:
    """Any documents of a few names, that may or may not go together."""
    some = st.booleans()
    found = [dataset(name, uri=f"data/{draw(st.integers(0, 1))}.csv") for name in ("d0", "d1") if draw(some)]
    for name in ("e0", "e1"):
        if draw(some):
            spec: dict[str, Any] = {
                "datasets": {"train": draw(st.sampled_from(["d0", "d1"]))},
                "seed": draw(st.integers(0, 1)),
            }
            found.append(experiment(name, **spec))
            if draw(st.integers(0, 3)) == 0:
                found[-1]["spec"] |= {"sweep": {"strategy": "grid", "parameters": {"depth": [1, 2]}}}
                del found[-1]["spec"]["objective"]
    for name in ("m0", "m1"):
        if draw(some):
            found.append(document("Model", name, registeredName=draw(st.sampled_from(["r0", "r1"]))))
    for name in ("v0", "v1", "v2"):
        if draw(some):
            source = {"experiment": draw(st.sampled_from(["e0", "e1"])), "artifact": "model"}
            model = draw(st.sampled_from(["m0", "m1"]))
            found.append(version(draw(st.sampled_from(NUMBERS)), name, model=model, source=source))
    for name in ("s0", "s1", "s2"):
        if draw(some):
            after = draw(st.sampled_from([None, "s0", "s1", "s2"]))
            alias = draw(st.sampled_from([None, "a0", "a1"]))
            spec = {field: value for field, value in (("after", after), ("alias", alias)) if value}
            if draw(st.integers(0, 4)) == 0:
                spec["approvals"] = {"required": 1, "from": ["leads"]}
            found.append(document("Stage", name, **spec))
    for name in ("p0", "p1", "p2"):
        if draw(some):
            stage, model = draw(st.sampled_from(["s0", "s1", "s2"])), draw(st.sampled_from(["m0", "m1"]))
            found.append(promotion(stage, draw(st.sampled_from([*NUMBERS, "latest"])), name, model=model))
    return found


@st.composite
def revisions(draw: st.DrawFn) -> tuple[Loaded, Loaded]:
    """A revision that is broken in some way or not, and one before it that is whole."""
    project = document("Project", "p", groups={"leads": ["ann@example.com"]})
    before = draw(documents())
    while not (whole := loaded(before, "a" * 40, project=project)).whole:
        before = [one for one in before if Key(one["kind"], one["metadata"]["name"]) not in whole.invalid]
    declared = draw(documents())
    if draw(st.booleans()):  # mostly the same
        same = {(one["kind"], one["metadata"]["name"]): one for one in before}
        declared = [
            draw(st.sampled_from([one, same.get((one["kind"], one["metadata"]["name"]), one)]))
            for one in declared
        ]
    declared = [broken(one) if draw(st.integers(0, 7)) == 0 else one for one in declared]
    more = {"resources/zz.yaml": SYNTAX} if draw(st.integers(0, 7)) == 0 else {}
    head: Document | str = project
    if draw(st.integers(0, 9)) == 0:
        head = draw(st.sampled_from([broken(project), "", SYNTAX]))
    return loaded(declared, project=head, more=more), whole


def needs(resources: Mapping[Key, Any], key: Key) -> set[Key]:
    """What a resource refers to, a Promotion's version among it."""
    found = {target for _, target in references(resources[key])}
    match resources[key]:
        case Promotion(spec=spec):
            versions = {k: r.spec for k, r in resources.items() if isinstance(r, ModelVersion)}
            found |= {
                k
                for k, v in versions.items()
                if v.model == spec.model and spec.version in (v.version, "latest")
            }
    return found


def untouched(new: Loaded) -> set[Key]:
    """The valid resources of a revision that depend on nothing broken, the slow way."""
    unsure = {key for key in new.invalid if key.kind == "ModelVersion"}
    bad = set(new.invalid)
    while True:
        more = {
            key
            for key, one in new.resources.items()
            if key not in bad
            and (
                needs(new.resources, key) & bad
                or (isinstance(one, Promotion) and unsure and not _settled(new, one))
                or any(target not in new.resources for target in needs(new.resources, key))
            )
        }
        if not more:
            return set(new.resources) - bad
        bad |= more


def _settled(new: Loaded, one: Promotion) -> bool:
    """Whether no broken version can be the one that is asked for."""
    numbers = {(r.spec.model, r.spec.version) for r in new.resources.values() if isinstance(r, ModelVersion)}
    others = {
        record.values["spec"].get("model")
        for record in new.records
        if record.key.kind == "ModelVersion" and record.key in new.invalid
    }
    if one.spec.version == "latest":
        return one.spec.model not in others
    return (one.spec.model, one.spec.version) in numbers


@settings(max_examples=400, deadline=None)
@given(revisions())
def test_any_mixture_goes_together_and_holds_all_that_can_be_taken(pair: tuple[Loaded, Loaded]) -> None:
    new, before = pair
    held = hold(new, before)
    if new.whole:
        assert held is new
        return
    assert [str(f) for _, f in check_relations(held.resources.records.values(), Nearest())] == []
    for key in held.resources:
        assert needs(held.resources, key) <= held.resources.keys()
    assert not held.invalid & held.resources.keys()
    assert new.invalid <= held.invalid | held.resources.keys()
    assert held.kept <= held.resources.keys()
    assert held.kept <= before.resources.keys()
    assert held.why.keys() == held.kept | (held.invalid - new.invalid)
    assert held.project is not None
    assert Key("Project", "p") in held.resources

    taken = held.resources.keys() - held.kept
    possible = untouched(new)
    assert taken <= possible
    assert all(held.resources[key] == new.resources[key] for key in taken)
    for key in held.kept:
        pinned = before.resources[key].kind == "Promotion"
        assert pinned or held.resources[key] == before.resources[key]
    lost = possible - taken
    assert not lost or any("does not go together" in held.why.get(key, "") for key in lost)
    gone = before.resources.keys() - held.resources.keys() - held.invalid
    assert not gone or (not new.unreadable and new.project is not None)
    assert not gone & (new.resources.keys() | new.invalid)

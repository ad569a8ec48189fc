"""What a version was bound with is known from its record: an edit by hand is told from a change in git, and undone."""

from __future__ import annotations

import pytest
from revisions import Case, desired, experiment, resource, revision
from store_in_memory import Memory

from mlops.planning.binding import bound_with, read_bound
from mlops.planning.context import BOUND_TAG
from mlops.planning.plan import Step


def case(**version: str) -> Case:
    source = {"experiment": "fit", "artifact": "model"}
    spec = {"model": "m", "version": "1.0.0", "source": source, **version}
    bound = resource("ModelVersion", "m-1", spec)
    return Case(desired(experiment(), resource("Model", "m"), bound, revision=revision(str(version))), {})


@pytest.fixture
def bound() -> Memory:
    store = Memory()
    store.apply(case())
    return store


def heal(store: Memory, wanted: Case) -> Step:
    """The one step for the version, once it is carried out."""
    [step] = [s for s in store.plan(wanted).plan.steps if s.resource == "ModelVersion/m-1"]
    store.apply(wanted)
    assert not [s for s in store.plan(wanted).plan.steps if s.resource == "ModelVersion/m-1"]
    return step


@pytest.mark.parametrize("tag", ["mlops.digest", "mlops.fingerprint", "mlops.revision"])
@pytest.mark.parametrize("value", ["edited", None])
@pytest.mark.parametrize("run", ["there", "deleted"])
def test_an_edited_tag_is_healed_also_when_its_run_is_gone(
    bound: Memory, tag: str, value: str | None, run: str
) -> None:
    before = dict(bound.versions["m", 1].tags)
    if run == "deleted":
        bound.runs.clear()
    bound.tag_version("m", 1, {tag: value})
    step = heal(bound, case())
    assert (step.action, step.reason) == ("heal", "changed outside git")
    assert [(c.field, c.before, c.after) for c in step.changes] == [(f"tags.{tag}", value, before[tag])]
    assert bound.versions["m", 1].tags == before


def test_an_edited_digest_does_not_make_a_version_break_with_the_digest_in_git(bound: Memory) -> None:
    digest = "sha256:" + "1" * 64
    tags = {**bound.versions["m", 1].tags, "mlops.digest": digest}
    bound.tag_version("m", 1, {"mlops.digest": digest, BOUND_TAG: bound_with(tags)})
    wanted = case(digest=digest)
    bound.apply(wanted)
    bound.tag_version("m", 1, {"mlops.digest": "sha256:00"})
    assert heal(bound, wanted).action == "heal"
    assert bound.versions["m", 1].tags["mlops.digest"] == digest
    other = case(digest="sha256:" + "0" * 64)
    assert [block.reason for block in bound.plan(other).plan.blocked] == ["Immutable"]


@pytest.mark.parametrize(
    "record", ["", "nothing", "[]", '{"mlops.digest": "sha256:00"}', '{"check": 1}', None]
)
def test_an_edited_record_says_nothing_and_is_made_again(bound: Memory, record: str | None) -> None:
    before = dict(bound.versions["m", 1].tags)
    bound.tag_version("m", 1, {BOUND_TAG: record})
    assert read_bound(bound.versions["m", 1].tags) is None
    assert heal(bound, case()).action == "heal"
    assert bound.versions["m", 1].tags == before


def test_a_record_is_read_as_it_was_written() -> None:
    tags = {"mlops.digest": "sha256:ü", "mlops.revision": "a" * 40, "mlops.fingerprint": "b" * 64}
    assert read_bound({BOUND_TAG: bound_with({**tags, "other": "x"})}) == tags
    assert read_bound({BOUND_TAG: bound_with({"mlops.revision": "a" * 40})}) is None  # of no digest
    assert read_bound({}) is None

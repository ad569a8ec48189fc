"""The rules of a base whose documents were broken."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from revisions import key, resource

from mlops.errors import MlopsError
from mlops.observation.rules import Bases, rules_of
from mlops.resources import Loaded, Resource
from mlops.source.repository import Repository

PROJECT = resource("Project", "p")


def stage(required: int = 0, name: str = "prod", **spec: Any) -> Resource:
    approvals = {"approvals": {"required": required, "from": ["leads"]}} if required else {}
    return resource("Stage", name, {**approvals, **spec})


def revision(*stages: Resource, invalid: str = "", kept: str = "", **given: Any) -> Loaded:
    """A revision of these stages, some of them kept; `invalid` and `kept` name keys."""
    made: dict[str, Any] = {
        "project": PROJECT,
        "resources": {one.key: one for one in (PROJECT, *stages)},
        "problems": (),
        "invalid": frozenset(key(name) for name in invalid.split()),
        "unreadable": (),
        "locations": {},
        "_snapshot": None,
        "_indexes": {},
        "records": (),
        "kept": frozenset(key(name) for name in kept.split()),
    }
    return Loaded(**{**made, **given})


def past(*before: Loaded | None) -> Any:
    def read() -> Iterator[Loaded | None]:
        yield from before

    return read


NEVER = past()
LOST = revision(invalid="Stage/prod")


def test_a_kept_stage_has_the_rules_of_the_last_good_revision_and_names_it() -> None:
    held = revision(stage(2), stage(name="dev"), kept="Stage/prod")
    rules = rules_of(revision(stage(name="dev"), invalid="Stage/prod"), held, "a" * 40, NEVER)
    assert rules.required == {"prod": 2, "dev": 0}
    assert rules.unknown == frozenset()
    assert rules.origin(stage(), "b" * 40) == "a" * 40
    assert rules.origin(stage(name="dev"), "b" * 40) == "b" * 40


def test_a_stage_that_takes_the_alias_of_a_kept_one_takes_its_rules() -> None:
    held = revision(stage(1, alias="champion"), kept="Stage/prod")
    rules = rules_of(LOST, held, "a" * 40, NEVER)
    assert rules.required["champion"] == 1
    assert rules.origin(stage(name="new", alias="champion"), "b" * 40) == "a" * 40


def test_of_a_stage_that_nobody_kept_the_strictest_rule_before_counts() -> None:
    before = past(revision(stage(0)), revision(stage(3)), revision(stage(1)))
    rules = rules_of(LOST, LOST, None, before)
    assert rules.required["prod"] == 3
    assert (rules.unknown, rules.readable) == (frozenset(), True)


def test_a_stage_that_was_never_readable_was_not_there() -> None:
    rules = rules_of(LOST, LOST, None, past(LOST, LOST))
    assert (rules.required, rules.unknown, rules.readable) == ({}, frozenset(), True)


@pytest.mark.parametrize(
    ("before", "unknown"),
    [
        ([], {"prod"}),
        ([LOST], {"prod"}),
        ([revision(stage(1), unreadable=("x.yaml",))], {"prod"}),
        ([revision()], set()),  # there it was not declared
        ([revision(stage(1))], set()),
    ],
)
def test_where_history_is_cut_off_a_stage_is_unknown_unless_it_was_seen(
    before: list[Loaded], unknown: set[str]
) -> None:
    assert rules_of(LOST, LOST, None, past(*before, None)).unknown == unknown


@pytest.mark.parametrize("hides", [{"project": None}, {"unreadable": ("x.yaml",)}])
def test_a_base_that_hides_stages_asks_for_what_those_before_asked_for(hides: dict[str, Any]) -> None:
    base = revision(stage(0, "dev"), **hides)
    rules = rules_of(base, base, None, past(revision(stage(2), stage(1, "dev"))))
    assert rules.required == {"prod": 2, "dev": 0}
    assert rules_of(base, base, None, past(None)).readable is False
    held = revision(stage(0, "dev"), stage(1), kept="Stage/prod")
    assert rules_of(base, held, "a" * 40, past(None)).required == {"prod": 1, "dev": 0}


def test_the_past_is_not_read_where_nothing_is_lost() -> None:
    def never() -> Iterator[Loaded | None]:
        raise AssertionError("the past was read")

    base = revision(stage(1), invalid="Dataset/rows")
    assert rules_of(base, base, None, never).required == {"prod": 1}


def test_what_cannot_be_read_yet_is_read_again(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com"]
        done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)
        return done.stdout.decode().strip()

    git("init", "-q")
    for message in ("first", "second"):
        git("commit", "-q", "--allow-empty", "-m", message)
    base, before = git("rev-parse", "HEAD"), git("rev-parse", "HEAD~1")
    there = {base: LOST}

    def read(sha: str) -> Any:
        if sha not in there:
            raise MlopsError("its objects are missing")
        return None, there[sha]

    bases = Bases(Repository.discover(tmp_path), read)
    project: Any = PROJECT
    assert bases.rules(base, None, project).unknown == {"prod"}
    there[before] = revision(stage(2))
    assert bases.rules(base, None, project).required == {"prod": 2}
    there.clear()  # what a commit says never changes
    assert bases.rules(base, None, project).required == {"prod": 2}
    assert bases.rules(before, None, project).readable is False

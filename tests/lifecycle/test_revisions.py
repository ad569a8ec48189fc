"""A revision other than HEAD is applied to the stores that it names itself, as its plan was made from them."""

from __future__ import annotations

from collections.abc import Callable

import yaml
from git_project import GitProject, document


def test_an_older_revision_is_applied_to_the_store_that_it_names(
    make_project: Callable[..., GitProject],
) -> None:
    project = make_project(
        [document("Model", "m", {"description": "A model"})], tracking={"uri": "sqlite:///.mlops/first.db"}
    )
    moved = {"tracking": {"uri": "sqlite:///.mlops/second.db"}}
    project.write("mlops.yaml", yaml.safe_dump(document("Project", "p", moved)))
    project.commit("another store")
    assert project.run("apply", "--revision", "HEAD~1") == 0
    home = project.root / ".mlops"
    assert ((home / "first.db").exists(), (home / "second.db").exists()) == (True, False)

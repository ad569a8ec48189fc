"""From a commit to the alias: what the daemon follows, and that nothing but the commit has to happen for it."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from git_project import GitProject
from running import Daemon, Daemons, declared, in_stage

Make = Callable[..., GitProject]


def published(project: GitProject, to: Path) -> GitProject:
    """The same project with a bare repository as its remote, which has the branch main."""
    subprocess.run(["git", "clone", "-q", "--bare", str(project.root), str(to)], check=True)
    project.git("remote", "add", "origin", str(to))
    return project


def commit(project: GitProject, **asked: Any) -> str:
    """Commit what is declared then."""
    project.declare(declared(**asked))
    return project.commit()


def in_force(daemon: Daemon, sha: str) -> None:
    """Wait until the promotion to dev that a commit asks for is carried out, by its one pass.

    Sooner than a remote is asked by default.
    """
    daemon.tells("Promoted", within=45.0, resource="Promotion/m-dev", revision=sha)
    daemon.tells("Pass", result="changed")


def test_a_commit_is_in_force_without_another_reason_than_its_ref(
    make_project: Make, daemons: Daemons, tmp_path: Path
) -> None:
    project = make_project()
    daemon = daemons.fork(project.root)
    daemon.tells("Promoted", resource="Promotion/m-dev")
    daemon.rests()

    daemon.mark()
    in_force(daemon, commit(project, dev="2.0.0"))
    assert in_stage(project.root) == "2.0.0"
    daemon.rests()
    assert {
        why for row in daemon.told("Pass") for why in row["message"].partition("because of ")[2].split(", ")
    } <= {
        "revision",
        "ledger",  # what it wrote itself
    }

    daemon.mark()
    project.git("pack-refs", "--all", "--prune")
    daemon.rests()
    assert not daemon.told("Pass", result="changed")
    assert not daemon.told("PassFailed")
    in_force(daemon, commit(project, dev="1.0.0"))
    assert in_stage(project.root) == "1.0.0"

    daemon.mark()
    project.git("worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    linked = GitProject.at(tmp_path / "linked")
    sha = commit(linked, dev="2.0.0")
    linked.git("update-ref", "refs/heads/main", sha)
    in_force(daemon, sha)
    assert in_stage(project.root) == "2.0.0"
    assert daemon.stop() == 0


def test_a_branch_is_followed_that_is_not_checked_out_also_from_a_linked_worktree(
    make_project: Make, daemons: Daemons, with_store: Callable[[Path], Path], tmp_path: Path
) -> None:
    elsewhere = make_project(source={"branch": "live", "interval": "1h"})
    first = elsewhere.git("rev-parse", "HEAD")
    elsewhere.git("branch", "live")
    elsewhere.git("worktree", "add", "-q", "-b", "aside", str(tmp_path / "linked"))
    project = GitProject.at(with_store(tmp_path / "linked"))
    daemon = daemons.fork(project.root)
    in_force(daemon, first)
    daemon.rests()

    daemon.mark()
    commit(project, dev="2.0.0")
    sha = commit(elsewhere, dev="2.0.0")
    daemon.rests()
    assert not daemon.told("Pass", result="changed")
    elsewhere.git("branch", "-f", "live", sha)
    in_force(daemon, sha)
    assert in_stage(project.root) == "2.0.0"

    daemon.mark()
    elsewhere.git("branch", "-q", "-D", "live")
    daemon.tells("SourceUnavailable", resource="Project/p", message="no branch live")
    project.client.delete_registered_model_alias("m", "dev")
    daemon.tells("Healed", resource="Promotion/m-dev", revision=sha)
    assert "no branch live" in str(daemons.get(project.root)["resources"]["Project/p"])
    elsewhere.git("branch", "live", sha)
    daemon.rests()
    assert "no branch live" not in str(daemons.get(project.root)["resources"]["Project/p"])
    assert not daemon.told("PassFailed")


def test_the_working_tree_is_followed_as_it_is_saved_and_never_comes_into_force(
    make_project: Make, daemons: Daemons
) -> None:
    project = make_project()
    daemon = daemons.fork(project.root, "--working-tree")
    daemon.tells("Promoted", resource="Promotion/m-dev")
    daemon.rests()

    daemon.mark()
    documents = declared(dev="2.0.0", parameters={"depth": 5})
    for _ in range(20):  # an editor saves in several steps
        project.declare(documents[:4])
        project.declare(documents)
    daemon.tells("Promoted", resource="Promotion/m-dev")
    daemon.tells("Trained")
    daemon.rests()
    because = [row["message"] for row in daemon.told("Pass") if "files" in row["message"]]
    assert len(because) == 1, because
    client = project.client
    runs = client.search_runs([client.get_experiment_by_name("p/fit").experiment_id])
    assert sorted(run.data.tags["mlops.dirty"] for run in runs) == ["false", "true"]
    assert in_stage(project.root) == "2.0.0"
    assert client.get_experiment_by_name("p") is None  # what says which revision is in force


def test_a_remote_that_is_away_at_first_and_again_later_is_followed_whenever_it_is_there(
    make_project: Make, daemons: Daemons, with_store: Callable[[Path], Path], tmp_path: Path
) -> None:
    remote, home = tmp_path / "remote.git", with_store(tmp_path / "home")
    daemon = daemons.fork(None, "--source", str(remote), "--home", str(home))
    daemon.tells("RemoteAway", message="there is no such repository")
    assert daemon.stop() == 0
    daemon = daemons.fork(None, "--source", str(remote), "--home", str(home))
    project = published(make_project(source={"interval": "1s"}), remote)
    in_force(daemon, project.git("rev-parse", "HEAD"))

    daemon.mark()
    sha = commit(project, dev="2.0.0")
    project.git("push", "-q", "origin", "main")
    in_force(daemon, sha)
    assert in_stage(home) == "2.0.0"

    daemon.mark()
    remote.rename(tmp_path / "away.git")
    daemon.tells("FetchFailed", message="there is no such repository")
    daemon.tells("SourceUnavailable", resource="Project/p")
    GitProject.at(home).client.delete_registered_model_alias("m", "dev")
    daemon.tells("Healed", resource="Promotion/m-dev")
    assert in_stage(home) == "2.0.0"
    project_row = daemons.get(home)["resources"]["Project/p"]
    assert "there is no such repository" in str(project_row)
    assert not daemon.told("PassFailed")
    assert len(daemon.told("FetchFailed")) == 1

    (tmp_path / "away.git").rename(remote)
    sha = commit(project, dev="1.0.0")
    project.git("push", "-q", "origin", "main")
    in_force(daemon, sha)
    daemon.tells("FetchRecovered")
    assert "there is no such repository" not in str(daemons.get(home)["resources"]["Project/p"])

    described = daemons.run(home, "describe", "Promotion/m-dev")
    assert (described.code, "Promoted" in described.stdout, "Healed" in described.stdout) == (0, True, True)
    history = daemons.run(home, "history", "m")
    assert (history.code, "2.0.0" in history.stdout) == (0, True), history.stderr
    log = daemons.run(home, "logs", "Experiment/fit")
    assert (log.code, "trained with depth" in log.stdout) == (0, True), log.stderr


def test_without_a_home_it_is_made_by_the_projects_name_and_a_webhook_is_enough(
    make_project: Make, daemons: Daemons, with_store: Callable[[Path], Path], tmp_path: Path
) -> None:
    project = published(make_project(), tmp_path / "remote.git")
    home = with_store(tmp_path / "state/mlops/p")
    environ = {"XDG_STATE_HOME": str(tmp_path / "state"), "MLOPS_WEBHOOK_SECRET": "open sesame"}
    source = ["--source", str(tmp_path / "remote.git")]
    daemon = daemons.fork(None, *source, "--listen", "127.0.0.1:0", environ=environ)
    in_force(daemon, project.git("rev-parse", "HEAD"))
    assert in_stage(home) == "1.0.0"

    sha = commit(project, dev="2.0.0")
    project.git("push", "-q", "origin", "main")
    daemon.rests()
    assert in_stage(home) == "1.0.0"  # it asks once an hour
    address = daemon.told("Listening")[0]["message"].split()[-1]
    body = b'{"ref": "refs/heads/main"}'
    signature = "sha256=" + hmac.new(b"open sesame", body, hashlib.sha256).hexdigest()
    hook = urllib.request.Request(
        f"{address}/hooks/git", body, {"X-Hub-Signature-256": signature}, method="POST"
    )
    with urllib.request.urlopen(hook, timeout=60) as answer:
        assert answer.status == 202
    in_force(daemon, sha)
    assert in_stage(home) == "2.0.0"


def test_who_asks_a_daemon_of_a_remote_is_answered_about_what_was_pushed_before(
    make_project: Make, daemons: Daemons, with_store: Callable[[Path], Path], tmp_path: Path
) -> None:
    remote, home = tmp_path / "remote.git", with_store(tmp_path / "home")
    project = published(make_project(), remote)  # which is asked once an hour
    source = ["--source", str(remote), "--home", str(home), "--listen", "127.0.0.1:0"]
    daemon = daemons.fork(None, *source, environ={"MLOPS_API_TOKEN": "a-token-of-the-tests"})
    in_force(daemon, project.git("rev-parse", "HEAD"))
    daemon.rests()

    def push(dev: str, *force: str) -> str:
        sha = commit(project, dev=dev)
        project.git("push", "-q", *force, "origin", "main")
        return sha

    sha = push("2.0.0")
    asked = daemons.run(home, "reconcile")
    assert (asked.code, f"Revision {sha[:12]} by the daemon" in asked.stderr) == (0, True), asked.stderr
    assert in_stage(home) == "2.0.0"

    sha = push("1.0.0")
    waited = daemons.run(home, "wait", "Promotion/m-dev", "--timeout", "60s")
    assert (waited.code, f"is ready at {sha[:12]}" in waited.stderr) == (0, True), waited.stderr
    sha = push("2.0.0")
    waited = daemons.run(home, "wait", "Promotion/m-dev", "--revision", sha, "--timeout", "60s")
    assert (waited.code, f"is ready at {sha[:12]}" in waited.stderr) == (0, True), waited.stderr
    sha = push("1.0.0")
    url = daemon.told("Listening")[0]["message"].split()[-1]
    there = daemons.forks.start(
        "command",
        {"MLOPS_API_TOKEN": "a-token-of-the-tests"},
        {},
        ["--server", url, "wait", "Promotion/m-dev", "--timeout", "60s"],
    ).wait()
    assert (there.code, f"is ready at {sha[:12]}" in there.stderr) == (0, True), there.stderr

    project.git("reset", "-q", "--hard", "HEAD~2")
    sha = push("2.0.0", "--force")
    asked = daemons.run(home, "reconcile")
    assert (asked.code, f"{sha[:12]} does not descend" in asked.stderr) == (3, True), asked.stderr
    project.git("reset", "-q", "--hard", "HEAD~1")
    sha = push("2.0.0", "--force")
    asked = daemons.run(home, "reconcile", "--accept-rewrite")  # also of a head that is not here yet
    assert (asked.code, f"Revision {sha[:12]} by the daemon" in asked.stderr) == (0, True), asked.stderr
    assert in_stage(home) == "2.0.0"

    remote.rename(tmp_path / "away.git")
    asked = daemons.run(home, "reconcile")
    assert (asked.code, "there is no such repository" in asked.stderr) == (1, True), asked.stderr


def test_the_real_command_follows_and_ends(make_project: Make, daemons: Daemons) -> None:
    project = make_project()
    daemon = daemons.command(project.root)
    daemon.tells("Promoted", resource="Promotion/m-dev")
    sha = commit(project, dev="2.0.0")
    waited = daemons.run(project.root, "wait", "Promotion/m-dev", "--revision", sha, "--timeout", "90s")
    assert waited.code == 0, waited.stderr
    in_force(daemon, sha)
    assert in_stage(project.root) == "2.0.0"
    assert daemon.stop() == 0
    assert daemon.told("LeaseReleased")

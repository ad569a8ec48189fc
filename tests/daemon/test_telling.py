"""What the log and whoever asks are told of a revision: that it is in force, and what in it cannot be read."""

from __future__ import annotations

from collections.abc import Callable

from git_project import GitProject, document
from running import Daemons


def test_a_file_that_cannot_be_read_is_named_once_and_the_mending_commit_is_in_force(
    make_project: Callable[..., GitProject], daemons: Daemons
) -> None:
    project = make_project([document("Stage", "dev", {})])
    daemon = daemons.fork(project.root)
    daemon.tells("InForce", revision=project.git("rev-parse", "HEAD"))

    broken = project.root / "resources/broken.yaml"
    broken.write_text("kind: {Stage\n")
    sha = project.commit()
    told = daemon.tells("Invalid", revision=sha)
    assert "resources/broken.yaml:" in told["message"]
    daemon.tells("InForce", revision=sha)
    asked = daemons.run(project.root, "apply")
    assert asked.code == 1
    assert "resources/broken.yaml:" in asked.stderr

    daemon.mark()
    broken.unlink()
    mended = project.commit()
    daemon.tells("InForce", revision=mended)
    assert daemons.run(project.root, "apply").code == 0
    assert not daemon.told("Invalid")

    daemon.stop()
    again = daemons.fork(project.root)
    again.tells("Leading")
    assert daemons.run(project.root, "reconcile").code == 0
    assert not again.told("InForce")

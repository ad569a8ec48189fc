"""A daemon promotes what was approved within a pass of the approval, and does nothing for one that does not count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from approvers import ANN, BEN, Team
from running import Daemons, configure


def test_a_signed_tag_promotes_within_a_pass_and_one_of_the_author_does_not(
    tmp_path: Path, daemons: Daemons, with_store: Callable[[Path], Path]
) -> None:
    team = Team(tmp_path)
    configure(team.it, **team.project())  # it looks at git once an hour: nothing but the tag wakes it
    team.it.commit()
    daemon = daemons.fork(with_store(team.it.root))
    daemon.tells("Bound", resource="ModelVersion/m-1.0.0")
    daemon.rests()
    daemon.mark()
    wrong = team.signs(ANN)
    daemon.tells("Pass")
    daemon.rests()
    assert team.stands() == {}
    team.it.git("tag", "-d", wrong)
    daemon.rests()
    daemon.mark()
    team.signs(BEN)
    daemon.tells("Promoted", resource="Promotion/m-prod")
    assert team.stands() == {"prod": 1}
    first = daemon.tells("Pass")
    assert first["message"].startswith("changed"), (
        daemon
    )  # the pass that saw the tag is the one that promoted

"""What a forge answers during one look: nothing is asked twice, and nothing more once it is down."""

from __future__ import annotations

import pytest

from mlops.approvals.reviews import Answers
from mlops.forges import ForgeUnavailable


class Counting:
    """A forge that counts what it is asked, and is down where told so."""

    name = "github"

    def __init__(self, *, down: bool = False) -> None:
        self.asked: list[object] = []
        self.down = down

    def _ask(self, what: object) -> None:
        self.asked.append(what)
        if self.down:
            raise ForgeUnavailable("the forge does not answer")

    def merged(self, commit: str, branch: str) -> None:
        self._ask((commit, branch))

    def reviews(self, number: int) -> tuple[()]:
        self._ask(number)
        return ()


def test_promotions_of_one_pull_request_ask_once_also_where_there_is_none() -> None:
    forge = Counting()
    answers = Answers(forge)  # type: ignore[arg-type]
    for _ in range(1000):
        assert answers.merged("a", "main") is None
        assert answers.reviews(1) == ()
    answers.merged("b", "main")
    assert forge.asked == [("a", "main"), 1, ("b", "main")]


def test_a_forge_that_is_down_is_waited_for_once_and_not_for_each_promotion() -> None:
    forge = Counting(down=True)
    answers = Answers(forge)  # type: ignore[arg-type]
    for number in range(1000):
        with pytest.raises(ForgeUnavailable):
            answers.merged(str(number), "main")
        with pytest.raises(ForgeUnavailable):
            answers.reviews(number)
    assert len(forge.asked) == 1

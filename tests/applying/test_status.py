"""Status as it is written: since when each condition holds, and nothing again that did not change."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mlops.applying.status import NAMESPACE, Failure, Recorder, standings
from mlops.planning.conditions import Assessment, assess
from mlops.planning.plan import Block
from mlops.redaction import Redactor
from mlops.resources import Key
from mlops.state import State, open_state


class Written:
    """A recorder on a real state, with a clock moved by hand and the writes of status counted."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.time = 1_700_000_000.0
        self.writes: list[set[str]] = []
        put = state.put_many

        def counted(namespace: str, items: Mapping[str, bytes]) -> None:
            if namespace == NAMESPACE:
                self.writes.append(set(items))
            put(namespace, items)

        state.put_many = counted  # type: ignore[method-assign]
        self.recorder = self.anew()

    def anew(self) -> Recorder:
        return Recorder(self.state, Redactor.from_environ({}, ()), lambda: self.time)

    def since(self, name: str, condition: str) -> float:
        """When a condition took the status that is written."""
        return datetime.fromisoformat(standings(self.state)[name].since[condition][2]).timestamp()


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    with open_state("sqlite:///state.db", base=tmp_path, now=time.time) as state:
        yield Written(state)


def assessed(**blocked: str | None) -> dict[Key, Assessment]:
    """Models by name, each with the reason that blocks it."""
    return {
        Key("Model", name): assess(
            Key("Model", name), blocks=(Block(f"Model/{name}", "Ready", why, "message"),) if why else ()
        )
        for name, why in blocked.items()
    }


def test_a_condition_holds_since_its_status_or_reason_changed(written: Written) -> None:
    written.recorder.status(assessed(a=None, b=None), revision="r1")
    began = written.time
    written.time += 60.0
    written.recorder.status(assessed(a="NotFound", b=None), revision="r2")
    assert (written.since("Model/a", "Ready"), written.since("Model/b", "Ready")) == (began + 60.0, began)
    assert written.since("Model/a", "Stalled") == began
    written.time += 60.0
    written.anew().status(assessed(a="NotFound", b="Invalid"), revision="r2")  # a process that starts again
    assert written.since("Model/a", "Ready") == began + 60.0
    assert written.since("Model/b", "Ready") == began + 120.0


def test_only_what_changed_is_written(written: Written) -> None:
    written.recorder.status(assessed(a=None, b=None), revision="r1")
    written.writes.clear()
    written.time += 60.0
    written.recorder.status(assessed(a=None, b=None), revision="r1")
    assert written.writes == []
    written.recorder.status(assessed(a=None, b="Invalid"), revision="r1")
    assert [len(names) for names in written.writes] == [1]
    assert "Model/b" in written.writes[0]
    written.anew().status(assessed(a=None, b="Invalid"), revision="r1")
    assert len(written.writes) == 1
    written.recorder.status(assessed(b="Invalid"), revision="r1")
    assert set(standings(written.state)) == {"Model/b"}


def test_a_failure_is_written_shown_and_taken_back(written: Written) -> None:
    failure = Failure("", "UpdateFailed", "the store cannot be reached", stalled=True)
    models = assessed(a=None, b=None)
    written.recorder.status(models, revision="r1", failures={"Model/a": failure})
    found: Any = standings(written.state)["Model/a"]
    assert (found.failure, found.since["Ready"][:2]) == (failure, ("False", "UpdateFailed"))
    written.recorder.status(models, revision="r1")
    found = standings(written.state)["Model/a"]
    assert (found.failure, found.since["Ready"][:2]) == (None, ("True", "Ready"))
    rows = written.state.all(NAMESPACE)
    assert all("failure" not in json.loads(row) for name, row in rows.items() if name.startswith("Model/"))

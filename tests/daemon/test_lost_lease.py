"""A lease that is lost, or MLflow, in the middle: what was done is told, and whoever leads now has the last word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from driven import MINUTE, DrivenDaemon
from git_project import GitProject, document

from mlops.applying.status import NAMESPACE
from mlops.controller import Controller
from mlops.daemon.journal import Journal
from mlops.daemon.metrics import Metrics
from mlops.errors import Transient
from mlops.state import Lease, LeaseLost, acquire


def test_what_was_done_before_the_lease_was_lost_is_told(
    make_project: Callable[..., GitProject], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlops.tracking.registry import Registry

    make, made = Registry.ensure_model, []

    def lost(*arguments: Any, **options: Any) -> None:
        make(*arguments, **options)
        made.append(arguments[1])
        assert daemon.daemon.term is not None
        daemon.daemon.term.lease._why_lost = "somebody took it"

    monkeypatch.setattr(Registry, "ensure_model", lost)
    daemon = DrivenDaemon(make_project([document("Model", "m", {"description": "A model"})]).root)
    daemon.run(5 * MINUTE)
    assert made == ["m"]
    assert [event.reason for event in daemon.told.events if event.resource == "Model/m"] == ["Registered"]
    assert daemon.told.reasons["InForce"] == 1  # under the next lease


def test_what_was_done_is_recorded_though_the_revision_cannot_be_written_down(
    make_project: Callable[..., GitProject], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(world: Any) -> None:
        monkeypatch.undo()
        raise Transient("MLflow does not answer")

    monkeypatch.setattr("mlops.applying.apply.record_revision", away)
    daemon = DrivenDaemon(make_project([document("Model", "m", {"description": "A model"})]).root)
    daemon.run(5 * MINUTE)
    assert daemon.told.passes[0].result == "failed"
    assert [event.reason for event in daemon.told.events if event.resource == "Model/m"] == ["Registered"]
    assert daemon.told.reasons["InForce"] == 1


def test_an_apply_that_lost_its_lease_leaves_the_status_to_whoever_leads_now(
    make_project: Callable[..., GitProject], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project([document("Model", "m", {"description": "A model"})])
    taken: list[Lease] = []

    def acquired(*arguments: Any, **options: Any) -> Lease:
        taken.append(acquire(*arguments, **options))
        return taken[-1]

    def overtaken(world: Any) -> None:
        taken[-1]._why_lost = "somebody took it"
        controller.state.put_many(NAMESPACE, {"Model/m": b"{}"})
        world.check_lease()

    monkeypatch.setattr("mlops.state.lease.acquire", acquired)
    monkeypatch.setattr("mlops.applying.apply.record_revision", overtaken)
    with Controller(project.root) as controller:
        with pytest.raises(LeaseLost):
            controller.apply(controller.look, Journal(Metrics()), command="a test")
        assert controller.state.get(NAMESPACE, "Model/m") == b"{}"

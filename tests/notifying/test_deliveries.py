"""Deliveries beside the loop, with real children and services that hang, fail and recover."""

from __future__ import annotations

import contextlib
import threading

import psutil
import pytest
from loopback_service import Service

from mlops.errors import Transient
from mlops.notifying.deliveries import Deliveries, Delivery, Outcome, deliver
from mlops.notifying.message import Message
from mlops.notifying.rows import Row

MESSAGE = Message("concept fired", "it drifted", "critical")


def delivery(service: Service, notifier: str, *, attempts: int = 0, alert: str = "id1") -> Delivery:
    row = Row(alert, notifier, 0, 0.0, attempts=attempts)
    return Delivery(row, MESSAGE, service.url(notifier), "f")


def by_notifier(outcomes: list[Outcome]) -> dict[str, bool]:
    return {outcome.row.notifier: outcome.error is None for outcome in outcomes}


def children() -> list[psutil.Process]:
    """Those that send: this process may have servers of other tests, too."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE and any(
                "notifying" in part for part in child.cmdline()
            ):
                found.append(child)
    return found


def until(condition: threading.Event, seconds: float = 20) -> None:
    assert condition.wait(seconds)


def test_offering_never_waits_and_what_came_of_it_is_told_once(service: Service) -> None:
    service.answers["ill"] = [500, 200]
    told = threading.Event()
    deliveries = Deliveries(wake=told.set)
    deliveries.offer([delivery(service, "ill"), delivery(service, "team")])
    assert deliveries.finished() == []
    assert deliveries.drain(20)
    until(told)
    outcomes = deliveries.finished()
    assert by_notifier(outcomes) == {"ill": False, "team": True}
    assert deliveries.finished() == []
    (ill,) = [outcome for outcome in outcomes if outcome.error is not None]
    assert isinstance(ill.error, Transient)
    again = Delivery(ill.marked(1.0), MESSAGE, service.url("ill"), "f")
    deliveries.offer([again])
    assert deliveries.drain(20)
    assert by_notifier(deliveries.close()) == {"ill": True}


def test_an_outcome_that_could_not_be_written_down_is_kept_and_not_sent_again(service: Service) -> None:
    deliveries = Deliveries()
    deliveries.offer([delivery(service, "team")])
    assert deliveries.drain(20)

    def locked(outcomes: list[Outcome]) -> None:
        raise Transient("the database is locked")

    with pytest.raises(Transient):
        deliveries.settle(locked)
    deliveries.offer([delivery(service, "team")])  # it is still due: nothing was marked
    assert deliveries.drain(20)
    marked: list[Outcome] = []
    deliveries.settle(marked.extend)
    deliveries.settle(marked.extend)
    assert by_notifier(marked) == {"team": True}
    assert len(marked) == len(service.got) == 1
    deliveries.close()


def test_four_services_that_hang_again_keep_a_fifth_not_waiting(service: Service) -> None:
    hanging = [f"hang{n}" for n in range(4)]
    service.answers |= {name: ["hang"] for name in hanging}
    told = threading.Event()
    deliveries = Deliveries(timeout=20, wake=told.set)
    deliveries.offer([delivery(service, name, attempts=1) for name in hanging])
    for _ in range(3):
        assert service.hanging.acquire(timeout=20)
    deliveries.offer([delivery(service, "team")])
    until(told)
    assert by_notifier(deliveries.finished()) == {"team": True}
    assert len(children()) == 3
    assert deliveries.close() == []  # what was killed stays due
    assert children() == []


def test_no_more_than_four_children_and_one_for_an_address(service: Service) -> None:
    service.answers |= {f"hang{n}": ["hang"] for n in range(6)}
    deliveries = Deliveries(timeout=20)
    first = delivery(service, "hang0")
    deliveries.offer([first, delivery(service, "hang0", alert="id2")])
    deliveries.offer([first])
    assert service.hanging.acquire(timeout=20)
    assert len(children()) == 1
    deliveries.offer([delivery(service, f"hang{n}") for n in range(1, 6)])
    for _ in range(3):
        assert service.hanging.acquire(timeout=20)
    assert len(children()) == 4
    deliveries.close()
    assert len(service.got) == 4


def test_a_command_that_ends_tries_once_and_leaves_the_rest_for_later(service: Service) -> None:
    service.answers |= {"hang": ["hang"], "ill": [500]}
    assert deliver([delivery(service, "hang")], patience=0.5) == []
    assert children() == []
    outcomes = deliver([delivery(service, name) for name in ("ill", "team")], patience=20)
    assert by_notifier(outcomes) == {"ill": False, "team": True}
    assert len(service.reached("ill")) == 1

"""Real services on loopback, and notifiers that point at them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from loopback_service import Service, serving

from mlops.resources.notifier import Notifier


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as served:
        yield served


@pytest.fixture
def nobody() -> int:
    """A port that nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@pytest.fixture
def notifier() -> Callable[..., Notifier]:
    def make(name: str, *urls: str, **spec: Any) -> Notifier:
        return Notifier.model_validate(
            {
                "apiVersion": "mlops/v1",
                "kind": "Notifier",
                "metadata": {"name": name},
                "spec": {"urls": urls, **spec},
            }
        )

    return make

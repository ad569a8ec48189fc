"""The addresses of a Notifier: what it declares, with variables put in. They hold secrets: never print one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from mlops.errors import MlopsError, Waiting
from mlops.resources.notifier import Notifier


def name_of(notifier: str, index: int) -> str:
    """How people are told of an address: the Notifier and which of its URLs, from 1."""
    return f"Notifier/{notifier} (url {index + 1})"


def address(notifier: Notifier, index: int, substitute: Callable[[str], str]) -> str:
    """One of the URLs of a Notifier, ready to be sent to.

    Args:
        notifier: as declared.
        index: which URL, from 0.
        substitute: replaces `${VAR}`, as `observation.settings.substitute` with the Project and the environment.

    Raises:
        Waiting: a variable is not set or not allowed; it is named, no value is.
    """
    try:
        return substitute(notifier.spec.urls[index])
    except MlopsError as error:
        raise Waiting(error.what, where=name_of(notifier.metadata.name, index), fix=error.fix) from None


def fingerprint(notifier: Notifier, index: int) -> str:
    """Changes when the declared URL does; tells nothing of it."""
    return hashlib.sha256(notifier.spec.urls[index].encode()).hexdigest()[:16]

"""Sending a message to one address, in a child process that may hang, crash or print what it likes."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn

from mlops.errors import MlopsError, Stalled, Transient
from mlops.notifying.message import Message

TIMEOUT: Final = 30.0  # seconds for one address

_CHILD: Final = Path(__file__).with_name("child.py")
_TICK: Final = 0.2  # seconds between two looks at whether to stop
_GRACE: Final = 2.0  # seconds to collect a killed child
# What a service is reached by; no secret of this process's own.
_PASSED_ON: Final = re.compile(
    r"PATH|HOME|LANG|LC_ALL|TZ|SSL_CERT_(FILE|DIR)|(REQUESTS|CURL)_CA_BUNDLE"
    r"|((HTTPS?|ALL|NO)_PROXY|(https?|all|no)_proxy)"
)
_TRY_LATER: Final = (408, 425, 429)  # beside everything from 500 on


def send(
    url: str,
    message: Message,
    *,
    where: str,
    timeout: float = TIMEOUT,
    stop: threading.Event | None = None,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Send `message` to one Apprise URL, which stands in no error, argument or environment of a process.

    Args:
        url: the address with its secrets.
        message: what to say.
        where: how errors call the address, such as `Notifier/team (url 1)`.
        timeout: seconds, after which the child is killed.
        stop: once it is set, the child is killed and `Transient` raised.
        environ: of it, only proxies, certificates and the like reach the child.

    Raises:
        Transient: no answer in time, no connection, or the service says to try later.
        Stalled: no such service, a malformed URL, a missing package, or the service refuses for good.
    """
    order = {
        "url": url,
        "title": message.title,
        "body": message.body,
        "severity": message.severity,
        "attachments": [[a.name, a.mime, base64.b64encode(a.content).decode()] for a in message.attachments],
        "timeout": timeout,
    }
    child = _start({name: value for name, value in environ.items() if _PASSED_ON.fullmatch(name)}, where)
    until = time.monotonic() + timeout
    try:
        answer = _answer(child, json.dumps(order).encode(), until, stop)
    except subprocess.TimeoutExpired:
        what = "stopped" if time.monotonic() < until else f"the service did not answer within {timeout:g} s"
        raise Transient(what, where=where, fix="It is tried again") from None
    finally:
        _end(child)
    try:
        said = json.loads(answer)
        result, status = str(said["result"]), said["status"]
    except (ValueError, KeyError, TypeError):
        raise Transient(
            f"the child that sends ended with {child.returncode} and no answer",
            where=where,
            fix="It is tried again",
        ) from None
    if result != "sent":
        _refuse(result, status, where)


def _start(environ: dict[str, str], where: str) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [sys.executable, "-I", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise Transient(
            f"no process could be started ({error.strerror})", where=where, fix="It is tried again"
        ) from None


def _answer(
    child: subprocess.Popen[bytes], order: bytes, until: float, stop: threading.Event | None
) -> bytes:
    """What the child says. Raises `TimeoutExpired` at `until` (monotonic seconds), or when told to stop."""
    unsent: bytes | None = order
    while True:
        left = max(0.0, until - time.monotonic())
        try:
            return child.communicate(unsent, timeout=min(left, _TICK) if stop else left)[0]
        except subprocess.TimeoutExpired:
            if time.monotonic() >= until or (stop and stop.is_set()):
                raise
            unsent = None  # the pipe has the order, or goes on taking it


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):  # it ended in this moment
            os.killpg(child.pid, signal.SIGKILL)
        child.wait(_GRACE)
    for pipe in (child.stdin, child.stdout):
        if pipe is not None and not pipe.closed:
            pipe.close()


def _refuse(result: str, status: int | None, where: str) -> NoReturn:
    if status is not None:
        later = status >= 500 or status in _TRY_LATER
        kind: type[MlopsError] = Transient if later else Stalled
        fix = "It is tried again" if later else "Check the address and its credentials"
        raise kind(f"the service answered with HTTP {status}", where=where, fix=fix)
    match result:
        case "timeout":
            raise Transient("the service did not answer in time", where=where, fix="It is tried again")
        case "unreachable":
            raise Transient("the service cannot be reached", where=where, fix="It is tried again")
        case "no such scheme":
            raise Stalled(
                "its scheme belongs to no service that Apprise knows",
                where=where,
                fix="See https://github.com/caronc/apprise/wiki for how the URL of a service is written",
            )
        case "bad URL":
            raise Stalled(
                "its URL is not as its service needs it",
                where=where,
                fix="See https://github.com/caronc/apprise/wiki for how the URL of a service is written",
            )
        case "service not installed":
            raise Stalled(
                "its service needs a package that is not installed",
                where=where,
                fix="Install what Apprise names for it: https://github.com/caronc/apprise/wiki",
            )
        case "not installed":
            raise Stalled("Apprise is not installed", where=where, fix="pip install apprise")
        case _:
            raise Transient("the service did not take the message", where=where, fix="It is tried again")

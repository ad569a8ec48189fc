"""Whether a webhook may wake a pass: signed with our secret, and not one of a flood. No I/O, no parsing."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from typing import Final

SIGNATURE_HEADER: Final = b"x-hub-signature-256"
A_SECOND: Final = 10  # webhooks

_SIGNATURE: Final = re.compile(rb"sha256=([0-9a-f]{64})", re.IGNORECASE)


def signed(secret: bytes, body: bytes, signatures: Sequence[bytes]) -> bool:
    """Whether `body` carries the HMAC-SHA256 of `secret`, compared in constant time.

    Args:
        signatures: the values of every `X-Hub-Signature-256` header; exactly one is accepted, since of several
            nobody knows which one a proxy in front has checked.
    """
    expected = hmac.new(secret, body, hashlib.sha256).digest()
    found = _SIGNATURE.fullmatch(signatures[0]) if len(signatures) == 1 else None
    given = bytes.fromhex(found[1].decode()) if found else bytes(len(expected))
    return hmac.compare_digest(expected, given) and found is not None


class Bucket:
    """A token bucket: `rate` a second, and as many at once after a rest.

    Args:
        monotonic: seconds of a clock that never goes back.
    """

    def __init__(self, rate: int, monotonic: Callable[[], float]) -> None:
        self._rate = rate
        self._monotonic = monotonic
        self._tokens = float(rate)
        self._at = monotonic()

    def take(self) -> bool:
        """Take one token; False when there is none."""
        now = self._monotonic()
        self._tokens = min(float(self._rate), self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

"""A message: plain values, and the bytes they are kept as."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import NamedTuple

from mlops.errors import Stalled
from mlops.resources.notifier import Severity


class Attachment(NamedTuple):
    """A file that goes with a message."""

    name: str
    mime: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """What is said. `body` is plain text, never markup: what it quotes stays text in every service."""

    title: str
    body: str
    severity: Severity
    attachments: tuple[Attachment, ...] = ()

    def to_json(self) -> bytes:
        """One line of JSON, attachments in base64."""
        files = [[a.name, a.mime, base64.b64encode(a.content).decode()] for a in self.attachments]
        document = {"title": self.title, "body": self.body, "severity": self.severity, "attachments": files}
        return json.dumps(document).encode()  # ASCII: halves of surrogate pairs survive, too

    @classmethod
    def from_json(cls, data: bytes) -> Message:
        """The message that `to_json` wrote. Raises `Stalled` when `data` is no such thing."""
        try:
            raw = json.loads(data)
            files = tuple(
                Attachment(name, mime, base64.b64decode(text)) for name, mime, text in raw["attachments"]
            )
            return cls(raw["title"], raw["body"], raw["severity"], files)
        except (ValueError, TypeError, KeyError, binascii.Error) as error:
            what = f"A stored message cannot be read ({type(error).__name__})"
            raise Stalled(what, fix="See mlops monitor status for what it was about") from None

"""A commit as git stores it, parsed from its raw bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

_PERSON = re.compile(rb"(?P<name>[^<]*)<(?P<email>[^>]*)>(?: (?P<seconds>-?\d{1,20}) (?P<zone>[+-]\d{4}))?")


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit. Times are aware and in the zone that the person wrote in."""

    sha: str
    tree: str
    parents: tuple[str, ...]
    subject: str
    author_name: str
    author_email: str
    authored_at: datetime
    committer_name: str
    committer_email: str
    committed_at: datetime


def parse_commit(sha: str, raw: bytes) -> Commit:
    """Reads a raw commit object; what is malformed in it becomes an empty text or the epoch."""
    head, _, message = raw.partition(b"\n\n")
    fields: dict[bytes, list[bytes]] = {}
    for line in head.split(b"\n"):
        if not line.startswith(b" "):  # a continuation, of a signature
            key, _, value = line.partition(b" ")
            fields.setdefault(key, []).append(value)
    encoding = fields.get(b"encoding", [b"utf-8"])[0].decode("ascii", "replace")

    def text(value: bytes) -> str:
        try:
            return value.decode(encoding)
        except (LookupError, UnicodeError, ValueError):
            return value.decode("utf-8", "replace")

    def person(key: bytes) -> tuple[str, str, datetime]:
        found = _PERSON.match(fields.get(key, [b""])[0])
        if found is None:
            return "", "", _moment(b"0", b"+0000")
        when = _moment(found["seconds"] or b"0", found["zone"] or b"+0000")
        return text(found["name"]).strip(), text(found["email"]).strip(), when

    paragraph = message.lstrip(b"\n").partition(b"\n\n")[0]
    author_name, author_email, authored_at = person(b"author")
    committer_name, committer_email, committed_at = person(b"committer")
    return Commit(
        sha=sha,
        tree=fields.get(b"tree", [b""])[0].decode("ascii", "replace"),
        parents=tuple(parent.decode("ascii", "replace") for parent in fields.get(b"parent", [])),
        subject=" ".join(text(paragraph).split()),
        author_name=author_name,
        author_email=author_email,
        authored_at=authored_at,
        committer_name=committer_name,
        committer_email=committer_email,
        committed_at=committed_at,
    )


def _moment(seconds: bytes, zone: bytes) -> datetime:
    minutes = int(zone[1:3]) * 60 + int(zone[3:5])
    offset = timedelta(minutes=minutes if zone[:1] == b"+" else -minutes)
    place = timezone(offset) if abs(offset) < timedelta(hours=24) else UTC
    try:
        return datetime.fromtimestamp(int(seconds), place)
    except (OverflowError, ValueError, OSError):  # a date beyond what a calendar holds
        return datetime.fromtimestamp(0, UTC)

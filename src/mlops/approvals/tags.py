"""Signed approval tags, `approve/<promotion>/<version>/<who>`: what they say, and by whose key.

The message is read after the signature is verified; the name of the tag decides nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from mlops.approvals.deciding import Proof
from mlops.approvals.people import People
from mlops.approvals.signatures import Undecided, Unverified, Verifier, split
from mlops.source.git import run
from mlops.source.objects import read_objects
from mlops.source.repository import Repository

PREFIX: Final = "refs/tags/approve/"
MOST_TAGS: Final = 20_000  # that are listed
MOST_OF_ONE: Final = 200  # tags for one promotion that are read, the newest
_LARGEST: Final = 1 << 20  # bytes of a tag
_FORM: Final = 2  # of statements: raised when they say more, so that older ones are made again
_HEAD: Final = re.compile(
    rb"object ([0-9a-f]{40,64})\ntype commit\ntag [^\n]*\ntagger [^\n]*> (\d{1,12}) [+-]\d{4}(?:\n.*)?",
    re.DOTALL,
)
_MESSAGE: Final = re.compile(
    rb"mlops approval\n\npromotion: (\S{1,500})\nversion: (\S{1,200})\ndigest: (sha256:[0-9a-f]{64})\n*"
)
_LISTED: Final = ["for-each-ref", "--sort=creatordate", f"--count={MOST_TAGS}"]


@dataclass(frozen=True, slots=True)
class Ref:
    """A tag by name: its full ref, and the object it names."""

    ref: str
    oid: str
    kind: str

    @property
    def name(self) -> str:
        return self.ref.removeprefix("refs/tags/")

    @property
    def promotion(self) -> str:
        return unquote(self.ref.removeprefix(PREFIX).partition("/")[0])


def tag_name(promotion: str, version: str, who: str) -> str:
    """The name of an approval tag; `who` percent-encoded, as an e-mail is no name for a ref."""
    parts = (
        quote(part, safe="") if place == 2 else part for place, part in enumerate((promotion, version, who))
    )
    return "approve/" + "/".join(part.replace("..", "%2E%2E") for part in parts)


def message(promotion: str, version: str, digest: str) -> str:
    """What an approval tag says."""
    return f"mlops approval\n\npromotion: {promotion}\nversion: {version}\ndigest: {digest}\n"


def listed(repository: Repository) -> Mapping[str, tuple[Ref, ...]]:
    """The approval tags by the promotion that they are named after, oldest first; one process for all."""
    form = "%(objectname) %(objecttype) %(refname)"
    found: dict[str, list[Ref]] = {}
    lines = run([*_LISTED, f"--format={form}", PREFIX.rstrip("/")], repository.root).stdout
    for line in lines.decode("utf-8", "surrogateescape").splitlines():
        oid, kind, ref = line.split(" ", 2)
        one = Ref(ref, oid, kind)
        found.setdefault(one.promotion, []).append(one)
    return {name: tuple(some[-MOST_OF_ONE:]) for name, some in found.items()}


def proofs(
    repository: Repository, refs: Sequence[Ref], people: People, known: MutableMapping[str, Statement]
) -> dict[str, Proof]:
    """What tags prove, by ref.

    Args:
        repository: where they are.
        refs: the tags.
        people: whose keys count.
        known: what tag objects were found to say, by id and keys; added to.
    """
    new = {_key(ref, people): ref for ref in refs if _key(ref, people) not in known}
    if new:
        with Verifier.with_keys(people.gpg) as verifier:
            for key, statement in _read(repository, new, verifier):
                known[key] = statement
    return {ref.ref: _proof(ref, known[_key(ref, people)], people) for ref in refs}


@dataclass(frozen=True, slots=True)
class Statement:
    """What a tag object says, verified. `owner` is whose GPG key signed; of SSH keys it is told by fingerprint.

    `commit` is what it tags, `at` when that was, in seconds of Unix time. Where `lasting` is false, the same bytes may
    say something else later.
    """

    key: str = ""
    owner: str | None = None
    promotion: str = ""
    version: str = ""
    digest: str = ""
    wrong: str | None = None
    commit: str = ""
    at: int = 0
    lasting: bool = True


def _key(ref: Ref, people: People) -> str:
    keyring = hashlib.sha256(repr(people.gpg).encode()).hexdigest()[:16]  # an SSH signature holds its key
    return f"{ref.oid}.{keyring}.{_FORM}"


def _proof(ref: Ref, statement: Statement, people: People) -> Proof:
    who = statement.owner or people.ssh.get(statement.key)
    return Proof(
        how="tag",
        reference=ref.name,
        who=who,
        by=statement.key or "nobody",
        promotion=statement.promotion,
        version=statement.version,
        digest=statement.digest,
        wrong=statement.wrong,
        commit=statement.commit,
        at=statement.at,
    )


def _read(
    repository: Repository, refs: Mapping[str, Ref], verifier: Verifier
) -> Iterator[tuple[str, Statement]]:
    """What tags say: one process that reads, and one for each signature that was never seen before."""
    tags = {}
    for key, ref in refs.items():
        if ref.kind == "tag":
            tags[ref.oid] = key
        else:
            yield key, Statement(wrong="it is no annotated tag, so it is not signed")
    sizes = _sizes(repository, tuple(tags))
    small = [oid for oid in tags if sizes.get(oid, _LARGEST + 1) <= _LARGEST]
    for oid in tags.keys() - set(small):
        yield tags[oid], Statement(wrong="it is too large to be an approval")
    for found in read_objects(repository.root, small, limit=_LARGEST):
        yield tags[found.id], _statement(found.data, verifier)


def _sizes(repository: Repository, oids: Sequence[str]) -> dict[str, int]:
    if not oids:
        return {}
    feed = (f"{oid}\n".encode() for oid in oids)
    out = run(["cat-file", "--batch-check=%(objectname) %(objectsize)"], repository.root, feed=feed).stdout
    rows = (line.split(" ") for line in out.decode("ascii", "replace").splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def _statement(data: bytes, verifier: Verifier) -> Statement:
    try:
        signed = split(data)
        key = verifier.key_of(signed)
    except Unverified as why:
        return Statement(wrong=str(why), lasting=not isinstance(why, Undecided))
    owner = None if signed.ssh else verifier.owners.get(key)
    head, _, text = signed.payload.partition(b"\n\n")
    found = _MESSAGE.fullmatch(text)
    if found is None:
        return Statement(key, owner, wrong="its message is not what `mlops approve` writes")
    tagged = _HEAD.fullmatch(head)
    if tagged is None:
        return Statement(key, owner, wrong="it tags something else than a commit")
    promotion, version, digest = (part.decode("utf-8", "replace") for part in found.groups())
    commit, at = tagged[1].decode(), int(tagged[2])
    return Statement(key, owner, promotion, version, digest, commit=commit, at=at)

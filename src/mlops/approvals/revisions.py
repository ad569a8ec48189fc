"""Signed revisions: with `source.verify: signatures` only what an approver of the base signed comes into force."""

from __future__ import annotations

from typing import Final

from mlops.approvals.people import People
from mlops.approvals.signatures import Unverified, Verifier, split_commit
from mlops.source.objects import read_objects
from mlops.source.repository import Repository

_LARGEST: Final = 1 << 20  # bytes of a commit


def unsigned(repository: Repository, sha: str, people: People) -> str | None:
    """Why a revision is not one that an approver signed; None where it is.

    As Flux and Argo CD do, the commit itself is looked at, and not those it stands on: whoever signs a merge answers
    for what it brings.

    Args:
        repository: where it is.
        sha: the revision.
        people: those of the revision in force.

    Raises:
        MlopsError: it cannot be read, or the program that verifies is not installed.
    """
    found = next(read_objects(repository.root, [sha], limit=_LARGEST))
    try:
        signed = split_commit(found.data)
        with Verifier.with_keys(people.gpg) as verifier:
            key = verifier.key_of(signed)
            owner = people.ssh.get(key) if signed.ssh else verifier.owners.get(key)
    except Unverified as why:
        return str(why)
    return None if owner is not None else f"its key {key} is no approver's"

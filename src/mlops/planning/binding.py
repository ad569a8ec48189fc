"""What a version was bound with, in one tag that checks itself: edits of the others, or of it, are seen and undone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from mlops.planning.canonical import canonical, sha256_of
from mlops.planning.context import BOUND_TAG, DIGEST_TAG, REVISION_TAG
from mlops.planning.runs import FINGERPRINT

_CHECK: Final = "check"


def bound_with(tags: Mapping[str, str]) -> str:
    """The tag's text for a version with these tags: its digest, revision and fingerprint, and a hash of them."""
    row = {tag: tags[tag] for tag in (DIGEST_TAG, REVISION_TAG, FINGERPRINT) if tag in tags}
    return canonical({**row, _CHECK: sha256_of(row)[:16]})


def read_bound(tags: Mapping[str, str]) -> Mapping[str, str] | None:
    """The tags that a version was bound with; None where no record says so, or somebody edited it."""
    text = tags.get(BOUND_TAG, "")
    try:
        row = json.loads(text)
    except ValueError:
        return None
    if not isinstance(row, dict) or not all(isinstance(value, str) for value in row.values()):
        return None
    return (
        {tag: row[tag] for tag in row if tag != _CHECK}
        if text == bound_with(row) and DIGEST_TAG in row
        else None
    )

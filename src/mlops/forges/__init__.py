"""Where pull requests are: GitHub and Azure DevOps behind one small interface.

Everything that a forge answers is read with typed models, bounded in size and time, and remembered with its
ETag, so that asking again costs a request that is not counted. A token goes to one host and nowhere else.
"""

from __future__ import annotations

from mlops.forges.forge import Answers, Forge, ForgeRefused, ForgeUnavailable, PullRequest, Review
from mlops.forges.opening import forge_here, forge_of, missing_token

__all__ = [
    "Answers",
    "Forge",
    "ForgeRefused",
    "ForgeUnavailable",
    "PullRequest",
    "Review",
    "forge_here",
    "forge_of",
    "missing_token",
]

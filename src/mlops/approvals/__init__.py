"""Who approved what: rules and people of a base revision, signed tags, reviews, and what they come to.

The names here are plain values; `tags`, `signatures` and `authors` run git, ssh-keygen and gpg.
"""

from mlops.approvals.deciding import Approval, Asked, Decision, Proof, as_before, decide
from mlops.approvals.people import People

__all__ = ["Approval", "Asked", "Decision", "People", "Proof", "as_before", "decide"]

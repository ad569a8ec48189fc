"""Back to the version before, and any other version that a promotion may be asked to name."""

from __future__ import annotations

from collections.abc import Mapping

from mlops.errors import Stalled
from mlops.proposing.declared import Draft, declared
from mlops.proposing.proposal import Evidence, Moot, Proposal, branch_of, told
from mlops.proposing.versions import versions_of
from mlops.resources.key import Key
from mlops.resources.loading import Loaded
from mlops.resources.promotion import LATEST, Promotion
from mlops.source.editing import SetField


def rollback(
    loaded: Loaded, texts: Mapping[str, str], promotion: str, version: str, evidence: Evidence
) -> Proposal | Moot:
    """What to change in git so that a stage goes back to the version that it had before.

    Args:
        loaded: what the revision declares.
        texts: the text of the files that it is declared in, by path from the project's root.
        promotion: the name of the Promotion.
        version: the version of its stay before.
        evidence: why; its `watched` is the version to go back from.

    Raises:
        Stalled: the promotion or the version is not declared, or cannot be edited.
    """
    asked = declared(loaded, Promotion, promotion).spec.version
    if asked not in (LATEST, evidence.watched):
        return Moot(f"Promotion/{promotion} asks for {asked} now; it was {evidence.watched} that was wrong")
    pins = ""
    if asked == LATEST:
        pins = f"Promotion/{promotion} does not follow the latest version any more."
    return Proposal(
        branch=branch_of(Key("Promotion", promotion), version),
        title=f"Roll {promotion} back to {version}",
        body=told(evidence, pins),
        files=promoted(loaded, texts, promotion, version),
        promotion=promotion,
        version=version,
    )


def promoted(loaded: Loaded, texts: Mapping[str, str], promotion: str, version: str) -> dict[str, str]:
    """The files in which a promotion asks for another version; none where it does so already.

    Raises:
        Stalled: the promotion or the version is not declared, or cannot be edited.
    """
    known = declared(loaded, Promotion, promotion)
    if version not in (one.spec.version for one in versions_of(loaded, known.spec.model)):
        raise Stalled(
            f"{known.spec.model} has no declared version {version}",
            where=loaded.locations[known.key],
            fix="Bring its ModelVersion back, or choose another.",
        )
    draft = Draft(loaded, texts)
    draft.edit([SetField(Key("Promotion", promotion), ("spec", "version"), version)])
    return draft.files()

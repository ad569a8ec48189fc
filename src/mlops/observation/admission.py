"""Whether a revision may come into force: it descends from the one that is, and who has to signed it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from mlops.errors import MlopsError
from mlops.planning.context import APPLIED_GOOD, APPLIED_REVISION, Options, marked
from mlops.resources import Project
from mlops.source.repository import Repository

if TYPE_CHECKING:
    from mlops.approvals import People
    from mlops.planning.desired import Desired


class Admission:
    """Judges revisions by what the one in force says.

    Args:
        repository: where they are.
        project_at: reads the Project of a revision.
    """

    def __init__(self, repository: Repository, project_at: Callable[[str], Project | None]) -> None:
        self._repository = repository
        self._project_at = project_at
        self._signed: dict[tuple[str, str], str | None] = {}  # why not, by revision and the keys that counted

    def refused(self, base: str, read: Desired, people: Callable[[], People], options: Options) -> str | None:
        """Why a revision does not come into force, None where it does.

        Args:
            base: the revision in force.
            read: the one that is asked for.
            people: gives those whom the Project of the base names.
            options: may accept it although history was rewritten.
        """
        return self._rewritten(base, read.revision, options) or self._unsigned(base, read, people, options)

    def _unsigned(
        self, base: str, read: Desired, people: Callable[[], People], options: Options
    ) -> str | None:
        revision = read.revision
        if base == revision and not read.dirty:
            return None
        known = people()
        if not known.known and revision != options.accept:
            return (
                f"{revision[:12]} does not come into force: the Project of {base[:12]}, the revision in force, cannot "
                "be read, so nobody knows whether it takes only signed ones. Fetch it (git fetch --unshallow), or "
                f"`mlops reconcile --accept-rewrite` takes {revision[:12]}"
            )
        if not known.signed:
            return None
        from mlops.approvals.revisions import unsigned

        if read.dirty:
            why: str | None = "the working tree is not signed"
        else:
            if (revision, known.known_by) not in self._signed:
                self._signed[revision, known.known_by] = unsigned(self._repository, revision, known)
            why = self._signed[revision, known.known_by]
        if why is None:
            return None
        return (
            f"{revision[:12]} does not come into force: {why}, and {base[:12]} says `source.verify: signatures`. "
            "Have an approver sign a commit on top of it (git commit -S --allow-empty)"
        )

    def _rewritten(self, base: str, revision: str, options: Options) -> str | None:
        if revision in (base, options.accept) or self._repository.is_ancestor(base, revision):
            return None
        if self._follows(base):
            return None
        return (
            f"{revision[:12]} does not descend from {base[:12]}, the revision in force (history was rewritten, or "
            "this is another branch), so what it lacks does not count as removed; `mlops reconcile "
            "--accept-rewrite` takes it"
        )

    def _follows(self, base: str) -> bool:
        """Whether the Project of the revision in force accepts rewritten history: never the new one's say."""
        try:
            project = self._project_at(base)
        except MlopsError:
            return False
        return project is not None and project.spec.source.rewrites == "follow"


def unsure_of(tags: Mapping[str, str], revision: str, options: Options) -> str | None:
    """Why nothing may be pruned and nothing comes into force: somebody edited the mark of what was.

    If the revision is the last good one, the one in force had nothing that it lacks; of any other that is not known.
    """
    marks = [tag for tag in (APPLIED_REVISION, APPLIED_GOOD) if tag in tags]
    if not marks or marked(tags, APPLIED_REVISION):
        return None
    if revision in (marked(tags, APPLIED_GOOD), options.accept):
        return None
    found = repr(tags[APPLIED_REVISION][:80]) if APPLIED_REVISION in tags else "gone"
    return (
        f"the tag {APPLIED_REVISION} was edited by hand (it is {found}), so what {revision[:12]} lacks does not count "
        "as removed; write the sha of the revision in force there, or `mlops reconcile --accept-rewrite` takes "
        f"{revision[:12]}"
    )

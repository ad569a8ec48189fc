"""The approvals that a base asked for, also where the base was broken: then never less than can be known of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from mlops.approvals import People
from mlops.errors import MlopsError
from mlops.observation.held import Read, held
from mlops.planning.authority import Rules
from mlops.resources import Key, Loaded, Project, Stage
from mlops.source.ancestry import MOST_BEFORE, first_parents
from mlops.source.repository import Repository

# The commits before a base, nearest first, and a None at the end where there are more that cannot be read.
Past = Iterator[Loaded | None]


class Bases:
    """Reads the rules of revisions under which promotions were asked for, each once."""

    def __init__(self, repository: Repository, read: Read) -> None:
        self._repository = repository
        self._read = read
        self._known: dict[tuple[str, str | None], Rules] = {}

    def rules(self, base: str, good: str | None, project: Project, at_hand: Loaded | None = None) -> Rules:
        """The approvals that stages asked for at `base`, as far as git still has it.

        Args:
            good: the last good revision, where `base` is the one in force.
            project: the one that counts now.
            at_hand: all of `base`, where it was read and nothing in it is broken.
        """
        if (rules := self._known.get((base, good))) is not None:
            return rules
        if at_hand is not None:
            rules = self._known[base, good] = Rules.of(_stages(at_hand), _people(at_hand))
            return rules
        try:
            _, loaded = self._read(base)
        except MlopsError:
            # Never what the new Project says about rewritten history: it would free itself of its approvals.
            return Rules(readable=False, people=People(known=False))
        found = held(loaded, project.metadata.name, good, self._read)
        origin = found.good.revision if found.good is not None else None
        rules = rules_of(loaded, found.loaded, origin, lambda: self._past(base))
        rules = replace(rules, people=_people(found.loaded))
        if rules.readable and not rules.unknown and found.problem is None:  # what is missing may be fetched
            self._known[base, good] = rules
        return rules

    def _past(self, sha: str) -> Past:
        before = first_parents(self._repository, sha, MOST_BEFORE)
        try:
            for earlier in before:
                yield self._read(earlier)[1]
        except MlopsError:
            yield None
            return
        if len(before) == MOST_BEFORE or self._repository.is_shallow():
            yield None


def rules_of(base: Loaded, held: Loaded, good: str | None, past: Callable[[], Past]) -> Rules:
    """The rules of a base.

    A stage that was kept while the base was in force has the rules of the last good revision. Of one that was
    broken and is not known to have been kept, the strictest that the commits before asked for count: which of
    these were ever in force is not known. Without any, it was not there before.

    Args:
        base: the resources of the base.
        held: the same with the last good text of what is broken in it, where that is known.
        good: the revision of that text.
        past: reads the commits before.
    """
    kept = {key: stage for key, stage in _stages(held).items() if key in held.kept}
    known = {key: stage for key, stage in _stages(base).items() if key not in kept}
    rules = Rules.of({**known, **kept})
    if good is not None:
        names = (n for s in kept.values() for n in (s.metadata.name, s.spec.alias or s.metadata.name))
        rules = replace(rules, origins=dict.fromkeys(names, good))
    lost = {key for key in base.invalid if key.kind == "Stage" and key not in kept}
    hidden = good is None and _hides(base)  # any stage may be missing
    if not lost and not hidden:
        return rules
    unknown, readable = {key.name for key in lost}, not hidden
    for revision in past():
        if revision is None:
            return replace(rules, unknown=frozenset(unknown), readable=readable)
        found = _stages(revision).items()
        strict = {key: stage for key, stage in found if key in lost or (hidden and key not in known)}
        rules = rules.stricter(Rules.of(strict))
        if not _hides(revision):
            readable = True
            unknown -= {key.name for key in lost if key not in revision.invalid}
    return rules


def _stages(loaded: Loaded) -> Mapping[Key, Stage]:
    return {key: r for key, r in loaded.resources.items() if isinstance(r, Stage)}


def _people(loaded: Loaded) -> People:
    return People.of(loaded.project.spec) if loaded.project is not None else People(known=False)


def _hides(loaded: Loaded) -> bool:
    """Whether it may declare stages that nobody can see."""
    return loaded.project is None or bool(loaded.unreadable)

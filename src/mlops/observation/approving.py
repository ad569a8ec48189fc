"""Looks up who approved what: signed tags and their authors in git, reviews on the forge."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from mlops.approvals import Asked, Decision, People, Proof, decide
from mlops.approvals.authors import Wrote, authors
from mlops.approvals.deciding import unavailable
from mlops.approvals.tags import Ref, Statement, listed, proofs
from mlops.errors import MlopsError
from mlops.resources import Key, Loaded, Promotion
from mlops.resources.project import Forge as ForgeSpec
from mlops.source.repository import Repository

if TYPE_CHECKING:
    from mlops.forges import Forge
    from mlops.state import State

MOST_REMEMBERED: Final = 20_000  # documents of which it is known who wrote them
STATEMENTS: Final = "approvals"  # namespace of the state: what tag objects were found to say


class Approving:
    """Decides about promotions that need approvals; one look costs a few processes, however many there are.

    Args:
        repository: where tags and commits are.
        state: keeps what was verified, as a tag object says the same for ever.
        read: gives what a commit declares.
        forge: gives the forge that a Project names.
    """

    def __init__(
        self,
        repository: Repository,
        state: State,
        read: Callable[[str], Loaded],
        forge: Callable[[ForgeSpec], Forge | None],
    ) -> None:
        self._repository = repository
        self._read = read
        self._forge = forge
        self._known = _Statements(state)
        self._wrote: dict[tuple[str | None, str, Key], Wrote] = {}

    def look(
        self, asked: Collection[Asked], people_of: Callable[[str], People], folder: str
    ) -> Mapping[Asked, Decision]:
        """What is decided about each, now.

        Args:
            asked: promotions, with the rules of their bases.
            people_of: those whom the Project of a base names.
            folder: the project's in the repository, "" for its root.
        """
        if not asked:
            return {}
        tags = listed(self._repository)
        told: dict[Asked, list[Proof]] = {}
        for one in asked:
            refs = tags.get(one.promotion, ())
            said = proofs(self._repository, refs, people_of(one.base), self._known) if refs else {}
            told[one] = [said[ref.ref] for ref in refs if _tells(one, ref, said[ref.ref])]
        # Whose forge it is, the base says; without proofs nobody asks who wrote the change.
        wrote = self._authors([one for one in asked if told[one] or people_of(one.base).forge], folder)
        return {
            one: self._decided(one, people_of(one.base), told[one], wrote.get(one, Wrote())) for one in asked
        }

    def _decided(self, asked: Asked, people: People, told: list[Proof], wrote: Wrote) -> Decision:
        if told and self._repository.is_shallow():
            why = ("who wrote the change cannot be known in a shallow clone",)
            return Decision(asked.required, asked.groups, refused=why, fix="Run: git fetch --unshallow")
        decision = decide(asked, people, told, wrote.people)
        if decision.approved or people.forge is None or asked.digest is None or wrote.last is None:
            return decision
        from mlops.approvals.reviews import proofs as reviewed
        from mlops.approvals.reviews import pull_request_of
        from mlops.forges import ForgeRefused, ForgeUnavailable

        try:
            forge = self._forge(people.forge)
            if forge is None or (found := pull_request_of(forge, wrote.last, people)) is None:
                return decision
            reviews = list(reviewed(forge, found, asked, people, lambda sha: self._version_at(sha, asked)))
            author = people.logins.get(forge.name, {}).get(found.author.lower())
        except (ForgeUnavailable, ForgeRefused) as error:
            return unavailable(decision, f"reviews cannot be looked at: {error.what}")
        return decide(asked, people, [*told, *reviews], {*wrote.people, *([author] if author else ())})

    def _version_at(self, sha: str, asked: Asked) -> str | None:
        """The version that the promotion asks for at a commit, None where that is not here."""
        try:
            resource = self._read(sha).resources.get(Key("Promotion", asked.promotion))
        except MlopsError:
            return None
        return resource.spec.version if isinstance(resource, Promotion) else "none"

    def _authors(self, asked: Collection[Asked], folder: str) -> Mapping[Asked, Wrote]:
        """Who wrote what asks for each, since its base; where the base itself asks, all who ever did."""
        if len(self._wrote) > MOST_REMEMBERED:
            self._wrote.clear()
        for since_base in (True, False):
            missing: dict[tuple[str | None, str], set[Key]] = {}
            for one in asked:
                base = one.base if since_base and one.base != one.revision else None
                place = base, one.revision
                if since_base or not self._found(one).people:
                    keys = {key for key in _keys(one) if (*place, key) not in self._wrote}
                    missing.setdefault(place, set()).update(keys)
            for place, keys in missing.items():
                if keys:
                    wrote = authors(self._repository, *place, folder, keys)
                    self._wrote |= {(*place, key): who for key, who in wrote.items()}
        return {
            one: found if (found := self._found(one)).people else self._found(one, ever=True) for one in asked
        }

    def _found(self, asked: Asked, *, ever: bool = False) -> Wrote:
        base = None if ever or asked.base == asked.revision else asked.base
        known = [self._wrote.get((base, asked.revision, key), Wrote()) for key in _keys(asked)]
        return Wrote(known[0].people | known[1].people, known[0].last)


def _keys(asked: Asked) -> tuple[Key, Key]:
    return Key("Promotion", asked.promotion), Key("ModelVersion", asked.model_version)


def _tells(asked: Asked, ref: Ref, proof: Proof) -> bool:
    """Whether a tag is worth a word: it is about this version, by its name or by what it says."""
    named = ref.name.split("/")
    return proof.version == asked.version or (len(named) > 2 and named[2] == asked.version)


class _Statements(MutableMapping[str, Statement]):
    """What was verified, in memory and in the state."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._here: dict[str, Statement] = {}

    def __getitem__(self, key: str) -> Statement:
        if key not in self._here:
            data = self._state.get(STATEMENTS, key)
            if data is None:
                raise KeyError(key)
            try:
                self._here[key] = Statement(**json.loads(data))
            except (ValueError, TypeError):
                raise KeyError(key) from None
        return self._here[key]

    def __setitem__(self, key: str, statement: Statement) -> None:
        self._here[key] = statement
        self._state.put_many(STATEMENTS, {key: json.dumps(asdict(statement), sort_keys=True).encode()})

    def __delitem__(self, key: str) -> None:
        del self._here[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._here)

    def __len__(self) -> int:
        return len(self._here)

"""Looks up who approved what: signed tags and their authors in git, reviews on the forge."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from dataclasses import asdict, replace
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
    from mlops.approvals.reviews import Answers
    from mlops.forges import Forge
    from mlops.state import State

MOST_REMEMBERED: Final = 20_000  # documents of which it is known who wrote them
MOST_COMMITS: Final = 200  # of which it is remembered what they ask for
UNDECIDED_SECONDS: Final = 600.0  # until a signature that may say something later is looked at again
STATEMENTS: Final = "approvals"  # namespace of the state: what tag objects were found to say


class Approving:
    """Decides about promotions that need approvals; one look costs a few processes, however many there are.

    Args:
        repository: where tags and commits are.
        state: keeps what was verified, as a tag object says the same for ever.
        read: gives what a commit declares.
        forge: gives the forge that a Project names.
        now: the time, in seconds.
    """

    def __init__(
        self,
        repository: Repository,
        state: State,
        read: Callable[[str], Loaded],
        forge: Callable[[ForgeSpec], Forge | None],
        now: Callable[[], float],
    ) -> None:
        self._repository = repository
        self._read = read
        self._forge = forge
        self._known = _Statements(state, now)
        self._asks: dict[str, Mapping[str, tuple[str, str]]] = {}
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
        under: dict[str, list[Asked]] = {}
        for one in asked:
            under.setdefault(one.base, []).append(one)
        told: dict[Asked, list[Proof]] = {}
        for base, some in under.items():
            refs = [ref for name in {one.promotion for one in some} for ref in tags.get(name, ())]
            said = proofs(self._repository, refs, people_of(base), self._known) if refs else {}
            for one in some:
                mine = [(ref, said[ref.ref]) for ref in tags.get(one.promotion, ())]
                told[one] = [self._placed(proof, one) for ref, proof in mine if _tells(one, ref, proof)]
        # Whose forge it is, the base says; without proofs nobody asks who wrote the change.
        wrote = self._authors([one for one in asked if told[one] or people_of(one.base).forge], folder)
        forges: dict[ForgeSpec, Answers | None] = {}
        return {
            one: self._decided(one, people_of(one.base), told[one], wrote.get(one, Wrote()), forges)
            for one in asked
        }

    def _decided(
        self,
        asked: Asked,
        people: People,
        told: list[Proof],
        wrote: Wrote,
        forges: dict[ForgeSpec, Answers | None],
    ) -> Decision:
        if told and self._repository.is_shallow():
            why = ("who wrote the change cannot be known in a shallow clone",)
            return Decision(asked.required, asked.groups, refused=why, fix="Run: git fetch --unshallow")
        decision = decide(asked, people, told, wrote.people)
        # Also where tags are enough: somebody who gave one may have asked for changes since.
        if people.forge is None or asked.digest is None or wrote.last is None:
            return decision
        from mlops.approvals.reviews import Answers, pull_request_of
        from mlops.approvals.reviews import proofs as reviewed
        from mlops.forges import ForgeRefused, ForgeUnavailable

        try:
            if people.forge not in forges:
                made = self._forge(people.forge)
                forges[people.forge] = Answers(made) if made is not None else None
            forge = forges[people.forge]
            if forge is None or (found := pull_request_of(forge, wrote.last, people)) is None:
                return decision
            reviews = list(
                reviewed(forge, found, asked, people, lambda sha: self._asked_at(sha, asked.promotion))
            )
            author = people.logins.get(forge.name, {}).get(found.author.lower())
        except (ForgeUnavailable, ForgeRefused) as error:
            return unavailable(decision, f"reviews cannot be looked at: {error.what}")
        return decide(asked, people, [*told, *reviews], {*wrote.people, *([author] if author else ())})

    def _placed(self, proof: Proof, asked: Asked) -> Proof:
        """A tag's proof with whether it was given for this stage: its words do not name one, its commit does."""
        if proof.wrong is not None or proof.who is None:
            return proof
        asks = self._asked_at(proof.commit, asked.promotion)
        if asks is None or asks[1] in ("", asked.stage):
            return proof
        return replace(proof, wrong=f"it was given at {proof.commit[:12]}, which asks for stage {asks[1]}")

    def _asked_at(self, sha: str, promotion: str) -> tuple[str, str] | None:
        """The version and the stage that a promotion asks for at a commit, None where that is not here."""
        if sha not in self._asks:
            if len(self._asks) >= MOST_COMMITS:
                self._asks.clear()
            try:
                found = self._read(sha).resources.values()
                self._asks[sha] = {
                    one.metadata.name: (one.spec.version, one.spec.stage)
                    for one in found
                    if isinstance(one, Promotion)
                }
            except MlopsError:
                return None
        return self._asks[sha].get(promotion, ("no version", ""))

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
    """What was verified, in memory and in the state; for a while only where it may change."""

    def __init__(self, state: State, now: Callable[[], float]) -> None:
        self._state = state
        self._now = now
        self._here: dict[str, Statement] = {}
        self._until: dict[str, float] = {}

    def __getitem__(self, key: str) -> Statement:
        until = self._until.get(key)
        if until is not None and until < self._now():
            del self._until[key], self._here[key]
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
        if not statement.lasting:
            self._until[key] = self._now() + UNDECIDED_SECONDS
            return
        self._state.put_many(STATEMENTS, {key: json.dumps(asdict(statement), sort_keys=True).encode()})

    def __delitem__(self, key: str) -> None:
        self._until.pop(key, None)
        del self._here[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._here)

    def __len__(self) -> int:
        return len(self._here)

"""Looks up who approved what: signed tags and their authors in git, reviews on the forge."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from mlops.approvals import Asked, Decision, People, Proof, decide
from mlops.approvals.authors import authors
from mlops.approvals.tags import Ref, Statement, listed, proofs
from mlops.errors import MlopsError
from mlops.resources import Key
from mlops.source.repository import Repository

if TYPE_CHECKING:
    from mlops.state import State

STATEMENTS: Final = "approvals"  # namespace of the state: what tag objects were found to say


class Approving:
    """Decides about promotions that need approvals; one look costs a few processes, however many there are.

    Args:
        repository: where tags and commits are.
        state: the namespace that keeps what was verified, as a tag object says the same for ever.
    """

    def __init__(self, repository: Repository, state: State) -> None:
        self._repository = repository
        self._known = _Statements(state)
        self._wrote: dict[tuple[str, str, Key], frozenset[str]] = {}

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
        found: dict[Asked, Decision] = {}
        for one in asked:
            people = people_of(one.base)
            refs = tags.get(one.promotion, ())
            said = proofs(self._repository, refs, people, self._known) if refs else {}
            telling = [said[ref.ref] for ref in refs if _tells(one, ref, said[ref.ref])]
            wrote = self._authors(one, folder) if telling else frozenset()
            found[one] = decide(one, people, telling, wrote)
        return found

    def _authors(self, asked: Asked, folder: str) -> frozenset[str]:
        """Who wrote what asks for it, since its base; where the base itself asks, all who ever did."""
        keys = (Key("Promotion", asked.promotion), Key("ModelVersion", asked.model_version))
        place = asked.base, asked.revision
        if (*place, keys[0]) not in self._wrote or (*place, keys[1]) not in self._wrote:
            base = asked.base if asked.base != asked.revision else None
            wrote = authors(self._repository, base, asked.revision, folder, keys)
            if base is not None and not any(wrote.values()):  # it stood there already
                wrote = authors(self._repository, None, asked.revision, folder, keys)
            if len(self._wrote) > 10_000:
                self._wrote.clear()
            self._wrote |= {(*place, key): people for key, people in wrote.items()}
        return self._wrote[*place, keys[0]] | self._wrote[*place, keys[1]]


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


def unknown(asked: Asked, error: MlopsError) -> Decision:
    """The decision where the proofs cannot be read."""
    return Decision(asked.required, asked.groups, unavailable=f"approvals cannot be read: {error.what}")

"""Valid resources by key, each built when it is first asked for: most commands look at few of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from pydantic import ValidationError

from mlops.errors import MlopsError
from mlops.resources.documents import Record
from mlops.resources.key import Key
from mlops.resources.kinds import MODELS, Resource
from mlops.resources.sharing import share


class Built(Mapping[Key, Resource]):
    """A read-only mapping over documents that have been found to be valid.

    Args:
        records: those documents, by key.
        before: others, of which what was built is taken over where the document is the same object.
    """

    def __init__(self, records: Mapping[Key, Record], before: Built | None = None) -> None:
        self._records = records
        self._built = {key: record.resource for key, record in records.items() if record.resource is not None}
        if before is not None:
            for key, resource in before._built.items():
                if records.get(key) is before._records[key]:
                    self._built[key] = resource

    @property
    def records(self) -> Mapping[Key, Record]:
        """The documents themselves, by key."""
        return self._records

    def __getitem__(self, key: Key) -> Resource:
        resource = self._built.get(key)
        if resource is None:
            resource = self._built[key] = _build(self._records[key])
        return resource

    def __contains__(self, key: object) -> bool:
        return key in self._records

    def __iter__(self) -> Iterator[Key]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        return f"Built({', '.join(map(str, self._records))})"


def _build(record: Record) -> Resource:
    try:
        resource = cast(Resource, MODELS[record.key.kind].model_validate(record.values))
    except ValidationError:
        # Only valid files are kept, under a digest: somebody wrote into the cache.
        what = f"the cache holds a {record.key} that no file declares"
        raise MlopsError(
            what, where=record.location, fix="Delete the state database; it is rebuilt."
        ) from None
    return share(resource)

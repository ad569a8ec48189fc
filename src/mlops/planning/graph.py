"""The graph: what a resource depends on, by name or, for a Promotion, by model and version."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mlops.resources import Key, ModelVersion, Promotion, Resource, references, semver_key


@dataclass(frozen=True, slots=True)
class Graph:
    """The resources of a revision with the indices that following their references needs."""

    resources: Mapping[Key, Resource]
    versions: Mapping[str, Mapping[str, ModelVersion]]  # by model, then by version
    promotions: Mapping[tuple[str, str], Promotion]  # by model and stage

    @classmethod
    def of(cls, resources: Mapping[Key, Resource]) -> Graph:
        versions: dict[str, dict[str, ModelVersion]] = {}
        promotions: dict[tuple[str, str], Promotion] = {}
        for resource in resources.values():
            if isinstance(resource, ModelVersion):
                versions.setdefault(resource.spec.model, {})[resource.spec.version] = resource
            elif isinstance(resource, Promotion):
                promotions[resource.spec.model, resource.spec.stage] = resource
        return cls(resources, versions, promotions)

    def promoted(self, promotion: Promotion) -> ModelVersion | None:
        """The ModelVersion that a Promotion asks for; of `latest` the highest by semver."""
        declared = self.versions.get(promotion.spec.model, {})
        if promotion.spec.version != "latest":
            return declared.get(promotion.spec.version)
        return declared[max(declared, key=semver_key)] if declared else None

    def dependencies(self, key: Key) -> tuple[Key, ...]:
        """What `key` refers to, each once, in the order of its document."""
        resource = self.resources.get(key)
        if resource is None:
            return ()
        found = dict.fromkeys(target for _, target in references(resource))
        if isinstance(resource, Promotion) and (version := self.promoted(resource)) is not None:
            found[version.key] = None
        return tuple(found)

    def closure(self, keys: Collection[Key]) -> set[Key]:
        """`keys` and everything they depend on, directly or not."""
        found: set[Key] = set()
        todo = list(keys)
        while todo:
            key = todo.pop()
            if key not in found:
                found.add(key)
                todo += self.dependencies(key)
        return found

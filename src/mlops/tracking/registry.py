"""Registered models, versions, aliases: read before written, verified after.

MLflow has no compare-and-set for aliases and makes a second version when asked twice, so each write
looks first, and looks again afterwards where the store cannot promise the outcome.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mlops.errors import Stalled, Transient
from mlops.observation.observed import ObservedModel, ObservedVersion, shared
from mlops.tracking.connection import Connection
from mlops.tracking.faults import code, missing

if TYPE_CHECKING:
    from mlflow.tracking.client import MlflowClient

_IDENTITY = ("mlops.resource", "mlops.version")
_BACKLINK = "mlflow.modelVersions"  # on a logged model: the versions made of it, shown in MLflow's UI
_MOST_LINKS = 100  # of them, as the tag's length is limited


class Registry(Connection):
    """What is done to the model registry."""

    def ensure_model(self, name: str, *, description: str, tags: Mapping[str, str]) -> None:
        """Make the registered model; where it exists, put its description and these tags right."""

        def create(client: MlflowClient) -> bool:
            try:
                client.create_registered_model(name, dict(tags), description)
                self._empty.add(name)
            except Exception as error:
                if code(error) == "RESOURCE_ALREADY_EXISTS":
                    return False
                raise
            return True

        if not self._call(f"creating model {name}", create):
            self.update_model(name, description=description, tags=tags)

    def update_model(self, name: str, *, description: str | None, tags: Mapping[str, str | None]) -> None:
        """Set what differs; a description of None stays, a tag of None is deleted."""

        def update(client: MlflowClient) -> None:
            from mlflow.entities.model_registry import RegisteredModelTag

            have = client.get_registered_model(name)
            with self._one_transaction(client) as store:
                if description is not None and (have.description or "") != description:
                    store.update_registered_model(name, description)
                for key, value in tags.items():
                    if value is None and key in have.tags:
                        store.delete_registered_model_tag(name, key)
                    elif value is not None and have.tags.get(key) != value:
                        store.set_registered_model_tag(name, RegisteredModelTag(key, value))

        self._call(f"updating model {name}", update)

    def create_version(
        self, model: str, *, source_uri: str, run_id: str, tags: Mapping[str, str], description: str
    ) -> int:
        """Make a version with all its tags in one call, unless one with the same identity exists; its number.

        Args:
            source_uri: an `Artifact.uri`.
            tags: must hold `mlops.resource` and `mlops.version`, which identify the version.

        Raises:
            Stalled: a version of that identity exists and was made of another run.
        """
        if absent := [key for key in _IDENTITY if key not in tags]:
            raise ValueError(f"a version without the tag {absent[0]} could be made twice")
        # A model that was made a moment ago, by this very writer, has no version to look for.
        known = None if self._made_empty(model) else self._same(model, tags)
        if known is not None:
            if known.run_id != run_id:
                raise Stalled(
                    f"{model} v{known.number} is {tags.get(_IDENTITY[1])} already, of run {known.run_id}",
                    where=self.store.shown,
                    fix="A version never changes its run: declare a new version.",
                )
            return known.number
        model_id = _logged_model(source_uri)

        def create(client: MlflowClient) -> int:
            with self._as_global():
                made = client.create_model_version(
                    model,
                    source_uri,
                    run_id,
                    dict(tags),
                    description=description or None,
                    await_creation_for=0,
                    model_id=model_id,
                )
            return int(made.version)

        return self._call(f"creating a version of model {model}", create)

    def _made_empty(self, model: str) -> bool:
        """True once for each model that this tracker made."""
        try:
            self._empty.remove(model)
        except KeyError:
            return False
        return True

    def _same(self, model: str, tags: Mapping[str, str]) -> ObservedVersion | None:
        terms = [f"name = '{_quoted(model)}'", *(f"tags.`{k}` = '{_quoted(tags[k])}'" for k in _IDENTITY)]
        query = " AND ".join(terms)
        found = self._call(f"looking for versions of {model}", lambda c: list(c.search_model_versions(query)))
        return min((observed_version(v) for v in found), key=lambda v: v.number, default=None)

    def link_versions(self, made: Iterable[tuple[str, str, int]]) -> None:
        """Tell logged models of the versions made of them, as `mlflow.register_model` does, for MLflow's pages.

        Args:
            made: source URI, registered model and number of each; those of no logged model are passed over.
        """
        by_source: dict[str, list[tuple[str, int]]] = {}
        for source_uri, model, number in made:
            if (model_id := _logged_model(source_uri)) is not None:
                by_source.setdefault(model_id, []).append((model, number))
        for model_id, versions in by_source.items():
            link = partial(_link, model_id=model_id, versions=versions)
            self._call(f"linking model {model_id} to its versions", link)

    def tag_version(
        self, model: str, number: int, tags: Mapping[str, str | None], *, description: str | None = None
    ) -> None:
        """Set what differs of a version's tags (None deletes one) and description (None leaves it).

        On a database it is one transaction: all of it or nothing. Elsewhere it is read back.
        """

        def tag(client: MlflowClient) -> None:
            with self._one_transaction(client) as store:
                have = store.get_model_version(model, str(number))
                if description is not None and (have.description or "") != description:
                    store.update_model_version(model, str(number), description)
                _tag(store, have, tags)

        self._call(f"tagging {model} v{number}", tag)
        if not self.store.database:
            self._check_tagged(model, number, tags)

    def move_alias(
        self, model: str, alias: str, number: int, *, tags: Mapping[int, Mapping[str, str | None]]
    ) -> None:
        """Set tags of versions by their number (None deletes one), in this order, then point an alias at one.

        On a database it is one transaction: all of it or nothing. Elsewhere the alias is the last write, and
        everything is read back.
        """

        def move(client: MlflowClient) -> None:
            with self._one_transaction(client) as store:
                have = {one: store.get_model_version(model, str(one)) for one in {*tags, number}}
                for tagged, wanted in tags.items():
                    _tag(store, have[tagged], wanted)
                if alias not in have[number].aliases:
                    store.set_registered_model_alias(model, alias, str(number))

        self._call(f"moving alias {alias} of {model} to v{number}", move)
        if not self.store.database:
            for tagged, wanted in tags.items():
                self._check_tagged(model, tagged, wanted)
            if self.aliases(model).get(alias) != number:
                raise self._raced(f"alias {alias} of {model}")

    def _check_tagged(self, model: str, number: int, tags: Mapping[str, str | None]) -> None:
        now = self.version(model, number)
        if now is None or any(now.tags.get(key) != value for key, value in tags.items()):
            raise self._raced(f"{model} v{number}")

    def delete_alias(self, model: str, alias: str) -> None:
        """Take an alias away, if it is there."""

        def delete(client: MlflowClient) -> bool:
            if alias in self._aliases(client, model):
                client.delete_registered_model_alias(model, alias)
                return alias not in self._aliases(client, model)
            return True

        if not self._call(f"deleting alias {alias} of {model}", delete):
            raise self._raced(f"alias {alias} of {model}")

    def delete_version(self, model: str, number: int) -> None:
        """Delete a version, if it is there; the bytes of its run stay."""

        def delete(client: MlflowClient) -> None:
            try:
                client.delete_model_version(model, str(number))
            except Exception as error:
                if not missing(error):
                    raise

        self._call(f"deleting {model} v{number}", delete)

    def version(self, model: str, number: int) -> ObservedVersion | None:
        """The version as it is now."""

        def read(client: MlflowClient) -> ObservedVersion | None:
            try:
                return observed_version(client.get_model_version(model, str(number)))
            except Exception as error:
                if missing(error):
                    return None
                raise

        return self._call(f"reading {model} v{number}", read)

    def aliases(self, model: str) -> dict[str, int]:
        """A model's aliases as they are now: alias → version number; empty where there is no such model."""

        def read(client: MlflowClient) -> dict[str, int]:
            try:
                return self._aliases(client, model)
            except Exception as error:
                if missing(error):
                    return {}
                raise

        return self._call(f"reading aliases of {model}", read)

    @staticmethod
    def _aliases(client: MlflowClient, model: str) -> dict[str, int]:
        return {a: int(n) for a, n in client.get_registered_model(model).aliases.items()}

    def _raced(self, what: str) -> Transient:
        return Transient(
            f"{what} was changed by somebody else at the same time",
            where=self.store.shown,
            fix="It is put right by the next pass.",
        )


def observed_model(model: Any) -> ObservedModel:
    """MLflow's registered model as a frozen value."""
    return ObservedModel(
        name=model.name,
        description=model.description or "",
        tags=shared(dict(sorted(model.tags.items()))),
        aliases={a: int(n) for a, n in sorted(model.aliases.items())},
    )


def observed_version(version: Any) -> ObservedVersion:
    """MLflow's model version as a frozen value."""
    return ObservedVersion(
        model=version.name,
        number=int(version.version),
        run_id=version.run_id or None,
        source=version.source or "",
        description=version.description or "",
        tags=shared(dict(sorted(version.tags.items()))),
    )


def _tag(store: Any, have: Any, tags: Mapping[str, str | None]) -> None:
    """Set what differs of the tags of a version as it was read."""
    from mlflow.entities.model_registry import ModelVersionTag

    for key, value in tags.items():
        if value is None and key in have.tags:
            store.delete_model_version_tag(have.name, str(have.version), key)
        elif value is not None and have.tags.get(key) != value:
            store.set_model_version_tag(have.name, str(have.version), ModelVersionTag(key, value))


def _link(client: MlflowClient, model_id: str, versions: Sequence[tuple[str, int]]) -> None:
    have = client.get_logged_model(model_id).tags.get(_BACKLINK)
    known = {row["name"]: row["version"] for row in (json.loads(have) if have else [])} | dict(versions)
    rows = [{"name": name, "version": number} for name, number in list(known.items())[-_MOST_LINKS:]]
    client.set_logged_model_tags(model_id, {_BACKLINK: json.dumps(rows)})


def _logged_model(source: str) -> str | None:
    """The id in `models:/m-…`; None for the URI of anything else."""
    name = source.removeprefix("models:/")
    return name if name != source and name.startswith("m-") and "/" not in name else None


def _quoted(text: str) -> str:
    return text.replace("'", "''")

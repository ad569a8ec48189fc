"""Which number a new version of a model gets, what it is called, and in which file it stands."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import PurePosixPath

from mlops.resources.key import Key
from mlops.resources.loading import Loaded
from mlops.resources.model_version import ModelVersion
from mlops.resources.semver import is_semver, semver_key
from mlops.source.editing import as_yaml

FIRST = "1.0.0"
_LONGEST_NAME = 63
_DEFAULT_ARTIFACT = "model"


def versions_of(loaded: Loaded, model: str) -> list[ModelVersion]:
    """The declared versions of a model, highest last."""
    found = [
        resource
        for resource in loaded.resources.values()
        if isinstance(resource, ModelVersion) and resource.spec.model == model
    ]
    return sorted(found, key=lambda version: semver_key(version.spec.version))


def next_version(loaded: Loaded, model: str, registered: Iterable[str] = ()) -> tuple[str, str]:
    """The next minor version, and the name of its ModelVersion; neither is taken.

    Args:
        loaded: what the revision declares.
        model: the model's name.
        registered: versions that MLflow knows, also of documents that are gone: a bound version is never bound again.
    """
    taken = {version.spec.version for version in versions_of(loaded, model)}
    taken |= {version for version in registered if is_semver(version)}
    names = {key.name for key in (*loaded.resources, *loaded.invalid) if key.kind == "ModelVersion"}
    number = FIRST
    if taken:
        major, minor, *_ = max(semver_key(version) for version in taken)
        number = f"{major}.{minor + 1}.0"
    while (name := _name(model, number)) in names:
        major, minor, *_ = semver_key(number)
        number = f"{major}.{minor + 1}.0"
    return number, name


def file_for(
    loaded: Loaded, last: ModelVersion | None, version: str, otherwise: str, there: Collection[str]
) -> str:
    """The file of a new version: beside the last one, or a file of its own where the last one has one.

    Args:
        loaded: what the revision declares.
        last: the highest version of the model.
        version: the new one's number.
        otherwise: the file where there is no version yet.
        there: the files that there are.
    """
    if last is None:
        return otherwise
    file = loaded.locations[Key("ModelVersion", last.metadata.name)].file
    path = PurePosixPath(file)
    alone = sum(location.file == file for location in loaded.locations.values()) == 1
    if alone and last.spec.version in path.name:
        own = str(path.with_name(path.name.replace(last.spec.version, version)))
        if own not in there:
            return own
    return file


def document(name: str, model: str, version: str, experiment: str, artifact: str) -> str:
    """The text of a ModelVersion that an experiment's best run is bound to."""
    source = f"experiment: {as_yaml(experiment)}"
    if artifact != _DEFAULT_ARTIFACT:
        source += f", artifact: {as_yaml(artifact)}"
    return (
        "apiVersion: mlops/v1\n"
        "kind: ModelVersion\n"
        f"metadata: {{name: {as_yaml(name)}}}\n"
        "spec:\n"
        f"  model: {as_yaml(model)}\n"
        f"  version: {as_yaml(version)}\n"
        f"  source: {{{source}}}\n"
    )


def _name(model: str, version: str) -> str:
    """The model's name and the number, at most as long as a name may be."""
    return f"{model[: _LONGEST_NAME - len(version) - 1].rstrip('-.')}-{version}"

"""Changes that a person asks for by name: a version for a stage, and pins of what is there now."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from mlops.errors import Stalled
from mlops.proposing.declared import Draft, R, declared
from mlops.proposing.proposal import Moot, Proposal, branch_of
from mlops.proposing.versions import versions_of
from mlops.resources.key import Key
from mlops.resources.loading import Loaded
from mlops.resources.model import Model
from mlops.resources.nearest import Nearest
from mlops.resources.promotion import LATEST, Promotion
from mlops.resources.stage import Stage
from mlops.source.editing import Edit, SetField, as_yaml

_FINGERPRINT = 12  # characters of it in the name of a branch


def promotion(
    loaded: Loaded, texts: Mapping[str, str], model: str, version: str, stage: str
) -> Proposal | Moot:
    """What to change in git so that a stage asks for a version of a model.

    Where no Promotion brings the model to the stage yet, one is declared beside the model's others.

    Args:
        loaded: what the revision declares.
        texts: the text of the files that it is declared in, by path from the project's root.
        model: the name of the Model.
        version: a declared version of it, or `latest`.
        stage: the name of the Stage.

    Raises:
        Stalled: one of them is not declared, or the edit cannot be made.
    """
    named(loaded, Model, model)
    allowed = named(loaded, Stage, stage).spec.approvals
    if version == LATEST:
        if allowed is not None and allowed.required:
            what = f"Stage/{stage} asks for approvals, and an approval is for one version, not for the latest"
            raise Stalled(what, fix=f"Name the version: {_those_of(loaded, model)}")
    else:
        known_version(loaded, model, version)
    promotions = [one for one in loaded.resources.values() if isinstance(one, Promotion)]
    there = next((one for one in promotions if (one.spec.model, one.spec.stage) == (model, stage)), None)
    draft = Draft(loaded, texts)
    if there is None:
        key = _free(loaded, f"{model}-{stage}")
        beside = [one.key for one in promotions if one.spec.model == model] or [Key("Model", model)]
        draft.add(_document(key.name, model, stage, version), loaded.locations[beside[-1]].file)
        body = f"No Promotion brought {model} to {stage} yet: {key} is new."
    else:
        key, before = there.key, there.spec.version
        if before == version:
            return Moot(f"{key} asks for {version} already")
        draft.edit([SetField(key, ("spec", "version"), version)])
        body = f"{key} asked for {before}."
    return Proposal(
        branch=branch_of(key, version),
        title=f"Promote {model} {version} to {stage}",
        body=body,
        files=draft.files(),
        promotion=key.name,
        version=version,
    )


def pinned(loaded: Loaded, texts: Mapping[str, str], edits: Mapping[Key, Sequence[Edit]]) -> Proposal | Moot:
    """What to change in git so that resources are what they are now, whatever moves.

    Args:
        loaded: what the revision declares.
        texts: the text of the files that it is declared in, by path from the project's root.
        edits: by resource, what pins it.

    Raises:
        Stalled: an edit cannot be made.
    """
    draft = Draft(loaded, texts)
    for key in sorted(edits):
        draft.edit(edits[key])
    files = draft.files()
    changing = [key for key in sorted(edits) if edits[key]]
    if not files:
        return Moot("all of it is pinned to what it is now")
    lines = [
        f"- {key}: {'.'.join(map(str, edit.path))}"
        + (f" is {edit.value}" if isinstance(edit, SetField) else " goes")
        for key in changing
        for edit in edits[key]
    ]
    fingerprint = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:_FINGERPRINT]
    first = changing[0]
    more = f" and {len(changing) - 1} more" if len(changing) > 1 else ""
    return Proposal(
        branch=branch_of(first, fingerprint),
        title=f"Pin {first}{more}",
        body="\n".join(lines),
        files=files,
    )


def named(loaded: Loaded, kind: type[R], name: str) -> R:
    """A resource as it is declared, or Stalled with the name that is nearest to one that is not."""
    key = Key(kind.__name__, name)
    if key not in loaded.resources and key not in loaded.invalid:
        names = [one.name for one in loaded.resources if one.kind == key.kind]
        near = Nearest().nearest(name, names)
        fix = f"Did you mean {near}?" if near else f"There is {', '.join(sorted(names)[:10]) or 'none'}."
        raise Stalled(f"there is no {key}", fix=fix)
    return declared(loaded, kind, name)


def known_version(loaded: Loaded, model: str, version: str) -> None:
    """Raises Stalled, with those that there are, where a model has no such declared version."""
    versions = [one.spec.version for one in versions_of(loaded, model)]
    if version not in versions:
        near = Nearest().nearest(version, versions)
        did = f"Did you mean {near}? " if near else ""
        raise Stalled(
            f"Model/{model} has no declared version {version}",
            fix=f"{did}It has {_those_of(loaded, model)}.",
        )


def _those_of(loaded: Loaded, model: str) -> str:
    versions = [one.spec.version for one in versions_of(loaded, model)][-10:]
    return ", ".join(reversed(versions)) or "none yet: declare a ModelVersion first"


def _free(loaded: Loaded, name: str) -> Key:
    taken = {key.name for key in (*loaded.resources, *loaded.invalid) if key.kind == "Promotion"}
    cut = name[:60].rstrip("-.")
    names = (cut, *(f"{cut}-{number}" for number in range(2, 100)))
    return Key("Promotion", next(one for one in names if one not in taken))


def _document(name: str, model: str, stage: str, version: str) -> str:
    spec = f"model: {as_yaml(model)}, stage: {as_yaml(stage)}, version: {as_yaml(version)}"
    return f"apiVersion: mlops/v1\nkind: Promotion\nmetadata: {{name: {as_yaml(name)}}}\nspec: {{{spec}}}\n"

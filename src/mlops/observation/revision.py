"""What should be, read from one revision: resources with the content ids of their code and environment.

Reads files of the snapshot and nothing else: no import, no installation, no network.
"""

from __future__ import annotations

import posixpath
import shlex
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Final

from mlops.errors import MlopsError
from mlops.execution.requirements import EnvironmentSpec, environment_digest
from mlops.planning.desired import Code, Desired
from mlops.resources import Experiment, Key, Loaded, Project
from mlops.source.select import select
from mlops.source.snapshot import Entry, Snapshot

OWN_ENVIRONMENT: Final = "reconciler"
MLPROJECT: Final = "MLproject"
Scalars = Mapping[str, str | int | float | bool]


def read_revision(
    snapshot: Snapshot,
    loaded: Loaded,
    project: Project,
    *,
    executors: frozenset[str],
    prune_refused: str | None,
    good: Snapshot | None = None,
    not_held: str | None = None,
) -> Desired:
    """The desired state of `snapshot`, from its resources as they were loaded.

    Args:
        executors: names of the executors that are installed.
        prune_refused: why nothing may be pruned, for instance because history was rewritten.
        good: the last good revision, which holds the code of what is kept.
        not_held: why that one cannot be read.
    """
    experiments = [r for r in loaded.resources.values() if isinstance(r, Experiment)]
    code = _codes(snapshot, [r for r in experiments if r.key not in loaded.kept])
    if good is not None:
        kept = _codes(good, [r for r in experiments if r.key in loaded.kept])
        code |= {name: _permitted(loaded, project, name, found) for name, found in kept.items()}
    declared = len(loaded.resources) - 1
    if declared == 0 and not loaded.invalid and not project.spec.allow_empty:
        prune_refused = (
            "the revision declares no resources at all; set Project.spec.allowEmpty: true if that is meant"
        )
    return Desired(
        revision=snapshot.revision,
        dirty=snapshot.dirty,
        project=project.metadata.name,
        self_heal=project.spec.self_heal,
        prune=project.spec.prune,
        resources=dict(loaded.resources),  # all are planned with, and looked up again and again
        invalid=loaded.invalid,
        whole=not loaded.problems and not loaded.unreadable,
        code=code,
        prune_refused=prune_refused,
        executors=executors,
        folder=snapshot.root or ".",
        kept=loaded.kept,
        why=loaded.why,
        kept_data=loaded.kept_data,
        not_held=not_held,
    )


def _permitted(loaded: Loaded, project: Project, name: str, code: Code) -> Code:
    """The code of a kept experiment, which does not run with a variable that the Project took off its list."""
    experiment = loaded.resources[Key("Experiment", name)]
    assert isinstance(experiment, Experiment)
    gone = sorted(set(experiment.spec.variables) - set(project.spec.variables))
    return replace(code, problem=f"{gone[0]} is no longer in the Project's spec.variables") if gone else code


def environment_spec(experiment: Experiment, texts: Mapping[str, bytes]) -> EnvironmentSpec | None:
    """What `environment` declares, from the files read; None where the reconciler's own is to be used."""
    declared = experiment.spec.environment
    if declared is None:
        return None
    path = normal(declared.requirements) if declared.requirements else None
    return EnvironmentSpec(
        requirements=texts.get(path, b"") if path else b"",
        lock=texts.get(lock_path(path)) if path else None,
        python=declared.python,
        path=path or "requirements.txt",
        lock_path=lock_path(path) if path else "requirements.lock",
    )


def environment_files(experiment: Experiment) -> tuple[str, ...]:
    """The files that pin an experiment's environment: its requirements and the lock beside them."""
    declared = experiment.spec.environment
    if declared is None or not declared.requirements:
        return ()
    path = normal(declared.requirements)
    return path, lock_path(path)


def lock_path(requirements: str) -> str:
    """`training/requirements.txt` → `training/requirements.lock`."""
    return posixpath.splitext(requirements)[0] + ".lock"


def normal(path: str) -> str:
    """A path of the project as the snapshot names it; the root is ""."""
    plain = posixpath.normpath(path)
    return "" if plain == "." else plain


def within(folder: str, path: str) -> str:
    """`path` of a file relative to `folder`."""
    return path[len(folder) + 1 :] if folder else path


def _files_read(snapshot: Snapshot, experiments: Iterable[Experiment]) -> set[str]:
    wanted: set[str] = set()
    for experiment in experiments:
        wanted |= set(environment_files(experiment))
        if experiment.spec.entry_point is not None:
            wanted.add(posixpath.join(normal(experiment.spec.source.path), MLPROJECT))
    entries = snapshot.entries()
    return {path for path in wanted if path in entries}


def _codes(snapshot: Snapshot, experiments: Collection[Experiment]) -> dict[str, Code]:
    """The code of each experiment; experiments that share a source have their files chosen once."""
    if not experiments:
        return {}
    texts = snapshot.read(_files_read(snapshot, experiments))
    entries = snapshot.entries()
    ordered = sorted(entries)

    @cache
    def files(folder: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> Mapping[str, str]:
        first, last = (
            (bisect_left(ordered, f"{folder}{sign}") for sign in "/0") if folder else (0, len(ordered))
        )
        chosen = select(ordered[first:last], folder, include, exclude)
        return {within(folder, path): entries[path].blob for path in chosen}

    return {experiment.metadata.name: _code(entries, experiment, texts, files) for experiment in experiments}


def _code(
    entries: Mapping[str, Entry],
    experiment: Experiment,
    texts: Mapping[str, bytes],
    chosen: Callable[[str, tuple[str, ...], tuple[str, ...]], Mapping[str, str]],
) -> Code:
    source = experiment.spec.source
    folder = normal(source.path)
    environment = OWN_ENVIRONMENT
    try:
        spec = environment_spec(experiment, texts)
        if spec is not None:
            environment = environment_digest(spec)
        files = chosen(folder, tuple(source.include), tuple(source.exclude))
        command: tuple[str, ...] = experiment.spec.command or ()
        defaults: Scalars = {}
        if experiment.spec.entry_point is not None:
            manifest = posixpath.join(folder, MLPROJECT)
            if manifest not in texts:
                raise MlopsError(f"{manifest} does not exist, but spec.entryPoint names an entry point of it")
            files = {**files, MLPROJECT: entries[manifest].blob}
            command, defaults = entry_point(texts[manifest], experiment.spec.entry_point)
    except MlopsError as error:
        return Code({}, (), {}, environment, problem=str(error))
    if not files:
        problem = f"no file of {source.path} matches include {list(source.include)}"
        return Code({}, command, defaults, environment, problem=problem)
    return Code(files, command, defaults, environment)


def _plain(text: bytes) -> Any:
    """The YAML document of an MLproject file, read with the limits that resources are read with."""
    from mlops.resources.yaml_places import read_documents

    documents, broken = read_documents(text.decode("utf-8", "replace"))
    if broken or len(documents) != 1 or documents[0].findings:
        raise MlopsError("MLproject cannot be read as one YAML document", fix="Mend its syntax")
    return documents[0].value


def entry_point(text: bytes, name: str) -> tuple[tuple[str, ...], Scalars]:
    """The argv template and parameter defaults of an MLproject entry point.

    MLflow hands the command to a shell; here it is split into arguments as a shell would, and no shell
    runs. Raises MlopsError for what cannot be read so.
    """
    document = _plain(text)
    points = document.get("entry_points") if isinstance(document, dict) else None
    if not isinstance(points, dict) or not isinstance(points.get(name), dict):
        known = ", ".join(sorted(map(str, points))) if isinstance(points, dict) else "none"
        raise MlopsError(f"MLproject has no entry point {name!r}", fix=f"It has: {known}")
    point = points[name]
    command = point.get("command")
    if not isinstance(command, str) or not command.strip():
        raise MlopsError(f"entry point {name!r} of MLproject has no command")
    try:
        argv = tuple(shlex.split(command))
    except ValueError as error:
        raise MlopsError(
            f"the command of entry point {name!r} cannot be split into arguments: {error}"
        ) from None
    shell = [word for word in argv if word in ("|", "&&", "||", ";", ">", "<", "&") or word.startswith("$(")]
    if shell:
        raise MlopsError(
            f"the command of entry point {name!r} needs a shell ({shell[0]}), and none is run",
            fix="Put the steps into a script",
        )
    defaults = {}
    for parameter, rule in (point.get("parameters") or {}).items():
        value = rule.get("default") if isinstance(rule, dict) else None
        if isinstance(value, str | int | float | bool):
            defaults[str(parameter)] = value
    return argv, defaults

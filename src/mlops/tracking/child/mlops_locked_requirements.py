"""Requirements of a logged model from the environment's lock instead of a second process.

MLflow finds out what a model needs by loading it in a fresh interpreter, which takes seconds. In a locked
environment the answer is at hand: the distributions of what the user's code imports, of what the saved
model's own files name (pickles and skops files, read without running them), and of what its flavour names. Of
a model in another format, also what else was imported since MLflow was. Of those only what is locked, less
what comes with another of them, except MLflow's own dependencies, whose versions MLflow pins too.
Standard library only, any Python from 3.8. Whenever anything is unclear, MLflow infers as ever.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import re
import sys

TYPE_CHECKING = False  # the real one costs every process of the training the import of typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

_TARGET = "mlflow.utils.environment"
_NEVER = frozenset(
    ("mlflow", "mlflow-skinny", "mlflow-tracing", "mlops-controller", "pip", "setuptools", "wheel")
)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*$")
_SOURCE_LIMIT = 2000000  # bytes of a user's module that is read for its imports
_MODEL_LIMIT = 200000000  # bytes of a pickle that is looked through


def watch(locked: frozenset[str]) -> None:
    """Wrap MLflow's inference as soon as the process imports MLflow; `locked` are distribution names."""
    sys.meta_path.insert(0, _Finder(locked))


class _Finder(importlib.abc.MetaPathFinder):
    """Stands before the other finders until MLflow has been imported."""

    def __init__(self, locked: frozenset[str]) -> None:
        self.locked = locked
        self.brought: frozenset[str] = frozenset()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in ("mlflow", _TARGET):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self)
        return spec


class _Loader(importlib.abc.Loader):
    """The real loader, with something to do after it."""

    def __init__(self, real: importlib.abc.Loader, finder: _Finder) -> None:
        self._real = real
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._real
        if module.__spec__ is not None:
            module.__spec__.loader = self._real
        if module.__name__ == _TARGET:
            self._real.exec_module(module)
            _wrap(module, self._finder)
            return
        before = _tops()
        self._real.exec_module(module)
        self._finder.brought = _tops() - before


def _wrap(module: Any, finder: _Finder) -> None:
    original = getattr(module, "infer_pip_requirements", None)
    if original is None:
        return

    def infer_pip_requirements(
        model_uri: Any, flavor: Any, fallback: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        try:
            found = requirements(finder.locked, finder.brought, fallback or [], str(model_uri))
        except Exception:  # a shortcut that fails must never fail the training: MLflow infers instead
            found = []
        return found or original(model_uri, flavor, fallback, *args, **kwargs)

    infer_pip_requirements.__doc__ = original.__doc__
    module.infer_pip_requirements = infer_pip_requirements


def requirements(
    locked: frozenset[str], brought: frozenset[str], fallback: list[str], folder: str
) -> list[str]:
    """Pins for the model, sorted.

    Args:
        locked: normalised names of the distributions in the environment's lock.
        brought: top-level modules that importing MLflow brought along.
        fallback: the pins that the model's flavour names itself.
        folder: where the model was saved, or its file there.
    """
    named = {normal(match.group()): pin for match, pin in ((_NAME.match(p), p) for p in fallback) if match}
    loaded = _tops()
    inside = _named_by_model(folder)
    direct = (_imported_by_user() | (inside or frozenset())) & loaded
    owners = _owners(frozenset(direct if inside is not None else direct | (loaded - brought)), locked)
    kept = ({owners[top] for top in direct if top in owners} | set(named)) - _NEVER
    others = set(owners.values()) - kept - _NEVER
    needs = {name: _closure(name) for name in kept | others}
    roots = kept | {o for o in others if not any(o in needs[name] for name in needs if name != o)}
    come_along: set[str] = set().union(*(needs[name] for name in roots))
    roots |= come_along & (_requires("mlflow") | _requires("mlflow-skinny")) & locked
    pins = {name: named.get(name) or _pin(name) for name in roots - _NEVER}
    return sorted(pin for pin in pins.values() if pin)


def normal(name: str) -> str:
    """A distribution's name as in PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _tops() -> frozenset[str]:
    standard: frozenset[str] = getattr(sys, "stdlib_module_names", frozenset())
    tops = {name.partition(".")[0] for name, module in list(sys.modules.items()) if module is not None}
    return frozenset(top for top in tops if not top.startswith("_") and top not in standard)


def _imported_by_user() -> set[str]:
    """The top-level modules that the user's own modules import, anywhere in their source."""
    import ast
    import sysconfig

    installed = tuple({p for p in sysconfig.get_paths().values() if p} | {sys.prefix, sys.base_prefix})
    found: set[str] = set()
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if not isinstance(path, str) or not path.endswith(".py"):
            continue
        main = getattr(module, "__name__", "") == "__main__"
        if not main and (path.startswith(installed) or "site-packages" in path or "dist-packages" in path):
            continue
        try:
            with open(path, "rb") as file:
                tree = ast.parse(file.read(_SOURCE_LIMIT))
        except (OSError, SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found


def _named_by_model(folder: str) -> frozenset[str] | None:
    """The top-level modules that the model's files name; None where no file is of a known format."""
    import pickletools
    import zipfile

    found: set[str] = set()
    known = False
    # Some flavours name the model's file, some its folder.
    for parent, _, names in os.walk(folder if os.path.isdir(folder) else os.path.dirname(folder)):  # noqa: PTH112, PTH120
        for name in names:
            path = os.path.join(parent, name)  # noqa: PTH118 - as fast as it gets on a deep folder
            if name.endswith((".pkl", ".pickle", ".cloudpickle")) and os.stat(path).st_size <= _MODEL_LIMIT:  # noqa: PTH116
                known = True
                with open(path, "rb") as file:
                    for opcode, argument, _ in pickletools.genops(file):
                        if isinstance(argument, str) and (opcode.name == "GLOBAL" or _MODULE.match(argument)):
                            found.add(re.split(r"[. ]", argument, maxsplit=1)[0])
            elif name.endswith(".skops"):
                known = True
                with zipfile.ZipFile(path) as archive:
                    schema = archive.read("schema.json").decode("utf-8")
                found.update(top for top in re.findall(r'"__module__": "(\w+)', schema))
    return frozenset(found) if known else None


def _owners(tops: frozenset[str], locked: frozenset[str]) -> dict[str, str]:
    """Which locked distribution each top-level module is from; one from elsewhere is left out."""
    owners = {top: normal(top) for top in tops if normal(top) in locked}
    rest = frozenset(top for top in tops if top not in owners)
    for name in sorted(locked - set(owners.values()) - _NEVER):
        if not rest:
            break
        for top in rest & _provides(name):
            owners[top] = name
            rest = rest - {top}
    return owners


def _provides(name: str) -> set[str]:
    from importlib import metadata

    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return set()
    listed = found.read_text("top_level.txt")
    if listed:
        return set(listed.split())
    record = found.read_text("RECORD") or ""
    return {re.split(r"[/.,]", line, maxsplit=1)[0] for line in record.splitlines()}


def _requires(name: str) -> set[str]:
    from importlib import metadata

    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return set()
    plain = [line for line in lines if "extra ==" not in line]
    return {normal(match.group()) for match in map(_NAME.match, plain) if match}


def _closure(name: str) -> set[str]:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        for needed in _requires(waiting.pop()) - seen:
            seen.add(needed)
            waiting.append(needed)
    return seen - {name}


def _pin(name: str) -> str | None:
    from importlib import metadata

    try:
        return "{}=={}".format(name, metadata.version(name).partition("+")[0])
    except metadata.PackageNotFoundError:
        return None

"""Requirements of a logged model from the environment's lock instead of a second process.

MLflow finds out what a model needs by loading it in a fresh interpreter, which takes seconds. In a locked
environment the answer is at hand: the distributions of what the user's code imports, of what the saved
model's own files name (pickles and skops files, read without running them), and of what its flavour names. Of
a model in another format, also what else was imported since MLflow was. Of those only what is locked, less
what comes with another of them, except MLflow's own dependencies, whose versions MLflow pins too.
Standard library only, any Python from 3.8. Whenever anything is unclear, MLflow infers as ever.
"""

from __future__ import annotations

import ast
import os
import pickletools
import re
import sys
import sysconfig
import zipfile
from importlib import metadata

_NEVER = frozenset(
    ("mlflow", "mlflow-skinny", "mlflow-tracing", "mlops-controller", "pip", "setuptools", "wheel")
)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*$")
_SOURCE_LIMIT = 2000000  # bytes of a user's module that is read for its imports
_MODEL_LIMIT = 200000000  # bytes of a pickle that is looked through


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
    try:
        return "{}=={}".format(name, metadata.version(name).partition("+")[0])
    except metadata.PackageNotFoundError:
        return None

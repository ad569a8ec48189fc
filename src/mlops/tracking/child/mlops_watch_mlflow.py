"""Notices when a process imports MLflow, and gives its models their requirements from the lock.

Every process of a training pays for what stands here, so it imports nothing until MLflow is there. Standard
library only, any Python from 3.8.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder  # imported by every Python that starts

TYPE_CHECKING = False  # the real one costs the import of typing
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

_TARGET = "mlflow.utils.environment"


def watch(locked: frozenset[str]) -> None:
    """Wrap MLflow's inference as soon as the process imports MLflow; `locked` are distribution names."""
    sys.meta_path.insert(0, _Finder(locked))


class _Finder:
    """Stands before the other finders until MLflow has been imported."""

    def __init__(self, locked: frozenset[str]) -> None:
        self.locked = locked
        self.brought: frozenset[str] = frozenset()

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in ("mlflow", _TARGET):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self)  # type: ignore[assignment]
        return spec


class _Loader:
    """The real loader, with something to do after it."""

    def __init__(self, real: Any, finder: _Finder) -> None:
        self._real = real
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def create_module(self, spec: ModuleSpec) -> Any:
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
            found = _rules().requirements(finder.locked, finder.brought, fallback or [], str(model_uri))
        except Exception:  # a shortcut that fails must never fail the training: MLflow infers instead
            found = []
        return found or original(model_uri, flavor, fallback, *args, **kwargs)

    infer_pip_requirements.__doc__ = original.__doc__
    module.infer_pip_requirements = infer_pip_requirements


def _tops() -> frozenset[str]:
    return frozenset(name.partition(".")[0] for name in list(sys.modules))


def _rules() -> Any:
    """The module beside this one; its folder is on the path no longer."""
    import importlib.util

    path = __file__.replace("mlops_watch_mlflow", "mlops_locked_requirements")
    spec = importlib.util.spec_from_file_location("mlops_locked_requirements", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

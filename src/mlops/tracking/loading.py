"""Importing MLflow in a third of its usual time.

`import mlflow` also imports data-frame libraries, a web framework and judges for language models, none of
which a client of the tracking store and the registry needs. Here those packages are *deferred*: a
deferred package is importable, and so are its submodules, but its own `__init__` runs only when somebody
asks it for a name it does not have yet. Optional libraries that MLflow also runs without (as in its
`mlflow-skinny` distribution) stay unimported, for the importing thread alone and only meanwhile.

If anything about that fails, everything is undone and MLflow is imported the ordinary way. What does not work
in such a process are MLflow's constructors of datasets from data frames and artifacts on Hadoop; training and
model loading happen in processes of their own, where MLflow is whole.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

DEFERRED = frozenset(
    {
        "mlflow",
        "mlflow.gateway",
        "mlflow.genai",
        "mlflow.genai.evaluation",
        "mlflow.genai.judges",
        "mlflow.genai.judges.adapters",
        "mlflow.genai.judges.prompts",
        "mlflow.genai.prompts",
        "mlflow.genai.scorers",
        "mlflow.genai.scorers.online",
        "mlflow.models",
        "mlflow.types",
    }
)
# While importing, a missing name of these that is a submodule's is that submodule: no other is spelled so.
SUBMODULES_FIRST = frozenset({"mlflow", "mlflow.types"})

# pyarrow is among them because it would settle, for good, to do without the numpy that is hidden from it.
OPTIONAL = frozenset({"pandas", "numpy", "scipy", "sklearn", "pyarrow", "pygments"})

# mlflow.artifacts first: it is what MLflow itself imports first, and its modules import each other in rings.
CLIENT_MODULES = ("mlflow.artifacts", "mlflow.tracking.client")
DATABASE_MODULES = ("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store")

_lock = threading.RLock()
_incomplete: dict[str, Callable[[], None]] = {}  # deferred packages: what runs their own code


def load(*, database: bool) -> None:
    """Import what a client of a tracking store needs; cheap when done before.

    Args:
        database: whether the store is a database that this process opens itself.

    Raises:
        ImportError: MLflow is not installed, or does not import.
    """
    modules = CLIENT_MODULES + (DATABASE_MODULES if database else ())
    with _lock:
        _quiet()  # also where somebody else has imported it
        if all(name in sys.modules for name in modules):
            return
        present = frozenset(sys.modules)
        try:
            with _deferring(), _collecting_later():
                _import(modules)
        except Exception as error:
            logging.getLogger(__name__).debug("the quick import failed, importing all of MLflow: %s", error)
            _incomplete.clear()
            for name in [n for n in sys.modules if n.partition(".")[0] == "mlflow" and n not in present]:
                del sys.modules[name]
            importlib.invalidate_caches()
            importlib.import_module("mlflow")
            _import(modules)


def _import(modules: Sequence[str]) -> None:
    for name in modules:
        importlib.import_module(name)


def _quiet() -> None:
    """MLflow logs every database fault with a traceback; it reaches the user as an error of ours instead."""
    levels = {"mlflow": logging.ERROR, "mlflow.store.db.utils": logging.CRITICAL, "alembic": logging.WARNING}
    for name, level in levels.items():
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(level)


@contextmanager
def _collecting_later() -> Iterator[None]:
    """Importing makes a million objects and no garbage: collecting meanwhile only costs time."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def _deferring() -> Iterator[None]:
    finder = _Finder(threading.get_ident())
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    """Finds deferred packages, and hides optional ones, for one thread."""

    def __init__(self, thread: int) -> None:
        self._thread = thread

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if threading.get_ident() != self._thread:
            return None
        top = fullname.partition(".")[0]
        if top in OPTIONAL and top not in sys.modules:
            raise ModuleNotFoundError(f"No module named {fullname!r} (deferred)", name=fullname)
        if fullname not in DEFERRED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None or spec.submodule_search_locations is None:
            return None
        spec.loader = _Deferred(spec.loader)
        return spec


class _Deferred(Loader):
    """Puts off running a package's `__init__` until a name is missing from it."""

    def __init__(self, real: Loader) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        real, name = self._real, module.__name__
        lock = threading.RLock()
        module.__loader__ = real
        if module.__spec__ is not None:
            module.__spec__.loader = real

        def complete(attribute: str = "") -> None:
            """Run the package's own code, once; again later if a hidden library kept `attribute` away."""
            with lock:
                if module.__dict__.get("__getattr__") is not missing:
                    return
                if name == "mlflow":
                    _complete_the_rest()
                del module.__dict__["__getattr__"]
                try:
                    real.exec_module(module)
                except BaseException:
                    module.__dict__["__getattr__"] = missing
                    raise
                if attribute and attribute not in module.__dict__ and _hiding():
                    module.__dict__["__getattr__"] = missing
                    raise AttributeError(f"module {name!r} has no attribute {attribute!r} yet")

        def missing(attribute: str) -> object:
            if attribute.startswith("__"):
                raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
            if name in SUBMODULES_FIRST and _hiding():
                found = _submodule(f"{name}.{attribute}")
                if found is not None:
                    return found
            complete(attribute)
            return getattr(module, attribute)

        module.__dict__["__getattr__"] = missing
        _incomplete[name] = complete
        if name == "mlflow":
            module.__dict__["__version__"] = importlib.metadata.version("mlflow")


def _complete_the_rest() -> None:
    """Complete the packages below `mlflow` in the order in which it imports them itself."""
    for name in ("mlflow.types", "mlflow.models", *sorted(_incomplete)):
        if name != "mlflow" and name in _incomplete:
            _incomplete.pop(name)()


def _hiding() -> bool:
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


def _submodule(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None

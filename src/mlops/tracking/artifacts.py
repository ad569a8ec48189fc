"""Models and files that runs left: found by name, identified by their content."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mlops.errors import Stalled
from mlops.tracking.connection import Connection
from mlops.tracking.faults import code, missing
from mlops.tracking.store import local_path

if TYPE_CHECKING:
    from mlflow.tracking.client import MlflowClient

_OURS = "mlops"  # the folder of a run's artifacts that the controller itself writes to


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model or file of a run.

    `uri` is what a model version names as its source; `digest` is `sha256:` and the SHA-256 of the canonical
    JSON of the sorted pairs of relative path and SHA-256 of its bytes; `size` is in bytes.
    """

    uri: str
    digest: str
    size: int


class Artifacts(Connection):
    """Reads and writes what runs keep beside their numbers."""

    def artifact(self, run_id: str, name: str) -> Artifact | None:
        """The model or file `name` of a run: a logged model, else a path, else the only file `name.*`.

        Raises:
            Stalled: the model was not logged to its end, its bytes are gone, or a link leaves its folder.
        """
        path = _safe(name, self.store.shown)
        doing = f"reading artifact {name} of run {run_id}"
        found = self._call(doing, lambda client: self._find(client, run_id, path))
        if found is None:
            return None
        uri, location = found
        with self._reported(doing), self._here(location) as root:
            digest, size = content(root)
        return Artifact(uri, digest, size)

    @contextmanager
    def artifact_here(self, run_id: str, name: str) -> Iterator[Path | None]:
        """A run's artifact as a path on this machine, for as long as it is needed; None where there is none."""
        path = _safe(name, self.store.shown)
        doing = f"reading artifact {name} of run {run_id}"
        found = self._call(doing, lambda client: self._find(client, run_id, path))
        if found is None:
            yield None
            return
        with self._here(found[1]) as place:
            yield place

    def _find(self, client: MlflowClient, run_id: str, name: str) -> tuple[str, str] | None:
        """The URI to name it by and the URI its bytes are at."""
        try:
            run = client.get_run(run_id)
        except Exception as error:
            if missing(error):
                return None
            raise
        model = _newest_model(client, run.info.experiment_id, run_id, name)
        if model is not None:
            if str(getattr(model.status, "value", model.status)) != "READY":
                raise Stalled(
                    f"model {name} of run {run_id} was not logged to its end",
                    where=self.store.shown,
                    fix="Train again: a half-logged model is never bound.",
                )
            return f"models:/{model.model_id}", model.artifact_location
        root = run.info.artifact_uri.rstrip("/")
        parent, _, last = name.rpartition("/")
        listed = [PurePosixPath(f.path).name for f in client.list_artifacts(run_id, parent or None)]
        if last not in listed:
            alike = [entry for entry in listed if entry.rpartition(".")[0] == last]
            if len(alike) != 1:
                return None
            last = alike[0]
        uri = "/".join(part for part in (root, parent, last) if part)
        return uri, uri

    def artifact_names(self, run_id: str) -> tuple[str, ...]:
        """What `artifact` would find at the top of a run: its logged models and its files and folders."""

        def names(client: MlflowClient) -> tuple[str, ...]:
            run = client.get_run(run_id)
            files = {PurePosixPath(f.path).name for f in client.list_artifacts(run_id)} - {_OURS}
            models = {model.name for model in _models(client, run.info.experiment_id, run_id)}
            return tuple(sorted(files | models))

        return self._call(f"listing the artifacts of run {run_id}", names)

    @contextmanager
    def _here(self, location: str) -> Iterator[Path]:
        """The artifact on this machine: in place where it is local, else downloaded for as long as needed."""
        path = local_path(location)
        if path is not None:
            if not path.exists():
                raise Stalled(
                    "MLflow knows the artifact but its bytes are not there",
                    where=location,
                    fix="Restore them from a backup, or train again.",
                )
            yield path
            return
        from mlflow.artifacts import download_artifacts

        with tempfile.TemporaryDirectory(prefix="mlops-artifact-") as folder:
            yield Path(
                download_artifacts(artifact_uri=location, dst_path=folder, tracking_uri=self.store.uri)
            )

    def read_artifact(self, run_id: str, path: str) -> bytes | None:
        """The bytes of a file of a run; None where the run or the file is not there."""
        wanted = _safe(path, self.store.shown)
        parent = wanted.rpartition("/")[0] or None

        def read(client: MlflowClient) -> bytes | None:
            try:
                if not any(f.path == wanted and not f.is_dir for f in client.list_artifacts(run_id, parent)):
                    return None
            except Exception as error:
                if missing(error) or code(error) == "INVALID_PARAMETER_VALUE":
                    return None
                raise
            with tempfile.TemporaryDirectory(prefix="mlops-artifact-") as folder:
                return Path(client.download_artifacts(run_id, wanted, folder)).read_bytes()

        return self._call(f"reading {path} of run {run_id}", read)

    def write_artifact(self, run_id: str, path: str, data: bytes) -> None:
        """Write a file of a run, replacing it if it is there."""
        wanted = _safe(path, self.store.shown)
        parent, _, name = wanted.rpartition("/")

        def write(client: MlflowClient) -> None:
            with tempfile.TemporaryDirectory(prefix="mlops-artifact-") as folder:
                local = Path(folder) / name
                local.write_bytes(data)
                client.log_artifact(run_id, str(local), parent or None)

        self._call(f"writing {path} of run {run_id}", write)


def content(root: Path) -> tuple[str, int]:
    """The digest and the size in bytes of a file or of all files under a folder.

    Raises:
        Stalled: a symbolic link leaves the folder.
    """
    rows: list[tuple[str, str]] = []
    size = 0
    top = root.resolve()
    for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
        if path.is_symlink() and not path.resolve().is_relative_to(top):
            raise Stalled(
                "a link in the artifact leaves its folder", where=path.name, fix="Log the file itself."
            )
        if not path.is_file():
            continue
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        rows.append((path.relative_to(root).as_posix() if root.is_dir() else path.name, digest))
        size += path.stat().st_size
    text = json.dumps(sorted(rows), ensure_ascii=False, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}", size


def _newest_model(client: MlflowClient, experiment_id: str, run_id: str, name: str) -> Any:
    condition = f"name = '{name.replace(chr(39), chr(39) * 2)}'"
    return next(iter(_models(client, experiment_id, run_id, condition, 1)), None)


def _models(
    client: MlflowClient, experiment_id: str, run_id: str, condition: str = "", most: int = 20
) -> list[Any]:
    """Models that a run logged, newest first."""
    query = " AND ".join(part for part in (condition, f"source_run_id = '{run_id}'") if part)
    newest_first = [{"field_name": "creation_timestamp", "ascending": False}]
    try:
        found = client.search_logged_models([experiment_id], query, max_results=most, order_by=newest_first)
    except Exception as error:
        if missing(error) or code(error) in ("NOT_IMPLEMENTED", "ENDPOINT_NOT_FOUND"):
            return []  # a server of MLflow 2, which has run artifacts only
        raise
    return list(found)


def _safe(name: str, where: str) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise Stalled(
            f"{name!r} is not a path inside a run's artifacts", where=where, fix="Name it relative."
        )
    return path.as_posix()

"""Object stores through fsspec: the store's validator is trusted, and without one the bytes are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from dataset_place import Expected, Place
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from mlops.data import DatasetRequest, Problem, materialise
from mlops.errors import Transient


@pytest.fixture
def store() -> Iterator[MemoryFileSystem]:
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


class EtagStore(MemoryFileSystem):
    """Gives each object an ETag as S3 does, and counts how often bytes were read."""

    store: dict[str, Any] = {}  # noqa: RUF012 - fsspec's own declaration of it
    opened = 0
    tags: dict[str, str] = {}  # noqa: RUF012
    cachable = False

    protocol = "s3"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("s3://").strip("/")

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        info = dict(super().info(path, **options))
        if info["type"] == "file":
            info["ETag"] = self.tags.get(info["name"], "one")
        return info

    def find(self, path: str, *arguments: Any, **options: Any) -> Any:
        return {name: self.info(name) for name in super().find(path, *arguments, **options)}

    def open(self, path: str, *arguments: Any, **options: Any) -> Any:
        type(self).opened += 1
        return super().open(path, *arguments, **options)


@pytest.fixture
def etags(monkeypatch: pytest.MonkeyPatch) -> type[EtagStore]:
    monkeypatch.setattr(EtagStore, "store", {})
    monkeypatch.setattr(EtagStore, "tags", {})
    monkeypatch.setattr(EtagStore, "opened", 0)
    monkeypatch.setitem(_registry, "s3", EtagStore)
    return EtagStore


def test_files_folders_and_globs_have_the_digest_that_they_have_on_disk(
    place: Place, store: MemoryFileSystem
) -> None:
    for path in ("data/a.csv", "data/s/b.csv", "data/_SUCCESS", "data/.c/x.csv", "data/n.txt"):
        place.write(path, f"a\n{path}\n")
        store.pipe(f"/{path}", f"a\n{path}\n".encode())
    for path in ("data/a.csv", "data", "data/*.csv", "data/**/*.csv", "data/*/b.csv"):
        local, remote = place.look(path), place.look(f"memory://{path}")
        assert (remote.digest, remote.size, remote.outside) == (local.digest, local.size, True), path
        assert remote.reason is None


def test_a_change_of_equal_size_is_found_where_the_store_gives_no_validator(
    place: Place, store: MemoryFileSystem
) -> None:
    store.pipe("/x.csv", b"a\n1\n")
    first = place.look("memory://x.csv")
    store.pipe("/x.csv", b"a\n2\n")
    assert place.look("memory://x.csv").digest != first.digest
    assert not [key for key in place.cache.entries if key.startswith("remote")]


def test_a_validator_saves_the_read_until_it_changes(place: Place, etags: type[EtagStore]) -> None:
    EtagStore().pipe("/data/x.csv", b"a\n1\n")
    first = [place.look("s3://data/x.csv"), place.look("s3://data")]
    read = etags.opened
    assert [place.look("s3://data/x.csv").digest, place.look("s3://data").digest] == [f.digest for f in first]
    assert etags.opened == read
    EtagStore().pipe("/data/x.csv", b"a\n2\n")
    etags.tags = {"/data/x.csv": "two"}
    assert place.look("s3://data/x.csv").digest != first[0].digest


def test_a_weak_validator_is_not_trusted(place: Place, etags: type[EtagStore]) -> None:
    EtagStore().pipe("/data/x.csv", b"a\n1\n")
    etags.tags = {"/data/x.csv": 'W/"one"'}
    first = place.look("s3://data/x.csv").digest
    EtagStore().pipe("/data/x.csv", b"a\n2\n")
    assert place.look("s3://data/x.csv").digest != first


def test_an_object_that_changes_while_it_is_read_is_read_again_or_reported(
    place: Place, store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.pipe("/x.csv", b"a\n1\n")
    real = MemoryFileSystem.open
    changes = iter([b"a\n1\n2\n"])

    def behind_its_back(self: MemoryFileSystem, path: str, mode: str = "rb", **options: Any) -> Any:
        opened = real(self, path, mode, **options)
        if mode == "rb" and (change := next(changes, None)) is not None:
            store.store["/x.csv"] = type(store.store["/x.csv"])(store, "/x.csv", change)
        return opened

    monkeypatch.setattr(MemoryFileSystem, "open", behind_its_back)
    assert place.look("memory://x.csv").size == 6
    changes = (b"a\n" + b"1" * n for n in range(5, 20))
    found = place.look("memory://x.csv")
    assert (found.reason, "changes while it is read" in str(found.message)) == ("Unreadable", True)


def test_rows_of_a_store_are_checked_like_any_others(place: Place, store: MemoryFileSystem) -> None:
    store.pipe("/x.csv", b"a\n1\n2\n")
    good = place.look("memory://x.csv", "csv", expect=Expected(min_rows=2))
    assert (good.reason, good.rows, good.columns) == (None, 2, {"a": "integer"})
    assert place.look("memory://x.csv", "csv", expect=Expected(min_rows=3)).reason == "ExpectationFailed"


def test_nothing_there_is_not_found(place: Place, store: MemoryFileSystem) -> None:
    store.pipe("/data/.hidden", b"1")
    for uri in ("memory://no.csv", "memory://no/*.csv", "memory://data", "memory://data/*"):
        assert place.look(uri).reason == "NotFound", uri


def test_a_store_that_fails_is_unreachable_and_its_text_is_not_shown(
    place: Place, store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ClientError(Exception):
        pass

    def fail(*_: object, **__: object) -> None:
        raise ClientError("denied for key hunter2")

    monkeypatch.setattr(MemoryFileSystem, "info", fail)
    found = place.look("memory://x.csv")
    assert (found.reason, "ClientError" in str(found.message)) == ("Unreachable", True)
    assert "hunter2" not in str(found.message)


@pytest.mark.parametrize(
    ("uri", "module", "extra"),
    [
        ("s3://bucket/x.csv", "s3fs", "s3"),
        ("gs://bucket/x.csv", "gcsfs", "gcs"),
        ("abfss://box@account.dfs.core.windows.net/x.csv", "adlfs", "azure"),
        ("az://box/x.csv", "adlfs", "azure"),
    ],
)
def test_a_missing_library_names_its_extra(
    place: Place, monkeypatch: pytest.MonkeyPatch, uri: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    found = place.look(uri, "csv")
    assert found.reason == "MissingExtra"
    assert f'pip install "mlops-controller[{extra}]"' in str(found.message)


def test_a_job_is_given_the_uri_while_the_content_is_what_was_planned(
    place: Place, store: MemoryFileSystem, tmp_path: Path
) -> None:
    store.pipe("/data/x.csv", b"a\n1\n")
    for uri in ("memory://data/x.csv", "memory://data", "memory://data/*.csv"):
        digest = str(place.look(uri).digest)
        given = materialise(DatasetRequest("d", uri), digest, cache_dir=tmp_path, **place.around)
        assert (given.path_or_uri, given.variables) == (uri, {})
    store.pipe("/data/x.csv", b"a\n2\n")
    with pytest.raises(Transient, match="moved since it was planned"):
        materialise(DatasetRequest("d", uri), digest, cache_dir=tmp_path, **place.around)
    with pytest.raises(Problem, match="pinned"):
        materialise(DatasetRequest("d", uri, pin=digest), digest, cache_dir=tmp_path, **place.around)

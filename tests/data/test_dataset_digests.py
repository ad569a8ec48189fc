"""A digest is the content's: no place, order, cache or clock shows in it, and no change is missed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dataset_place import CountingCache, Place

from mlops.data import DatasetRequest, local, observe, observe_all

A = hashlib.sha256(b"a,b\n1,2\n").hexdigest()


def test_a_file_has_the_sha256_of_its_bytes(place: Place) -> None:
    place.write("data/x.csv", "a,b\n1,2\n")
    found = place.look("data/x.csv", "csv")
    assert (found.digest, found.size, found.reason) == (f"sha256:{A}", 8, None)
    assert (found.outside, found.pinned, found.rows) == (True, False, None)


def test_a_folder_has_the_sha256_of_its_sorted_listing(place: Place) -> None:
    place.write("data/b/y.csv", "y")
    place.write("data/a.csv", "a,b\n1,2\n")
    listing = [["a.csv", A], ["b/y.csv", hashlib.sha256(b"y").hexdigest()]]
    expected = hashlib.sha256(json.dumps(listing, separators=(",", ":")).encode()).hexdigest()
    assert place.look("data").digest == f"sha256:{expected}"
    assert place.look("./data//").digest == f"sha256:{expected}"
    assert place.look("data/**").digest == f"sha256:{expected}"


@pytest.mark.parametrize("uri", ["data/x.csv", "data", "data/*.csv", "data/**/*.csv", "data/x.[c]sv"])
def test_inside_git_outside_git_and_on_another_path_a_dataset_has_one_digest(
    new_place: Callable[[str], Place], uri: str
) -> None:
    digests = set()
    for name in ("inside", "outside", "some/other place"):
        place = new_place(name)
        place.write("data/x.csv", "a,b\n1,2\n")
        place.write("data/.hidden", name)
        place.write("data/_SUCCESS", name)
        if name == "inside":
            place.commit()
        found = place.look(uri)
        assert found.outside is (name != "inside")
        digests.add(found.digest)
    absolute = place.look(f"file://{place.base}/{uri}")
    assert digests == {absolute.digest}
    assert absolute.digest is not None


def test_the_order_of_a_listing_does_not_matter(new_place: Callable[[str], Place]) -> None:
    names = [f"{i:03}.csv" for i in range(50)]
    one, other = new_place("one"), new_place("other")
    for name in names:
        one.write(f"data/{name}", name)
    for name in reversed(names):
        other.write(f"data/{name}", name)
    assert one.look("data").digest == other.look("data").digest


def test_a_renamed_an_added_and_a_removed_file_each_change_the_digest(place: Place) -> None:
    place.write("data/a.csv", "1")
    place.write("data/b.csv", "2")
    seen = [place.look("data").digest]
    (place.base / "data/b.csv").rename(place.base / "data/c.csv")
    seen.append(place.look("data").digest)
    place.write("data/d.csv", "")
    seen.append(place.look("data").digest)
    (place.base / "data/a.csv").unlink()
    seen.append(place.look("data").digest)
    assert len(set(seen)) == 4


def test_a_one_byte_change_of_equal_size_is_found_though_mtime_is_restored(place: Place) -> None:
    path = place.write("x.csv", "a,b\n1,2\n")
    before = path.stat()
    first = place.look("x.csv")
    assert place.look("x.csv") == first  # remembered by now
    time.sleep(0.02)  # the kernel's own clock must tick for ctime to move
    with path.open("r+b") as file:
        file.seek(4)
        file.write(b"7")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert place.look("x.csv").digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_a_change_is_found_on_a_file_system_with_a_coarse_clock(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = local.Signature.of

    def coarse(status: os.stat_result) -> local.Signature:
        found = real(status)
        ticks = 10**10
        return local.Signature(
            found.size, found.mtime_ns // ticks * ticks, found.ctime_ns // ticks * ticks, 1
        )

    monkeypatch.setattr(local.Signature, "of", staticmethod(coarse))
    place.seconds = (int(time.time()) // 10) * 10 + 1.5
    path = place.write("x.csv", "a,b\n1,2\n")
    first = place.look("x.csv").digest
    path.write_bytes(b"a,b\n1,3\n")  # same size, and within the same tick
    assert place.look("x.csv").digest != first


def test_a_file_hashed_long_after_its_last_change_is_remembered_and_a_fresh_one_is_not(place: Place) -> None:
    place.write("x.csv", "1")
    place.seconds = time.time()
    place.look("x.csv")
    assert not place.cache.entries
    place.seconds += 60
    place.look("x.csv")
    assert len(place.cache.entries) == 1


def test_a_poisoned_or_broken_cache_entry_costs_a_hash_and_nothing_else(place: Place) -> None:
    place.write("x.csv", "a,b\n1,2\n")
    place.look("x.csv")
    for value in (b"", b"[]", b"\xff", b'{"sha256": 3}', b'{"sha256": "00"}'):
        place.cache.entries = dict.fromkeys(place.cache.entries, value)
        assert place.look("x.csv").digest == f"sha256:{A}"


def test_the_working_tree_is_never_looked_at_for_what_git_tracks(place: Place) -> None:
    place.write("data/x.csv", "a,b\n1,2\n")
    place.commit()
    place.write("data/x.csv", "dirty")
    place.write("data/untracked.csv", "more")
    assert place.look("data/x.csv").digest == f"sha256:{A}"
    clean = place.look("data").digest
    shutil.rmtree(place.base / "data")
    assert place.look("data/x.csv").digest == f"sha256:{A}"
    assert place.look("data").digest == clean


def test_a_blob_is_hashed_once_whatever_its_path(place: Place) -> None:
    place.write("a.csv", "a,b\n1,2\n")
    first = place.commit()
    place.look("a.csv")
    assert first.reads == ["a.csv"]
    git_mv = place.base / "b.csv"
    (place.base / "a.csv").rename(git_mv)
    second = place.commit()
    assert place.look("b.csv").digest == f"sha256:{A}"
    assert second.reads == []


def test_ignored_files_beside_tracked_ones_are_outside(place: Place) -> None:
    place.write(".gitignore", "big/*\n!big/.gitkeep\n")
    place.write("big/.gitkeep", "")
    place.write("big/x.csv", "a,b\n1,2\n")
    place.commit()
    assert place.look("big/x.csv").outside
    assert place.look("big").outside
    assert place.look("big").digest is not None


def test_a_git_lfs_pointer_is_named_as_such(place: Place) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{A}\nsize 8\n"
    place.write("data/x.csv", pointer)
    outside = place.look("data/x.csv")
    place.commit()
    inside = place.look("data/x.csv")
    for found in (inside, outside, place.look("data")):
        assert (found.reason, found.digest) == ("Unreadable", None)
        assert "data/x.csv" in str(found.message) or "x.csv" in str(found.message)
        assert "Git LFS pointer" in str(found.message)
        assert A not in str(found.message)


def test_a_pin_that_holds_and_one_that_does_not(place: Place) -> None:
    place.write("x.csv", "a,b\n1,2\n")
    good = place.look("x.csv", pin=f"sha256:{A.upper()}")
    assert (good.digest, good.pinned, good.reason) == (f"sha256:{A}", True, None)
    wrong = "sha256:" + "0" * 64
    bad = place.look("x.csv", pin=wrong)
    assert (bad.digest, bad.pinned, bad.reason) == (None, True, "DigestMismatch")
    assert wrong in str(bad.message)
    assert A in str(bad.message)
    assert "spec.digest" in str(bad.message)


def test_a_file_that_changes_while_it_is_read_is_read_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place.write("x.csv", "a,b\n1,2\n")
    changes = iter([b"a,b\n1,3\n"])
    monkeypatch.setattr(local, "hashlib", _HashlibThatWrites(path, changes))
    assert place.look("x.csv").digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert path.read_bytes() == b"a,b\n1,3\n"


def test_a_file_that_never_stops_changing_is_reported(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place.write("x.csv", "a,b\n1,2\n")
    changes = (f"a,b\n1,{i}\n".encode() for i in range(10))
    monkeypatch.setattr(local, "hashlib", _HashlibThatWrites(path, changes))
    found = place.look("x.csv")
    assert (found.reason, found.digest) == ("Unreadable", None)
    assert "changes while it is read" in str(found.message)
    assert place.cache.entries == {}


def test_a_file_that_grows_without_end_is_not_followed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place.write("x.csv", b"x" * 100)

    class Appending:
        def update(self, data: bytes) -> None:
            with path.open("ab") as file:
                file.write(b"x" * 100)

        def hexdigest(self) -> str:
            return ""

    monkeypatch.setattr(local, "CHUNK", 100)
    monkeypatch.setattr(local, "hashlib", _Namespace(sha256=Appending))
    assert place.look("x.csv").reason == "Unreadable"


def test_a_large_file_does_not_show_in_memory(place: Place) -> None:
    path = place.write("big.bin", b"")
    with path.open("r+b") as file:
        file.truncate(200 << 20)
    tracemalloc.start()
    found = place.look("big.bin")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.size == 200 << 20
    assert peak < 8 << 20


def test_one_bad_dataset_stops_only_itself_and_the_cache_is_asked_once(place: Place) -> None:
    for index in range(5):
        place.write(f"data/{index}.csv", "a,b\n1,2\n")
    requests = [DatasetRequest(f"d{i}", f"data/{i}.csv", "csv") for i in range(7)]
    found = observe_all(requests, **place.around)
    assert [found[f"d{i}"].reason for i in range(7)] == [None] * 5 + ["NotFound"] * 2
    assert "data/6.csv does not exist" in str(found["d6"].message)
    assert place.cache.looks == 1


def test_observe_asks_about_one_dataset(place: Place) -> None:
    place.write("x.csv", "a,b\n1,2\n")
    found = observe(
        "bikes",
        "x.csv",
        "csv",
        base=place.base,
        version=None,
        pin=None,
        expect=None,
        inside=None,
        cache=CountingCache(),
        now=time.time,
    )
    assert (found.name, found.digest) == ("bikes", f"sha256:{A}")


def test_observing_files_imports_nothing_heavy() -> None:
    heavy = ["mlflow", "pandas", "pyarrow", "numpy", "deltalake", "fsspec", "git", "sqlalchemy", "pydantic"]
    code = f"import sys, mlops.data; print([m for m in {heavy} if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "[]"


def test_names_that_are_not_utf8_have_a_digest_and_a_printable_message(place: Place) -> None:
    folder = place.base / "data"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.csv")).write_bytes(b"a\n1\n")
    outside = place.look("data")
    place.commit()
    inside = place.look("data")
    assert inside.digest == outside.digest is not None
    missing = place.look(os.fsdecode(b"data/caf\xe8.csv"))
    assert missing.reason == "NotFound"
    str(missing.message).encode("utf-8")


class _Namespace:
    def __init__(self, **names: Any) -> None:
        self.__dict__.update(names)


class _HashlibThatWrites:
    """A hashlib whose sha256 rewrites the file behind the reader's back, as long as there are changes."""

    def __init__(self, path: Path, changes: Any) -> None:
        self._path, self._changes = path, changes

    def sha256(self) -> Any:
        hasher = hashlib.sha256()
        change = next(self._changes, None)

        def update(data: bytes) -> None:
            hasher.update(data)
            if change is not None:
                time.sleep(0.02)
                self._path.write_bytes(change)

        return _Namespace(update=update, hexdigest=hasher.hexdigest)

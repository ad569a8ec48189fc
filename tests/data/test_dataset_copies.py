"""What a job is given: a verified copy of what git holds, and the place of everything else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dataset_place import GitFiles, Place

from mlops.data import DatasetRequest, Materialised, Problem, materialise, materialising
from mlops.errors import Transient


def give(place: Place, uri: str, cache_dir: Path, **asked: str) -> Materialised:
    digest = place.look(uri).digest
    return materialise(
        DatasetRequest("d", uri, **asked),  # type: ignore[arg-type]
        str(digest),
        cache_dir=cache_dir,
        **place.around,
    )


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_a_file_in_git_is_copied_read_only_under_its_digest(place: Place, copies: Path) -> None:
    place.write("data/x.csv", "a\n1\n")
    place.commit()
    place.write("data/x.csv", "dirty")
    given = give(place, "data/x.csv", copies)
    path = Path(given.path_or_uri)
    digest = str(place.look("data/x.csv").digest).removeprefix("sha256:")
    assert path == copies / digest / "x.csv"
    assert path.read_text() == "a\n1\n"
    assert path.stat().st_mode & 0o777 == 0o444
    assert given.variables == {}
    assert [entry.name for entry in copies.iterdir()] == [digest]


@pytest.mark.parametrize("uri", ["data", "data/**/*.csv"])
def test_a_folder_or_glob_in_git_is_copied_with_its_names(place: Place, copies: Path, uri: str) -> None:
    place.write("data/x.csv", "a\n1\n")
    place.write("data/s/y.csv", "a\n2\n")
    place.commit()
    shutil.rmtree(place.base / "data")
    given = give(place, uri, copies)
    folder = copies / str(place.look(uri).digest).removeprefix("sha256:") / "data"
    assert given.path_or_uri == str(folder if uri == "data" else folder / "**/*.csv")
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.csv")) == ["s/y.csv", "x.csv"]


def test_a_whole_copy_is_used_again_and_git_is_not_asked(place: Place, copies: Path) -> None:
    place.write("data/x.csv", "a\n1\n")
    place.commit()
    first = give(place, "data/x.csv", copies)
    written = Path(first.path_or_uri).stat()
    place.inside = again = GitFiles(place.base)
    assert give(place, "data/x.csv", copies) == first
    assert again.reads == []
    assert Path(first.path_or_uri).stat().st_ino == written.st_ino


@pytest.mark.parametrize("uri", ["data/x.csv", "data"])
@pytest.mark.parametrize("damage", ["rewritten", "cut", "added", "removed", "link", "emptied"])
def test_a_damaged_copy_is_made_anew(place: Place, copies: Path, uri: str, damage: str) -> None:
    place.write("data/x.csv", "a\n1\n")
    place.commit()
    given = give(place, uri, copies)
    root = Path(given.path_or_uri)
    file = root if uri != "data" else root / "x.csv"
    file.chmod(0o644)
    match damage:
        case "rewritten":
            file.write_text("a\n2\n")
        case "cut":
            file.write_text("a\n")
        case "added" if uri == "data":
            (root / "evil.csv").write_text("a\n3\n")
        case "removed" if uri == "data":
            shutil.rmtree(root)
        case "link":
            elsewhere = copies / "elsewhere"
            root.rename(elsewhere)
            root.symlink_to(elsewhere)
        case _:
            file.unlink()
    assert give(place, uri, copies) == given
    found = {p.name: p.read_text() for p in ([root] if uri != "data" else root.iterdir())}
    assert found == {"x.csv": "a\n1\n"}
    assert not root.is_symlink()


def test_equal_content_under_two_names_is_two_copies(place: Place, copies: Path) -> None:
    place.write("a.csv", "a\n1\n")
    place.write("b.csv", "a\n1\n")
    place.commit()
    names = {Path(give(place, uri, copies).path_or_uri).name for uri in ("a.csv", "b.csv")}
    assert names == {"a.csv", "b.csv"}


@pytest.mark.parametrize("uri", ["data/x.csv", "data", "data/*.csv"])
def test_data_outside_git_stays_where_it_is(place: Place, copies: Path, uri: str) -> None:
    place.write("data/x.csv", "a\n1\n")
    assert give(place, uri, copies).path_or_uri == f"{place.base}/{uri}"
    assert give(place, f"file://{place.base}/{uri}", copies).path_or_uri == f"{place.base}/{uri}"
    assert not copies.exists()


def test_data_that_moved_after_planning_is_refused(place: Place, copies: Path) -> None:
    place.write("x.csv", "a\n1\n")
    digest = str(place.look("x.csv").digest)
    place.write("x.csv", "a\n2\n")
    with pytest.raises(Transient, match="moved since it was planned with"):
        materialise(DatasetRequest("d", "x.csv"), digest, cache_dir=copies, **place.around)
    with pytest.raises(Problem) as pinned:
        materialise(DatasetRequest("d", "x.csv", pin=digest), digest, cache_dir=copies, **place.around)
    assert pinned.value.reason == "DigestMismatch"
    (place.base / "x.csv").unlink()
    with pytest.raises(Problem) as gone:
        materialise(DatasetRequest("d", "x.csv"), digest, cache_dir=copies, **place.around)
    assert gone.value.reason == "NotFound"


@pytest.mark.parametrize("uri", ["data/x.csv", "data"])
def test_a_copy_killed_half_way_is_never_seen(place: Place, copies: Path, uri: str) -> None:
    place.write("data/x.csv", "a\n1\n")
    place.write("data/y.csv", "a\n2\n")
    place.commit()
    code = (
        "import os, pathlib, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from dataset_place import GitFiles, Place\n"
        "from mlops.data import DatasetRequest, materialise\n"
        "place = Place(pathlib.Path(sys.argv[2]))\n"
        "place.inside = GitFiles(place.base)\n"
        "digest = place.look(sys.argv[3]).digest\n"
        "pathlib.Path.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        "asked, cache_dir = DatasetRequest('d', sys.argv[3]), pathlib.Path(sys.argv[4])\n"
        "materialise(asked, digest, cache_dir=cache_dir, **place.around)\n"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(place.base), uri, str(copies)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -9
    hexes = [entry for entry in copies.iterdir() if not entry.name.startswith(".incoming-")]
    assert all(not any(entry.iterdir()) for entry in hexes)
    root = Path(give(place, uri, copies).path_or_uri)
    assert (root if uri != "data" else root / "x.csv").read_text() == "a\n1\n"
    place.seconds += 2 * 86_400
    shutil.rmtree(root.parent)
    give(place, uri, copies)
    assert not list(copies.glob(".incoming-*"))


@pytest.mark.parametrize("uri", ["data/x.csv", "data"])
def test_two_processes_that_copy_at_once_share_one_copy(
    place: Place, copies: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    place.write("data/x.csv", "a\n1\n")
    place.commit()
    real = materialising.write_blobs
    others: list[Materialised] = []

    def and_another_is_faster(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        monkeypatch.setattr(materialising, "write_blobs", real)
        others.append(give(place, uri, copies))

    monkeypatch.setattr(materialising, "write_blobs", and_another_is_faster)
    assert [give(place, uri, copies)] == others
    assert not list(copies.glob(".incoming-*"))


def test_a_full_disk_is_transient_and_leaves_nothing_behind(
    place: Place, copies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write("x.csv", "a\n1\n")
    place.commit()
    digest = str(place.look("x.csv").digest)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(Transient, match="No space left on device"):
        materialise(DatasetRequest("d", "x.csv"), digest, cache_dir=copies, **place.around)
    assert not list(copies.glob("*/*"))
    assert not list(copies.glob(".incoming-*"))

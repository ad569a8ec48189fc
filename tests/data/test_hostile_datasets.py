"""Paths, links, special files and globs that try to get out, to block or to take for ever."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from dataset_place import Expected, GivenFiles, Place

from mlops.data import DatasetRequest, materialise
from mlops.data.members import Blob, write_blobs
from mlops.data.patterns import parse_pattern
from mlops.data.request import Problem

SECRET = "TOP-SECRET-LINE"


@pytest.mark.parametrize(
    "uri",
    [
        "../outside/secret.csv",
        "data/../../outside/secret.csv",
        "../project-evil/secret.csv",
        "/etc/passwd",
        "~/secret.csv",
        "C:\\secret.csv",
        "file://relative.csv",
        "file:///etc/../etc/passwd",
        "",
        "data/x\n.csv",
        "data/x\0.csv",
        "http://example.com/x.csv",
        "simplecache::s3://bucket/x.csv",
        "zip://x.csv::file:///etc/passwd",
        "s3://",
        "x" * 5000,
    ],
)
def test_a_uri_that_leaves_the_project_or_is_not_understood_is_refused(place: Place, uri: str) -> None:
    for folder in ("outside", "project-evil"):
        (place.base.parent / folder).mkdir()
        (place.base.parent / folder / "secret.csv").write_text(SECRET)
    found = place.look(uri, "csv", expect=Expected(min_rows=1))
    assert (found.reason, found.digest) == ("Invalid", None)
    assert SECRET not in str(found.message)


def test_dots_that_stay_inside_are_legal(place: Place) -> None:
    place.write("data/x.csv", "a\n1\n")
    assert place.look("./other/../data/x.csv").digest == place.look("data/x.csv").digest


@pytest.mark.parametrize("chained", [False, True])
@pytest.mark.parametrize("uri", ["link.csv", "data", "data/*.csv"])
def test_a_link_out_of_the_project_is_refused(place: Place, uri: str, chained: bool) -> None:
    secret = place.base.parent / "project-evil"
    secret.mkdir()
    (secret / "x.csv").write_text(SECRET)
    (place.base / "data").mkdir()
    target = secret / "x.csv"
    if chained:
        (place.base / "hop").symlink_to(target)
        target = place.base / "hop"
    (place.base / "link.csv").symlink_to(target)
    (place.base / "data/x.csv").symlink_to(target)
    found = place.look(uri, "csv", expect=Expected(min_rows=1))
    assert (found.reason, found.digest) == ("Invalid", None)
    assert SECRET not in str(found.message)
    assert "project-evil" not in str(found.message)


def test_a_linked_folder_out_of_the_project_is_refused(place: Place) -> None:
    outside = place.base.parent / "outside"
    outside.mkdir()
    (outside / "x.csv").write_text("a\n1\n")
    (place.base / "data").symlink_to(outside)
    for uri in ("data", "data/x.csv", "data/*.csv"):
        assert place.look(uri).reason == "Invalid"
    assert place.look(f"file://{outside}/x.csv").reason is None


def test_links_within_the_project_are_followed(place: Place) -> None:
    place.write("store/x.csv", "a\n1\n")
    plain = place.look("store")
    (place.base / "data").mkdir()
    (place.base / "data/x.csv").symlink_to("../store/x.csv")
    (place.base / "alias").symlink_to("store")
    assert place.look("data").digest == plain.digest
    assert place.look("alias").digest == plain.digest
    assert place.look("data/x.csv").digest == place.look("store/x.csv").digest


def test_a_folder_given_as_an_absolute_uri_is_its_own_fence(place: Place) -> None:
    outside = place.base.parent / "outside"
    (outside / "data").mkdir(parents=True)
    (outside / "elsewhere.csv").write_text("a\n1\n")
    (outside / "data/x.csv").write_text("a\n1\n")
    uri = f"file://{outside}/data"
    assert place.look(uri).reason is None
    (outside / "data/y.csv").symlink_to("../elsewhere.csv")
    assert place.look(uri).reason == "Invalid"


def test_dangling_and_looping_links_are_reported(place: Place) -> None:
    (place.base / "gone.csv").symlink_to("nothing")
    (place.base / "loop.csv").symlink_to("loop.csv")
    place.write("data/x.csv", "1")
    (place.base / "data/up").symlink_to("..")
    (place.base / "data2").mkdir()
    (place.base / "data2/gone.csv").symlink_to("nothing")
    assert place.look("gone.csv").reason == "NotFound"
    assert place.look("loop.csv").reason == "Unreadable"
    assert place.look("data").reason == "Unreadable"
    assert "links back" in str(place.look("data").message)
    assert place.look("data2").reason == "NotFound"
    assert "data2" in str(place.look("data2").message)


def test_pipes_sockets_and_devices_are_refused_and_never_block(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(place.base / "pipe.csv")
    (place.base / "data").mkdir()
    os.mkfifo(place.base / "data/pipe.csv")
    monkeypatch.chdir(place.base)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.csv")
        for uri in ("pipe.csv", "data", "data/*.csv", "socket.csv", "file:///dev/zero", "file:///dev/tty"):
            found = place.look(uri, "csv", expect=Expected(min_rows=1))
            assert found.reason == "Unreadable", uri
            assert "not a regular file" in str(found.message)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_reported(place: Place) -> None:
    path = place.write("data/x.csv", SECRET)
    path.chmod(0)
    assert place.look("data/x.csv").reason == "Unreadable"
    path.parent.chmod(0)
    try:
        found = place.look("data")
    finally:
        path.parent.chmod(0o755)
    assert found.reason == "Unreadable"
    assert "permission denied" in str(found.message)


def test_denied_permission_is_a_message_and_no_crash(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write("x.csv", SECRET)

    def denied(*_: object, **__: object) -> int:
        raise PermissionError(13, "denied", "/secret/place")

    monkeypatch.setattr(os, "open", denied)
    found = place.look("x.csv")
    assert found.reason == "Unreadable"
    assert "x.csv may not be read" in str(found.message)
    assert "/secret/place" not in str(found.message)


def test_nothing_there_is_not_found(place: Place) -> None:
    (place.base / "empty").mkdir()
    place.write("hidden/.x.csv", "1")
    place.write("file.csv", "1")
    for uri in ("no.csv", "no/x.csv", "no/*.csv", "empty", "hidden", "hidden/*", "empty/**", "file.csv/x"):
        assert place.look(uri).reason == "NotFound", uri


def test_a_name_with_glob_characters_is_a_name_if_it_exists(place: Place) -> None:
    place.write("a[1].csv", "literal")
    place.write("a1.csv", "matched")
    outside = place.look("a[1].csv")
    place.commit()
    assert place.look("a[1].csv").digest == outside.digest
    assert outside.size == len("literal")


def test_a_glob_matches_as_in_a_shell(place: Place) -> None:
    for path in ("d/a.csv", "d/b.txt", "d/s/c.csv", "d/s/t/e.csv", "d/.h/x.csv", "d/_delta_log/y.csv"):
        place.write(path, path)

    def size(uri: str) -> int | None:
        return place.look(uri).size

    for _ in range(2):  # outside git, then inside
        assert size("d/*.csv") == len("d/a.csv")
        assert size("d/**/*.csv") == len("d/a.csv" + "d/s/c.csv" + "d/s/t/e.csv")
        assert size("d/*/*.csv") == len("d/s/c.csv")
        assert size("d/**") == len("d/a.csv" + "d/b.txt" + "d/s/c.csv" + "d/s/t/e.csv")
        assert size("*/?.csv") == len("d/a.csv")
        assert size("d/**/t/**") == len("d/s/t/e.csv")
        place.commit()


def test_a_glob_bomb_is_bounded() -> None:
    pattern = parse_pattern("/".join(["d", *["**", "a*"] * 31]), "bomb")
    assert not pattern.matches("/".join(["aaaa"] * 200 + ["b"]))
    stars = parse_pattern("d/" + "*a" * 400 + "b", "bomb")
    assert not stars.matches("a" * 5000)
    for bomb in ("**/" * 100 + "x", "d/" + "*" * 2000):
        with pytest.raises(Problem, match="too long a pattern"):
            parse_pattern(bomb, bomb)


def test_a_folder_beyond_the_limit_of_entries_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops.data.local._MOST_ENTRIES", 10)
    for index in range(11):
        place.write(f"data/{index}", "")
    found = place.look("data")
    assert (found.reason, "more than 10 entries" in str(found.message)) == ("Unreadable", True)


def test_values_of_variables_and_credentials_are_never_shown(place: Place) -> None:
    asked = DatasetRequest("d", "s3://hunter2/x.csv?sig=hunter2", "csv", shown="s3://${BUCKET}/x.csv")
    assert "hunter2" not in asked.display
    for uri in ("https://user:hunter2@host/x.csv", "ftp://h/x.csv?sig=hunter2&x=1"):
        found = place.look(uri, "csv")
        assert found.reason == "Invalid"
        assert "hunter2" not in str(found.message)


@pytest.mark.parametrize("path", ["d/../../evil.csv", "d/a/../../../evil.csv", "d//evil.csv"])
def test_a_hostile_tree_cannot_make_a_file_outside_the_cache(tmp_path: Path, path: str) -> None:
    blob = Blob(path.removeprefix("d/"), path, "0" * 40, 4, GivenFiles({path: b"evil"}))
    with pytest.raises(Problem, match="not a path that can be written"):
        write_blobs({0: blob}, tmp_path / "cache" / "copy")
    assert not [found for found in tmp_path.glob("**/*") if found.is_file()]


def test_parents_in_a_tree_are_no_part_of_a_dataset(place: Place, tmp_path: Path) -> None:
    place.inside = GivenFiles({"data/../../evil.csv": b"x", "data/x.csv": b"a\n1\n"})
    digest = place.look("data").digest
    assert digest is not None
    copied = materialise(DatasetRequest("d", "data"), digest, cache_dir=tmp_path / "cache", **place.around)
    assert [f.name for f in Path(copied.path_or_uri).glob("**/*")] == ["x.csv"]
    assert not list(tmp_path.glob("**/evil.csv"))

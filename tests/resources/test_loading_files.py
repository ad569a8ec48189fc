"""Which files are read, from a commit or a folder, how often, and what one that cannot be read leaves standing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from snapshots import CommitSnapshot, MemoryCache

from conftest import PROJECT, Declared
from mlops.errors import Location, MlopsError
from mlops.resources import Experiment, Key, Project, load

MODEL = "apiVersion: mlops/v1\nkind: Model\nmetadata: {name: NAME}\nspec: {}\n"


def model(name: str) -> str:
    return MODEL.replace("NAME", name)


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "protocol.file.allow=always")
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_a_commit_is_read_without_a_checkout(declared: Declared) -> None:
    declared.write("resources/a.yaml", model("a"))
    git(declared.root, "init", "-q")
    git(declared.root, "add", "-A")
    git(declared.root, "commit", "-qm", "declare")
    (declared.root / "resources/a.yaml").write_text("broken: [")
    loaded = load(CommitSnapshot(declared.root))
    assert (loaded.problems, set(loaded.resources)) == ((), {Key("Project", "bikes"), Key("Model", "a")})


def test_yaml_files_of_all_listed_folders_are_read_and_nothing_else(declared: Declared) -> None:
    declared.write(
        "mlops.yaml",
        PROJECT.replace("spec: {", "spec: {resources: [one/, ./two/deep], ") + f"---\n{model('own')}",
    )
    declared.write("one/a.yaml", model("a"))
    declared.write("one/x/y/b.yml", model("b") + "---\n" + model("c"))
    declared.write("two/deep/d.yaml", model("d"))
    for path in ("one/readme.md", "one-evil/e.yaml", "two/f.yaml", "resources/g.yaml", "two/deeper/h.yaml"):
        declared.write(path, model("never"))
    loaded = declared.load()
    assert loaded.problems == ()
    assert [key.name for key in loaded.resources if key.kind == "Model"] == ["own", "a", "b", "c", "d"]
    assert isinstance(loaded.project, Project)


def test_the_root_itself_may_be_the_folder_of_resources(declared: Declared) -> None:
    declared.write("mlops.yaml", PROJECT.replace("spec: {", "spec: {resources: [./], "))
    declared.write("a.yaml", model("a"))
    assert set(declared.load().resources) == {Key("Project", "bikes"), Key("Model", "a")}


def test_files_are_read_in_few_batches(declared: Declared) -> None:
    for number in range(40):
        declared.write(f"resources/{number}.yaml", model(f"m{number}"))
    snapshot = declared.snapshot
    assert len(load(snapshot).resources) == 41
    assert [len(batch) for batch in snapshot.batches] == [1, 40]


def test_an_unchanged_file_is_not_read_again(declared: Declared) -> None:
    for name in "abc":
        declared.write(f"resources/{name}.yaml", model(name))
    declared.write("resources/x.yaml", model("x").replace("spec", "specc"))
    cache = MemoryCache()
    first = declared.load(cache)
    declared.write("resources/b.yaml", "# changed\n" + model("b"))
    snapshot = declared.snapshot
    second = load(snapshot, cache)
    assert [sorted(batch) for batch in snapshot.batches] == [["resources/b.yaml", "resources/x.yaml"]]
    assert dict(first.resources) == dict(second.resources)
    assert first.problems == second.problems
    assert second.locations[Key("Model", "b")] == Location("resources/b.yaml", 2, 1)
    assert second.locations[Key("Model", "a")] == Location("resources/a.yaml", 1, 1)


def test_what_holds_between_files_is_checked_although_the_files_are_cached(declared: Declared) -> None:
    dataset = "kind: Dataset\nmetadata: {name: d}\nspec: {uri: d.csv}\n"
    declared.documents("resources/d.yaml", dataset)
    fields = "source: {path: training}, command: [a], datasets: {train: d}"
    use = f"kind: Experiment\nmetadata: {{name: e}}\nspec: {{{fields}}}\n"
    declared.documents("resources/e.yaml", use)
    cache = MemoryCache()
    assert declared.load(cache).problems == ()
    declared.documents("resources/d.yaml", dataset.replace("name: d", "name: other"))
    (problem,) = declared.load(cache).problems
    assert str(problem.location) == "resources/e.yaml:4:66"


def test_the_same_text_in_two_files_is_kept_once_and_found_twice(declared: Declared) -> None:
    cache = MemoryCache()
    for path in ("resources/a.yaml", "resources/b.yaml"):
        declared.write(path, model("a"))
    places = [[str(problem.location) for problem in declared.load(cache).problems] for _ in range(2)]
    assert places[0] == places[1] == ["resources/a.yaml:3:18", "resources/b.yaml:3:18"]
    assert len(cache.items) == 2  # mlops.yaml and that text


def test_a_damaged_cache_is_read_over(declared: Declared) -> None:
    declared.write("resources/a.yaml", model("a"))
    cache = MemoryCache()
    declared.load(cache)
    good = dict(cache.items)
    for damage in (b"", b"{}", b"x" * 40):
        cache.items = dict.fromkeys(good, damage)
        assert Key("Model", "a") in declared.load(cache).resources
    cache.items = {key: payload[:-3] + b"!!!" for key, payload in good.items()}
    assert Key("Model", "a") in declared.load(cache).resources
    assert cache.items == good


def test_a_cached_resource_is_a_validated_model(declared: Declared) -> None:
    text = "kind: Experiment\nmetadata: {name: e}\nspec: {source: {path: ./training/}, command: [a], timeout: 2h}\n"
    declared.documents("resources/e.yaml", text)
    cache = MemoryCache()
    declared.load(cache)
    loaded = declared.load(cache)
    experiment = loaded.resources[Key("Experiment", "e")]
    assert cache.hits == 2
    assert isinstance(experiment, Experiment)
    assert (experiment.spec.source.path, experiment.spec.timeout) == ("training", 7200.0)
    assert loaded.resources[Key("Experiment", "e")] is experiment


def test_every_field_can_be_located(declared: Declared) -> None:
    declared.write(
        "resources/a.yaml",
        "# comment\n" + model("a") + "---\n" + model("b").replace("{}", "{owners: [x, y]}"),
    )
    loaded = declared.load()
    key = Key("Model", "b")
    assert str(loaded.locate(key)) == "resources/a.yaml:7:1"
    assert str(loaded.locate(key, "spec", "owners", 1)) == "resources/a.yaml:10:20"
    assert str(loaded.locate(key, "spec", "tags", "x")) == "resources/a.yaml:10:1"
    with pytest.raises(KeyError):
        loaded.locate(Key("Model", "c"))


@pytest.mark.parametrize("name", ["link.yaml", "link.yml"])
def test_a_linked_file_is_not_followed(
    declared: Declared, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.yaml"
    outside.write_text(model("stolen"))
    declared.write("resources/a.yaml", model("a"))
    for target in (str(outside), "a.yaml", "nowhere", name):
        link = declared.root / "resources" / name
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        loaded = declared.load()
        (problem,) = loaded.problems
        assert str(problem).startswith(f"resources/{name}:1:1: is a symbolic link, which is not followed. ")
        assert loaded.unreadable == (f"resources/{name}",)
        assert Key("Model", "a") in loaded.resources
        assert Key("Model", "stolen") not in loaded.resources


def test_a_linked_folder_is_not_followed(declared: Declared) -> None:
    declared.write("elsewhere/a.yaml", model("a"))
    declared.write("resources/b.yaml", model("b"))
    (declared.root / "resources/more").symlink_to("../elsewhere")
    (declared.root / "resources/NOTES").symlink_to("../training/train.py")  # no folder, no YAML: left alone
    (problem,) = declared.load().problems
    assert str(problem.location) == "resources/more:1:1"
    declared.write("mlops.yaml", PROJECT.replace("spec: {", "spec: {resources: [linked], "))
    (declared.root / "linked").symlink_to("elsewhere")
    loaded = declared.load()
    assert [str(problem.location) for problem in loaded.problems] == ["linked:1:1"]
    assert not [key for key in loaded.resources if key.kind == "Model"]


def test_a_linked_project_file_is_not_followed(declared: Declared) -> None:
    (declared.root / "mlops.yaml").rename(declared.root / "real.yaml")
    (declared.root / "mlops.yaml").symlink_to("real.yaml")
    loaded = declared.load()
    assert [problem.what for problem in loaded.problems] == ["is a symbolic link, which is not followed"]
    assert loaded.project is None


def test_a_submodule_is_not_followed(declared: Declared, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "-q")
    (other / "a.yaml").write_text(model("a"))
    git(other, "add", "-A")
    git(other, "commit", "-qm", "x")
    git(declared.root, "init", "-q")
    git(declared.root, "submodule", "add", "-q", str(other), "resources/sub")
    git(declared.root, "add", "-A")
    git(declared.root, "commit", "-qm", "x")
    loaded = load(CommitSnapshot(declared.root))
    assert [str(problem) for problem in loaded.problems] == [
        "resources/sub:1:1: is a submodule, which is not followed. Put the files themselves here."
    ]


def test_a_missing_project_file_is_said(declared: Declared) -> None:
    (declared.root / "mlops.yaml").unlink()
    declared.write("resources/a.yaml", model("a"))
    loaded = declared.load()
    assert [str(problem).partition(". ")[0] for problem in loaded.problems] == ["mlops.yaml:1:1: is missing"]
    assert loaded.project is None
    assert "mlops.yaml" in loaded.unreadable
    declared.write("mlops.yaml", model("own"))
    loaded = declared.load()
    assert [str(problem).partition(". ")[0] for problem in loaded.problems] == [
        "mlops.yaml:1:1: declares no Project"
    ]
    assert Key("Model", "own") in loaded.resources


def test_a_project_that_is_not_yaml_is_said_once(declared: Declared) -> None:
    declared.write("mlops.yaml", "apiVersion: mlops/v1\nkind: Project\nmetadata: {name: bikes\nspec: {}\n")
    declared.write("resources/a.yaml", model("a"))
    loaded = declared.load()
    assert [str(problem.location) for problem in loaded.problems] == ["mlops.yaml:3:11"]
    assert (loaded.project, loaded.invalid) == (None, {Key("Project", "bikes")})
    assert Key("Model", "a") in loaded.resources


def test_a_project_in_another_file_counts_for_nothing(declared: Declared) -> None:
    declared.write("resources/a.yaml", PROJECT)
    loaded = declared.load()
    assert [str(problem).partition(". ")[0] for problem in loaded.problems] == [
        "resources/a.yaml:2:7: Project/bikes: kind: stands in mlops.yaml only"
    ]
    assert loaded.project is not None
    assert loaded.invalid == frozenset()


def test_two_projects_in_one_file_are_both_refused(declared: Declared) -> None:
    declared.write("mlops.yaml", PROJECT + "---\n" + PROJECT.replace("bikes", "cars"))
    loaded = declared.load()
    assert [problem.location.line for problem in loaded.problems] == [2, 7]
    assert loaded.project is None


@pytest.mark.parametrize(
    ("data", "line", "column", "words"),
    [
        (b"a: b\nkind: \xff\n", 2, 7, "not UTF-8"),
        (model("a").encode("utf-16"), 1, 1, "not UTF-8"),
        (b"a: b\nc: \x00d\n", 2, 4, "U+0000"),
        (b"a: b\nc: \x1b[31m\n", 2, 4, "U+001B"),
        (b"a: b\nc: \xef\xbf\xbe\n", 2, 4, "U+FFFE"),
        (b"a: " + b"x" * (9 << 20), 1, 1, "8 MiB"),
    ],
)
def test_one_poison_file_stops_only_itself(
    declared: Declared, data: bytes, line: int, column: int, words: str
) -> None:
    declared.write("resources/good.yaml", model("good"))
    declared.write("resources/poison.yaml", data)
    loaded = declared.load()
    (problem,) = loaded.problems
    assert (problem.location, words in problem.what) == (
        Location("resources/poison.yaml", line, column),
        True,
    )
    assert Key("Model", "good") in loaded.resources
    assert loaded.unreadable == ("resources/poison.yaml",)


def test_a_byte_order_mark_and_windows_line_ends_are_fine(declared: Declared) -> None:
    declared.write("resources/a.yaml", b"\xef\xbb\xbf" + model("a").replace("\n", "\r\n").encode())
    loaded = declared.load()
    assert loaded.problems == ()
    assert loaded.locations[Key("Model", "a")] == Location("resources/a.yaml", 1, 1)


def test_a_file_that_vanishes_while_it_is_read_is_said(declared: Declared) -> None:
    declared.write("resources/a.yaml", model("a"))
    declared.write("resources/b.yaml", model("b"))
    snapshot = declared.snapshot
    read = snapshot.read
    snapshot.read = lambda paths: {p: d for p, d in read(paths).items() if p != "resources/a.yaml"}  # type: ignore[method-assign]
    loaded = load(snapshot)
    assert [str(problem.location) for problem in loaded.problems] == ["resources/a.yaml:1:1"]
    assert Key("Model", "b") in loaded.resources


def test_keys_are_read_in_any_case_of_the_kind() -> None:
    assert Key.parse("experiment/bikes") == Key("Experiment", "bikes")
    assert str(Key("Model", "a")) == "Model/a"
    assert sorted([Key("Model", "b"), Key("Dataset", "c"), Key("Model", "a")])[0] == Key("Dataset", "c")
    with pytest.raises(MlopsError, match="Did you mean Experiment"):
        Key.parse("experimnt/bikes")
    with pytest.raises(MlopsError, match="Did you mean Model/bikes"):
        Key.parse("model/bike", {Key("Model", "bikes")})
    for text in ("model", "model/", "/x", "model/a/b"):
        with pytest.raises(MlopsError):
            Key.parse(text)

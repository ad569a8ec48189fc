"""The rows of the threat model that this release meets, end to end through the command line."""

from __future__ import annotations

import ast
import json
import os
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
sys.path.append(str(HERE / "lifecycle"))  # where the small project is

from git_project import GitProject, clean_environ, document, experiment, lifecycle  # noqa: E402

from mlops.cli import run  # noqa: E402

CANARY = "canary-9f2b77d1-value"


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return self.out + self.err


Mlops = Callable[..., Ran]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - set(clean_environ()):
        monkeypatch.delenv(name)


@pytest.fixture
def project(tmp_path: Path) -> GitProject:
    return GitProject(tmp_path / "project").with_store()


@pytest.fixture
def mlops(project: GitProject, capsys: pytest.CaptureFixture[str]) -> Mlops:
    """One command line on the project, in this process."""

    def call(*arguments: str) -> Ran:
        capsys.readouterr()
        code = run(["--project", str(project.root), *arguments])
        ran = Ran(code, *capsys.readouterr())
        assert "Traceback" not in ran.err
        assert "defect of mlops" not in ran.err
        return ran

    return call


# ---- planning runs nothing of the repository -------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """A port of this machine, and what anybody said to it."""
    heard: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def listen() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                heard.append(connection.recv(4096))

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    yield server.getsockname()[1], heard
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)


def test_looking_at_a_hostile_repository_runs_none_of_it(
    project: GitProject, tmp_path: Path, listener: tuple[int, list[bytes]]
) -> None:
    port, heard = listener
    sprung = tmp_path / "sprung"
    springs = f"open({str(sprung)!r}, 'a').write(__file__ + chr(10))\n"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $0 >> {sprung}\ncat\n")
    program.chmod(0o755)
    for name in (
        "train",
        "__init__",
        "setup",
        "conftest",
        "sitecustomize",
        "usercustomize",
        "mlflow",
        "yaml",
    ):
        project.write(f"training/{name}.py", springs)
        project.write(f"{name}.py", springs)
    for name in ("mlops", "click", "pydantic", "json"):
        project.write(f"{name}.py", springs)
    project.write("evil/setup.py", springs)
    project.write(
        "evil/pyproject.toml",
        "[build-system]\nrequires = []\nbuild-backend = 'setup'\nbackend-path = ['.']\n",
    )
    server = f"http://127.0.0.1:{port}/simple"
    lines = [
        f"--index-url {server}",
        f"--find-links {server}",
        f"evil @ {server}/evil.tar.gz",
        "evil-package==6.6.6",
    ]
    project.write("training/requirements.txt", "\n".join(lines))
    project.write(
        "training/MLproject", f"name: x\nentry_points:\n  main: {{command: 'python train.py ; {program}'}}\n"
    )
    project.write(".gitattributes", "* filter=evil diff=evil\n")
    project.write("tox.ini", "[tox]\n")
    documents = lifecycle()
    documents[1]["spec"]["environment"] = {"requirements": "training/requirements.txt"}
    point = experiment("point", entryPoint="main")
    del point["spec"]["command"]
    project.declare([*documents, point])
    project.commit("hostile")
    for hook in (
        "post-checkout",
        "pre-commit",
        "post-index-change",
        "reference-transaction",
        "fsmonitor-watchman",
    ):
        (project.root / ".git/hooks" / hook).symlink_to(program)
    for key in (
        "filter.evil.clean",
        "filter.evil.smudge",
        "filter.evil.process",
        "core.fsmonitor",
        "core.pager",
    ):
        project.git("config", key, str(program))
    for key in ("diff.evil.textconv", "diff.external", "gpg.program", "core.sshCommand", "core.editor"):
        project.git("config", key, str(program))
    for key in ("log.showSignature", "filter.evil.required"):
        project.git("config", key, "true")
    sprung.unlink(missing_ok=True)
    project.write("training/touched.py", springs)
    command = str(Path(sys.executable).with_name("mlops"))
    looks = [
        "validate",
        "plan",
        "plan --working-tree",
        "plan -o markdown",
        "get --working-tree",
        "tree",
        "runs fit",
    ]
    for line in [
        *looks,
        "describe Experiment/fit",
        "history",
        "schema",
        "version",
        "validate --revision HEAD",
    ]:
        done = subprocess.run(
            [command, *shlex.split(line)], cwd=project.root, capture_output=True, text=True, timeout=120
        )
        assert "Traceback" not in done.stderr
        assert not sprung.exists(), f"{line} ran {sprung.read_text()}"
    assert heard == []
    plan = json.loads(run_out(command, project, "plan", "-o", "json"))
    assert [step["resource"] for step in plan["steps"]].count("Experiment/fit") == 2
    [blocked] = [block for block in plan["blocked"] if block["resource"] == "Experiment/point"]
    assert "needs a shell" in blocked["message"]


def run_out(command: str, project: GitProject, *arguments: str) -> str:
    return subprocess.run(
        [command, *arguments], cwd=project.root, capture_output=True, text=True, check=True, timeout=120
    ).stdout


# ---- paths and links ------------------------------------------------------------------------------------

ESCAPES = [
    "..",
    "../outside",
    "/etc",
    "a/../../outside",
    "../project-evil",
    "./../project-evil",
    "a/b/../../../x",
]
WEIRD = ["a\\..\\..\\x", "a\0b", "~/x"]
FIELDS: dict[str, Callable[[str], dict[str, Any]]] = {
    "spec.uri": lambda path: document("Dataset", "d", {"uri": path, "format": "csv"}),
    "spec.source.path": lambda path: experiment("x", source={"path": path}),
    "spec.source.include[0]": lambda path: experiment(
        "x", source={"path": "training", "include": [path + "/*"]}
    ),
    "spec.source.exclude[0]": lambda path: experiment(
        "x", source={"path": "training", "exclude": [path + "/*"]}
    ),
    "spec.environment.requirements": lambda path: experiment("x", environment={"requirements": path}),
    "spec.resources[0]": lambda path: document("Project", "p", {"resources": [path]}),
    "spec.tracking.artifacts": lambda path: document("Project", "p", {"tracking": {"artifacts": path}}),
    "spec.source.artifact": lambda path: document(
        "ModelVersion",
        "v",
        {"model": "m", "version": "9.0.0", "source": {"experiment": "fit", "artifact": path}},
    ),
}


@pytest.mark.parametrize("path", ESCAPES, ids=str)
@pytest.mark.parametrize("field", sorted(FIELDS))
def test_a_path_that_leaves_the_project_is_refused_in_every_field(
    field: str, path: str, project: GitProject, mlops: Mlops
) -> None:
    if path == "/etc" and field == "spec.tracking.artifacts":
        pytest.skip("an absolute place for a store is a choice that may be made")
    declared = FIELDS[field](path)
    name = "mlops.yaml" if declared["kind"] == "Project" else "resources/escape.yaml"
    project.write(name, yaml.safe_dump(declared))
    (project.root.parent / "outside").mkdir()
    (project.root.parent / "project-evil").mkdir()
    ran = mlops("validate", "-o", "json")
    assert ran.code == 1
    found = json.loads(ran.out)["errors"]
    assert field in [row["field"] for row in found], found
    assert [path.name for path in project.root.parent.iterdir() if any(path.iterdir())] == ["project"]


@pytest.mark.parametrize("path", [path for path in ESCAPES if not path.startswith("/")])
@pytest.mark.parametrize("field", ["tracking", "state"])
def test_a_store_that_leaves_the_project_is_not_opened(
    field: str, path: str, project: GitProject, mlops: Mlops
) -> None:
    (project.root.parent / "outside").mkdir()
    (project.root.parent / "project-evil").mkdir()
    project.write(
        "mlops.yaml", yaml.safe_dump(document("Project", "p", {field: {"uri": f"sqlite:///{path}/x.db"}}))
    )
    project.commit("elsewhere")
    ran = mlops("plan")
    assert ran.code == 1
    assert "leaves the project" in ran.err or "mlops.yaml:" in ran.err
    assert [path.name for path in project.root.parent.iterdir() if any(path.iterdir())] == ["project"]


@pytest.mark.parametrize("path", WEIRD, ids=repr)
def test_a_weird_path_is_refused_or_is_only_a_name(path: str, project: GitProject, mlops: Mlops) -> None:
    text = yaml.safe_dump(FIELDS["spec.uri"](path))
    project.write("resources/weird.yaml", text)
    project.commit("weird")
    ran = mlops("plan", "-o", "json")
    plan = json.loads(ran.out)
    assert ran.code == 1 or "Dataset/d" in [block["resource"] for block in plan["blocked"]]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside of the repository that reads as a resource, as code and as data."""
    outside = tmp_path / "outside.yaml"
    outside.write_text(
        f"apiVersion: mlops/v1\nkind: Model\nmetadata: {{name: stolen}}\nspec: {{description: {CANARY}}}\n"
    )
    return outside


@pytest.mark.parametrize("kind", ["direct", "chained", "dangling", "loop", "absolute"])
def test_a_linked_resource_is_not_followed_out_of_the_tree(
    kind: str, project: GitProject, mlops: Mlops, secret: Path
) -> None:
    link = project.root / "resources/link.yaml"
    match kind:
        case "direct":
            link.symlink_to("../../outside.yaml")
        case "absolute":
            link.symlink_to(secret)
        case "chained":
            (project.root / "hop.yaml").symlink_to("../outside.yaml")
            link.symlink_to("../hop.yaml")
        case "dangling":
            link.symlink_to("../nowhere.yaml")
        case "loop":
            link.symlink_to("link.yaml")
    project.commit("link")
    for line in (["validate"], ["plan"], ["plan", "--working-tree"], ["get"]):
        ran = mlops(*line)
        assert CANARY not in ran.all
        assert "stolen" not in ran.all
    assert "train Experiment/fit" in mlops("plan").out


def test_linked_code_and_data_do_not_bring_in_what_is_outside(
    project: GitProject, mlops: Mlops, secret: Path
) -> None:
    (project.root / "training/stolen.py").symlink_to(secret)
    (project.root / "data/rows.csv").unlink()
    (project.root / "data/rows.csv").symlink_to(secret)
    other = {"uri": "data/other.csv", "format": "csv"}
    project.write("data/other.csv", "x,y\n1,2\n")
    free = experiment("free", source={"path": "plain"}, datasets={"train": "other"})
    project.write("plain/train.py", (project.root / "training/train.py").read_text())
    project.declare(
        [
            *lifecycle(),
            document("Dataset", "other", other),
            free,
            experiment("linked", datasets={"train": "other"}),
        ]
    )
    project.commit("links")
    plan = mlops("plan", "-o", "json")
    assert CANARY not in plan.all
    blocked = {block["resource"]: block["message"] for block in json.loads(plan.out)["blocked"]}
    assert "link" in blocked["Dataset/rows"]
    ran = mlops("apply")
    assert ran.code == 1
    assert "stolen.py" in ran.err
    assert "train Experiment/free" in ran.err
    client = project.client
    states = {
        name: {
            run.info.status
            for run in client.search_runs([client.get_experiment_by_name(f"p/{name}").experiment_id])
        }
        for name in ("free", "linked")
    }
    assert states["free"] == {"FINISHED"}
    assert "FINISHED" not in states["linked"]
    assert not holders(project.root / ".mlops", CANARY)


def test_a_folder_of_the_reconciler_that_is_a_link_is_not_written_through(
    project: GitProject, mlops: Mlops, tmp_path: Path
) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    shutil.rmtree(project.root / ".mlops")
    (project.root / ".mlops").symlink_to(outside)
    project.git("add", "-f", ".mlops")
    project.git("commit", "-q", "-m", "a link in the place of the folder")
    mlops("plan")
    assert list(outside.iterdir()) == []


# ---- YAML -----------------------------------------------------------------------------------------------

V = "apiVersion: mlops/v1\nkind: Model\nmetadata: {name: bad}\nspec: {}\n"
BOMBS = {
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)),
    "depth": "[" * 100_000,
    "deep mappings": "{a: " * 50_000,
    "documents": "---\na: 1\n" * 300_000,
    "integer": V.replace("{}", f"{{tags: {{a: {'9' * 1_000_000}}}}}"),
    "hexadecimal": f"a: 0x{'f' * 1_000_000}\n",
    "tag": "!!python/object/apply:os.system ['touch sprung']\n",
    "own tag": "!evil {a: b}\n",
    "self": "&a [*a]\n",
    "merge": V + "<<: &a {b: 1}\n",
    "duplicate": V + "spec: {description: two}\n",
    "size": V + f"# {'x' * 30_000_000}\n",
    "keys": V.replace("spec: {}", "spec: {tags: {" + ",".join(f"k{i}: v" for i in range(300_000)) + "}}"),
    "bytes": "\ufeff\x00\x01",
    "not unicode": "\udcff\udcfe",
    "utf-16": "",
    "long line": "a" * 5_000_000,
}


@pytest.mark.parametrize("bomb", sorted(BOMBS))
def test_a_bomb_beside_good_resources_stops_only_itself(bomb: str, project: GitProject, mlops: Mlops) -> None:
    data = V.encode("utf-16") if bomb == "utf-16" else BOMBS[bomb].encode("utf-8", "surrogateescape")
    (project.root / "resources/bomb.yaml").write_bytes(data)
    project.commit("bomb")
    ran = mlops("plan")
    assert ran.code == 1
    assert "resources/bomb.yaml:" in ran.err
    assert "train Experiment/fit" in ran.out
    assert len(ran.err) < (2000 if bomb != "documents" else 200_000)  # a thousand are named, then no more
    assert not (project.root / "sprung").exists()
    again = mlops("validate")
    assert again.code == 1
    assert "resources/bomb.yaml:" in again.err


# ---- options and shells ---------------------------------------------------------------------------------

REVISIONS = [
    "--upload-pack=touch sprung",
    "--output=sprung",
    "-h",
    "--all",
    "$(touch sprung)",
    "HEAD; touch sprung",
    "HEAD\ntouch sprung",
    "HEAD:mlops.yaml",
    ":/first",
    "HEAD..HEAD",
    "",
    "ext::sh -c touch% sprung",
    "\udcff",
    "a" * 10_000,
]


@pytest.mark.parametrize("revision", REVISIONS, ids=lambda text: ascii(text)[:30])
def test_a_revision_is_never_an_option_nor_a_command(
    revision: str, project: GitProject, mlops: Mlops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    for line in (["plan"], ["validate"], ["get"]):
        ran = mlops(*line, f"--revision={revision}")
        assert ran.code == 1, ran
        assert ran.err.startswith("error: ")
        assert len(ran.err) < 1000
    assert mlops("plan", f"--base={revision}").code == 1
    assert not (project.root / "sprung").exists()
    assert project.git("status", "--porcelain") == ""


@pytest.mark.parametrize(
    "name", ["--help", "-x", "--project=/", "$(id)", "a;b", "a b", "../x", "A", "<b>", "a\nb", "x.lock"]
)
def test_a_name_that_could_be_something_else_is_refused(name: str, project: GitProject, mlops: Mlops) -> None:
    project.write("resources/name.yaml", yaml.safe_dump(document("Model", name, {})))
    ran = mlops("validate")
    assert ran.code == 1
    assert "resources/name.yaml:" in ran.err
    for line in (
        ["runs", "--", name],
        ["logs", "--", f"Experiment/{name}"],
        ["describe", "--", f"Model/{name}"],
    ):
        assert mlops(*line).code == 1


HOSTILE = {
    "shell": "; touch sprung",
    "expands": "$(touch sprung) `touch sprung` ${HOME}",
    "option": "--exec=touch sprung",
    "quotes": "'\"\\",
    "lines": "a\nb",
    "empty": "",
    "braces": "{shell}",
    "glob": "*",
    "unicode": "é\u202e😀",
}
SEES = """\
import json, os, sys
out = os.environ["MLOPS_OUTPUT"]
given = {name: value for name, value in os.environ.items() if name.startswith("MLOPS_PARAM")}
seen = {"argv": sys.argv[1:], "names": sorted(os.environ), "parameters": given}
json.dump(seen, open(os.path.join(out, "seen.json"), "w"))
json.dump({"rmse": 1.0}, open(os.path.join(out, "metrics.json"), "w"))
print(*(f"{name}={value}" for name, value in os.environ.items()), sep="\\n")
if len(sys.argv) > 1 and sys.argv[1] == "--fail":
    raise RuntimeError("cannot log in with " + os.environ["DECLARED"])
"""
# What a job may see of the reconciler's own variables, and what it is given for its work.
SEEN = {
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "SHLVL",
    "PWD",
    "_",
    "OLDPWD",
}
SEEN |= {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES"}
SEEN |= {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"}
GIVEN = ("MLOPS_", "MLFLOW_", "PYTHON", "LC_", "GIT_PYTHON_REFRESH")


def artifact(project: GitProject, name: str) -> Any:
    client = project.client
    [found] = client.search_runs([client.get_experiment_by_name("p/fit").experiment_id])
    [path] = (project.root / ".mlops/artifacts").rglob(f"{found.info.run_id}/artifacts/{name}")
    return path.read_text()


def test_parameters_reach_argv_verbatim_and_a_job_sees_only_what_it_may(
    project: GitProject, mlops: Mlops, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "MLFLOW_TRACKING_PASSWORD",
        "AWS_SECRET_ACCESS_KEY",
        "GITHUB_TOKEN",
        "EDITOR",
        "UNDECLARED",
        "LISTED",
    ):
        monkeypatch.setenv(name, CANARY)
    for name in ("BASH_ENV", "ENV", "LD_PRELOAD_NOT", "PYTHONSTARTUP", "GIT_SSH_COMMAND"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("DECLARED", "declared value")
    project.write("training/train.py", SEES)
    project.write(
        "mlops.yaml", yaml.safe_dump(document("Project", "p", {"variables": ["DECLARED", "LISTED"]}))
    )
    arguments = [part for name in HOSTILE for part in (f"{{{name}}}", f"--{name}={{{name}}}")]
    fit = experiment(
        command=["python", "train.py", *arguments], parameters=HOSTILE, variables=["DECLARED"], datasets={}
    )
    project.declare([fit])
    project.commit("hostile parameters")
    ran = mlops("apply")
    assert ran.code == 0, ran.err
    seen = json.loads(artifact(project, "seen.json"))
    assert seen["argv"] == [part for name, value in HOSTILE.items() for part in (value, f"--{name}={value}")]
    assert seen["parameters"] == {f"MLOPS_PARAM_{name.upper()}": value for name, value in HOSTILE.items()}
    unknown = {name for name in seen["names"] if name not in SEEN and not name.startswith(GIVEN)}
    assert unknown == {"DECLARED"}
    assert not {"MLFLOW_TRACKING_PASSWORD", "PYTHONSTARTUP"} & set(seen["names"])
    assert not list(project.root.rglob("sprung"))


# ---- secrets --------------------------------------------------------------------------------------------


def holders(folder: Path, *texts: str) -> list[str]:
    """The files below `folder` that hold one of these texts."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            found += [str(path.relative_to(folder)) for text in texts if text.encode() in data]
    return found


@pytest.mark.parametrize("ends", ["well", "badly"])
def test_a_secret_of_the_environment_is_nowhere_afterwards(
    ends: str, project: GitProject, mlops: Mlops, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = (
        "TEAM_WEBHOOK",
        "MLFLOW_TRACKING_PASSWORD",
        "AWS_SECRET_ACCESS_KEY",
        "DATABASE_URL",
        "DECLARED",
        "FOLDER",
    )
    secrets = {name: f"canary-{index}-c0ffee{index}e1b2" for index, name in enumerate(names)}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    data = tmp_path / secrets["FOLDER"] / "rows.csv"
    data.parent.mkdir()
    data.write_text("x,y\n1,2\n")
    declared = ["TEAM_WEBHOOK", "DECLARED", "FOLDER"]
    project.write("mlops.yaml", yaml.safe_dump(document("Project", "p", {"variables": declared})))
    project.write("training/train.py", SEES)
    documents = lifecycle()
    documents[0]["spec"]["uri"] = f"file://{tmp_path}/${{FOLDER}}/rows.csv"
    first = "--fail" if ends == "badly" else "--go-on"
    documents[1] = experiment(command=["python", "train.py", first], variables=["DECLARED"])
    documents[3]["spec"]["source"]["artifact"] = "seen.json"
    project.declare(documents)
    project.commit("secrets")
    said = [mlops("plan", "--out", str(tmp_path / "plan.json")).all, mlops("plan", "-o", "json").all]
    ran = mlops("apply")
    assert ran.code == (1 if ends == "badly" else 0), ran.err
    said.append(ran.all)
    for line in (
        ["get", "-o", "json"],
        ["describe", "Experiment/fit"],
        ["describe", "Dataset/rows", "-o", "json"],
    ):
        said.append(mlops(*line).all)
    for line in (
        ["logs", "fit"],
        ["runs", "fit"],
        ["history"],
        ["version"],
        ["tree"],
        ["plan", "-o", "markdown"],
    ):
        said.append(mlops(*line).all)
    logged = artifact(project, "mlops/log.txt")
    assert "DECLARED=***" in logged
    said.append(logged)
    said.append((tmp_path / "plan.json").read_text())
    for name, value in secrets.items():
        assert not [text for text in said if value in text], name
        if name != "FOLDER":
            assert not holders(project.root / ".mlops", value), name
    assert not holders(project.root / ".mlops/artifacts", secrets["FOLDER"])


def test_a_variable_that_is_not_allowed_is_not_looked_up(
    project: GitProject, mlops: Mlops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    documents = lifecycle()
    documents[0]["spec"]["uri"] = "data/${AWS_SECRET_ACCESS_KEY}.csv"
    project.declare(documents)
    project.commit("a variable that is not in the list")
    for line in (["validate"], ["plan"], ["get", "-o", "json"]):
        ran = mlops(*line)
        assert ran.code == 1
        assert CANARY not in ran.all
    assert "AWS_SECRET_ACCESS_KEY" in mlops("validate").err


def test_what_mlops_writes_beside_the_project_is_out_of_git_and_of_others_hands(
    project: GitProject, mlops: Mlops
) -> None:
    mlops("plan")
    assert project.git("status", "--porcelain") == ""
    for path in (project.root / ".mlops").rglob("*"):
        assert not path.stat().st_mode & stat.S_IWOTH


# ---- mistakes and data ----------------------------------------------------------------------------------


def thirty() -> dict[str, Any]:
    """The mistakes that the loader's own tests know: `FILES` by name, and `MISTAKES` with their places."""
    tree = ast.parse((HERE / "resources/test_thirty_mistakes.py").read_text())
    values = [node for node in tree.body if isinstance(node, ast.Assign)]
    found: dict[str, Any] = {}
    exec(compile(ast.Module(values, []), "thirty", "exec"), found)
    return found


def test_thirty_mistakes_in_ten_files_are_named_by_validate_and_good_resources_are_planned(
    project: GitProject, mlops: Mlops
) -> None:
    mistakes = thirty()
    project.write(
        "mlops.yaml",
        yaml.safe_dump(
            document(
                "Project", "bikes", {"variables": ["BUCKET"], "groups": {"leads": ["alice@example.com"]}}
            )
        ),
    )
    for name, text in mistakes["FILES"].items():
        project.write(f"resources/wrong/{name}", text)
    project.commit("thirty mistakes")
    ran = mlops("validate")
    assert ran.code == 1
    lines = ran.err.splitlines()
    assert len(mistakes["FILES"]) == 10
    assert lines[-1] == f"{len(lines) - 1} errors"
    for file, line, column, field, words in mistakes["MISTAKES"]:
        place = f"resources/wrong/{file}:{line}:{column}: "
        assert [told for told in lines if told.startswith(place) and (field or "") in told], (place, ran.err)
        assert any(words in told for told in lines if told.startswith(place))
    plan = mlops("plan")
    assert plan.code == 1
    assert "train Experiment/fit" in plan.out
    annotations = mlops("validate", "-o", "github").out.splitlines()
    assert len(annotations) == len(lines) - 1


DATA: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "empty": ("", {"minRows": 1}, ""),
    "empty-and-nothing-expected": ("", {}, ""),
    "header-only": ("x,y\n", {"minRows": 1}, "ExpectationFailed"),
    "missing-column": ("x\n1\n", {"columns": {"y": {"type": "double"}}}, "ExpectationFailed"),
    "all-null": ("x,y\n,\n,\n", {"columns": {"y": {"maxNull": 0.5}}}, "ExpectationFailed"),
    "one-row": ("x,y\n1,2\n", {"minRows": 1, "columns": {"y": {"min": 0, "max": 3}}}, None),
    "one-row-too-few": ("x,y\n1,2\n", {"minRows": 2}, "ExpectationFailed"),
    "nan": ("x,y\n1,NaN\n", {"columns": {"y": {"min": 0, "max": 3, "maxNull": 0}}}, "ExpectationFailed"),
    "infinite": ("x,y\n1,inf\n", {"columns": {"y": {"max": 3}}}, "ExpectationFailed"),
    "mixed": ("x,y\n1,2\n1,two\n", {"columns": {"y": {"type": "double"}}}, "ExpectationFailed"),
    "ragged": ("x,y\n1\n1,2,3\n", {"columns": {"y": {"type": "double"}}}, ""),
    "binary": ("\x00\x01\x02", {"minRows": 1}, ""),
    "no-such-file": ("", {}, "NotFound"),
}


def test_any_data_has_a_verdict_and_stops_only_what_needs_it(project: GitProject, mlops: Mlops) -> None:
    documents = []
    for name, (text, expect, _) in DATA.items():
        if name != "no-such-file":
            project.write(f"data/{name}.csv", text)
        documents.append(
            document(
                "Dataset",
                name,
                {"uri": f"data/{name}.csv", "format": "csv", **({"expect": expect} if expect else {})},
            )
        )
        documents.append(experiment(f"on-{name}", datasets={"train": name}))
    project.declare([*lifecycle(), *documents])
    project.commit("data of all sorts")
    ran = mlops("plan", "-o", "json")
    assert ran.code == 0
    plan = json.loads(ran.out)
    blocked = {block["resource"]: block for block in plan["blocked"]}
    trained = {step["resource"] for step in plan["steps"]}
    for name, (_, _, reason) in DATA.items():
        if reason is None:
            assert f"Dataset/{name}" not in blocked
        elif reason:
            assert blocked[f"Dataset/{name}"]["reason"] == reason, blocked
        assert (f"Dataset/{name}" in blocked) == (f"Experiment/on-{name}" in blocked)
        assert (f"Experiment/on-{name}" in trained) != (f"Experiment/on-{name}" in blocked)
    assert "Experiment/fit" in trained
    assert {name for name in DATA if f"Dataset/{name}" in blocked} >= {"empty", "binary", "nan", "infinite"}

"""What the documentation says is so: links, reference, examples, and the commands it shows.

In README.md and docs/ a ```console block is a session: its `$ ` lines are run, in order, each page going on where
the page before it stopped, and every line of output that it shows has to come (numbers, hashes, times and paths
aside; `…` stands for lines left out). A line that ends in `&` runs beside the ones after it, on a terminal of its
own, until `kill %1` or the end of its page: what it prints is looked for, and waited for, where the page shows it.
`<!-- file: PATH -->` before a block writes it to that file, `<!-- edit: PATH -->` before a ```diff block makes
that edit. A ```python block is run, too, unless it begins with `# not run here`. Everything else (```sh,
```text) is not.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import yaml

import mlops.planning.context
import mlops.planning.runs
from mlops.cli import COMMANDS, cli
from mlops.planning.conditions import FAILURES
from mlops.resources import reference
from mlops.resources.kinds import MODELS
from mlops.resources.loading import load
from mlops.resources.yaml_reading import read_values
from mlops.source.initialise import commit_all, initialise
from mlops.source.snapshot import GitSnapshot

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
TEMPLATE = ROOT / "src/mlops/cli/template"
PAGES = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
SKIPPED = "# not run here"
PATIENCE = 60.0  # seconds for a line of what runs beside to come
_BLOCK = re.compile(r"^(?:<!-- (?P<note>[^\n]*) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_SAME = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "TIME"),
    (re.compile(r" on \S+ \(pid \d+"), " on HOST (pid PID"),
    (re.compile(r"\bseconds=[\d.]+"), "seconds=NUMBER"),
    (re.compile(r"(?<![\w/.:-])/[\w./-]+"), "PATH"),
    (re.compile(r"\b[0-9a-f]{7,64}\b"), "HASH"),
    (re.compile(r"\b\d+\.\d+ s\b"), "SECONDS"),
    (re.compile(r"(?<![\w.])\d+\.\d{3,}\b"), "NUMBER"),
    (re.compile(r"\s+"), " "),
)


@dataclass(frozen=True)
class Block:
    """A fenced block: the comment before it, its language and its text."""

    page: Path
    note: str
    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    for match in _BLOCK.finditer(page.read_text("utf-8")):
        yield Block(page, match["note"] or "", match["language"], match["text"])


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    for link in _LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in slugs(target), link


def test_the_reference_is_as_the_models_say() -> None:
    assert reference.stale(DOCS / "reference") == ()


def test_a_stale_reference_is_found_and_written_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(DOCS / "reference", tmp_path / "reference")
    page = tmp_path / "reference" / "stage.md"
    page.write_text(page.read_text("utf-8").replace("spec.after", "spec.before"), "utf-8")
    assert reference.main([str(tmp_path / "reference"), "--check"]) == 1
    assert "stage.md" in capsys.readouterr().err
    assert reference.main([str(tmp_path / "reference")]) == 0
    assert reference.main([str(tmp_path / "reference"), "--check"]) == 0


@pytest.mark.parametrize("kind", MODELS)
def test_what_is_said_not_to_act_yet_is_a_field(kind: str) -> None:
    assert set(reference.NOT_YET.get(kind, ())) <= {row.path for row in reference.rows(kind)}


def test_the_examples_of_the_reference_are_one_project_that_loads(tmp_path: Path) -> None:
    shutil.copytree(DOCS / "reference" / "examples", tmp_path / "project")
    code = tmp_path / "project" / "training"
    code.mkdir()
    (code / "train.py").write_text("print()\n")
    (code / "requirements.txt").write_text("scikit-learn\n")
    root = tmp_path / "project"
    repository = initialise(root)
    commit = commit_all(repository, "Examples", ["."])
    loaded = load(GitSnapshot(repository, commit))
    assert [str(problem) for problem in loaded.problems] == []
    assert {key.kind for key in loaded.resources} == set(MODELS)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_resources_shown_are_valid(page: Path) -> None:
    for block in blocks(page):
        if block.language != "yaml" or "apiVersion: mlops/v1" not in block.text:
            continue
        for document in read_values(block.text)[1]:  # PyYAML takes the field `on` for true
            MODELS[document["kind"]].model_validate(document)


def test_the_readme_shows_what_init_writes() -> None:
    shown = next(block for block in blocks(ROOT / "README.md") if block.note == "the init template")
    files = [TEMPLATE / "mlops.yaml", *sorted((TEMPLATE / "resources").glob("*.yaml"))]
    written = [document for file in files for document in yaml.safe_load_all(file.read_text("utf-8"))]
    assert _by_key(list(yaml.safe_load_all(shown.text))) == _by_key(written)


def _by_key(documents: list[dict[str, object]]) -> dict[str, object]:
    return {f"{d['kind']}/{d['metadata']['name']}": d for d in documents}  # type: ignore[index]


def test_every_command_and_option_is_documented() -> None:
    text = (DOCS / "cli.md").read_text("utf-8")
    for name in COMMANDS:
        assert re.search(rf"^### .*`mlops {name}\b", text, re.M), name
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        for parameter in command.params:
            for option in parameter.opts if isinstance(parameter, click.Option) else ():
                assert option == "--help" or option in text, f"{name} {option}"


def test_every_reason_that_fails_is_explained() -> None:
    text = (DOCS / "troubleshooting.md").read_text("utf-8")
    assert [reason for reason in sorted(FAILURES) if f"`{reason}`" not in text] == []


def test_every_event_of_the_daemon_is_explained() -> None:
    text = (DOCS / "troubleshooting.md").read_text("utf-8")
    package = ROOT / "src/mlops"
    source = "\n".join(
        f.read_text("utf-8") for f in (*package.glob("daemon/*.py"), package / "cli/daemon.py")
    )
    told = set(re.findall(r'(?:say|event|_tell)\(\s*"([A-Z]\w+)"|"([A-Z]\w+)",[^"\n]*last_at=', source))
    names = {name for pair in told for name in pair if name} | set(
        re.findall(r'reason = "([A-Z]\w+)"', source)
    )
    assert len(names) > 15
    assert sorted(name for name in names if f"`{name}`" not in text) == []


def test_every_tag_is_explained() -> None:
    text = (DOCS / "mlflow.md").read_text("utf-8")
    for module in (mlops.planning.context, mlops.planning.runs):
        for name, value in vars(module).items():
            if name.isupper() and isinstance(value, str) and value.startswith("mlops."):
                assert f"`{value}" in text, value


def _shown(language: str) -> str:
    return next(block.text for block in blocks(DOCS / "operations.md") if block.language == language)


def _understood(command: list[str]) -> dict[str, object]:
    """The options of a `mlops daemon …` line as the command itself reads them; one it refuses raises."""
    at = command.index("daemon")
    daemon = cli.get_command(click.Context(cli), "daemon")
    assert daemon is not None
    return daemon.make_context("daemon", command[at + 1 :], parent=click.Context(cli)).params


def test_the_unit_shown_leaves_jobs_alone_and_systemd_takes_it(tmp_path: Path) -> None:
    text = _shown("ini")
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(text)
    service = dict(unit["Service"])
    assert _understood(shlex.split(service["ExecStart"]))["source"]
    assert service["KillMode"] == "process"  # the default ends the jobs with the daemon
    assert service["OOMPolicy"] == "continue"  # the default stops the daemon for a job's sake
    harmful = {
        "PrivateTmp",
        "RuntimeDirectory",
        "PrivateDevices",
        "DeviceAllow",
        "ProtectClock",
        "PrivatePIDs",
    }
    assert not service.keys() & {*harmful, "MemoryDenyWriteExecute", "ProcSubset", "PrivateUsers"}
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return
    file = tmp_path / "mlops-weather.service"
    file.write_text(text.replace("/opt/mlops/bin/mlops", sys.executable))
    done = subprocess.run([analyze, "verify", str(file)], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if file.name in line]
    assert (done.returncode, said) == (0, [])


def test_the_container_file_shown_has_git_an_init_and_no_root() -> None:
    joined = _shown("dockerfile").replace("\\\n", " ")
    lines = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    known = {"FROM", "RUN", "USER", "WORKDIR", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert [word for word, _ in lines if word not in known] == []
    file = dict(lines)  # of RUN the last one
    packages = next(rest for word, rest in lines if word == "RUN" and "apt-get install" in rest)
    assert {"git", "tini", "ca-certificates", "openssh-client"} <= set(packages.split())
    assert file["FROM"] == "python:3.11-slim"
    assert file["USER"].split(":")[0].isdecimal()  # so that Kubernetes can see that it is not root
    assert file["USER"].split(":")[0] != "0"
    home = next(rest.split() for word, rest in lines if word == "RUN" and rest.startswith("useradd"))
    assert home[home.index("--home-dir") + 1] == file["VOLUME"]  # else the volume is root's
    assert json.loads(file["ENTRYPOINT"]) == ["tini", "--", "mlops"]
    assert json.loads(file["CMD"])[0] == "daemon"
    compile(json.loads(file["HEALTHCHECK"].partition("CMD ")[2])[2], "healthcheck", "exec")

    shell = next(
        b.text for b in blocks(DOCS / "operations.md") if b.language == "sh" and "docker run" in b.text
    )
    run = next(line for line in shell.replace("\\\n", " ").splitlines() if line.startswith("docker run"))
    words = shlex.split(run)
    asked = _understood(words)
    volume = words[words.index("--volume") + 1].partition(":")[2]
    assert volume == file["VOLUME"]
    assert Path(str(asked["home"])).is_relative_to(volume)
    port = str(asked["listen"]).rpartition(":")[2]
    assert port == file["EXPOSE"]
    assert f":{port}/healthz" in file["HEALTHCHECK"]
    assert "--hostname" in words  # runs belong to host and home


@pytest.mark.slow
def test_the_commands_shown_do_what_is_shown(tmp_path: Path) -> None:
    session = Session(tmp_path)
    for page in PAGES:
        try:
            for block in blocks(page):
                session.run(block)
        finally:
            session.stop_beside()
    assert session.ran > 10


class Beside:
    """A command that goes on while others are run, on a terminal, as its log is for people there."""

    def __init__(self, command: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        self._printed = bytearray()
        self._reader = threading.Thread(target=self._read, args=(ours,), daemon=True)
        self._reader.start()

    def _read(self, terminal: int) -> None:
        with contextlib.suppress(
            OSError
        ):  # Linux ends a terminal that nobody has open any more with an error
            while data := os.read(terminal, 65536):
                self._printed += data
        os.close(terminal)

    @property
    def printed(self) -> str:
        """All that it has printed, in whole lines."""
        text = self._printed.decode("utf-8", "replace")
        return text[: text.rfind("\n") + 1]

    def stop(self) -> int:
        """Tell it to end, and wait until it has; gives its exit code."""
        self.process.terminate()
        code = self.process.wait(60)
        self._reader.join(10)
        return code


class Session:
    """A folder, and the commands of the documentation that are run in it without a shell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran = 0
        self.beside: Beside | None = None
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "MLFLOW_"))
        }
        people = ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME")
        mails = ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL")
        self.environment = {
            **inherited,
            **dict.fromkeys(people, "Docs"),
            **dict.fromkeys(mails, "docs@example.com"),
            "HOME": str(folder),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def run(self, block: Block) -> None:
        kind, _, path = block.note.partition(": ")
        if kind == "file":
            (self.folder / path).write_text(block.text, "utf-8")
        elif kind == "edit":
            self._edit(self.folder / path, block.text)
        elif block.language == "python" and not block.text.startswith(SKIPPED):
            self._execute([sys.executable, "-c", block.text])
        elif block.language == "console":
            self._console(block)

    def _edit(self, file: Path, diff: str) -> None:
        text = file.read_text("utf-8")
        lines = diff.splitlines()
        for old, new in zip(lines[::2], lines[1::2], strict=True):
            assert (old[0], new[0]) == ("-", "+")
            assert old[1:] in text, f"{file.name} does not hold {old[1:]!r}"
            text = text.replace(old[1:], new[1:], 1)
        file.write_text(text, "utf-8")

    def _console(self, block: Block) -> None:
        for chunk in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
            line, *shown = chunk.splitlines()
            before = len(self._beside_since(0))
            printed = "".join(self._command(shlex.split(part)) for part in line.split(" && "))
            deadline = time.monotonic() + PATIENCE
            while missing := self._missing(shown, printed, before):
                if self.beside is None or time.monotonic() >= deadline:
                    printed += self._beside_since(before)
                    pytest.fail(f"{named(block.page)}: $ {line}\ndoes not print:\n{missing}\nbut:\n{printed}")
                time.sleep(0.1)

    def _missing(self, shown: list[str], printed: str, before: int) -> list[str]:
        """The lines shown that neither the command has printed nor what runs beside it since."""
        came = {same(one) for one in (printed + self._beside_since(before)).splitlines()}
        return [one for one in shown if one.strip() not in ("", "…") and same(one) not in came]

    def _beside_since(self, before: int) -> str:
        return self.beside.printed[before:] if self.beside is not None else ""

    def _command(self, argv: list[str]) -> str:
        match argv:
            case ["cd", folder]:
                self.folder = (self.folder / folder).resolve()
                return ""
            case [*command, "&"]:
                assert self.beside is None, "one at a time"
                self.beside = Beside([self._program(command[0]), *command[1:]], self.folder, self.environment)
                self.ran += 1
                return ""
            case ["kill", "%1"]:
                assert self.beside is not None
                return self.stop_beside()
        return self._execute(argv)

    def stop_beside(self) -> str:
        """End what runs beside, if something does; gives all that it has printed."""
        if self.beside is None:
            return ""
        beside, self.beside = self.beside, None
        assert beside.stop() == 0, beside.printed
        return beside.printed

    def _program(self, name: str) -> str:
        program = shutil.which(name, path=self.environment["PATH"])
        assert program is not None, name
        return program

    def _execute(self, argv: list[str]) -> str:
        done = subprocess.run(
            [self._program(argv[0]), *argv[1:]],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        self.ran += 1
        assert done.returncode == 0, f"{shlex.join(argv)} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout


def same(line: str) -> str:
    """A line of output without what differs from run to run."""
    for pattern, word in _SAME:
        line = pattern.sub(word, line)
    return line.strip()

"""Environments are built once, exactly as declared, and never half."""

from __future__ import annotations

import base64
import hashlib
import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from process_checks import eventually

from mlops.errors import MlopsError, Stalled, Transient
from mlops.execution.virtualenv import (
    EnvironmentSpec,
    environment_digest,
    own_environment,
    prepare,
)

BUILDER = """
import sys
from pathlib import Path
from mlops.execution.virtualenv import EnvironmentSpec, prepare
environment = prepare(EnvironmentSpec(b"tiny"), Path(sys.argv[1]), lambda line: print(line, flush=True))
print("ready", environment.python, flush=True)
"""


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny packages: tiny 1.0 and 2.0, and needs-tiny, which needs tiny<2."""
    folder = tmp_path_factory.mktemp("wheels")
    for version in ("1.0", "2.0"):
        write_wheel(folder, "tiny", version, f"VERSION = {version!r}\n")
    write_wheel(folder, "needs_tiny", "0.1", "import tiny\n", requires="tiny<2")
    return folder


@pytest.fixture(scope="session")
def index(wheels: Path) -> Iterator[str]:
    """The folder's packages as a simple index on the loopback."""
    handler = type("Index", (IndexHandler,), {"wheels": wheels})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class IndexHandler(http.server.BaseHTTPRequestHandler):
    """PEP 503 pages; below /slow/ an answer takes its time, below /closed/ a password is asked for."""

    wheels: Path

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.strip("/").split("/")
        if parts[0] == "closed":
            self.send_error(401)
            return
        if parts[0] == "slow":
            time.sleep(1)
        file = self.wheels / parts[-1]
        if file.suffix == ".whl" and file.exists():
            self.answer(file.read_bytes(), "application/octet-stream")
            return
        names = [w.name for w in self.wheels.glob(f"{parts[-1].replace('-', '_')}-*.whl")]
        if names:
            self.answer("".join(f'<a href="/{name}">{name}</a>' for name in names).encode(), "text/html")
        else:
            self.send_error(404)

    def answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def environ(tmp_path: Path, index: str) -> dict[str, str]:
    """Variables with which uv asks the index above and nobody else."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "UV_INDEX_URL": f"{index}/simple",
        "UV_CACHE_DIR": str(tmp_path / "uv-cache"),
        "UV_HTTP_RETRIES": "0",
        "RECONCILER_SECRET": "hunter2",
    }


def test_requirements_are_locked_built_and_found_again(tmp_path: Path, environ: Mapping[str, str]) -> None:
    said: list[str] = []
    spec = EnvironmentSpec(b"needs-tiny\n")
    environment = prepare(spec, tmp_path / "cache", said.append, environ=environ)
    assert environment.lock == "needs-tiny==0.1\ntiny==1.0\n"
    assert environment.digest == environment_digest(spec)
    assert run_python(environment.python, "import tiny, sys; print(tiny.VERSION, sys.prefix)") == (
        f"1.0 {environment.bin.parent}"
    )
    assert environment.bin / "python" == environment.python
    assert said
    assert (environment.bin.parent / "requirements.lock").read_text() == environment.lock
    said.clear()
    assert prepare(spec, tmp_path / "cache", said.append, environ={}) == environment
    assert said == [], "the second time nothing is built"


def test_a_lock_is_installed_exactly(tmp_path: Path, environ: Mapping[str, str]) -> None:
    spec = EnvironmentSpec(b"tiny\n", b"# pinned\ntiny==1.0\n", "{}.{}".format(*sys.version_info[:2]))
    assert prepare(spec, tmp_path / "cache", print, environ=environ).lock == "tiny==1.0\n"


def test_a_lock_with_a_wrong_hash_is_refused(tmp_path: Path, environ: Mapping[str, str]) -> None:
    spec = EnvironmentSpec(b"tiny", b"tiny==1.0 \\\n    --hash=sha256:" + b"0" * 64)
    with pytest.raises(Stalled, match=r"(?i)hash"):
        prepare(spec, tmp_path / "cache", print, environ=environ)
    assert visible(tmp_path / "cache") == []


def test_empty_requirements_make_an_empty_environment(tmp_path: Path, environ: Mapping[str, str]) -> None:
    assert prepare(EnvironmentSpec(b"# nothing\n"), tmp_path / "cache", print, environ=environ).lock == ""


def test_scripts_of_an_environment_run_after_its_renaming(
    tmp_path: Path, environ: Mapping[str, str], wheels: Path
) -> None:
    environment = prepare(EnvironmentSpec(b"tiny==2.0"), tmp_path / "cache", print, environ=environ)
    done = subprocess.run([environment.bin / "tiny"], capture_output=True, text=True, check=True, env={})
    assert done.stdout == "2.0\n"


@pytest.mark.parametrize("broken", ["python", "package", "marker"])
def test_a_broken_environment_is_built_again(tmp_path: Path, environ: Mapping[str, str], broken: str) -> None:
    spec = EnvironmentSpec(b"tiny==1.0")
    environment = prepare(spec, tmp_path / "cache", print, environ=environ)
    folder = environment.bin.parent
    match broken:
        case "python":
            (folder / "bin" / "python").unlink()
            (folder / "bin" / "python").symlink_to("/no/such/python")
        case "package":
            shutil.rmtree(next(folder.glob("lib/python*/site-packages/tiny-1.0.dist-info")))
        case "marker":
            (folder / "mlops-environment.json").write_text("{")
    assert prepare(spec, tmp_path / "cache", print, environ=environ) == environment
    assert run_python(environment.python, "import tiny; print(tiny.VERSION)") == "1.0"
    assert visible(tmp_path / "cache") == [folder.name]


def test_a_build_killed_half_way_leaves_no_environment(
    tmp_path: Path, environ: Mapping[str, str], index: str
) -> None:
    cache = tmp_path / "cache"
    slow = {**environ, "UV_INDEX_URL": f"{index}/slow/simple"}
    builder = subprocess.Popen([sys.executable, "-c", BUILDER, str(cache)], env=slow, stdout=subprocess.PIPE)
    with builder:
        assert eventually(lambda: any(cache.glob(".*/env/bin/python")))
        builder.send_signal(signal.SIGKILL)
    assert visible(cache) == []
    environment = prepare(EnvironmentSpec(b"tiny"), cache, print, environ=environ)
    assert environment.lock == "tiny==2.0\n"
    assert visible(cache) == [environment.bin.parent.name]


def test_two_at_once_build_it_once(tmp_path: Path, environ: Mapping[str, str], index: str) -> None:
    slow = {**environ, "UV_INDEX_URL": f"{index}/slow/simple"}
    command = [sys.executable, "-c", BUILDER, str(tmp_path / "cache")]
    both = [subprocess.Popen(command, env=slow, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = sorted((builder.communicate()[0] for builder in both), key=len)
    assert [builder.returncode for builder in both] == [0, 0]
    assert sum("building the environment" in output for output in outputs) == 1
    assert outputs[0].startswith("another process builds this environment")
    assert outputs[0].splitlines()[-1] == outputs[1].splitlines()[-1]


@pytest.mark.parametrize(
    ("requirements", "kind", "said"),
    [
        (b"no-such-package-at-all", Stalled, "there is no package no-such-package-at-all"),
        (b"tiny==99", Stalled, "tiny==99"),
        (b"tiny\nneeds-tiny\ntiny>=2", Stalled, "unsatisfiable"),
    ],
)
def test_what_cannot_be_resolved_says_why(
    tmp_path: Path, environ: Mapping[str, str], requirements: bytes, kind: type[MlopsError], said: str
) -> None:
    with pytest.raises(kind, match=said) as caught:
        prepare(EnvironmentSpec(requirements), tmp_path / "cache", print, environ=environ)
    assert caught.value.fix
    assert visible(tmp_path / "cache") == []


def test_an_index_that_is_down_is_transient_and_its_credentials_stay_hidden(
    tmp_path: Path, environ: Mapping[str, str]
) -> None:
    said: list[str] = []
    spec = EnvironmentSpec(b"--index-url http://bob:pa55word@127.0.0.1:9/simple\ntiny")
    without = {name: value for name, value in environ.items() if name != "UV_INDEX_URL"}
    with pytest.raises(Transient) as caught:
        prepare(spec, tmp_path / "cache", said.append, environ=without)
    assert "pa55word" not in f"{caught.value}{said}"
    assert "127.0.0.1" in str(caught.value)


def test_an_index_that_refuses_asks_for_credentials(
    tmp_path: Path, environ: Mapping[str, str], index: str
) -> None:
    closed = {**environ, "UV_INDEX_URL": f"{index.replace('//', '//bob:pa55word@')}/closed/simple"}
    said: list[str] = []
    with pytest.raises(Stalled) as caught:
        prepare(EnvironmentSpec(b"tiny"), tmp_path / "cache", said.append, environ=closed)
    assert "pa55word" not in f"{caught.value}{said}"


def test_a_python_that_is_not_here_is_named_with_those_that_are(
    tmp_path: Path, environ: Mapping[str, str]
) -> None:
    with pytest.raises(Stalled, match=r"Python 3\.99 cannot be used") as caught:
        prepare(EnvironmentSpec(b"", python="3.99"), tmp_path / "cache", print, environ=environ)
    assert "{}.{}".format(*sys.version_info[:2]) in str(caught.value.fix)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-e .", "-e points"),
        ("-r ../../etc/passwd", "-r points"),
        ("--requirement=/etc/passwd", "--requirement points"),
        ("-c constraints.txt", "-c points"),
        ("./vendored", "local path"),
        ("../escape", "local path"),
        ("/abs/pkg", "local path"),
        ("pkg @ file:///etc/passwd", "local path"),
        ("pkg @ ./there", "local path"),
        ("pkg[extra] @ ../there", "local path"),
        ("thing.whl", "local path"),
        ("git+file:///srv/x", "local path"),
        ("git+ext::sh -c true", "not a requirement"),
        ("--find-links /opt", "http"),
        ("-f ../wheels", "http"),
        ("--index-url file:///opt", "http"),
        ("--index-url https://${TOKEN}@host/", "variables"),
        ("--trusted-host evil", "not allowed"),
        ("--config-settings x", "not allowed"),
        ("--", "not allowed"),
        ("import os", "not a requirement"),
        ("[package]", "not a requirement"),
        ('version = "1"', "not a requirement"),
    ],
)
def test_a_line_that_leaves_the_file_is_refused_without_being_quoted(line: str, said: str) -> None:
    with pytest.raises(Stalled, match=said) as caught:
        environment_digest(EnvironmentSpec(f"pandas==2.2.3\n{line}  # s3cret\n".encode()))
    assert caught.value.where == "requirements.txt:2"
    assert not any(part in str(caught.value) for part in ("s3cret", "passwd", "TOKEN", "escape", "vendored"))


@pytest.mark.parametrize(
    "line",
    [
        "pandas",
        "pandas == 2.2.3",
        "pandas[performance, excel]>=2,<3 ; python_version < '3.13'",
        "torch==2.5.1+cpu",
        "pkg>=1.0,!=1.5.*,~=1.2",
        "pkg (>=1,<2)",
        "numpy===1.0",
        "pkg @ https://example.com/pkg-1.0-py3-none-any.whl",
        "pkg @ git+https://github.com/acme/pkg.git@v1#egg=pkg",
        "git+https://github.com/acme/pkg.git@v1",
        "--index-url https://pypi.org/simple",
        "--extra-index-url=https://download.pytorch.org/whl/cpu",
        "-f https://example.com/wheels",
        "--only-binary :all:",
        "--pre",
    ],
)
def test_what_indexes_understand_is_allowed(line: str) -> None:
    assert environment_digest(EnvironmentSpec(line.encode())).startswith("sha256:")


@pytest.mark.parametrize("python", ["3", "latest", "--help", "/usr/bin/python3", "3.11; true", ""])
def test_what_is_no_version_of_python_is_refused(python: str) -> None:
    with pytest.raises(Stalled, match="not a version"):
        environment_digest(EnvironmentSpec(b"", python=python))


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * (4 * 2**20 + 1)])
def test_what_is_no_requirements_file_is_refused(content: bytes) -> None:
    with pytest.raises(Stalled):
        environment_digest(EnvironmentSpec(content))


def test_the_digest_is_of_what_is_installed() -> None:
    digest = environment_digest(EnvironmentSpec(b"b==1\na==2\n"))
    assert digest == "sha256:ea488faa1d473ab973c0461cd5de8853026098f7f84bb940f9954d30e92f3acd"
    for same in (b"a==2\nb==1", b"\xef\xbb\xbf# comment\r\n\r\nb==1  # why\r\na==2\r\n"):
        assert environment_digest(EnvironmentSpec(same)) == digest
    for other in (b"b==1\na==3", b"b==1", b"--pre\nb==1\na==2"):
        assert environment_digest(EnvironmentSpec(other)) != digest
    assert environment_digest(EnvironmentSpec(b"b==1\na==2\n", python="3.11")) != digest
    locked = environment_digest(EnvironmentSpec(b"a", b"a==2"))
    assert locked == environment_digest(EnvironmentSpec(b"a>1", b"a==2")), "with a lock only the lock counts"
    assert locked != environment_digest(EnvironmentSpec(b"a", b"a==3"))
    assert locked != environment_digest(EnvironmentSpec(b"a==2"))


def test_a_lock_that_misses_a_requirement_is_an_old_one() -> None:
    environment_digest(EnvironmentSpec(b"Py_YAML\nwin; sys_platform == 'win32'", b"py-yaml==6"))
    with pytest.raises(Stalled, match="pandas is required but not in the lock"):
        environment_digest(EnvironmentSpec(b"pandas", b"numpy==2.0"))


def test_the_reconcilers_own_environment() -> None:
    own = own_environment()
    assert own == own_environment()
    assert own.python == Path(sys.executable)
    lines = own.lock.splitlines()
    assert [line.split("==")[0] for line in lines] == sorted(line.split("==")[0] for line in lines)
    assert f"pytest=={pytest.__version__}" in lines
    assert not any(line.startswith("mlops-controller==") for line in lines)
    assert own.digest.startswith("sha256:")


def visible(cache: Path) -> list[str]:
    """What could be taken for an environment."""
    return sorted(path.name for path in cache.iterdir() if not path.name.startswith("."))


def run_python(python: Path, code: str) -> str:
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, env={})
    return done.stdout.strip()


def write_wheel(folder: Path, name: str, version: str, code: str, requires: str | None = None) -> None:
    """The smallest wheel there can be: one module, and a script that prints its version."""
    record, info = [], f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {
        f"{name}.py": code + "def main(): print(VERSION)\n",
        f"{info}/METADATA": metadata + (f"Requires-Dist: {requires}\n" if requires else ""),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record.append(f"{path},sha256={digest},{len(text.encode())}\n")
        wheel.writestr(f"{info}/RECORD", "".join(record) + f"{info}/RECORD,,\n")

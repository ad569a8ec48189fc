"""uv as a tool: the few calls that build an environment, and its complaints in words that say what to do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from mlops.errors import MlopsError, Stalled, Transient
from mlops.execution.environment import job_environment
from mlops.execution.plain_text import fit_to_show

_KEPT = 200  # lines of uv's output that an error is made from
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_OWN = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "NETRC", "SSH_AUTH_SOCK")
_DECIDED_HERE = (
    "UV_PYTHON",
    "UV_PROJECT",
    "UV_WORKING_DIR",
    "UV_VENV_CLEAR",
    "UV_SYSTEM_PYTHON",
)

_ROUTINE = re.compile(r" [+~-] |Using |Creating |Audited ")  # which packages: `requirements.lock` says it

_NETWORK = re.compile(
    r"error sending request|dns error|connection (?:refused|reset)|timed? ?out|tls handshake"
    r"|temporary failure|http status server error"
    r"|network (?:is )?unreachable|network connectivity is disabled",
    re.IGNORECASE,
)
_FORBIDDEN = re.compile(r"\b40[13]\b|unauthorized|forbidden|authentication", re.IGNORECASE)
_NOT_FOUND = re.compile(r"because (\S{1,200}) was not found in the package registry", re.IGNORECASE)


class Uv:
    """Calls of uv in one working folder; sees no variable of the reconciler that it does not need.

    The variables matter: building a source distribution runs its author's code.
    """

    def __init__(self, work: Path, environ: Mapping[str, str], log: Callable[[str], None]) -> None:
        self._work = work
        self._log = log
        proxies = {*_PROXIES, *(name.lower() for name in _PROXIES)}
        own = {name for name in environ if name.startswith("UV_") and name not in _DECIDED_HERE}
        told = {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
        self._environ = job_environment(environ, {*proxies, *own, *_OWN}, told)

    def create(self, folder: Path, version: str | None) -> None:
        """An empty environment with this version of Python, or with the reconciler's own."""
        ours = version is None or f"{_own_version()}.".startswith(f"{version}.")
        python = sys.executable if ours else str(version)
        # relocatable: it is renamed when it is whole
        status, said = self._run("venv", "--no-project", "--relocatable", "--python", python, str(folder))
        if status != 0:
            present = ", ".join(self._versions()) or "none that uv can find"
            raise Stalled(
                f"Python {version or _own_version()} cannot be used on this machine"
                + ("" if version else f": {_shortened(said)}"),
                fix=f"Install it, or declare one that is here: {present}.",
            )

    def resolve(self, wanted: Path, python: Path) -> str:
        """All packages that the requirements lead to, pinned, one line each."""
        pins = self._work / "resolved.txt"
        arguments = ("--no-header", "--no-annotate", "--output-file", str(pins), str(wanted))
        status, said = self._run("pip", "compile", "--python", str(python), *arguments)
        if status != 0:
            raise _complaint("the requirements could not be locked", said)
        return pins.read_text()

    def install(self, pins: Path, python: Path) -> None:
        """Make the environment hold exactly these packages."""
        arguments = ("--allow-empty-requirements", str(pins))
        status, said = self._run("pip", "sync", "--python", str(python), *arguments)
        if status != 0:
            raise _complaint("the locked packages could not be installed", said)

    def _versions(self) -> list[str]:
        output = self._work / "pythons.json"
        command = [_binary(), "python", "list", "--only-installed", "--output-format", "json"]
        with output.open("wb") as file:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.DEVNULL,
                env=self._environ,
                cwd=self._work.anchor,
                check=False,
            )
        try:
            found = {entry["version"] for entry in json.loads(output.read_bytes())}
        except (ValueError, KeyError, TypeError):  # a version of uv that answers otherwise: name our own
            found = {_own_version()}
        return sorted(found, key=lambda version: [int(part) for part in re.findall(r"\d+", version)])

    def _run(self, *arguments: str) -> tuple[int, str]:
        """Exit code and what it printed to stderr; each line that says something is logged as it comes."""
        process = subprocess.Popen(
            [_binary(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=self._environ,
            cwd=self._work.anchor,  # not inside a project whose pyproject.toml uv would obey
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        said: deque[str] = deque(maxlen=_KEPT)
        with process:
            try:
                assert process.stderr is not None
                for raw in process.stderr:
                    line = fit_to_show(raw.rstrip(), self._environ)
                    if line:
                        said.append(line)
                        if not _ROUTINE.match(line):
                            self._log(line)
            finally:
                if process.poll() is None and sys.exc_info()[0] is not None:
                    process.kill()  # interrupted: nobody waits for it any more
        return process.returncode, "\n".join(said)


def _binary() -> str:
    from uv import find_uv_bin

    try:
        return find_uv_bin()
    except FileNotFoundError:
        raise Stalled(
            "uv, which builds environments, is not installed beside this program",
            fix="Install it: pip install uv",
        ) from None


def _own_version() -> str:
    return ".".join(str(part) for part in sys.version_info[:3])


def _complaint(what: str, said: str) -> MlopsError:
    """What uv said, shortened, as the kind of error that tells whether trying again may help."""
    short = _shortened(said)
    missing = _NOT_FOUND.search(said)
    if missing:
        return Stalled(
            f"{what}: there is no package {missing.group(1)}", fix="Correct its name in the requirements."
        )
    if "no solution found" in said.lower():
        return Stalled(f"{what}: {short}", fix="Loosen or correct the versions in the requirements.")
    if _FORBIDDEN.search(short):
        return Stalled(
            f"{what}: {short}",
            fix="Give the reconciler credentials for the index: UV_INDEX_URL or a netrc file.",
        )
    if _NETWORK.search(said):
        return Transient(f"{what}: {short}", fix="The package index could not be reached; it is tried again.")
    return Stalled(f"{what}: {short}", fix="Correct the requirements; the log of the build says more.")


def _shortened(said: str) -> str:
    """The sentences of the error, without uv's drawing, at most 400 characters."""
    lines = [re.sub(r"^[\s×│├╰─▶|>-]+", "", line).strip() for line in said.splitlines()]
    start = next((at for at, line in enumerate(lines) if line.lower().startswith("error")), 0)
    kept = [re.sub(r"^(error|cause):\s*", "", line, flags=re.IGNORECASE) for line in lines[start:]]
    text = " ".join(line for line in kept if line and not line.startswith(("[stderr]", "hint:")))
    return text if len(text) <= 400 else f"{text[:397]}…"

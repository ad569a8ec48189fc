"""Addresses of remote repositories: which are allowed, how git reaches them, and what its refusals mean.

Only https, ssh and local paths; http where it does not leave this machine. A credential never stands in the
address: it comes from the environment and is bound to this one address, so that no other host ever gets it.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from mlops.errors import MlopsError, Stalled, Transient
from mlops.redaction import Redactor
from mlops.source.git import shown
from mlops.source.hardening import Network

TOKEN = "MLOPS_GIT_TOKEN"
USERNAME = "MLOPS_GIT_USERNAME"
_DEFAULT_USERNAME = "x-access-token"  # what GitHub calls the user of a token; others do not look at it
_SLOWEST = 60  # seconds without a byte, after which a transfer over http is given up
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(://|::)")
_PLAIN_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?|[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?")
_PLAIN_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_SCP_LIKE = re.compile(r"((?P<user>[^@/:]*)@)?(\[(?P<address>[^\]/@]*)\]|(?P<host>[^:/@\[\]]*)):(?P<path>.*)")
_ALLOWED = "Use https://host/path, ssh://host/path, user@host:path, or the path of a local repository."


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository somewhere.

    Attributes:
        address: what git is given; an absolute path for a local one.
        protocol: git's name of its transport: `https`, `http`, `ssh` or `file`.
    """

    address: str
    protocol: str

    @classmethod
    def parse(cls, url: str) -> Remote:
        """Judges an address and makes a local one absolute.

        Raises:
            Stalled: it is not allowed, or holds a credential.
        """
        if not url or url.startswith("-") or any(ord(c) < 32 or ord(c) == 127 for c in url):
            raise _refused("this is no address of a repository")
        scheme = _SCHEME.match(url)
        if scheme is None:
            return _scp_like_or_path(url)
        name = scheme[1].lower()
        url = name + url[len(name) :]  # git knows schemes in small letters only
        if scheme[2] == "::" or name not in ("https", "http", "ssh", "file"):
            raise _refused(f"repositories are not read over {shown(name[:20])}")
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            raise _refused("this is no address of a repository") from None
        if name == "file":
            return _local_file(parts)
        if name == "ssh":
            _check_ssh(parts.username, parts.password, parts.hostname or "", parts.path, parts.netloc)
            return cls(url, "ssh")
        return _web(url, parts)

    def __str__(self) -> str:
        return shown(self.address)

    def network(self, environ: Mapping[str, str]) -> Network:
        """How git reaches it: over its own transport only, with the token of the environment for this address.

        Raises:
            Stalled: the token cannot be one.
        """
        if self.protocol not in ("https", "http"):
            return Network(self.protocol, environ)
        # Under the address itself, the most specific key, so that nothing else in the configuration wins.
        settings = [
            ("followRedirects", "false"),
            ("lowSpeedLimit", "1"),
            ("lowSpeedTime", str(_SLOWEST)),
        ]
        if self.protocol == "http":
            settings.append(("proxy", ""))  # it is this machine
        if (header := _authorization(environ)) is not None:
            settings += [("extraHeader", ""), ("extraHeader", header)]  # the first drops those of others
        return Network(self.protocol, environ, tuple((f"http.{self.address}.{k}", v) for k, v in settings))

    def refusal(self, status: int, errors: str, environ: Mapping[str, str]) -> Transient:
        """What git's failure means: what it said, without secrets, and what to do."""
        said = _said(Redactor.from_environ(environ, (TOKEN,)).redact(errors))
        ended = f"git was ended by signal {-status}" if status < 0 else f"git failed with status {status}"
        what, fix = next(
            (meaning for pattern, *meaning in _MEANINGS if re.search(pattern, errors, re.IGNORECASE)),
            ("the repository cannot be read", "It is tried again; see that it can be reached from here."),
        )
        if fix is _CREDENTIALS_WANTED:
            fix = self._how_to_log_in(environ)
        return Transient(f"{what}: {said or ended}", where=str(self), fix=fix)

    def _how_to_log_in(self, environ: Mapping[str, str]) -> str:
        if self.protocol == "ssh":
            return "See that the host knows the key that ssh offers (`ssh-add -l`, GIT_SSH_COMMAND)."
        if environ.get(TOKEN, "").strip():
            return f"See that the token in {TOKEN} is valid and may read this repository."
        return f"Set {TOKEN} to a token that may read it, or configure a credential helper of git."


def _scp_like_or_path(url: str) -> Remote:
    """As git tells them apart: a colon before any slash makes a host."""
    if ":" in url.partition("/")[0]:
        found = _SCP_LIKE.fullmatch(url)
        if found is None:
            raise _refused("this is no address of a repository")
        host = found["address"] if found["address"] is not None else found["host"]
        _check_ssh(found["user"], None, host, found["path"], host)
        return Remote(url, "ssh")
    return Remote(os.path.realpath(url), "file")


def _local_file(parts: SplitResult) -> Remote:
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
        raise _refused(
            "a file:// address names no host and has no query", fix="Write file:///path, or the path."
        )
    path = unquote(parts.path, errors="surrogateescape")
    if not path.startswith("/") or "\0" in path:
        raise _refused("a file:// address needs an absolute path", fix="Write file:///path, or the path.")
    return Remote(os.path.realpath(path), "file")


def _check_ssh(user: str | None, password: str | None, host: str, path: str, netloc: str) -> None:
    if password is not None:
        raise _refused("an address of ssh holds no password", fix="Log in with a key.")
    plain = _PLAIN_HOST.fullmatch(host) and (user is None or _PLAIN_USER.fullmatch(user))
    if not plain or netloc.startswith("-") or not path.strip("/") or path.startswith("-"):
        raise _refused("this is no address for ssh")


def _web(url: str, parts: SplitResult) -> Remote:
    scheme, host = parts.scheme.lower(), parts.hostname or ""
    if "@" in parts.netloc:
        raise Stalled(
            "an address holds no credentials: they would be stored and shown with it",
            where=f"{scheme}://***@{shown(host)}",
            fix=f"Leave out what stands before the @, and set {TOKEN} (and {USERNAME} if the host asks for one).",
        )
    if (
        not _PLAIN_HOST.fullmatch(host)
        or not parts.path.strip("/")
        or parts.query
        or parts.fragment
        or " " in url
    ):
        raise _refused("this is no address of a repository")
    if scheme == "http" and not _is_loopback(host):
        raise Stalled(
            "repositories are not read over http, which anybody on the way can read and change",
            where=f"http://{shown(host)}",
            fix="Use https.",
        )
    return Remote(url, scheme)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _authorization(environ: Mapping[str, str]) -> str | None:
    """The header that carries the token, None without one."""
    token = environ.get(TOKEN, "").strip()
    username = environ.get(USERNAME, "").strip() or _DEFAULT_USERNAME
    if not token:
        return None
    if not (token + username).isprintable() or ":" in username:
        raise Stalled(
            "it holds characters that no token and no user name has",
            where=f"{TOKEN} or {USERNAME}",
            fix="Set it again, on one line.",
        )
    return f"Authorization: Basic {base64.b64encode(f'{username}:{token}'.encode()).decode()}"


def _refused(what: str, *, fix: str = _ALLOWED) -> MlopsError:
    """The error for an address, which is not repeated: what is malformed may hold anything."""
    return Stalled(what, where="the repository's address", fix=fix)


_CREDENTIALS_WANTED = "…"
# What git, ssh and curl say (in English: the runner fixes the language), what it means, what to do.
_MEANINGS: tuple[tuple[str, str, str], ...] = (
    (
        r"redirect|returned error: 30\d",
        "the host points to another address, and redirects are not followed",
        "Name the address that it leads to.",
    ),
    (
        r"transport '.*' not allowed",
        "git's configuration sends this address over another transport",
        "Name the address that it is rewritten to: git config --get-regexp 'url\\..*insteadof'",
    ),
    (
        r"dubious ownership|unsafe repository",
        "git refuses this repository because it belongs to another user",
        "Run mlops as its owner, or, if you trust it: git config --global --add safe.directory PATH",
    ),
    (
        r"host key verification failed",
        "ssh does not know this host",
        "Add the host's key to known_hosts: connect to it once by hand.",
    ),
    (
        r"could not read (username|password)|authentication failed|returned error: 40[13]|permission denied \(",
        "the host refuses access",
        _CREDENTIALS_WANTED,
    ),
    (
        r"not found|does not appear to be a git repository|returned error: 404|does not exist|no such file",
        "there is no such repository, or it may not be seen from here",
        "See that its address is right and the credentials may read it.",
    ),
    (r"no space left|disk quota", "there is no room for what was fetched", "Make room on the disk."),
    (
        r"could not resolve|connection (refused|reset|timed out)|failed to connect|timed out|unreachable"
        r"|operation too slow",
        "the host does not answer",
        "It is tried again; see that the host can be reached from here.",
    ),
    (r"certificate|ssl", "the host's certificate is not trusted", "Name its CA with GIT_SSL_CAINFO."),
)
_NOISE = re.compile(
    r"hint:|please make sure|and the repository exists|warning: permanently added|from /|from \S+://"
    r"|(remote: )?[a-z]+ing( [a-z]+)*:|remote: total|[!*+=t-] +\[|(\+ +)?[0-9a-f]{4,}\.\.",
    re.IGNORECASE,
)


def _said(errors: str) -> str:
    """The lines that tell something, the last ones, made plain and short."""
    lines = [line.strip() for line in errors.splitlines()]
    telling = [line for line in lines if line and not _NOISE.match(line)]
    plain = (shown(re.sub(r"^(fatal|error): ", "", line)) for line in telling[-3:])
    return "; ".join(line.rstrip(".") for line in plain)[-400:]

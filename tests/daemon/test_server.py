"""`mlops --server URL`: the same output and exit codes as here, and a sentence for whatever goes wrong on the way."""

from __future__ import annotations

import http.server
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from answering import TOKEN, Mlops, Ran, Site, command, site

from mlops.cli import COMMANDS, OVER_HTTP, run, runs, server, wait
from mlops.daemon.board import Found
from mlops.report import Report, Row
from mlops.resources import Key
from mlops.training_log import LogPiece

HEAD, BEFORE = "b" * 40, "a" * 40
PATIENT = ("--timeout", "60s")
AT_ONCE = ("--timeout", "1s")


@pytest.fixture
def mlops(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Mlops:
    """Run one command line in this process, with the token and with nothing that points elsewhere."""
    monkeypatch.setenv("MLOPS_API_TOKEN", TOKEN)
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return lambda *arguments: command(capsys, *arguments)


# ---- wait, by what a server tells


class DrivenTime:
    """A clock that goes on when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(wait, "time", DrivenTime())
    with site() as found:
        found.board.on_find = lambda revision: Found(revision, False) if len(revision) == 40 else None
        found.board.answers["r-1"] = {}  # that it was asked for news
        yield found


def row(
    kind: str, name: str, ready: str = "True", reason: str = "Ready", message: str = "", **more: Any
) -> Row:
    at = "2026-01-01T00:00:00Z"
    types = {"Ready": (ready, reason, message), "Stalled": (more.pop("stalled", "False"), "NotStalled", "")}
    conditions = tuple(
        {"type": t, "status": s, "reason": r, "message": m, "since": at, "revision": HEAD}
        for t, (s, r, m) in types.items()
    )
    return Row(Key(kind, name), "Synced", "Healthy", HEAD, message, at, conditions, more.pop("status", {}))


def report(model: Row, **more: Any) -> dict[str, Any]:
    holder = {"holder": "somebody"}
    found = Report("p", HEAD, HEAD, HEAD, None, (), (row("Project", "p", status=holder), model), {}, {})
    return replace(found, **more).to_json()


READY = row("Model", "m")


@pytest.mark.parametrize(
    ("shown", "code", "words"),
    [
        (report(READY), 0, f"Model/m is ready at {HEAD[:12]}"),
        (report(READY, in_force=BEFORE), 1, f"{BEFORE[:12]} is in force, not {HEAD[:12]}"),
        (report(READY, in_force=None), 1, f"no revision is in force, not {HEAD[:12]}"),
        (report(READY, in_force=BEFORE, refused="it rewrites history"), 1, "it rewrites history"),
        (
            report(READY, revision=BEFORE, in_force=BEFORE, refused="it rewrites history"),
            1,
            "it rewrites history",
        ),
        (report(row("Model", "m", "False", "Reconciling", "to do"), in_force=BEFORE), 1, "to do"),
        (report(row("Model", "m", "False", "GateFailed", "rmse > 1")), 3, "rmse > 1"),
        (report(row("Model", "m", "False", "DependencyFailed", "x waits")), 3, "x waits"),
        (report(row("Model", "m", "False", "PromotedFailed", "store away")), 1, "store away"),
        (report(row("Model", "m", "False", "NotFound", "no file")), 1, "will not become ready by itself"),
        (report(row("Model", "m", "False", "BoundFailed", "no", stalled="True")), 1, "will not become ready"),
        (report(row("Model", "m", "Unknown", "Suspended", "suspended")), 1, "suspended"),
        (report(row("Model", "other")), 1, "Model/m is not declared"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wait_says_what_stands_in_the_way(
    shown: dict[str, Any], code: int, words: str, served: Site, mlops: Mlops
) -> None:
    served.board.post(shown)
    ran = mlops("--server", served.url, "wait", "Model/m", *AT_ONCE)
    assert (ran.code, words in ran.err) == (code, True), ran.err


def test_what_is_shown_of_an_older_revision_decides_nothing(served: Site, mlops: Mlops) -> None:
    """The daemon has not seen the commit yet: neither its failure nor its readiness is that commit's."""
    for model in (row("Model", "m", "False", "NotFound", "no file"), READY, row("Model", "other")):
        served.board.post(report(model))
        ran = mlops("--server", served.url, "wait", "Model/m", "--revision", "c" * 40, *AT_ONCE)
        assert ran.code == 1
        assert f"{HEAD[:12]} is in force, not {'c' * 12}" in ran.err
        assert "apply it" not in ran.err


def test_wait_goes_on_while_the_server_is_away_and_ends_when_it_is_ready(
    monkeypatch: pytest.MonkeyPatch, mlops: Mlops
) -> None:
    monkeypatch.setattr(wait, "LOOK_EVERY", 0.02)
    with site() as first:
        address, url = first.server.address, first.url
        first.board.answers["r-1"] = {}
        first.board.post(report(row("Model", "m", "False", "Reconciling", "to do")))
        found: list[Ran] = []
        told = threading.Event()
        monkeypatch.setattr(wait, "say", lambda text: told.set() if "to do" in text else None)
        waiting = threading.Thread(
            target=lambda: found.append(mlops("--server", url, "wait", "Model/m", *PATIENT))
        )
        waiting.start()
        assert told.wait(30)
    with site(address) as second:
        second.board.post(report(READY))
        waiting.join(60)
    assert [ran.code for ran in found] == [0]


def test_a_log_is_followed_on_when_the_daemon_was_started_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLOPS_API_TOKEN", TOKEN)
    monkeypatch.setattr(runs, "AGAIN", 0.05)
    log, asked, codes = b"one\ntwo\n", threading.Event(), []

    def piece(experiment: str, run_id: str | None, offset: int) -> LogPiece:
        asked.set()
        return LogPiece("r1", "fit-1", "running", log[offset:end], max(offset, end), ended=end == len(log))

    with site() as first:
        end, address, url = 4, first.server.address, first.url
        first.board.on_log = piece
        follower = threading.Thread(target=lambda: codes.append(run(["--server", url, "logs", "fit", "-f"])))
        follower.start()
        assert asked.wait(30)
    with site(address) as second:
        end = len(log)
        second.board.on_log = piece
        follower.join(60)
    assert codes == [0]
    assert capsys.readouterr().out == "one\ntwo\n"


# ---- what goes wrong on the way


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://mlops.example.com", "over http the token could be read"),
        ("http://10.0.0.7:8080", "ssh -L"),
        ("http://localhost.example.com", "over http"),
        ("http://127.0.0.1.nip.io", "over http"),
        ("http://[::ffff:10.0.0.7]/", "over http"),
        ("ftp://127.0.0.1", "is not a URL"),
        ("127.0.0.1:8080", "is not a URL"),
        ("http://", "is not a URL"),
        ("http://127.0.0.1:port", "is not a URL"),
        ("http://127.0.0.1:99999", "is not a URL"),
        ("http://a b", "is not a URL"),
        ("", "is not a URL"),
        ("https://user:hunter2222@mlops.example.com", "user name or a password"),
        ("https://mlops.example.com/?token=hunter2222", "more than an address"),
        ("http://127.0.0.1\\@example.com", "user name or a password"),
        ("http://127.0.0.1#@example.com", "more than an address"),
    ],
)
def test_a_url_that_a_token_may_not_be_sent_to_is_refused(url: str, words: str, mlops: Mlops) -> None:
    ran = mlops("--server", url, "get")
    assert (ran.code, ran.out) == (1, "")
    assert re.search(words, ran.err), ran.err
    assert "hunter2222" not in ran.err


@pytest.mark.parametrize("token", ["", "  ", "two words", "line\nend", "tökén"])
def test_a_token_that_is_none_is_refused(
    token: str, served: Site, mlops: Mlops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_API_TOKEN", token)
    ran = mlops("--server", served.url, "get")
    assert ran.code == 1
    assert "MLOPS_API_TOKEN" in ran.err


def test_a_wrong_token_and_an_api_that_is_off_are_sentences(
    served: Site, mlops: Mlops, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site(environ={}) as off:
        assert "Set MLOPS_API_TOKEN where the daemon runs" in mlops("--server", off.url, "get").err
    monkeypatch.setenv("MLOPS_API_TOKEN", "another-token")
    ran = mlops("--server", served.url, "get")
    assert (ran.code, "the token is not the one" in ran.err) == (1, True)
    assert "another-token" not in ran.err


def test_a_daemon_without_a_pass_says_so(served: Site, mlops: Mlops) -> None:
    served.board.shown, served.board.is_role = None, "standby"
    ran = mlops("--server", served.url, "get")
    assert (ran.code, "stands by" in ran.err) == (1, True)


def test_a_daemon_that_has_just_started_is_waited_for(served: Site, mlops: Mlops) -> None:
    served.board.shown = None
    ran = mlops("--server", served.url, "wait", "Model/m", *AT_ONCE)
    assert (ran.code, "there was no pass yet" in ran.err, "is not ready after 1s" in ran.err) == (
        1,
        True,
        True,
    )


def test_nobody_there_is_a_sentence_for_every_command(mlops: Mlops) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for line in (["get"], ["tree"], ["wait", "Model/m"], ["logs", "fit", "-f"], ["reconcile"]):
        ran = mlops("--server", f"http://127.0.0.1:{port}", *line)
        assert (ran.code, ran.out) == (1, "")
        assert "nobody answers there" in ran.err
        assert "--listen" in ran.err


def test_a_server_that_does_not_answer_is_given_up(mlops: Mlops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "TIMEOUTS", (1.0, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ran = mlops("--server", f"http://127.0.0.1:{silent.getsockname()[1]}", "get")
    assert (ran.code, "did not answer in time" in ran.err) == (1, True)


def test_a_server_without_tls_is_told_from_one_that_nobody_trusts(served: Site, mlops: Mlops) -> None:
    ran = mlops("--server", served.url.replace("http:", "https:"), "get")
    assert (ran.code, "certificate" in ran.err) == (1, True)


@dataclass
class Stranger:
    """A server that is none of ours: what it says, and what it was told."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"<html>welcome</html>"
    heard: list[Any] = field(default_factory=list)

    @contextmanager
    def listening(self, tls: ssl.SSLContext | None = None) -> Iterator[str]:
        stranger = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stranger.heard.append((self.path, dict(self.headers)))
                self.send_response(stranger.status)
                for name, value in stranger.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(stranger.body)))
                self.end_headers()
                self.wfile.write(stranger.body)

            def log_message(self, *arguments: Any) -> None:
                return

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
            if tls is not None:
                listening.socket = tls.wrap_socket(listening.socket, server_side=True)
            thread = threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            yield f"{'http' if tls is None else 'https'}://127.0.0.1:{listening.server_port}"
            listening.shutdown()


@pytest.mark.parametrize(
    "stranger",
    [
        Stranger(),
        Stranger(404),
        Stranger(500, body=b""),
        Stranger(body=b"[]"),
        Stranger(body=b"{}"),
        Stranger(body=b'"x"'),
        Stranger(body=b"\xff\xfe"),
        Stranger(body=b"[" * 100_000),
        Stranger(503, body=b'{"error": "down"}'),
        Stranger(200, {"Content-Encoding": "gzip"}, b"not gzip"),
        Stranger(304),
        Stranger(body=json.dumps(report(READY) | {"resources": [{"kind": "Model"}]}).encode()),
        Stranger(body=json.dumps(report(READY) | {"resources": []}).encode()),
        Stranger(body=json.dumps(report(READY) | {"feeds": [1]}).encode()),
        Stranger(body=json.dumps(report(READY) | {"inForce": 5}).encode()),
    ],
    ids=lambda stranger: f"{stranger.status} {stranger.body[:30]!r}",
)
def test_what_is_no_daemon_of_mlops_is_a_sentence(stranger: Stranger, mlops: Mlops) -> None:
    with stranger.listening() as url:
        ran = mlops("--server", url, "get")
    assert (ran.code, ran.out) == (1, "")
    assert re.search("no daemon of mlops|a shape that this mlops does not know|sends elsewhere", ran.err), (
        ran.err
    )
    assert len(ran.err) < 400


def test_no_redirect_takes_the_token_along(mlops: Mlops) -> None:
    thief = Stranger()
    with thief.listening() as elsewhere:
        for status in (301, 302, 307, 308):
            with Stranger(status, {"Location": f"{elsewhere}/api/v1/status"}).listening() as url:
                ran = mlops("--server", url, "get")
            assert (ran.code, "sends elsewhere" in ran.err) == (1, True)
    assert thief.heard == []


def test_no_proxy_hears_what_goes_to_this_machine_and_netrc_does_not_replace_the_token(
    served: Site, mlops: Mlops, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    served.board.post(report(READY))
    (tmp_path / ".netrc").write_text("default login thief password stolen\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    proxy = Stranger()
    with proxy.listening() as url:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, url)
        assert mlops("--server", served.url, "get").code == 0
    assert proxy.heard == []


def test_over_tls_the_authority_is_checked_and_netrc_does_not_replace_the_token(
    mlops: Mlops, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certificate = _certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    (tmp_path / ".netrc").write_text("default login thief password stolen\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    stranger = Stranger(body=json.dumps(report(READY)).encode())
    with stranger.listening(tls) as url:
        ran = mlops("--server", url, "get")
        assert (ran.code, "REQUESTS_CA_BUNDLE" in ran.err, stranger.heard) == (1, True, [])
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        assert mlops("--server", url, "get").code == 0
    assert [headers["Authorization"] for _, headers in stranger.heard] == [f"Bearer {TOKEN}"]


def _certificate(folder: Path) -> Path:
    """A certificate of this machine's own, with its key, that nobody trusts."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    day = timedelta(days=1)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - day)
        .not_valid_after(datetime.now(UTC) + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    place = folder / "certificate.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    place.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + made.public_bytes(pem)
    )
    return place


def test_an_answer_that_never_ends_is_cut_off(
    served: Site, mlops: Mlops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST_BYTES", 2**20)
    served.board.post({"x": "y" * 2**22})
    ran = mlops("--server", served.url, "get")
    assert (ran.code, "more than 1 MiB" in ran.err) == (1, True)


def test_a_path_in_front_of_the_api_is_kept(mlops: Mlops) -> None:
    stranger = Stranger(body=json.dumps(report(READY)).encode())
    with stranger.listening() as url:
        assert mlops("--server", f"{url}/team/mlops/", "get").code == 0
    (path, headers), *_ = stranger.heard
    assert path == "/team/mlops/api/v1/status"
    assert headers["Authorization"] == f"Bearer {TOKEN}"


def test_names_of_a_hostile_server_steer_no_terminal(served: Site, mlops: Mlops) -> None:
    evil = row("Model", "m\x1b]0;x\x07", message="\x1b[31m\u202e<b>")
    error = {
        "file": "f\x1b",
        "line": 1,
        "column": 1,
        "resource": "\x1b[2J",
        "message": "m\x1b",
        "fix": "\x9b1m",
    }
    served.board.post(report(evil, errors=(error,), places={evil.key: "\x1b[1m"}))
    served.board.on_events = lambda resource: [
        {
            "at": 1.0,
            "lastAt": 2.0,
            "reason": "\x1b",
            "message": "\x1b\n",
            "severity": "x",
            "revision": "",
            "count": 1,
        }
    ]
    for line in (["get"], ["get", "-o", "name"], ["tree"], ["describe", f"Model/{evil.key.name}"]):
        ran = mlops("--server", served.url, *line)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", ran.out + ran.err), line


# ---- which commands


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - set(OVER_HTTP)))
def test_a_command_that_needs_the_project_says_so(name: str, mlops: Mlops) -> None:
    ran = mlops("--server", "http://127.0.0.1:1", name)
    assert (ran.code, ran.out) == (64, "")
    assert f"`mlops {name}` needs the project itself" in ran.err


def test_a_server_shows_its_own_revision_and_no_project_beside_it(served: Site, mlops: Mlops) -> None:
    for line in (
        ["get", "--revision", "HEAD"],
        ["tree", "--working-tree"],
        ["logs", "fit", "--revision", "x"],
    ):
        ran = mlops("--server", served.url, *line)
        assert (ran.code, "leave out --revision" in ran.err) == (64, True)
    assert mlops("--server", served.url, "--project", ".", "get").code == 64

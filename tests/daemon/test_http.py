"""The HTTP server: what it answers, to whom, and what a client cannot make it do."""

from __future__ import annotations

import contextlib
import gzip
import hmac
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from answering import BEARER, ENVIRON, TOKEN, Site, site

from mlops.daemon import api, http
from mlops.daemon.board import Found
from mlops.errors import MlopsError, Transient
from mlops.training_log import LogPiece

CANARY = "canary-of-the-tests"


@pytest.fixture
def served() -> Iterator[Site]:
    with site() as found:
        yield found


# ---- health and readiness


def test_health_is_200_until_the_loop_is_not_well(served: Site) -> None:
    assert (served.ask("GET", "/healthz").status, served.ask("HEAD", "/healthz").body) == (200, b"")
    served.board.ill = "the loop has not come round for 700 s"
    answer = served.ask("GET", "/healthz")
    assert (answer.status, answer.json["ok"]) == (503, False)
    assert "700 s" in answer.json["reason"]


def test_a_standby_is_ready_and_says_so_and_who_only_starts_is_not(served: Site) -> None:
    assert served.ask("GET", "/readyz").json == {"ready": True, "role": "leader", "reason": None}
    served.board.is_role = "standby"
    assert served.ask("GET", "/readyz").status == 200
    assert served.ask("GET", "/readyz").json["role"] == "standby"
    served.board.is_role, served.board.waits = "starting", "no pass was made yet"
    assert served.ask("GET", "/readyz").status == 503


def test_metrics_are_in_prometheus_text_format(served: Site) -> None:
    answer = served.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b"mlops_build_info{" in answer.body


# ---- who may ask


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {TOKEN} {TOKEN}"},
        {"Authorization": "Bearer \xff"},
    ],
    ids=lambda headers: str(headers.get("Authorization"))[:30],
)
def test_without_the_token_the_api_tells_nothing(headers: dict[str, str], served: Site) -> None:
    for method, path in (
        ("GET", "/api/v1/status"),
        ("GET", "/api/v1/nothing"),
        ("POST", "/api/v1/reconcile"),
    ):
        answer = served.ask(method, path, headers=headers)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert TOKEN not in answer.body.decode()
    assert served.board.told == []
    assert served.board.made == 0


def test_two_tokens_are_none(served: Site) -> None:
    with served.connect() as connection:
        line = f"Authorization: Bearer {TOKEN}\r\n"
        connection.sendall(f"GET /api/v1/status HTTP/1.1\r\nHost: x\r\n{line}{line}\r\n".encode())
        assert connection.recv(12) == b"HTTP/1.1 401"


def test_tokens_are_compared_as_digests_of_equal_length(
    served: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return real(a, b)

    real = hmac.compare_digest
    monkeypatch.setattr(api.hmac, "compare_digest", compare)
    for token in ("", "x", "x" * 500, TOKEN):
        served.ask("GET", "/api/v1/status", headers={"Authorization": f"Bearer {token}"})
    assert compared == [(32, 32)] * 4


def test_without_a_token_of_its_own_the_api_is_off_and_says_how_it_is_turned_on() -> None:
    with site(environ={}) as served:
        for headers in ({}, {"Authorization": "Bearer "}, BEARER):
            answer = served.ask("GET", "/api/v1/status", headers=headers)
            assert answer.status == 404
            assert "MLOPS_API_TOKEN" in answer.json["error"]["fix"]
        assert served.ask("GET", "/healthz").status == 200


# ---- what the API tells


def test_the_status_is_serialised_once_a_pass_however_often_it_is_asked_for(served: Site) -> None:
    served.board.post({"resources": [1, 2, 3]})
    first = served.get("/api/v1/status")
    assert first.json == {"resources": [1, 2, 3]}
    for _ in range(20):
        assert served.get("/api/v1/status").body == first.body
    assert served.board.made == 1
    known = served.get("/api/v1/status", **{"If-None-Match": first.headers["etag"]})
    assert (known.status, known.body) == (304, b"")
    served.board.post({"resources": []})
    assert served.get("/api/v1/status", **{"If-None-Match": first.headers["etag"]}).json == {"resources": []}
    assert served.board.made == 2


def test_the_status_of_ten_thousand_resources_is_packed_for_who_takes_it(served: Site) -> None:
    shown = {"resources": [{"kind": "Model", "name": f"m{i}", "message": "x" * 100} for i in range(10_000)]}
    served.board.post(shown)
    answer = served.get("/api/v1/status", **{"Accept-Encoding": "deflate, gzip;q=1.0"})
    assert answer.headers["content-encoding"] == "gzip"
    assert len(answer.body) < 300_000
    assert json.loads(gzip.decompress(answer.body)) == shown
    assert "content-encoding" not in served.get("/api/v1/status").headers


def test_before_the_first_pass_the_status_is_asked_for_again(served: Site) -> None:
    served.board.shown, served.board.is_role = None, "standby"
    answer = served.get("/api/v1/status")
    assert answer.status == 503
    assert "stands by" in answer.json["error"]["what"]
    served.board.is_role = "starting"
    assert "no pass yet" in served.get("/api/v1/status").json["error"]["what"]


def test_events_revisions_and_logs_are_told(served: Site) -> None:
    served.board.on_events = lambda resource: [{"reason": "Healed", "resource": resource}]
    assert served.get("/api/v1/events/Model/m").json["events"] == [
        {"reason": "Healed", "resource": "Model/m"}
    ]
    served.board.on_find = lambda revision: Found("a" * 40, True) if revision == "feature/x" else None
    assert served.get("/api/v1/revisions/feature%2Fx").json == {"revision": "a" * 40, "inForce": True}
    assert served.get("/api/v1/revisions/none").json == {"revision": None, "inForce": False}
    piece = LogPiece.from_json(served.get("/api/v1/experiments/fit/log?offset=2").json)
    assert (piece.run_id, piece.data, piece.next_offset) == ("r1", b"ne\n", 5)
    for wrong in ("-1", "x", "1e3", "9" * 30, "%D9%A3"):
        assert served.get(f"/api/v1/experiments/fit/log?offset={wrong}").status == 400


def test_a_pass_is_asked_for(served: Site) -> None:
    for body, accept in ((b"", False), (b"{}", False), (b'{"acceptRewrite": true}', True)):
        answer = served.ask("POST", "/api/v1/reconcile", body, BEARER)
        assert (answer.status, answer.json) == (202, {"request": "r-1"})
        assert served.board.told.pop() == f"reconcile {accept}"
    for wrong in (b"[", b"[]", b'{"acceptRewrite": 1}', b'{"other": true}', b"\xff", b"[" * 100_000):
        assert served.ask("POST", "/api/v1/reconcile", wrong, BEARER).status == 400
    assert served.ask("POST", "/api/v1/reconcile", b"x" * (2**20 + 1), BEARER).status == 413
    assert served.ask("GET", "/api/v1/reconcile", headers=BEARER).status == 405
    assert served.board.told == []


def test_errors_are_told_as_sentences(served: Site) -> None:
    def gone(resource: str) -> list[dict[str, str]]:
        raise MlopsError("it is not declared", where=f"/home/{CANARY}", fix="See `mlops get`")

    def away(revision: str) -> None:
        raise Transient("the store is away")

    served.board.on_events, served.board.on_find = gone, away
    answer = served.get("/api/v1/events/Model/m")
    assert answer.status == 404
    assert answer.json == {"error": {"what": "it is not declared", "fix": "See `mlops get`"}}
    assert served.get("/api/v1/revisions/x").status == 503


def test_a_defect_is_a_bare_500_outside_and_has_its_trace_in_the_log(
    served: Site, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(resource: str) -> list[dict[str, str]]:
        raise RuntimeError(f"at /etc/{CANARY}")

    served.board.on_events = broken
    with caplog.at_level(logging.ERROR, "mlops"):
        answer = served.get("/api/v1/events/Model/m")
    assert answer.status == 500
    assert answer.json == {"error": {"what": "this is a defect of mlops; its log says more", "fix": None}}
    assert [record.event for record in caplog.records] == ["RequestFailed"]
    assert caplog.records[0].exc_info[0] is RuntimeError
    assert served.ask("GET", "/healthz").status == 200


def test_no_secret_leaves_and_the_answer_is_valid_json_all_the_same(served: Site) -> None:
    shown = {f"tag {CANARY}": [f"x {CANARY} y", {"deep": f'"{CANARY}"'}], "nan": float("nan"), "n": 1}
    served.board.post(shown)
    served.board.on_events = lambda resource: [{"message": f"found {CANARY}"}]
    served.board.ill = f"because of {CANARY}"
    assert served.get("/api/v1/status").json == {
        "tag ***": ["x *** y", {"deep": '"***"'}],
        "nan": "NaN",
        "n": 1,
    }
    for answer in (served.get("/api/v1/events/Model/m"), served.get("/healthz")):
        assert "***" in answer.body.decode()
        assert CANARY not in answer.body.decode()


def test_names_that_are_markup_are_inert(served: Site) -> None:
    served.board.post({"name": "<script>alert(1)</script>\u2028\x1b[31m\udcff"})
    answer = served.get("/api/v1/status")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json["name"].startswith("<script>")
    assert b"\x1b" not in answer.body


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/healthz/", 404),
        ("GET", "/api", 404),
        ("GET", "/api/v1", 404),
        ("GET", "/api/v1/", 404),
        ("GET", "/api/v1/experiments/log", 404),
        ("GET", "/api/v1/../../etc/passwd", 404),
        ("GET", "/%00", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/api/v1/status", 405),
        ("TRACE", "/healthz", 405),
        ("POST", "/nothing", 404),
    ],
)
def test_what_is_not_there_is_json_and_names_no_software(
    method: str, path: str, status: int, served: Site
) -> None:
    answer = served.ask(method, path, headers=BEARER)
    assert answer.status == status
    assert answer.json["error"]["what"]
    assert "server" not in answer.headers
    assert status != 405 or answer.headers["allow"] == "GET, HEAD"


# ---- what a client cannot make it do


def test_a_client_that_sends_a_header_a_minute_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.3)
    with site() as served, served.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        assert _closed(connection, drip=b"X-A: b\r\n")


def test_a_client_that_never_reads_its_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.5)
    with site() as served, served.connect() as connection:
        served.board.post({"resources": ["x" * 1000] * 30_000})
        connection.sendall(
            f"GET /api/v1/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        )
        time.sleep(1.0)
        taken = 0
        try:
            while chunk := connection.recv(1 << 20):
                taken += len(chunk)
        except OSError:
            pass
        assert taken < 30_000_000


def test_connections_that_only_wait_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST_CONNECTIONS", 8)
    with site() as served:
        idle = [served.connect() for _ in range(30)]
        assert served.ask("GET", "/healthz").status == 200
        assert sum(_closed(one, patience=0.2) for one in idle) >= 20
        for one in idle:
            one.close()


@pytest.mark.parametrize(
    "bytes_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /healthz HTTP/1.1\r\n\r\n",  # no Host
        b"POST /hooks/git HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /hooks/git HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"y" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /hooks/git HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=lambda value: repr(value[:40]),
)
def test_what_is_no_http_is_refused_and_forgotten(bytes_: bytes, served: Site) -> None:
    with served.connect() as connection:
        try:
            connection.sendall(bytes_)
            first = connection.recv(12)
        except ConnectionError:
            first = b""
        assert first in (b"HTTP/1.1 400", b"HTTP/1.1 431", b"")
    assert served.ask("GET", "/healthz").status == 200


def test_an_upgrade_to_another_protocol_is_not_taken(served: Site) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "x" * 22 + "=="}
    assert served.ask("GET", "/healthz", headers=headers).status == 200


def test_the_server_ends_although_a_call_of_a_store_hangs(served: Site) -> None:
    hangs, asked = threading.Event(), threading.Event()

    def hang(resource: str) -> list[dict[str, str]]:
        asked.set()
        hangs.wait(60)
        return []

    served.board.on_events = hang
    client = threading.Thread(target=_quietly, args=(served, "/api/v1/events/Model/m"), daemon=True)
    client.start()
    assert asked.wait(20)
    assert served.ask("GET", "/healthz").status == 200
    served.server.close()
    assert "mlops-http" not in {thread.name for thread in threading.enumerate()}
    assert not hangs.is_set()
    hangs.set()
    client.join(20)


# ---- where it listens


def test_the_port_that_was_found_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mlops"), site() as served:
        assert served.where[1] > 0
    told = [record for record in caplog.records if record.event == "Listening"]
    assert told[0].fields == {"address": served.server.address, "api": True, "webhooks": True}
    assert TOKEN not in caplog.text


def test_an_address_of_version_six_is_listened_on() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with site("[::1]:0") as served:
        assert served.server.address.startswith("[::1]:")
        assert served.ask("GET", "/healthz").status == 200


def test_plain_http_beyond_this_machine_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mlops"):
        with site("0.0.0.0:0", environ={}):
            pass
        assert caplog.records == []
        with site("0.0.0.0:0", environ=ENVIRON):
            pass
    assert [record.event for record in caplog.records] == ["PlainHttp"]
    assert "TLS" in caplog.text


def test_an_address_that_cannot_be_listened_on_is_refused_in_a_sentence(served: Site) -> None:
    with pytest.raises(MlopsError, match="cannot be listened on"), site(served.server.address):
        pass
    for wrong in ("8080", ":8080", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:99999", "127.0.0.1:-1", ""):
        with pytest.raises(MlopsError, match="ADDR:PORT"), site(wrong):
            pass


def _closed(connection: socket.socket, *, drip: bytes = b"", patience: float = 10.0) -> bool:
    """Whether the other side closes within `patience` seconds, while something is still sent."""
    connection.settimeout(0.05)
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            if drip:
                connection.sendall(drip)
            if not connection.recv(1000):
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def _quietly(served: Site, path: str) -> None:
    with contextlib.suppress(OSError):
        served.get(path)

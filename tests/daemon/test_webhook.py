"""Webhooks: who may wake a pass, how often, and with how much."""

from __future__ import annotations

import hmac
import socket
from collections.abc import Iterator

import pytest
from answering import Clock, Site, signature, site

from mlops.daemon import api, exchange, webhook
from mlops.daemon.webhook import Bucket, signed

BODY = b'{"ref": "refs/heads/main"}'
RIGHT = signature(BODY).encode()


@pytest.fixture
def served() -> Iterator[Site]:
    with site() as found:
        yield found


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [b""],
        [RIGHT, RIGHT],
        [RIGHT[:-1]],
        [RIGHT + b"0"],
        [RIGHT[:-1] + (b"0" if RIGHT[-1:] != b"0" else b"1")],
        [RIGHT.removeprefix(b"sha256=")],
        [RIGHT.replace(b"sha256", b"sha1")],
        [b"sha256=" + b"zz" * 32],
        [b"sha256=" + "é".encode() * 32],
        [b" " + RIGHT],
        [RIGHT + b"\n"],
        [signature(BODY, "another secret").encode()],
        [signature(BODY + b" ").encode()],
    ],
    ids=lambda headers: repr(headers)[:40],
)
def test_what_is_not_the_one_right_signature_is_refused_after_comparing_whole_digests(
    headers: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return real(a, b)

    real = hmac.compare_digest
    monkeypatch.setattr(webhook.hmac, "compare_digest", compare)
    assert not signed(b"secret-of-the-hook-5678", BODY, headers)
    assert compared == [(32, 32)]


def test_the_signature_of_the_forge_is_taken_in_upper_and_lower_case() -> None:
    assert signed(b"secret-of-the-hook-5678", BODY, [RIGHT])
    assert signed(b"secret-of-the-hook-5678", BODY, [b"sha256=" + RIGHT[7:].upper()])


def test_a_digest_of_zeros_is_not_taken_for_a_missing_one() -> None:
    assert not signed(b"secret-of-the-hook-5678", BODY, [b"sha256=" + b"0" * 64])


def test_a_bucket_gives_ten_at_once_and_ten_a_second_after_that() -> None:
    clock = Clock()
    bucket = Bucket(10, clock)
    assert [bucket.take() for _ in range(11)] == [True] * 10 + [False]
    clock.seconds += 0.05
    assert not bucket.take()
    clock.seconds += 0.06
    assert [bucket.take(), bucket.take()] == [True, False]
    clock.seconds += 3600
    assert [bucket.take() for _ in range(11)] == [True] * 10 + [False]
    clock.seconds -= 3600  # a clock that goes back gives nothing and breaks nothing
    assert not bucket.take()


def test_a_signed_webhook_wakes_a_pass_and_a_replay_of_it_does_no_more(served: Site) -> None:
    headers = {"X-Hub-Signature-256": signature(BODY)}
    assert served.ask("POST", "/hooks/git", BODY, headers).status == 202
    assert served.board.told == ["webhook"]
    assert served.ask("POST", "/hooks/git", BODY, headers).status == 202
    assert set(served.board.told) == {"webhook"}


def test_a_wrong_or_missing_signature_wakes_nothing(served: Site) -> None:
    for headers in ({}, {"X-Hub-Signature-256": signature(BODY, "guessed")}):
        answer = served.ask("POST", "/hooks/git", BODY, headers)
        assert (answer.status, served.board.told) == (401, [])
        assert "secret-of-the-hook" not in answer.body.decode()
    assert served.counted("mlops_webhooks_total") == {"unsigned": 2.0}


def test_without_a_secret_there_is_no_receiver() -> None:
    for environ in ({}, {"MLOPS_WEBHOOK_SECRET": ""}, {"MLOPS_API_TOKEN": "t"}):
        with site(environ=environ) as served:
            for secret in ("", "None"):
                headers = {"X-Hub-Signature-256": signature(BODY, secret)}
                assert served.ask("POST", "/hooks/git", BODY, headers).status == 404
            assert served.board.told == []


def test_only_post_is_a_webhook(served: Site) -> None:
    answer = served.ask("GET", "/hooks/git")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_a_flood_of_ten_thousand_is_absorbed(served: Site) -> None:
    """Beyond ten a second each is answered, with next to no work, and whoever asks for health is answered, too."""
    flood, headers = 10_000, {"X-Hub-Signature-256": signature(BODY)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    one = f"POST /hooks/git HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    answered = {b"202": 0, b"429": 0}
    with served.connect() as connection:
        reader = connection.makefile("rb")
        for _ in range(flood // 100):
            connection.sendall(one * 100)
            for _ in range(100):
                answered[_answer(reader)] += 1
        assert served.ask("GET", "/healthz").status == 200
    assert answered == {b"202": 10, b"429": flood - 10}
    assert len(served.board.told) == 10
    assert served.counted("mlops_webhooks_total") == {"accepted": 10.0, "limited": flood - 10.0}
    limited = served.ask("POST", "/hooks/git", BODY, headers)
    assert (limited.status, limited.headers["retry-after"]) == (429, "1")
    served.clock.seconds += 1
    assert served.ask("POST", "/hooks/git", BODY, headers).status == 202


def test_beyond_the_limit_no_body_is_waited_for(served: Site) -> None:
    for _ in range(10):
        served.ask("POST", "/hooks/git", b"")
    with served.connect() as connection:
        connection.sendall(b"POST /hooks/git HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 429"


LARGE = 50 * 2**20


@pytest.mark.parametrize("announced", [f"Content-Length: {LARGE}", "Transfer-Encoding: chunked"])
def test_a_body_of_fifty_megabytes_is_cut_off(announced: str, served: Site) -> None:
    sent = 0
    piece = b"x" * 65536
    if "chunked" in announced:
        piece = b"10000\r\n" + piece + b"\r\n"
    with served.connect() as connection:
        connection.sendall(f"POST /hooks/git HTTP/1.1\r\nHost: x\r\n{announced}\r\n\r\n".encode())
        try:
            while sent < LARGE:
                connection.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
        assert connection.recv(12) == b"HTTP/1.1 413"
    assert sent < LARGE / 2
    assert served.board.told == []
    assert served.counted("mlops_webhooks_total") == {"too_large": 1.0}
    assert served.ask("GET", "/healthz").status == 200


def test_a_body_of_one_mebibyte_is_read_and_one_byte_more_is_not(served: Site) -> None:
    most = b"x" * exchange.MOST_BYTES
    assert served.ask("POST", "/hooks/git", most, {"X-Hub-Signature-256": signature(most)}).status == 202
    more = most + b"x"
    assert served.ask("POST", "/hooks/git", more, {"X-Hub-Signature-256": signature(more)}).status == 413


def test_a_client_that_sends_before_it_reads_still_learns_that_its_body_is_too_large(served: Site) -> None:
    assert served.ask("POST", "/hooks/git", b"x" * (4 * exchange.MOST_BYTES)).status == 413


def test_a_body_that_does_not_come_is_given_up(served: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "BODY_SECONDS", 0.2)
    with served.connect() as connection:
        connection.sendall(b"POST /hooks/git HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
        assert connection.recv(12) == b"HTTP/1.1 408"
    with served.connect() as connection:
        connection.sendall(b"POST /hooks/git HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
        connection.shutdown(socket.SHUT_WR)
        connection.recv(12)
    assert served.board.told == []


def _answer(reader: object) -> bytes:
    """Read one answer; gives its status."""
    status = reader.readline().split()[1]  # type: ignore[attr-defined]
    length = 0
    while (line := reader.readline()) != b"\r\n":  # type: ignore[attr-defined]
        if line.lower().startswith(b"content-length:"):
            length = int(line.split()[1])
    reader.read(length)  # type: ignore[attr-defined]
    return bytes(status)

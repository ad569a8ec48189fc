"""One message to one address, over real connections, in a real child."""

from __future__ import annotations

import base64
import email
import email.policy
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from loopback_service import Service

from mlops.errors import MlopsError, Stalled, Transient
from mlops.notifying.message import Attachment, Message
from mlops.notifying.sending import send

WHERE = "Notifier/team (url 1)"
SECRET = "s3cr3t-t0ken-of-the-team"
MESSAGE = Message("[critical] loan: concept fired", "one\ntwo", "critical")


def refused(url: str, **options: float) -> MlopsError:
    with pytest.raises(MlopsError) as caught:
        send(url, MESSAGE, where=WHERE, **options)  # type: ignore[arg-type]
    return caught.value


def test_a_message_arrives_with_its_text_severity_and_picture(service: Service) -> None:
    picture = Attachment("drift.png", "image/png", b"\x89PNG\x00\xff")
    send(service.url("hook"), Message("t", "one\ntwo", "critical", (picture,)), where=WHERE)
    (body,) = service.reached("hook")
    assert (body["title"], body["message"], body["type"]) == ("t", "one\ntwo", "failure")
    (attached,) = body["attachments"]
    assert (attached["filename"], attached["mimetype"]) == ("drift.png", "image/png")
    assert base64.b64decode(attached["base64"]) == picture.content


def test_a_megabyte_of_odd_characters_breaks_nothing(service: Service) -> None:
    odd = "é\ud800\0\u202e{{x}} %s \\n <b>[a](http://e)</b> 漢字 "
    text = odd * (2**20 // len(odd))
    send(service.url("hook"), Message(odd, text, "info"), where=WHERE)
    (body,) = service.reached("hook")
    assert len(body["message"]) > 900_000
    assert "<b>[a](http://e)</b> 漢字" in body["message"]


@pytest.mark.parametrize("answer", ["hang", "drip", "flood"])
def test_a_service_that_never_comes_to_an_end_is_left_after_its_time(service: Service, answer: str) -> None:
    service.answers["hook"] = [answer]
    before = psutil.Process().children()  # servers of other tests
    error = refused(service.url("hook", f"u:{SECRET}@"), timeout=1.0)
    assert isinstance(error, Transient)
    assert "answer" in str(error)
    assert SECRET not in str(error)
    left = [child for child in psutil.Process().children() if child not in before]
    assert not [child for child in left if child.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize(("status", "kind"), [(503, Transient), (429, Transient), (401, Stalled)])
def test_the_status_of_a_refusal_says_whether_trying_again_helps(
    service: Service, status: int, kind: type[MlopsError]
) -> None:
    service.answers[SECRET] = [status]
    error = refused(service.url(SECRET))
    assert type(error) is kind
    assert f"HTTP {status}" in str(error)
    assert WHERE in str(error)
    assert SECRET not in str(error)


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_neither_loses_a_message_nor_takes_it_elsewhere(service: Service, status: int) -> None:
    service.answers["hook"] = [status]
    error = refused(service.url("hook"))
    assert type(error) is Stalled
    assert f"HTTP {status}" in str(error)
    assert service.reached("elsewhere") == []


def test_nobody_at_the_address_is_tried_again(nobody: int) -> None:
    error = refused(f"json://u:{SECRET}@127.0.0.1:{nobody}/{SECRET}")
    assert type(error) is Transient
    assert "cannot be reached" in str(error)
    assert SECRET not in str(error)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (f"nosuch://{SECRET}", "no service that Apprise knows"),
        (f"slack://{SECRET}", "not as its service needs it"),
        (f"https://127.0.0.1/{SECRET}", "not as its service needs it"),
    ],
)
def test_an_address_that_cannot_work_stalls_without_being_quoted(url: str, why: str) -> None:
    error = refused(url)
    assert type(error) is Stalled
    assert why in str(error)
    assert SECRET not in str(error)


def test_a_url_stands_in_no_argument_and_no_environment_and_the_child_inherits_no_secret(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_WEBHOOK", f"json://{SECRET}")
    service.answers["hook"] = ["hang"]
    seen: list[bytes] = []

    def look() -> None:
        service.hanging.acquire(timeout=20)
        for child in psutil.Process().children(recursive=True):
            for name in ("cmdline", "environ"):
                seen.append(Path(f"/proc/{child.pid}/{name}").read_bytes())
        service.released.set()

    looking = threading.Thread(target=look)
    looking.start()
    with pytest.raises(MlopsError):
        send(service.url("hook", f"u:{SECRET}@"), MESSAGE, where=WHERE, timeout=10)
    looking.join()
    assert any(b"child.py" in text for text in seen)
    assert not any(SECRET.encode() in text for text in seen)


def test_a_child_whose_parent_was_killed_ends_by_itself(service: Service) -> None:
    service.answers["hook"] = ["hang"]
    script = (
        "import sys; from mlops.notifying.message import Message; from mlops.notifying.sending import send\n"
        "send(sys.argv[1], Message('t', 'b', 'info'), where='x', timeout=1.9)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, service.url("hook") + "?rto=60"])
    while not (children := psutil.Process(parent.pid).children()):
        time.sleep(0.01)
    assert service.hanging.acquire(timeout=20)
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []


def test_e_mail_goes_over_smtp_with_names_as_text() -> None:
    mails: list[bytes] = []

    class Smtp(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline():
                verb = line[:4].upper()
                if verb == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines = []
                    while (text := self.rfile.readline()) != b".\r\n":
                        lines.append(text)
                    mails.append(b"".join(lines))
                self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 fine\r\n")
                if verb == b"QUIT":
                    return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Smtp) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"mailto://127.0.0.1:{server.server_address[1]}?from=mlops@example.org&to=team@example.org&format=html"
        picture = Attachment("drift.png", "image/png", b"\x89PNG")
        send(url, Message("drift", "x <b>bold</b>", "warning", (picture,)), where=WHERE)
        server.shutdown()
    (mail,) = mails
    parsed = email.message_from_bytes(mail, policy=email.policy.default)
    assert parsed["Subject"] == "drift"
    html = next(part for part in parsed.walk() if part.get_content_type() == "text/html")
    assert "&lt;b&gt;bold" in html.get_content()
    assert [part.get_payload(decode=True) for part in parsed.walk() if part.get_filename()] == [b"\x89PNG"]

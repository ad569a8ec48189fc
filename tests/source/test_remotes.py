"""Where repositories may be, and that a credential reaches its own host and nobody else."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from git_server import GitServer

from mlops.errors import MlopsError, Stalled, Transient
from mlops.source.mirror import Mirror
from mlops.source.remote import Remote

SECRET = "ghs_Sup3rSecretTokenOfTheTest42"
BASIC = base64.b64encode(f"x-access-token:{SECRET}".encode()).decode()


@pytest.fixture
def served(project, tmp_path, git) -> Path:
    """A folder with one bare repository, `team/models.git`."""
    git(tmp_path, "clone", "-q", "--bare", str(project), "served/team/models.git")
    return tmp_path / "served"


@pytest.fixture
def mirror_of(tmp_path):
    """Makes a mirror of a URL, with variables added to the environment."""

    def make(url: str, **variables: str) -> Mirror:
        return Mirror(url, tmp_path / "mirror.git", environ={**os.environ, **variables})

    return make


def head(git, project: Path) -> str:
    return git(project, "rev-parse", "HEAD")


def test_a_repository_is_followed_over_http(served, project, mirror_of, git):
    with GitServer(served) as server:
        found = mirror_of(f"{server.url}/team/models.git")
        assert found.fetch("main") == head(git, project)
        git(project, "commit", "--allow-empty", "-qm", "more")
        git(project, "push", "-q", str(served / "team/models.git"), "main")
        assert found.fetch("main") == head(git, project)
        assert found.fetch("absent") is None
        assert server.credentials == []
        with pytest.raises(Transient, match=r"no such repository.*not found"):
            mirror_of(f"{server.url}/team/other.git").fetch("main")
    with pytest.raises(Transient, match=r"does not answer.*tried again"):
        found.fetch("main")


def test_the_token_of_the_environment_logs_in(served, project, mirror_of, git):
    with GitServer(served, login=f"x-access-token:{SECRET}") as server:
        url = f"{server.url}/team/models.git"
        with pytest.raises(Transient, match=r"refuses access.*Set MLOPS_GIT_TOKEN"):
            mirror_of(url).fetch("main")
        with pytest.raises(Transient, match=r"refuses access.*token in MLOPS_GIT_TOKEN is valid"):
            mirror_of(url, MLOPS_GIT_TOKEN="ghs_another_token").fetch("main")
        assert mirror_of(url, MLOPS_GIT_TOKEN=f"{SECRET}\n").fetch("main") == head(git, project)
        server.login = f"ada:{SECRET}"
        found = mirror_of(url, MLOPS_GIT_TOKEN=SECRET, MLOPS_GIT_USERNAME="ada")
        assert found.fetch("main") == head(git, project)


def test_a_redirect_is_not_followed_and_nobody_else_gets_the_token(served, mirror_of):
    with GitServer(served) as other, GitServer(served, redirect=other.url) as server:
        url = f"{server.url}/team/models.git"
        for configured in ({}, {"http.followRedirects": "true"}, {f"http.{url}.followRedirects": "true"}):
            variables = {"GIT_CONFIG_COUNT": str(len(configured))}
            for at, (key, value) in enumerate(configured.items()):
                variables |= {f"GIT_CONFIG_KEY_{at}": key, f"GIT_CONFIG_VALUE_{at}": value}
            with pytest.raises(Transient, match=r"redirects are not followed.*Name the address"):
                mirror_of(url, MLOPS_GIT_TOKEN=SECRET, **variables).fetch("main")
        assert server.credentials
        assert other.headers == []


def test_the_token_goes_to_no_host_that_gits_configuration_puts_in_its_place(served, project, mirror_of, git):
    with GitServer(served) as server, GitServer(served) as other:
        found = mirror_of(
            f"{server.url}/team/models.git",
            MLOPS_GIT_TOKEN=SECRET,
            GIT_CONFIG_COUNT="1",
            GIT_CONFIG_KEY_0=f"url.{other.url}/.insteadOf",
            GIT_CONFIG_VALUE_0=f"{server.url}/",
        )
        assert found.fetch("main") == head(git, project)
        assert (server.headers, other.credentials) == ([], [])
        assert other.headers


def test_a_rewrite_to_another_transport_is_explained(served, mirror_of, tmp_path):
    found = mirror_of(
        "https://host.invalid/team/models.git",
        GIT_CONFIG_COUNT="1",
        GIT_CONFIG_KEY_0=f"url.ext::sh -c 'touch% {tmp_path}/sprung' .insteadOf",
        GIT_CONFIG_VALUE_0="https://host.invalid/",
    )
    with pytest.raises(Transient, match=r"another transport.*insteadof"):
        found.fetch("main")
    assert not (tmp_path / "sprung").exists()


def test_the_token_takes_the_place_of_headers_that_are_configured(served, project, mirror_of, git):
    with GitServer(served, login=f"x-access-token:{SECRET}") as server:
        url = f"{server.url}/team/models.git"
        variables = {"GIT_CONFIG_COUNT": "3"}
        for at, key in enumerate(
            ("http.extraHeader", f"http.{server.url}/.extraHeader", f"http.{url}.extraHeader")
        ):
            variables |= {
                f"GIT_CONFIG_KEY_{at}": key,
                f"GIT_CONFIG_VALUE_{at}": "Authorization: Basic b2xkOm9sZA==",
            }
        found = mirror_of(url, MLOPS_GIT_TOKEN=SECRET, **variables)
        assert found.fetch("main") == head(git, project)
        assert set(server.credentials) == {f"Basic {BASIC}"}


def test_the_token_is_in_no_argument_no_message_and_no_file(served, mirror_of, tmp_path, capfd):
    sending, go_on = threading.Event(), threading.Event()

    def stand() -> None:
        sending.set()
        go_on.wait(20)

    with GitServer(served, login=f"x-access-token:{SECRET}", before_pack=stand) as server:
        found = mirror_of(f"{server.url}/team/models.git", MLOPS_GIT_TOKEN=SECRET)
        thread = threading.Thread(target=found.fetch, args=("main",))
        thread.start()
        assert sending.wait(20)
        ours = [pid for pid in _running() if server.url.encode() in _bytes(f"/proc/{pid}/cmdline")]
        assert len(ours) >= 2, "git and its helper for http"
        for pid in _running():
            line = _bytes(f"/proc/{pid}/cmdline")
            assert SECRET.encode() not in line
            assert BASIC.encode() not in line
        assert not any(b"MLOPS_GIT_TOKEN" in _bytes(f"/proc/{pid}/environ") for pid in ours)
        go_on.set()
        thread.join()
        server.login, server.echo = "somebody:else", True
        with pytest.raises(Transient) as raised:
            found.fetch("main")
    said = "".join(capfd.readouterr()) + str(raised.value) + repr(raised.value) + repr(found)
    said += repr(found.remote) + repr(found.remote.network({"MLOPS_GIT_TOKEN": SECRET}))
    assert "you sent" in said, "the host's words are passed on"
    for form in (SECRET, BASIC):
        assert form not in said
        for file in tmp_path.rglob("*"):
            assert not file.is_file() or form.encode() not in file.read_bytes()


def _running() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("token", ["a\nX-Evil: 1", "a\rb", "a\0b", "a\x1b[31m"])
def test_a_token_that_would_write_other_headers_is_refused(served, mirror_of, token):
    with GitServer(served) as server:
        with pytest.raises(Stalled, match="MLOPS_GIT_TOKEN"):
            mirror_of(f"{server.url}/team/models.git", MLOPS_GIT_TOKEN=token).fetch("main")
        with pytest.raises(Stalled, match="MLOPS_GIT_USERNAME"):
            mirror_of(f"{server.url}/x", MLOPS_GIT_TOKEN=SECRET, MLOPS_GIT_USERNAME=f"u{token}").fetch("main")
        assert server.headers == []


def test_a_credential_helper_and_an_askpass_program_of_the_user_are_asked(
    served, project, mirror_of, git, tmp_path
):
    helper = tmp_path / "helper"
    helper.write_text(f"#!/bin/sh\necho username=x-access-token\necho password={SECRET}\n")
    askpass = tmp_path / "askpass"
    askpass.write_text(f'#!/bin/sh\ncase "$1" in User*) echo x-access-token;; *) echo {SECRET};; esac\n')
    for program in (helper, askpass):
        program.chmod(0o755)
    with GitServer(served, login=f"x-access-token:{SECRET}") as server:
        url = f"{server.url}/team/models.git"
        configured = {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "credential.helper",
            "GIT_CONFIG_VALUE_0": str(helper),
        }
        assert mirror_of(url, **configured).fetch("main") == head(git, project)
        shutil.rmtree(tmp_path / "mirror.git")
        assert mirror_of(url, GIT_ASKPASS=str(askpass)).fetch("main") == head(git, project)


def test_a_proxy_never_sees_what_stays_on_this_machine(served, project, mirror_of, git):
    with GitServer(served) as proxy, GitServer(served) as server:
        found = mirror_of(
            f"{server.url}/team/models.git", http_proxy=proxy.url, ALL_PROXY=proxy.url, MLOPS_GIT_TOKEN=SECRET
        )
        assert found.fetch("main") == head(git, project)
        assert proxy.headers == []


@pytest.fixture
def ssh(tmp_path) -> Path:
    """A stand-in for ssh, which runs the command here and notes what it was given; no sshd is needed."""
    program = tmp_path / "ssh-to-here"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nenv >> {tmp_path}/environ\n'
        'for command; do :; done\nexec sh -c "$command"\n'
    )
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("url", ["ssh://git@models.example:2222{path}", "git@models.example:{path}"])
def test_a_repository_is_followed_over_ssh_with_the_users_command(
    served, project, mirror_of, git, ssh, tmp_path, url
):
    found = mirror_of(
        url.format(path=served / "team/models.git"),
        GIT_SSH_COMMAND=str(ssh),
        GIT_SSH_VARIANT="ssh",
        MLOPS_GIT_TOKEN=SECRET,
    )
    assert found.fetch("main") == head(git, project)
    asked = (tmp_path / "asked").read_text()
    assert "git@models.example git-upload-pack" in asked
    assert ("-p 2222" in asked) == ("2222" in url)
    assert SECRET not in (tmp_path / "environ").read_text(), "the token is for http only"


def test_what_ssh_says_is_passed_on(served, mirror_of, tmp_path):
    for said, fix in (
        ("git@h: Permission denied (publickey).", "ssh-add"),
        ("Host key verification failed.", "known_hosts"),
        ("ssh: Could not resolve hostname h: Name or service not known", "tried again"),
    ):
        program = tmp_path / "ssh"
        program.write_text(f'#!/bin/sh\necho "{said}" >&2\nexit 255\n')
        program.chmod(0o755)
        with pytest.raises(Transient) as raised:
            mirror_of("git@h:x", GIT_SSH_COMMAND=str(program)).fetch("main")
        assert said.rstrip(".") in str(raised.value)
        assert fix in str(raised.value)


def test_a_refused_connection_is_transient(mirror_of):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for url in (f"https://127.0.0.1:{port}/x", f"http://127.0.0.1:{port}/x", f"http://[::1]:{port}/x"):
        with pytest.raises(Transient, match="does not answer"):
            mirror_of(url).fetch("main")


def test_a_certificate_of_nobody_is_refused(mirror_of, served, tmp_path):
    """A host that answers https with a certificate that it signed itself."""
    import ssl

    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    files = ["-keyout", "key", "-out", "certificate"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, *subject]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True)
    if made.returncode:
        pytest.skip("openssl is not here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    with GitServer(served, login=f"x-access-token:{SECRET}", tls=context) as server:
        url = f"{server.url.replace('127.0.0.1', 'localhost')}/team/models.git"
        with pytest.raises(Transient, match=r"certificate is not trusted.*GIT_SSL_CAINFO"):
            mirror_of(url, MLOPS_GIT_TOKEN=SECRET).fetch("main")
        assert server.credentials == []
        trusting = {"GIT_SSL_CAINFO": str(tmp_path / "certificate")}
        assert mirror_of(url, MLOPS_GIT_TOKEN=SECRET, **trusting).fetch("main")


@pytest.mark.parametrize(
    ("url", "address", "protocol"),
    [
        ("/srv/models", "/srv/models", "file"),
        ("file:///srv/a%20b", "/srv/a b", "file"),
        ("file://localhost/srv/x", "/srv/x", "file"),
        ("/srv/with:colon", "/srv/with:colon", "file"),
        ("git@host:team/models.git", "git@host:team/models.git", "ssh"),
        ("host:models", "host:models", "ssh"),
        ("git@[::1]:models", "git@[::1]:models", "ssh"),
        ("ssh://git@host:22/team/models", "ssh://git@host:22/team/models", "ssh"),
        ("https://host:8443/team/models", "https://host:8443/team/models", "https"),
        ("HTTPS://host/x", "https://host/x", "https"),
        ("http://127.0.0.1:8000/x", "http://127.0.0.1:8000/x", "http"),
        ("http://localhost/x", "http://localhost/x", "http"),
        ("http://[::1]:1/x", "http://[::1]:1/x", "http"),
    ],
)
def test_addresses_that_are_allowed(url, address, protocol):
    found = Remote.parse(url)
    assert (found.address, found.protocol) == (address, protocol)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "-x",
        "--upload-pack=touch /tmp/x",
        "ext::sh -c 'touch /tmp/x'",
        "EXT::x",
        "fd::3",
        "https::https://host/x",
        "git://host/x",
        "ftp://host/x",
        "ssh+git://host/x",
        "http://example.com/x",
        "http://127.0.0.1.example.com/x",
        "http://localhost@example.com/x",
        "https://host",
        "https://host/",
        "https:///x",
        "https://-host/x",
        "https://host:port/x",
        "https://ho st/x",
        "https://host/x?token=s3cret",
        "https://host/x#y",
        "https://host/x\nhttp.proxy=y",
        "ssh://-oProxyCommand=touch/x",
        "ssh://git@-oProxyCommand=x/y",
        "ssh://-u@host/x",
        "ssh://git:s3cret@host/x",
        "ssh://host",
        "-oProxyCommand=x:y",
        "git@-oProxyCommand=x:y",
        "host:-x",
        "host:",
        ":x",
        "file://host/x",
        "file://x",
        "file:///a%00b",
        "a\0b",
    ],
)
def test_addresses_that_are_refused(url, tmp_path):
    with pytest.raises(Stalled) as raised:
        Mirror(url, tmp_path / "m", environ={})
    assert "s3cret" not in str(raised.value)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    "url", ["https://s3cret@host/x", "https://me:s3cret@host/x", "http://me:s3cret@127.0.0.1/x"]
)
def test_a_credential_in_an_address_is_refused_by_the_name_of_the_variable(url):
    with pytest.raises(MlopsError, match="MLOPS_GIT_TOKEN") as raised:
        Remote.parse(url)
    assert "s3cret" not in str(raised.value)

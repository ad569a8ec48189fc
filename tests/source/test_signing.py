"""The reconciler's commits, signed: git itself says that the signature is good, and of whom."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlops.errors import Stalled
from mlops.source.proposing import Author, commit
from mlops.source.repository import Repository

BRANCH = "mlops/promotion/loan/1.1.0"
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
FILES = {"mlops.yaml": "kind: Project # changed\n"}


def make(project: Path, git, author: Author, **more: object) -> str:
    repository = Repository.discover(project)
    base = git(project, "rev-parse", "main")
    given = {"branch": BRANCH, "message": "Promote", "author": author, "at": AT, **more}
    return commit(repository, base, FILES, **given)  # type: ignore[arg-type]


@pytest.fixture
def ssh_key(tmp_path: Path) -> Path:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "mlops", "-f", key], check=True)
    return key


def signers(tmp_path: Path, key: Path, email: str) -> list[str]:
    allowed = tmp_path / "signers"
    allowed.write_text(f"{email} {key.with_suffix('.pub').read_text()}")
    return ["-c", "gpg.format=ssh", "-c", f"gpg.ssh.allowedSignersFile={allowed}"]


def test_a_commit_is_signed_with_an_ssh_key_and_git_verifies_it(project, git, tmp_path, ssh_key):
    author = Author("mlops", "mlops@acme.example", str(ssh_key))
    sha = make(project, git, author)
    git(project, *signers(tmp_path, ssh_key, author.email), "verify-commit", sha)
    known = signers(tmp_path, ssh_key, author.email)
    assert git(project, *known, "log", "-1", "--format=%G? %GS", sha) == "G mlops@acme.example"
    assert make(project, git, author) == sha
    assert git(project, "fsck", "--strict") == ""


def test_a_key_that_an_agent_holds_signs_too(project, git, tmp_path, ssh_key, monkeypatch):
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not socket.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        subprocess.run(["ssh-add", "-q", ssh_key], check=True, env=os.environ)
        literal = " ".join(ssh_key.with_suffix(".pub").read_text().split()[:2])
        author = Author("mlops", "mlops@acme.example", literal)
        sha = make(project, git, author)
        git(project, *signers(tmp_path, ssh_key, author.email), "verify-commit", sha)
    finally:
        agent.terminate()
        agent.wait()


def test_a_commit_is_signed_with_a_gpg_key(project, git, tmp_path, monkeypatch):
    home = Path("/tmp") / f"gpg-{os.getpid()}"  # a socket's path is short
    home.mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    try:
        quick = ["--batch", "--passphrase", "", "--quick-gen-key", "mlops@acme.example", "ed25519", "sign"]
        subprocess.run(["gpg", "-q", *quick], check=True, capture_output=True)
        author = Author("mlops", "mlops@acme.example", "mlops@acme.example")
        sha = make(project, git, author)
        git(project, "verify-commit", sha)
        assert make(project, git, author) == sha
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], check=True)
        shutil.rmtree(home)


def test_a_commit_that_was_made_before_there_was_a_key_is_signed_now(project, git, tmp_path, ssh_key):
    before = make(project, git, Author("mlops", "mlops@acme.example"))
    author = Author("mlops", "mlops@acme.example", str(ssh_key))
    sha = make(project, git, author)
    assert sha != before
    git(project, *signers(tmp_path, ssh_key, author.email), "verify-commit", sha)


def test_the_same_edits_with_other_words_stay_where_words_do_not_count(project, git):
    author = Author("mlops", "mlops@acme.example")
    sha = make(project, git, author)
    assert make(project, git, author, message="Other words", reworded=False) == sha
    assert make(project, git, author, message="Other words") != sha


@pytest.mark.parametrize("key", ["/nowhere/key", "nobody@nowhere.example"])
def test_without_the_key_nothing_is_committed_and_it_says_what_to_do(
    project, git, key, tmp_path, monkeypatch
):
    monkeypatch.setenv("GNUPGHOME", str(tmp_path))
    with pytest.raises(Stalled, match="git cannot sign the commit") as caught:
        make(project, git, Author("mlops", "mlops@acme.example", key))
    assert "writeBack.signingKey" in str(caught.value)
    assert git(project, "branch", "--list", BRANCH) == ""


def test_the_repository_does_not_say_which_program_signs(project, git, tmp_path, ssh_key):
    marker = tmp_path / "ran"
    program = tmp_path / "evil.sh"
    program.write_text(f"#!/bin/sh\ntouch {marker}\nexit 1\n")
    program.chmod(0o755)
    for setting in ("gpg.program", "gpg.openpgp.program", "gpg.ssh.program", "gpg.ssh.defaultKeyCommand"):
        git(project, "config", setting, str(program))
    git(project, "config", "commit.gpgSign", "true")
    make(project, git, Author("mlops", "mlops@acme.example", str(ssh_key)))
    make(project, git, Author("mlops", "mlops@acme.example"), message="Unsigned")
    assert not marker.exists()

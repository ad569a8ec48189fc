"""Signatures of git objects, verified by ssh-keygen and gpg: which key signed these bytes.

Nothing of the user's set-up decides: no configuration of git, no trust database. Whose key it is, the Project says.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mlops.approvals.people import gpg_fingerprint
from mlops.errors import MlopsError

_BEGIN: Final = re.compile(rb"^-----BEGIN (SSH|PGP) SIGNATURE-----$", re.MULTILINE)
_GOOD: Final = re.compile(rb'Good "git" signature with \S+ key (SHA256:[A-Za-z0-9+/]{43})')
_VALID: Final = re.compile(rb"^\[GNUPG:\] VALIDSIG .* ([0-9A-F]{40,64})$", re.MULTILINE)
_BAD: Final = re.compile(rb"^\[GNUPG:\] (BADSIG|ERRSIG|EXPSIG|EXPKEYSIG|REVKEYSIG|NO_PUBKEY)\b", re.MULTILINE)
_WHY: Final = {
    b"EXPSIG": "its signature has expired",
    b"EXPKEYSIG": "its key has expired",
    b"REVKEYSIG": "its key was revoked",
    b"NO_PUBKEY": "its key is unknown",
    b"ERRSIG": "its key is unknown",
}
_SECONDS: Final = 30.0


class Unverified(Exception):
    """A signature that says nothing; the text says why, in words that follow "refused: "."""


class Undecided(Unverified):
    """A signature that could say something later: it took too long, or its key may be known then."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What was signed, and the signature."""

    payload: bytes
    signature: bytes
    ssh: bool


def split(data: bytes) -> Signed:
    """Part a tag's raw bytes into what was signed and the signature at its end.

    Raises:
        Unverified: there is none, or more than one.
    """
    found = list(_BEGIN.finditer(data))
    if not found:
        raise Unverified("it is not signed")
    if len(found) > 1:
        raise Unverified("it holds more than one signature")
    at = found[0].start()
    return Signed(data[:at], data[at:], found[0][1] == b"SSH")


def split_commit(data: bytes) -> Signed:
    """Part a commit's raw bytes into what was signed and the signature in its header.

    Raises:
        Unverified: there is none, or more than one.
    """
    head, gap, message = data.partition(b"\n\n")
    kept: list[bytes] = []
    found: list[list[bytes]] = []
    taking = False
    for line in head.split(b"\n"):
        if line.startswith((b"gpgsig ", b"gpgsig-sha256 ")):
            taking = True
            found.append([line.partition(b" ")[2]])
        elif taking and line.startswith(b" "):
            found[-1].append(line[1:])
        else:
            taking = False
            kept.append(line)
    if not found:
        raise Unverified("it is not signed")
    signature = b"\n".join(found[0]) + b"\n"
    marks = _BEGIN.findall(signature)
    if not marks:
        raise Unverified("its signature is neither of SSH nor of GPG")
    if len(found) > 1 or len(marks) > 1:
        raise Unverified("it holds more than one signature")
    return Signed(b"\n".join(kept) + gap + message, signature, marks[0] == b"SSH")


@dataclass(slots=True)
class Verifier:
    """Verifies signatures; `gpg` are the approvers' GPG keys, as People has them."""

    gpg: Sequence[tuple[str, str]] = ()
    owners: dict[str, str] = field(default_factory=dict)  # e-mail by fingerprint, once the keyring is made
    _home: Path | None = None

    @classmethod
    @contextlib.contextmanager
    def with_keys(cls, gpg: Sequence[tuple[str, str]]) -> Iterator[Verifier]:
        """A verifier with a keyring of its own, that is thrown away."""
        with tempfile.TemporaryDirectory(prefix="mlops-keys-") as folder:
            verifier = cls(gpg)
            verifier._home = Path(folder)
            yield verifier

    def key_of(self, signed: Signed) -> str:
        """The fingerprint of the key that signed: `SHA256:…` of SSH, hexadecimal of the primary key of GPG.

        Raises:
            Unverified: it did not.
            MlopsError: the program that verifies is not installed.
        """
        return self._ssh(signed) if signed.ssh else self._gpg(signed)

    def _ssh(self, signed: Signed) -> str:
        assert self._home is not None
        file = self._home / "signature"
        file.write_bytes(signed.signature)
        # Whether the key may sign is not its business: it says whose signature this is.
        done = _run(["ssh-keygen", "-Y", "check-novalidate", "-n", "git", "-s", str(file)], signed.payload)
        found = _GOOD.search(done.stdout)
        if done.returncode or found is None:
            raise Unverified("its signature does not fit what it says")
        return found[1].decode()

    def _gpg(self, signed: Signed) -> str:
        assert self._home is not None
        if not self.owners:
            self._import()
        file = self._home / "signature"
        file.write_bytes(signed.signature)
        done = _run([*self._command(), "--verify", str(file), "-"], signed.payload)
        if bad := _BAD.search(done.stdout):
            kind = Undecided if bad[1] in (b"NO_PUBKEY", b"ERRSIG") else Unverified
            raise kind(_WHY.get(bad[1], "its signature does not fit what it says"))
        found = _VALID.search(done.stdout)
        if done.returncode or found is None:
            raise Unverified("its signature does not fit what it says")
        return found[1].decode()

    def _import(self) -> None:
        for email, key in self.gpg:
            mark = gpg_fingerprint(key)
            data = key.encode()
            if mark is not None:  # the key itself is in the keyring of whoever runs this
                data = _run(["gpg", "--batch", "--export", mark], b"", os.environ.get("GNUPGHOME")).stdout
            done = _run([*self._command(), "--import", "-"], data)
            for found in re.findall(
                rb"^\[GNUPG:\] IMPORT_OK \d+ ([0-9A-F]{40,64})$", done.stdout, re.MULTILINE
            ):
                if mark in (None, found.decode()):
                    self.owners[found.decode()] = email

    def _command(self) -> list[str]:
        return [
            "gpg", "--batch", "--no-options", "--no-auto-key-retrieve", "--no-auto-key-locate", "--trust-model",
            "always", "--status-fd", "1", "--homedir", str(self._home),
        ]  # fmt: skip


def _run(command: list[str], data: bytes, gnupg: str | None = None) -> subprocess.CompletedProcess[bytes]:
    path = os.environ.get("PATH", os.defpath)
    program = shutil.which(command[0], path=path)
    if program is None:
        raise MlopsError(
            f"{command[0]} was not found on PATH",
            fix=f"Install {'OpenSSH' if command[0] == 'ssh-keygen' else 'GnuPG'}: it verifies who signed.",
        )
    variables = {"PATH": path, "HOME": os.environ.get("HOME", ""), "LC_ALL": "C"}
    if gnupg:
        variables["GNUPGHOME"] = gnupg
    try:
        return subprocess.run(
            [program, *command[1:]],
            input=data,
            capture_output=True,
            env=variables,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Undecided("verifying it took too long") from None

"""Who may approve, by which keys and logins they are known, and where: what one revision's Project says."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mlops.resources.project import Forge, ProjectSpec

GITHUB: Final = "github"
AZURE: Final = "azureDevOps"
_FINGERPRINT: Final = re.compile(r"(?:0x)?([0-9A-F]{40}|[0-9A-F]{64})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class People:
    """Members by group, and e-mails by proof; e-mails and logins in lower case."""

    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)
    ssh: Mapping[str, str] = field(default_factory=dict)  # e-mail by fingerprint, `SHA256:…`
    gpg: tuple[tuple[str, str], ...] = ()  # e-mail, and a fingerprint or a public key
    logins: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # e-mail by forge and login
    forge: Forge | None = None  # where reviews of theirs count
    branch: str = ""  # pull requests into which count
    known: bool = True  # False: the Project cannot be read, so nobody is known
    signed: bool = False  # whether only revisions that one of them signed come into force

    @classmethod
    def of(cls, spec: ProjectSpec) -> People:
        """Those whom a Project names."""
        ssh, gpg = {}, []
        logins: dict[str, dict[str, str]] = {GITHUB: {}, AZURE: {}}
        for one in spec.approvers:
            email = one.email.lower()
            if one.ssh_key is not None and (mark := fingerprint(one.ssh_key)) is not None:
                ssh[mark] = email
            if one.gpg_key is not None:
                gpg.append((email, one.gpg_key))
            if one.github is not None:
                logins[GITHUB][one.github.lower()] = email
            if one.azure_dev_ops is not None:
                logins[AZURE][one.azure_dev_ops.lower()] = email
        groups = {name: frozenset(email.lower() for email in some) for name, some in spec.groups.items()}
        return cls(
            groups,
            ssh,
            tuple(gpg),
            logins,
            spec.forge,
            spec.source.branch,
            signed=spec.source.verify == "signatures",
        )

    @property
    def known_by(self) -> str:
        """A digest of the keys that count."""
        keys = repr((sorted(self.ssh.items()), self.gpg))
        return hashlib.sha256(keys.encode()).hexdigest()[:16]

    def members(self, groups: Iterable[str]) -> frozenset[str]:
        """The e-mails of everybody in any of these groups."""
        return frozenset(email for group in groups for email in self.groups.get(group, ()))


def fingerprint(public_key: str) -> str | None:
    """The SHA-256 fingerprint of a public SSH key, as `ssh-keygen -l` writes it; None where it is no key."""
    try:
        blob = base64.b64decode(public_key.split()[1], validate=True)
    except (IndexError, binascii.Error):
        return None
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return f"SHA256:{digest}"


def gpg_fingerprint(text: str) -> str | None:
    """The fingerprint that stands there instead of a GPG key, in upper case; None where it is something else."""
    found = _FINGERPRINT.fullmatch("".join(text.split()))
    return found[1].upper() if found else None

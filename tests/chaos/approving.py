"""People with keys: who may approve what goes into the guarded stage, who may not, and what each of them signed.

What was signed rightly is kept here and nowhere else, so that a stay can be judged without the product's code: by
`ssh-keygen` when it is signed, and by this list ever after.
"""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import Any, Final

from chaos.declared import GUARDED
from chaos.meddling import STRANGER
from chaos.repository import Team

LEAD, AUTHOR, UNKNOWN = "ben@example.com", "ann@example.com", "mal@example.com"
WRONG: Final = ("author", "unknown key", "other version", "other bytes", "not signed")
Approved = tuple[str, str, str]  # promotion, version, digest


class People:
    """Ben leads and writes nothing; Ann leads and writes everything; Mal is nobody."""

    def __init__(self, folder: Path) -> None:
        self._keys = {who: folder / who.partition("@")[0] for who in (LEAD, AUTHOR, UNKNOWN)}
        folder.mkdir()
        for who, key in self._keys.items():
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", who, "-f", str(key)]
            subprocess.run(make, check=True)
        self._signers = folder / "signers"
        self._signers.write_text(f"{LEAD} {self._public(LEAD)}\n")
        self.approved: set[Approved] = set()

    def declared(self) -> dict[str, Any]:
        """What the Project says of them."""
        approvers = [{"email": who, "sshKey": self._public(who)} for who in (LEAD, AUTHOR)]
        return {"approvers": approvers, "groups": {"leads": [LEAD, AUTHOR]}}

    def asked(self, team: Team, world: dict[str, Any]) -> list[Approved]:
        """What the head asks for in the guarded stage, as far as it is bound."""
        digests = {
            (version["model"], version["tags"].get("mlops.version")): version["tags"].get("mlops.digest")
            for version in world["versions"]
            if STRANGER not in version["tags"] and "mlops.archived" not in version["tags"]
        }
        found = []
        for document in team.now.of("Promotion"):
            spec = document["spec"]
            digest = digests.get((spec["model"], spec["version"]))
            if spec["stage"] == GUARDED and digest is not None:
                found.append((document["metadata"]["name"], spec["version"], digest))
        return found

    def sign(self, team: Team, asked: Approved, wrong: str | None = None) -> None:
        """Write a tag; a right one is held against `ssh-keygen` and remembered."""
        promotion, version, digest = asked
        who = {"author": AUTHOR, "unknown key": UNKNOWN}.get(str(wrong), LEAD)
        told = "0.0.1" if wrong == "other version" else version
        of = f"sha256:{'0' * 64}" if wrong == "other bytes" else digest
        text = f"mlops approval\n\npromotion: {promotion}\nversion: {told}\ndigest: {of}"
        name = f"approve/{promotion}/{version}/{(wrong or 'ben').replace(' ', '-')}"
        sign = ("-c", "gpg.format=ssh", "-c", f"user.signingKey={self._keys[who]}")
        team.git(*sign, "tag", "-f", "-a" if wrong == "not signed" else "-s", "-m", text, name)
        if wrong is None:
            team.git("-c", f"gpg.ssh.allowedSignersFile={self._signers}", "verify-tag", name)
            self.approved.add(asked)

    def forget(self, team: Team, draw: random.Random) -> str | None:
        """Delete a tag: what it let in stays in."""
        tags = team.git("tag", "--list", "approve/*").splitlines()
        if not tags:
            return None
        name = draw.choice(tags)
        team.git("tag", "--delete", name)
        return f"delete the tag {name}"

    def _public(self, who: str) -> str:
        return self._keys[who].with_suffix(".pub").read_text().strip()

"""A team with keys, a project with a guarded stage, and tags signed with plain git."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml
from git_project import GitProject, document, experiment, promotion, version

ANN, BEN, EVE, MAL = "ann@example.com", "ben@example.com", "eve@example.com", "mal@example.com"
WHO = (ANN, BEN, EVE, MAL)


class Team:
    """A project with a guarded stage, and a key for each of its people; Ann wrote all of it, Mal is a stranger."""

    def __init__(self, place: Path, **rule: Any) -> None:
        self.place = place
        self.keys = {who: place / who.partition("@")[0] for who in WHO}
        for who, key in self.keys.items():
            generate = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", who, "-f", str(key)]
            subprocess.run(generate, check=True)
        self.approvers = [{"email": who, "sshKey": self.public(who)} for who in (ANN, BEN, EVE)]
        self.groups = {"leads": [ANN, BEN]}
        approvals = {"required": 1, "from": ["leads"], **rule}
        self.documents = [
            document("Dataset", "rows", {"uri": "data/rows.csv", "format": "csv"}),
            experiment(),
            document("Model", "m", {"description": "A model"}),
            version("1.0.0"),
            document("Stage", "prod", {"approvals": approvals}),
            promotion("prod", "1.0.0"),
        ]
        self.it = GitProject(place / "p", self.documents, **self.project())

    def public(self, who: str) -> str:
        return self.keys[who].with_suffix(".pub").read_text().strip()

    def project(self) -> dict[str, Any]:
        return {"approvers": self.approvers, "groups": self.groups}

    def write(self, message: str = "change", author: str = ANN) -> str:
        self.it.write("mlops.yaml", yaml.safe_dump(document("Project", "p", self.project())))
        self.it.declare(self.documents)
        self.it.git("add", "-A")
        self.it.git("-c", f"user.email={author}", "commit", "-q", "--allow-empty", "-m", message)
        return self.it.git("rev-parse", "HEAD")

    def release(self, number: str, author: str = ANN) -> str:
        self.documents.insert(4, version(number, source={"experiment": "fit", "artifact": "model.txt"}))
        self.documents[-1] = promotion("prod", number)
        return self.write(f"Release {number}", author)

    def digest(self, number: str = "1") -> str:
        return str(self.it.client.get_model_version("m", number).tags["mlops.digest"])

    def signs(self, who: str, number: str = "1.0.0", text: str | None = None, **other: str) -> str:
        """A tag signed with plain git."""
        say = {"promotion": "m-prod", "version": number, "digest": ""} | other
        say["digest"] = say["digest"] or self.digest()
        message = text or "mlops approval\n\n" + "".join(f"{key}: {value}\n" for key, value in say.items())
        name = f"approve/m-prod/{number}/{who.replace('@', '%40')}"
        ssh = ["-c", "gpg.format=ssh", "-c", f"user.signingKey={self.keys[who]}"]
        self.it.git(*ssh, "tag", "-f", "-s", "-m", message.removesuffix("\n"), name)
        return name

    def stands(self) -> dict[str, int]:
        return {name: int(at) for name, at in self.it.client.get_registered_model("m").aliases.items()}

    def why(self, capsys: Any) -> str:
        plan = self.it.json(capsys, "plan")
        return " ".join(block["message"] for block in plan["blocked"] if block["reason"] == "ApprovalPending")

"""Three people and a model: who may put what into production, on what evidence, and how it comes back out.

`python demo.py [FOLDER]` makes a bare git repository that they share, a clone for each of them and one for the
controller, in FOLDER (default: `demo-team-run/` in the checkout), and runs the commands that they would run, each
with who runs it. No forge is needed: approvals are signed tags. Needs `mlops` installed beside the Python that runs
this, git, and ssh-keygen.
"""

import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parent
sys.path.insert(0, str(EXAMPLE.parent))

from narrated import Folder, colour, fresh, say, surroundings  # noqa: E402

PEOPLE = ("ada", "ben", "cleo")
PRODUCTION = "diagnosis-production"
VERSION = """\
---
apiVersion: mlops/v1
kind: ModelVersion
metadata: {{name: diagnosis-{version}}}
spec:
  model: diagnosis
  version: {version}
  source: {{experiment: diagnosis, artifact: model}}
"""


class Team:
    """The shared repository, and the clones of those who work with it."""

    def __init__(self, home: Path) -> None:
        self.home, self.origin = home, home / "origin.git"
        self.environment = surroundings() | {
            "CLINIC_MLFLOW": f"sqlite:///{home / 'mlflow.db'}",
            "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),  # not what the person at the keyboard has set
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        here = Folder(home, self.environment)
        here.quietly("git", "init", "--quiet", "--bare", "--initial-branch=main", str(self.origin))
        (home / "keys").mkdir(mode=0o700)
        for who in PEOPLE:
            key = str(home / "keys" / who)
            here.quietly("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.email(who), "-f", key)
        self.ada, self.ben, self.cleo = (self._clone(who) for who in PEOPLE)
        self.controller = self._clone("controller")

    @staticmethod
    def email(who: str) -> str:
        """Somebody's address."""
        return f"{who}@clinic.example"

    def public_key(self, who: str) -> str:
        """Somebody's public SSH key, as it stands in `mlops.yaml`."""
        return (self.home / "keys" / f"{who}.pub").read_text(encoding="utf-8").strip()

    def _clone(self, who: str) -> Folder:
        path = self.home / who
        Folder(self.home, self.environment).quietly(
            "git", "clone", "--quiet", "-c", "advice.detachedHead=false", str(self.origin), str(path)
        )
        folder = Folder(path, self.environment, f"{who} ")
        settings = {"user.name": who.title(), "user.email": self.email(who), "commit.gpgSign": "false"}
        if who in PEOPLE:
            key = str(self.home / "keys" / f"{who}.pub")
            settings |= {"gpg.format": "ssh", "user.signingKey": key}
        for name, value in settings.items():
            folder.quietly("git", "config", name, value)
        return folder

    def reconcile(self, expect: int = 0) -> None:
        """What the daemon or the CI job of the team does after each push."""
        self.controller.quietly("git", "pull", "--quiet", "--tags", "origin", "main")
        self.controller.run("mlops", "apply", expect=expect)


def tell(team: Team) -> None:
    """The story."""
    ada, ben, cleo = team.ada, team.ben, team.cleo
    say(
        "Ada writes the first model down. Who the leads are, and their public keys, stand in mlops.yaml; production\n"
        "asks for one of them who did not write the change."
    )
    shutil.copytree(EXAMPLE, ada.path, ignore=shutil.ignore_patterns("demo.py", "__pycache__", ".mlops"),
                    dirs_exist_ok=True)  # fmt: skip
    keys = "".join(f"\n    - {{email: {team.email(who)}, sshKey: {team.public_key(who)}}}" for who in PEOPLE)
    ada.edit("mlops.yaml", "approvers: []", f"approvers:{keys}")
    ada.run("cat", "mlops.yaml", "resources/stages.yaml")
    ada.quietly("git", "add", ".")
    ada.run("git", "commit", "--quiet", "--message", "Diagnose from two measurements, as 1.0.0")
    ada.run("git", "push", "--quiet", "origin", "main")

    say(
        "The controller trains it and takes it through dev and staging. Production waits for a person: exit code 3."
    )
    team.reconcile(expect=3)
    say("Ada is a lead, but it is her change. She may sign; it does not count, and that is said.")
    ada.run("mlops", "approve", PRODUCTION, expect=1)
    say("Ben looks at the evidence and signs: this promotion, this version, these bytes.")
    ben.quietly("git", "pull", "--quiet", "origin", "main")
    ben.run("mlops", "approve", PRODUCTION)
    ben.run("git", "push", "--quiet", "origin", "--tags")
    team.reconcile()

    say(
        "A challenger: all ten measurements. Ada declares 1.1.0, which dev and staging take, and proposes it for\n"
        "production."
    )
    ada.edit("resources/model.yaml", "measurements: two", "measurements: all")
    release(team, "1.1.0")
    team.reconcile()
    ada.run("mlops", "promote", "diagnosis", "1.1.0", "--to", "production")
    merge(ada)
    say(
        "The gate has compared it with the champion on the same rows. The approval of 1.0.0 is worth nothing here."
    )
    team.reconcile(expect=3)
    cleo.quietly("git", "pull", "--quiet", "origin", "main")
    cleo.run("mlops", "approve", PRODUCTION)
    cleo.run("git", "push", "--quiet", "origin", "--tags")
    team.reconcile()

    say(
        "An eager model finds more tumours, and raises more false alarms: 1.2.0 reaches staging, and no further."
    )
    ada.edit("resources/model.yaml", "model: logistic", "model: eager")
    release(team, "1.2.0")
    team.reconcile()
    ada.run("mlops", "promote", "diagnosis", "1.2.0", "--to", "production")
    merge(ada)
    team.reconcile(expect=3)
    team.controller.run("mlops", "describe", f"Promotion/{PRODUCTION}")
    say("Ada takes that back with git.")
    ada.run("git", "revert", "--no-edit", "-m", "1", "HEAD")
    ada.run("git", "push", "--quiet", "origin", "main")
    team.reconcile()

    say(
        "At night 1.1.0 misbehaves. Cleo rolls back; 1.0.0 was approved for production once, so nobody is woken."
    )
    cleo.quietly("git", "pull", "--quiet", "origin", "main")
    cleo.run("mlops", "rollback", PRODUCTION)
    merge(cleo)
    team.reconcile()

    say("What was in production, since when, who approved it, on what evidence? Git and MLflow answer.")
    team.controller.run("mlops", "history", "diagnosis")
    team.controller.run("git", "--no-pager", "log", "--oneline", "--graph", "--decorate")


def release(team: Team, version: str) -> None:
    """Ada declares a version; dev and staging take the latest one."""
    team.ada.append("resources/model.yaml", VERSION.format(version=version))
    team.ada.commit(f"Declare {version}")
    team.ada.run("git", "push", "--quiet", "origin", "main")


def merge(who: Folder) -> None:
    """Somebody merges the proposal that was pushed last, as the button of a forge would."""
    who.quietly("git", "fetch", "--quiet", "origin")
    newest = ("for-each-ref", "--sort=-creatordate", "--count=1", "--format=%(refname:short)")
    branch = subprocess.run(
        ["git", *newest, "refs/remotes/origin/mlops"],
        cwd=who.path, env=who.environment, stdout=subprocess.PIPE, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    who.run("git", "--no-pager", "diff", "-U0", f"main...{branch}")
    who.run("git", "merge", "--quiet", "--no-ff", "--no-edit", branch)
    who.run("git", "push", "--quiet", "origin", "main")


def main() -> None:
    """Run the demo in the folder named on the command line."""
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        return
    if len(sys.argv) > 2:
        sys.exit("One folder at most. `--help` says more.")
    began = time.monotonic()
    home = fresh(
        (Path(sys.argv[1]) if len(sys.argv) == 2 else EXAMPLE.parents[1] / "demo-team-run").absolute()
    )
    print(colour("1", f"A team of three, in {home}"), flush=True)
    tell(Team(home))
    say(f"Done in {time.monotonic() - began:.0f} seconds. Their clones, and the repository they share:")
    print(f"\n  cd {shlex.quote(str(home))}")


if __name__ == "__main__":
    main()

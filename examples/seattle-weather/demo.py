"""The whole story in one session: train, register, promote, improve, heal, roll back.

`python demo.py [FOLDER]` copies this example into a git repository of its own (default: `demo-run/` in the
checkout) and runs the commands a team would run, each printed first. A command that fails ends the demo with
that command's exit code. Needs `mlops` installed beside the Python that runs this, and git.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parent
MARK = ".made-by-the-demo"
STORE = "sqlite:///.mlops/mlflow.db"
BY_HAND = f"""
import mlflow
client = mlflow.MlflowClient("{STORE}")
client.set_registered_model_alias("seattle-weather", "production", "1")
print("production is now version 1")
"""
VERSION_1_1_0 = """\
---
apiVersion: mlops/v1
kind: ModelVersion
metadata: {name: seattle-weather-1.1.0}
spec:
  model: seattle-weather
  version: 1.1.0
  source: {experiment: weather-ridge, artifact: model}
"""


def colour(code: str, text: str) -> str:
    """`text` in an ANSI colour if a person looks at it."""
    shown = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return f"\033[{code}m{text}\033[0m" if shown else text


def say(text: str) -> None:
    """A line or two between two commands."""
    print(f"\n{colour('36', text.strip())}", flush=True)


class Session:
    """A folder, and the commands that are run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tools = Path(sys.executable).parent
        # A surrounding git hook or GIT_DIR must not redirect the demo's git to another repository.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        self.environment = inherited | {"PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"}

    def run(self, *command: str) -> None:
        """Print a command and run it with its output going straight through; stop the demo if it fails."""
        print(f"\n{colour('1;32', '$')} {colour('1', shlex.join(command))}", flush=True)
        program = shutil.which(command[0], path=self.environment["PATH"])
        if program is None:
            sys.exit(f"{command[0]} is not installed. `make install` in the checkout installs mlops.")
        done = subprocess.run([program, *command[1:]], cwd=self.folder, env=self.environment, check=False)
        if done.returncode:
            print(
                f"\n{shlex.join(command)} ended with {done.returncode}: the demo stops here.", file=sys.stderr
            )
            sys.exit(done.returncode if done.returncode > 0 else 128 - done.returncode)

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace `old` by `new` in a file of the folder; `old` has to be there."""
        file = self.folder / name
        text = file.read_text(encoding="utf-8")
        if old not in text:
            sys.exit(f"{file} does not hold {old!r}. Start from an unchanged copy of the example.")
        file.write_text(text.replace(old, new), encoding="utf-8")

    def append(self, name: str, text: str) -> None:
        """Write `text` at the end of a file of the folder."""
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(text)

    def commit(self, message: str) -> None:
        """Show what was changed, and commit it."""
        self.run("git", "--no-pager", "diff", "-U0")
        self.run("git", "commit", "--quiet", "--all", "--message", message)


def fresh(home: Path) -> Path:
    """An empty folder for the project in `home`, which is replaced only if the demo made it."""
    if home.exists():
        ours = home.is_dir() and not home.is_symlink()
        if not ours or (any(home.iterdir()) and not (home / MARK).is_file()):
            sys.exit(f"{home} was not made by the demo. Remove it yourself, or name another folder.")
        shutil.rmtree(home)
    home.mkdir(parents=True)
    (home / MARK).write_text("The demo replaces this folder when it is run again.\n", encoding="utf-8")
    return home / "seattle-weather"


def tell(session: Session) -> None:
    """The story."""
    say("A project is a git repository: what should be is in YAML, beside the code and the data.")
    session.run("git", "init", "--quiet", "--initial-branch=main")
    settings = {"user.name": "Demo", "user.email": "demo@example.com", "commit.gpgSign": "false"}
    for name, value in settings.items():
        session.run("git", "config", name, value)
    session.run("git", "add", ".")
    session.run("git", "commit", "--quiet", "--message", "Forecast tomorrow's maximum temperature")

    say("Is the YAML right? This asks neither MLflow nor the network.")
    session.run("mlops", "validate")
    say("What would happen? Nothing is there yet: train a sweep of four trials, register 1.0.0, promote it.")
    session.run("mlops", "plan")
    say("Do it. Two trials run at a time; then the best one becomes 1.0.0 and goes through the gates.")
    session.run("mlops", "apply")

    say("What depends on what, and how does it stand?")
    session.run("mlops", "tree")
    session.run("mlops", "get")
    say('The trials. `skill` says how much better than "tomorrow is like today" each one is.')
    session.run("mlops", "runs", "weather-ridge")

    say("The season should help: one line of the experiment changes, and its best run shall be 1.1.0.\n"
        "The stage dev takes the latest version; staging and production stay as they are.")  # fmt: skip
    session.edit("resources/experiments.yaml", "features: weather\n", "features: weather+season\n")
    session.append("resources/model.yaml", VERSION_1_1_0)
    session.commit("Teach the model the season, as 1.1.0")
    session.run("mlops", "plan")
    session.run("mlops", "apply")
    session.run("mlops", "runs", "weather-ridge")

    say("It is better. A release is a change of two numbers in git; the plan shows what that will do.")
    session.edit("resources/promotions.yaml", "version: 1.0.0", "version: 1.1.0")
    session.commit("Release 1.1.0 to staging and production")
    session.run("mlops", "plan")
    session.run("mlops", "apply")
    say("Again? There is nothing to do: git and MLflow agree.")
    session.run("mlops", "apply")

    say("Now someone moves the production alias in MLflow by hand. The plan notices, and apply heals it.")
    session.run("python", "-c", BY_HAND)
    session.run("mlops", "plan")
    session.run("mlops", "apply")

    say("1.1.0 disappoints its users. Rolling back is reverting the commit that released it.")
    session.run("git", "revert", "--no-edit", "HEAD")
    session.run("mlops", "plan")
    session.run("mlops", "apply")
    session.run("mlops", "tree")

    say("Who promoted what, where, when and at which commit: all of it is kept.")
    session.run("mlops", "history", "seattle-weather")


def main() -> None:
    """Run the demo in the folder named on the command line."""
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        return
    if len(sys.argv) > 2:
        sys.exit("One folder at most. `--help` says more.")
    began = time.monotonic()
    home = Path(sys.argv[1]) if len(sys.argv) == 2 else EXAMPLE.parents[1] / "demo-run"
    project = fresh(home.absolute())
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("demo.py", ".mlops", "__pycache__"))
    print(colour("1", f"Seattle weather, in {project}"), flush=True)
    tell(Session(project))
    say(f"Done in {time.monotonic() - began:.0f} seconds. Look at the runs, the versions and their aliases:")
    mlflow = Path(sys.executable).parent / "mlflow"
    print(f"\n  cd {shlex.quote(str(project))} && {mlflow} ui --backend-store-uri {STORE}")


if __name__ == "__main__":
    main()

"""How the examples tell their stories: commands that are shown before they are run, in a folder made for it."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

MARK = ".made-by-the-demo"


def colour(code: str, text: str) -> str:
    """`text` in an ANSI colour if a person looks at it."""
    shown = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return f"\033[{code}m{text}\033[0m" if shown else text


def say(text: str) -> None:
    """A line or two between two commands."""
    print(f"\n{colour('36', text.strip())}", flush=True)


def show(command: str, who: str = "") -> None:
    """The command that is run now, as a person would have typed it."""
    print(f"\n{colour('1;32', f'{who}$')} {colour('1', command)}", flush=True)


def fresh(home: Path) -> Path:
    """`home` as an empty folder; what is there is replaced only if a demo made it."""
    if home.exists():
        ours = home.is_dir() and not home.is_symlink()
        if not ours or (any(home.iterdir()) and not (home / MARK).is_file()):
            sys.exit(f"{home} was not made by the demo. Remove it yourself, or name another folder.")
        shutil.rmtree(home)
    home.mkdir(parents=True)
    (home / MARK).write_text("The demo replaces this folder when it is run again.\n", encoding="utf-8")
    return home


def surroundings() -> dict[str, str]:
    """The environment of a demo's commands: these tools first, and no surrounding git hook or GIT_DIR."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return inherited | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


class Folder:
    """A folder, the commands that are run in it, and who runs them."""

    def __init__(self, path: Path, environment: dict[str, str], who: str = "") -> None:
        self.path, self.environment, self.who = path, environment, who

    def run(self, *command: str, expect: int = 0) -> None:
        """Print a command and run it with its output going straight through; stop the demo if it ends otherwise."""
        show(shlex.join(command), self.who)
        self.quietly(*command, expect=expect)

    def quietly(self, *command: str, expect: int = 0) -> None:
        """Run a command that the story does not need to show."""
        done = subprocess.run(self.found(command), cwd=self.path, env=self.environment, check=False)
        if done.returncode != expect:
            self.failed(shlex.join(command), done.returncode or 1)

    def found(self, command: tuple[str, ...]) -> list[str]:
        """The command with its program's path."""
        program = shutil.which(command[0], path=self.environment["PATH"])
        if program is None:
            sys.exit(f"{command[0]} is not installed. `make install` in the checkout installs mlops.")
        return [program, *command[1:]]

    def failed(self, what: str, code: int) -> NoReturn:
        """End the demo with the exit code of what failed."""
        print(f"\n{what} ended with {code}: the demo stops here.", file=sys.stderr)
        sys.exit(code if code > 0 else 128 - code)

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace `old` by `new` in a file of the folder; `old` has to be there."""
        file = self.path / name
        text = file.read_text(encoding="utf-8")
        if old not in text:
            sys.exit(f"{file} does not hold {old!r}. Start from an unchanged copy of the example.")
        file.write_text(text.replace(old, new), encoding="utf-8")

    def append(self, name: str, text: str) -> None:
        """Write `text` at the end of a file of the folder."""
        with (self.path / name).open("a", encoding="utf-8") as file:
            file.write(text)

    def commit(self, message: str) -> None:
        """Show what was changed, and commit it."""
        self.run("git", "--no-pager", "diff", "-U0")
        self.run("git", "commit", "--quiet", "--all", "--message", message)

"""What every command prints through: data on stdout, the rest on stderr, secrets in neither."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from rich.console import Console

    from mlops.controller import Controller
    from mlops.redaction import Redactor
    from mlops.resources import Problem


class Guarded:
    """A text stream that redacts whatever is written to it."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.redactor: Redactor | None = None

    def write(self, text: str) -> int:
        if self.redactor is None:
            from mlops.redaction import Redactor

            self.redactor = Redactor.from_environ(os.environ, ())
        self.stream.write(_encodable(self.redactor.redact(text), self.stream))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def guard_streams() -> None:
    """Put the redactor between the program and its output; once a process."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, Guarded):
            setattr(sys, name, Guarded(stream))


def know_secrets(redactor: Redactor) -> None:
    """From now on hide what this project's variables hold, too."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Guarded):
            stream.redactor = redactor


def _encodable(text: str, stream: TextIO) -> str:
    """`text` without what the stream cannot encode (file names need not be Unicode)."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def open_controller(ctx: click.Context) -> Controller:
    """The controller of the project that the command line names; closed when the command ends."""
    from mlops.controller import Controller

    controller = Controller.find(Path(ctx.obj["project"] or "."))
    ctx.call_on_close(controller.close)
    controller.on_redactor = know_secrets
    controller.on_warning = lambda warning: say(f"warning: {warning}")
    return controller


def console(*, stderr: bool = False) -> Console:
    """A rich console: styles only on a terminal and without NO_COLOR, full width where output is piped."""
    from rich.console import Console
    from rich.text import Text

    class Plain(Console):
        """Strings are text and nothing else: neither rich's markup nor control characters count in them."""

        def render_str(self, text: str, **settings: Any) -> Text:
            return super().render_str(plain(text), **{**settings, "markup": False, "emoji": False})

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 200
    settings: dict[str, Any] = {"color_system": None} if os.environ.get("NO_COLOR") else {}
    return Plain(file=stream, width=width, highlight=False, soft_wrap=not stream.isatty(), **settings)


def print_lines(lines: Iterable[tuple[str, str]], *, stderr: bool = False) -> None:
    """Lines with a style of rich each; where nobody sees colour, rich is not even imported."""
    stream = sys.stderr if stderr else sys.stdout
    if not stream.isatty():
        stream.write("".join(f"{plain(text)}\n" for text, _ in lines))
        return
    terminal = console(stderr=stderr)
    for text, style in lines:
        terminal.print(text, style=style or None, markup=False)


def say(text: str) -> None:
    """One line for the person, on stderr."""
    print(plain(text), file=sys.stderr)


def plain(text: str) -> str:
    """`text` with its lines as they are and nothing that could steer a terminal; what is left out is shown so."""
    if text.isprintable():
        return text
    lines = text.replace("\r\n", "\n").replace("\t", "    ").split("\n")
    return "\n".join(
        "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)
        for line in lines
    )


def one_line(text: str) -> str:
    """`text` on one line, each run of spaces and line ends as one space."""
    return plain(" ".join(text.split()))


def print_problems(problems: Iterable[Problem | str]) -> int:
    """Print every problem with its place on stderr; gives how many there are."""
    count = 0
    for problem in problems:
        say(str(problem))
        count += 1
    if count:
        say(f"{count} error{'s' if count != 1 else ''}")
    return count


def print_json(value: Any) -> None:
    """Data for programs: valid JSON also where a metric is NaN."""
    from mlops.finite import finite

    print(json.dumps(finite(value), indent=2, ensure_ascii=False))


def print_yaml(value: Any) -> None:
    """Data as YAML."""
    import yaml

    from mlops.finite import finite

    yaml.dump(finite(value), sys.stdout, Dumper=yaml.SafeDumper, sort_keys=False, allow_unicode=True)


def duration(text: str) -> float:
    """The seconds of an option's `30s`, `15m`, `24h` or `7d`."""
    from mlops.resources.quantities import parse_duration

    try:
        return parse_duration(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a duration. Write it like 30s, 15m, 24h or 7d.") from None


def output_option(*formats: str) -> Callable[[Any], Any]:
    """`-o FORMAT`; without it the output is for people."""
    return click.option("-o", "--output", type=click.Choice(formats), help="Output for programs.")


def revision_options(command: Any) -> Any:
    """`--revision REV` and `--working-tree`."""
    command = click.option(
        "--working-tree", is_flag=True, help="The files as they stand, instead of a commit."
    )(command)
    return click.option("--revision", metavar="REV", help="The commit to look at. Default: HEAD.")(command)

"""The command `mlops`, also as `python -m mlops`: what has to be so before the first import that takes time."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; a daemon that is told to stop before it has begun ends as well as one that runs."""
    if _names_the_daemon(sys.argv[1:]):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: os._exit(0))
    from mlops.cli import main as begin

    begin()


def _names_the_daemon(arguments: Iterable[str]) -> bool:
    rest = iter(arguments)
    for argument in rest:
        if argument in ("--project", "--server"):
            next(rest, None)
        elif not argument.startswith("-"):
            return argument == "daemon"
    return False


if __name__ == "__main__":
    main()

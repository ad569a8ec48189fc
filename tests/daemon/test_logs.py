"""The log: one line an event, without secrets, and never in the way of the daemon."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlops.daemon.logs import LOGGER, event, logging_to
from mlops.errors import MlopsError
from mlops.redaction import Redactor

CANARY = "canary-of-the-tests"
REDACT = Redactor((CANARY,)).redact
HOSTILE = 'line\nforged {"level": "error"}\r\x1b[31mred\x00\u2028\u202e\udcff\U000e0001 "quoted" \\ \x7f'


@contextmanager
def logged(**settings: Any) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    with logging_to(stream, REDACT, **settings):
        yield stream


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.split("\n") if line]


def test_an_event_is_one_line_of_json_with_its_fields() -> None:
    with logged() as stream:
        event(
            "Healed", "the alias is back", resource="Model/m", seconds=0.1234567, step=None, count=3, ok=True
        )
    (row,) = rows(stream.getvalue())
    assert list(row) == ["ts", "level", "event", "message", "resource", "seconds", "count", "ok"]
    assert row["ts"].endswith("Z")
    assert (row["level"], row["event"], row["seconds"], row["count"]) == ("info", "Healed", 0.123457, 3)


def test_hostile_text_is_one_printable_line_and_reads_back_as_it_was() -> None:
    with logged() as stream:
        event("Odd", HOSTILE, resource=HOSTILE, names=[HOSTILE, "x"])
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text[:-1].isprintable()
    (row,) = rows(text)
    assert (row["message"], row["resource"], row["names"]) == (HOSTILE, HOSTILE, [HOSTILE, "x"])


def test_a_percent_sign_and_braces_are_only_text() -> None:
    with logged() as stream:
        event("Odd", "100 %s of {it} %(x)s", why="%d")
    assert rows(stream.getvalue())[0]["message"] == "100 %s of {it} %(x)s"


def test_fields_cannot_take_the_place_of_what_every_line_has() -> None:
    with logged() as stream:
        LOGGER.info("here", extra={"event": "Real", "fields": {"event": "Forged", "ts": 0, "level": "x"}})
    (row,) = rows(stream.getvalue())
    assert (row["event"], row["level"]) == ("Real", "info")


def test_no_secret_is_logged_wherever_it_stands() -> None:
    with logged() as stream:
        event(
            "Odd", f"a {CANARY}", url=f"https://user:{CANARY}@host/", many=[CANARY], error=ValueError(CANARY)
        )
        logging.getLogger("other").warning("library %s", CANARY)
    assert CANARY not in stream.getvalue()
    assert stream.getvalue().count("***") >= 4


def test_an_error_of_ours_has_no_trace_and_a_defect_has_one() -> None:
    def failed(error: Exception) -> Exception:
        try:
            raise error
        except Exception as raised:
            return raised

    with logged() as stream:
        event("Failed", "no", error=failed(MlopsError("broken")))
        event("Failed", "no", error=failed(KeyError("x")))
    ours, defect = rows(stream.getvalue())
    assert (ours["error"], "traceback" in ours) == ("MlopsError", False)
    assert defect["error"] == "KeyError"
    assert "test_logs.py" in defect["traceback"]


def test_libraries_are_heard_from_warning_on_and_afterwards_all_is_as_before() -> None:
    before = (logging.getLogger().handlers[:], logging.getLogger().level, LOGGER.level)
    configures = os.environ.get("MLFLOW_CONFIGURE_LOGGING")
    with logged() as stream:
        logging.getLogger("sqlalchemy.pool").info("not this")
        logging.getLogger("sqlalchemy.pool").warning("but this")
        warnings.warn("and this", UserWarning, stacklevel=1)
        LOGGER.debug("nor this")
    assert [row["event"] for row in rows(stream.getvalue())] == ["sqlalchemy.pool", "py.warnings"]
    assert (logging.getLogger().handlers[:], logging.getLogger().level, LOGGER.level) == before
    assert os.environ.get("MLFLOW_CONFIGURE_LOGGING") == configures


def test_a_value_that_cannot_be_shown_is_a_line_and_no_error() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no")

    with logged() as stream:
        event("Odd", "here", value=Broken())
        event("Fine", "there", nan=float("nan"), long="x" * 100_000)
    broken, fine = rows(stream.getvalue())
    assert (broken["event"], broken["message"]) == ("LineBroken", "RuntimeError")
    assert (fine["nan"], len(fine["long"]) < 20_000) == ("nan", True)


def test_a_pipe_that_nobody_reads_costs_lines_and_no_time_and_says_so_later() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        done = threading.Event()

        def talk() -> None:
            with logging_to(stream, REDACT):
                for number in range(3000):
                    event("Said", "x" * 200, number=number)
                done.set()

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        assert done.wait(60), "writing waits for a reader"
        thread.join()
        kept = rows(os.read(reader, 1 << 20).decode().rpartition("\n")[0])
        assert 0 < len(kept) < 3000
    os.close(reader)


def test_lines_that_were_lost_are_counted_when_somebody_reads_again() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, logging_to(stream, REDACT):
        for number in range(1000):
            event("Said", "x" * 500, number=number)
        first = os.read(reader, 1 << 20).decode()
        event("Back", "here again")
        later = os.read(reader, 1 << 20).decode()
    os.close(reader)
    whole = rows("\n".join(line for line in (first + later).split("\n") if line.endswith("}")))
    lost = [row for row in whole if row["event"] == "LinesLost"]
    said = [row for row in whole if row["event"] == "Said"]
    assert len(lost) == 1
    assert lost[0]["lines"] + len(said) == 1000
    assert whole[-1]["event"] == "Back"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_stops_nothing() -> None:
    with Path("/dev/full").open("w") as stream, logging_to(stream, REDACT):
        for _ in range(10):
            event("Said", "x")


def test_a_stream_that_was_closed_stops_nothing() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, logging_to(stream, REDACT):
        os.close(reader)
        event("Said", "nobody is there")
    gone = io.StringIO()
    with logging_to(gone, REDACT):
        gone.close()
        event("Said", "nobody is there")


def test_on_a_terminal_the_lines_are_for_people_and_still_inert() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream, logging_to(stream, REDACT):
        event("Healed", "the alias is back", resource="Model/m")
        event("Odd", HOSTILE, level=logging.WARNING)
        event(
            "Bound",
            "m v1",
            resource="ModelVersion/m",
            step="bind:ModelVersion/m",
            revision="ab" * 20,
            cause="x",
        )
        shown = _lines(ours, 3)
        event("Failed", "no", error=ValueError("x"))
        traced = _lines(ours, 2)
    os.close(ours)
    first, second, third = shown.splitlines()
    assert first.split()[1:] == ["Healed", "the", "alias", "is", "back", "resource=Model/m"]
    assert third.split()[1:] == ["Bound", "m", "v1", "step=bind:ModelVersion/m", "revision=abababababab"]
    assert "WARNING Odd" in second
    assert second.isprintable()
    assert "ValueError" in traced


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    place = tmp_path / "log"
    with place.open("w") as stream, logging_to(stream, REDACT):

        def talk(thread: int) -> None:
            for number in range(200):
                event("Said", "y" * 5000, thread=thread, number=number)

        threads = [threading.Thread(target=talk, args=(n,)) for n in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert len(rows(place.read_text())) == 800


def _lines(terminal: int, count: int) -> str:
    """What was written to a terminal, once it is so many lines."""
    shown = b""
    while shown.count(b"\n") < count:
        shown += os.read(terminal, 65536)
    return shown.decode()

"""The child process that runs alibi-detect: started when needed, limited in time and memory, killed at the end."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from mlops.errors import MlopsError, Stalled, Transient
from mlops.monitoring.alibi.catalogue import PYTHON
from mlops.monitoring.alibi.requests import Request
from mlops.monitoring.detectors.binned import Measured

_LENGTH = struct.Struct("<Q")
_LONGEST_ANSWER = 1 << 20  # bytes
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_INSTALL = (
    "Install mlops-controller[alibi] on a Python below 3.13, or set {python} to the Python of an environment that has "
    "alibi-detect"
)


class Worker:
    """Asks alibi-detect. One child for all requests; it ends with the `with` block, with `close`, or with this process.

    Args:
        python: the interpreter of an environment with alibi-detect; by default `MLOPS_ALIBI_PYTHON`, else this one.
        seconds: that one request may take, the start of the child included.
        memory: bytes that the child may map.
    """

    def __init__(self, python: str | None = None, *, seconds: float = 300.0, memory: int = 8 << 30) -> None:
        self._python = python or os.environ.get(PYTHON) or sys.executable
        self._seconds = seconds
        self._memory = memory
        self._child: subprocess.Popen[bytes] | None = None
        self._busy = threading.Lock()
        self._closed = False

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def measure(self, requests: Sequence[Request]) -> list[Measured | MlopsError]:
        """What each of them measured, or why it did not; one that fails or kills the child leaves the others alone."""
        with self._busy:
            found: list[Measured | MlopsError] = []
            for request in requests:
                try:
                    found.append(_read(request, self._asked(request)))
                except MlopsError as error:
                    found.append(error)
            return found

    def close(self) -> None:
        """Kill the child, also while another thread asks it; nothing can be asked after that."""
        self._closed = True
        child = self._child
        if child is not None:
            _end(child)  # whoever waits for its answer hears the pipe's end
        with self._busy:
            self._kill()

    def _asked(self, request: Request) -> Any:
        name = request.detector.name
        end = time.monotonic() + self._seconds
        child = self._started(name)
        try:
            answer = self._exchange(child, _message(request), end)
        except TimeoutError:
            self._kill()
            raise Stalled(
                f"{name} took longer than {self._seconds:g} seconds",
                fix="Compare fewer columns, or choose another",
            ) from None
        except (OSError, ValueError):  # the pipe broke, or what came is no answer
            self._kill()
            if self._closed:
                raise Transient(f"{name} was stopped") from None
            status = child.wait()
            ended = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            raise MlopsError(
                f"{name} gave no answer: its process {ended}",
                fix="See that alibi-detect runs in its environment",
            ) from None
        return answer

    def _started(self, name: str) -> subprocess.Popen[bytes]:
        if self._closed:
            raise Transient(f"{name} was stopped")
        if self._child is None or self._child.poll() is not None:
            self._kill()
            variables = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
            argv = [self._python, "-I", "-W", "ignore", str(Path(__file__).with_name("child.py"))]
            try:
                self._child = subprocess.Popen(
                    [*argv, str(self._memory), str(86_400)],
                    env={
                        **variables,
                        **dict.fromkeys(_ONE_THREAD, "1"),
                        "CUDA_VISIBLE_DEVICES": "",
                        "PYTHONHASHSEED": "0",
                    },
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # one group to kill
                )
            except OSError as error:
                raise Stalled(
                    f"{name} cannot start: {error.strerror}", fix=_INSTALL.format(python=PYTHON)
                ) from None
            for pipe in (self._child.stdin, self._child.stdout):
                assert pipe is not None
                os.set_blocking(pipe.fileno(), False)
        return self._child

    def _exchange(self, child: subprocess.Popen[bytes], message: bytes, end: float) -> Any:
        """Raises TimeoutError, OSError when the child is gone, ValueError for what is no answer."""
        assert child.stdin is not None
        assert child.stdout is not None
        out, source = child.stdin.fileno(), child.stdout.fileno()
        left = memoryview(_LENGTH.pack(len(message)) + message)
        while left:
            _wait(out, select.POLLOUT, end)
            left = left[os.write(out, left[: 1 << 16]) :]
        answer = b""
        while len(answer) < _LENGTH.size or len(answer) < _LENGTH.size + _length(answer):
            _wait(source, select.POLLIN, end)
            part = os.read(source, 1 << 16)
            if not part:
                raise BrokenPipeError
            answer += part
        return json.loads(answer[_LENGTH.size :])

    def _kill(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        _end(child)
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def _message(request: Request) -> bytes:
    told = {
        "detector": request.detector.own_name,
        "categorical": request.categorical,
        "seed": request.seed,
        "permutations": request.permutations,
    }
    buffer = io.BytesIO()
    head = np.frombuffer(json.dumps(told).encode(), np.uint8)
    np.savez(buffer, head=head, reference=request.reference, window=request.window)
    return buffer.getvalue()


def _read(request: Request, answer: Any) -> Measured:
    name = request.detector.name
    missing = answer.get("missing")
    if missing is not None:
        fix = "Install torch beside alibi-detect" if missing == "torch" else _INSTALL.format(python=PYTHON)
        shown = "alibi-detect" if missing == "alibi_detect" else missing
        raise Stalled(f"{name} needs {shown}", fix=fix)
    if "failed" in answer:
        raise MlopsError(f"{name} failed: {answer['failed']}", fix="Choose another detector")
    return request.measured(answer["distances"], answer["pValues"])


def _wait(pipe: int, event: int, end: float) -> None:
    poll = select.poll()
    poll.register(pipe, event)
    if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
        raise TimeoutError


def _length(answer: bytes) -> int:
    (length,) = _LENGTH.unpack(answer[: _LENGTH.size])
    if length > _LONGEST_ANSWER:
        raise ValueError("no answer is so long")
    return int(length)

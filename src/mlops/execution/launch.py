"""The last steps of a child before it becomes the job's command, and the words for why it could not.

Standard library only and cheap to import: the supervisor of each job uses it.
"""

from __future__ import annotations

import errno
import os

from mlops.execution import processes

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without the cost of importing typing
if TYPE_CHECKING:
    from typing import NoReturn, TypedDict

    class Order(TypedDict):
        """What `LocalExecutor.start` sends to the supervisor's standard input, marshalled."""

        argv: list[str]
        cwd: str
        env: dict[str, str]
        timeout: float | None  # seconds
        memory: int | None  # bytes
        token: str
        grace: float  # seconds
        log_limit: int  # bytes
        log_tail: int  # bytes


def become(
    order: Order, supervisor: int, output: int, go: int, fail: int, others: tuple[int, ...]
) -> NoReturn:
    """Turn this child into the command, once a byte can be read from `go`; never returns.

    It has its own process group, writes to `output`, and inherits no other descriptor, signal handler or
    signal mask. What goes wrong is written to `fail` as a stage and an errno.
    """
    import signal

    stage = "group"
    try:
        for handle in others:
            os.close(handle)
        os.setpgid(0, 0)
        processes.die_with_parent(signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            try:
                signal.signal(number, signal.SIG_DFL)
            except OSError:
                continue  # reserved by the C library
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.dup2(output, 1)
        os.dup2(output, 2)
        if os.getppid() != supervisor or not os.read(go, 1):
            os._exit(125)  # never let go: the supervisor is gone, or the job was cancelled
        stage = "cwd"
        os.chdir(order["cwd"])
        stage = "exec"
        os.execvpe(order["argv"][0], order["argv"], {**order["env"], processes.TOKEN: order["token"]})
    except (OSError, ValueError) as error:
        os.write(fail, f"{stage} {getattr(error, 'errno', None) or 0}".encode())
    finally:
        os._exit(127)


def why_not_executed(report: str, order: Order) -> str:
    """One sentence about what `become` reported."""
    stage, number = report.split()
    command = order["argv"][0]
    if stage == "cwd":
        return f"the working folder could not be entered: {os.strerror(int(number))}"
    match int(number):
        case errno.ENOENT | errno.ENOTDIR if _somewhere(command, order):
            return f"{command} exists, but the interpreter that its first line names does not"
        case errno.ENOENT | errno.ENOTDIR:
            return f"the command {command} was not found"
        case errno.EACCES:
            return f"the command {command} is not executable"
        case errno.ENOEXEC:
            return f"{command} is not a program: a script needs a first line such as #!/usr/bin/env python"
        case errno.E2BIG:
            return "the arguments and variables of the command are too long for the system"
        case 0:
            return f"the command {command} could not be executed: an argument cannot be passed to a process"
        case other:
            return f"the command {command} could not be executed: {os.strerror(other)}"


def _somewhere(command: str, order: Order) -> bool:
    folders = [""] if "/" in command else os.get_exec_path(order["env"])
    return any(os.path.lexists(f"{order['cwd']}/{command}" if not f else f"{f}/{command}") for f in folders)

"""Processes as /proc shows them: who is alive, who descends from whom, how much memory a tree holds.

Standard library only and cheap to import: the supervisor of each job uses it. Where there is no /proc (not
Linux) every question gets the answer that is safe: nothing is known, nothing is killed by guess.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without the cost of importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "MLOPS_JOB"  # the variable that marks every process of a job

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def boot_id() -> str:
    """Identifies this boot of the machine: a pid of an earlier boot is never believed. "" if unknown."""
    return _text("/proc/sys/kernel/random/boot_id").strip()


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None if it is dead, a zombie, or unknown.

    A pid and its start time together name one process for ever, however often the pid is used again.
    """
    fields = _stat(pid)
    return None if fields is None or fields[0] in ("Z", "X") else int(fields[19])


def group(pid: int) -> int | None:
    """The process group of a process; None if there is no such process."""
    fields = _stat(pid)
    return None if fields is None else int(fields[2])


def alive(pid: int, ticks: int) -> bool:
    """Whether the very process that had this pid and start time still runs."""
    return start_ticks(pid) == ticks


def send(pid: int, ticks: int, signal_number: int) -> bool:
    """Signal this very process; False if it is gone. The pid cannot be recycled between check and signal."""
    import signal

    try:
        handle = os.pidfd_open(pid)
    except (OSError, AttributeError):
        return False
    try:
        if not alive(pid, ticks):
            return False
        signal.pidfd_send_signal(handle, signal_number)
    except OSError:  # it ended, or it is not ours
        return False
    finally:
        os.close(handle)
    return True


def descendants(root: int) -> list[int]:
    """Every process below `root`, parents before children; zombies are left out."""
    below: dict[int, list[int]] = {}
    dead: set[int] = set()
    for pid in _numbers("/proc"):
        fields = _stat(pid)
        if fields is not None:
            below.setdefault(int(fields[1]), []).append(pid)
            if fields[0] in ("Z", "X"):
                dead.add(pid)
    found: list[int] = []
    queue = list(below.get(root, ()))
    while queue:
        pid = queue.pop(0)
        found.append(pid)
        queue.extend(below.get(pid, ()))
    return [pid for pid in found if pid not in dead]


def resident(root: int) -> int:
    """Bytes of memory that the processes below `root` hold, without `root`.

    The sum of their resident sets counts a page that forked workers share once for each of them; use
    `proportional` before ending anybody for it.
    """
    page = os.sysconf("SC_PAGE_SIZE")
    total = 0
    for pid in _below(root):
        fields = _text(f"/proc/{pid}/statm").split()
        total += int(fields[1]) * page if len(fields) > 1 else 0
    return total


def proportional(root: int) -> int | None:
    """Like `resident`, with shared pages divided among their holders (PSS); None if the kernel cannot say."""
    total = 0
    for pid in _below(root):
        for line in _text(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
                break
    return total or None


def remnants(group: int, session: int, token: str) -> list[tuple[int, int]]:
    """(pid, start ticks) of what is left of a job: its process group, and whatever carries its token.

    The group counts only inside the session of the job's own supervisor, so that a recycled number is not
    taken for it.
    """
    mark = f"{TOKEN}={token}".encode()
    found = []
    for pid in _numbers("/proc"):
        fields = _stat(pid)
        if fields is None or fields[0] in ("Z", "X") or pid == os.getpid():
            continue
        ours = int(fields[2]) == group and int(fields[3]) == session
        if ours or mark in _bytes(f"/proc/{pid}/environ").split(b"\0"):
            found.append((pid, int(fields[19])))
    return found


def become_subreaper() -> bool:
    """Make orphaned descendants children of this process; False where the system cannot."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signal_number: int) -> bool:
    """Have the kernel send this signal to the calling process when its parent ends; False where it cannot."""
    return _prctl(_PR_SET_PDEATHSIG, signal_number)


def _prctl(option: int, value: int) -> bool:
    import ctypes

    try:
        return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
    except (OSError, AttributeError):  # no such call on this system
        return False


def _below(root: int) -> Iterator[int]:
    """Descendants by the kernel's own lists of children: far cheaper than reading all of /proc."""
    if not os.access(f"/proc/{root}/task/{root}/children", os.R_OK):  # a kernel without these lists
        yield from descendants(root)
        return
    queue = [root]
    while queue:
        pid = queue.pop()
        for thread in _numbers(f"/proc/{pid}/task"):
            for child in _text(f"/proc/{pid}/task/{thread}/children").split():
                queue.append(int(child))
                yield int(child)


def _numbers(folder: str) -> list[int]:
    try:
        return [int(name) for name in os.listdir(folder) if name.isdecimal()]  # noqa: PTH208 - no pathlib here
    except OSError:  # not Linux, or the process ended while we looked
        return []


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/<pid>/stat from the third on: state, parent, group, session, …; start time is [19]."""
    text = _text(f"/proc/{pid}/stat")
    fields = text[text.rfind(")") + 1 :].split()  # the second field, the name, may hold anything
    return fields if len(fields) > 19 else None


def _text(path: str) -> str:
    return _bytes(path).decode("utf-8", "replace")


def _bytes(path: str) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        parts = []
        while part := os.read(handle, 65536):
            parts.append(part)
        return b"".join(parts)
    except OSError:  # a process may end between open and read
        return b""
    finally:
        os.close(handle)

"""Names a process so that another one can tell later, beyond doubt, whether it still lives."""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def own_process(proc: Path = _PROC) -> str | None:
    """This process: the kernel it runs on, its process namespace, its id, and when it started.

    :returns: ``None`` where the kernel does not tell (not Linux)
    """
    kernel, started = _kernel(proc), _started(proc, os.getpid())
    return f"{kernel}/{os.getpid()}/{started}" if kernel and started else None


def has_ended(process: str | None, proc: Path = _PROC) -> bool | None:
    """Whether a process that :func:`own_process` named lives no more.

    :returns: ``None`` if that cannot be known here: it is another machine's, or another container's, or another
        user's whose processes are hidden (``hidepid``)
    """
    kernel, pid, started = ([None, None, None, *(process or "").rsplit("/", 2)])[-3:]
    if pid is None or kernel != _kernel(proc):
        return None
    found = _started(proc, int(pid))
    return None if found is None and _lives(int(pid)) else found != started


def _kernel(proc: Path) -> str | None:
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{(proc / 'self/ns/pid').readlink()}"
    except OSError:
        return None


def _started(proc: Path, pid: int) -> str | None:
    """In clock ticks since boot; ``None`` if the kernel does not show it, empty if it is dead and not yet reaped."""
    try:
        # The name in brackets may hold anything; what follows is: state, …, start time.
        fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in "ZX" else fields[19]


def _lives(pid: int) -> bool:
    """Whether there is such a process, whosever it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True

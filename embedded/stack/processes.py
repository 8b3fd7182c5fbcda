"""Processes that outlive the command that starts them, and that are found again without ever hitting a stranger.

A process is recognised in two ways. The record of the one that was started holds its id *and* the moment it started, so
that a reused id is not mistaken for it. Whatever it started in turn carries the stack's name in its environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

STACK_VARIABLE = "K2_STACK_ID"
SERVICE_VARIABLE = "K2_STACK_SERVICE"

_POLL_SECONDS = 0.05
# Children of this very process; kept so that they are reaped when they end, and not complained about while they run.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class ProcessRecord:
    """A process that was started here.

    :param pid: its id, which is also its session's
    :param started: when it started, in a form that no other process with this id can share
    """

    pid: int
    started: str

    @property
    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return start_moment(self.pid) == self.started


def start_moment(pid: int) -> str | None:
    """The boot and clock tick a process started at; None when it is gone, or dead and not yet reaped."""
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        del _children[pid]
        return None
    try:
        # The name in brackets may hold anything; what follows is: state, …, start time in clock ticks since boot.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (OSError, ValueError):
        return None
    state, start_ticks = fields[0], fields[19]
    return None if state in "ZX" else f"{boot}:{start_ticks}"


def start(
    command: Sequence[str | Path], *, log: Path, record: Path, environment: Mapping[str, str], folder: Path
) -> ProcessRecord:
    """Start a process in a session of its own, so that it survives the terminal, and write down which one it is."""
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    with log.open("wb") as output:
        child = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )
    _children[child.pid] = child
    started = ProcessRecord(child.pid, start_moment(child.pid) or "already ended")
    record.write_text(json.dumps(asdict(started)))
    return started


def read_record(path: Path) -> ProcessRecord | None:
    """The process that was started last under this record, alive or not."""
    try:
        return ProcessRecord(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def find_marked(markers: Mapping[str, str]) -> list[int]:
    """Ids of the processes whose environment holds all of these variables; never this process or its ancestors."""
    wanted = {f"{name}={value}".encode() for name, value in markers.items()}
    own = set(_self_and_ancestors())
    return [pid for pid in _all_pids() if pid not in own and wanted <= _environment(pid)]


def find_in_folder(folder: Path, *, program: str) -> list[int]:
    """Ids of the processes that run `program` with `folder` as their working directory.

    Postgres overwrites its environment with its title, but never leaves its data directory.
    """
    resolved = folder.resolve()
    found = []
    for pid in _all_pids():
        process = Path(f"/proc/{pid}")
        with contextlib.suppress(OSError):
            # "… (deleted)" follows the name of a program that was replaced while it runs.
            if (process / "cwd").readlink() == resolved and (process / "exe").readlink().name.split()[0] == program:
                found.append(pid)
    return found


def stop(record: ProcessRecord, number: signal.Signals, timeout_seconds: float) -> None:
    """Ask a process to end, and end it when it has not after `timeout_seconds`."""
    for attempt in (number, signal.SIGKILL):
        if not record.is_alive:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, attempt)
        wait_until(lambda: not record.is_alive, timeout_seconds)


def end_all(find: Callable[[], list[int]], grace_seconds: float = 5.0) -> list[int]:
    """End whatever `find` finds, again and again until it finds nothing; return the ids."""
    ended: set[int] = set()
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + grace_seconds
        while (pids := [pid for pid in find() if start_moment(pid)]) and time.monotonic() < deadline:
            for pid in pids:
                if pid not in ended or number is signal.SIGKILL:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, number)
                ended.add(pid)
            time.sleep(_POLL_SECONDS)
    return sorted(ended)


def wait_until(condition: Callable[[], bool], timeout_seconds: float, poll_seconds: float = _POLL_SECONDS) -> bool:
    """Whether `condition` came true within the time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(poll_seconds)
    return True


def _all_pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())


def _environment(pid: int) -> set[bytes]:
    try:
        return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:  # gone, or another user's: not ours either way
        return set()


def _self_and_ancestors() -> Iterator[int]:
    pid = os.getpid()
    while pid > 0:
        yield pid
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            return

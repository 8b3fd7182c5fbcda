"""What every step of set-up needs: showing progress, logs, stamps and locks."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

# Goes into every stamp: raise it when the steps themselves change, so that what exists is brought up to date.
SCHEME = "1"
STAMP_NAME = ".k2-setup-stamp"
LOG_TAIL_LINES = 30


class SetupError(Exception):
    """Set-up cannot go on. The message says what happened and what to type next."""


def fingerprint(*parts: str | Path) -> str:
    """Return a hash of the given texts, and of the content of the given files."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part.encode()
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def is_current(folder: Path, expected: str) -> bool:
    """Whether `folder` was finished with this fingerprint."""
    stamp = folder / STAMP_NAME
    return stamp.is_file() and stamp.read_text() == expected


def run(title: str, command: Sequence[str | Path], log: Path, environment: Mapping[str, str]) -> None:
    """Run one command with its output in `log`, showing that it is alive.

    :raises SetupError: the command failed; the message carries the end of the log
    """
    say_every_seconds = 0.5 if sys.stderr.isatty() else 15.0
    started = said = time.monotonic()
    with log.open("ab") as output:
        output.write(f"\n$ {shlex.join(map(str, command))}\n".encode())
        output.flush()
        process = subprocess.Popen(
            [*map(str, command)], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=dict(environment)
        )
        try:
            while process.poll() is None:
                time.sleep(0.05)
                if time.monotonic() - said >= say_every_seconds:
                    said = time.monotonic()
                    say(f"  {title} … {said - started:.0f} s   {last_line(log)[:70]}", transient=True)
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
    if process.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
        raise SetupError(
            f"{title}: failed (exit code {process.returncode}). The end of {log}:\n\n{tail}\n\n"
            "What was finished before is kept: run `make setup` again to continue. Behind a proxy, set HTTPS_PROXY\n"
            "(packages) and JAVA_TOOL_OPTIONS='-Dhttps.proxyHost=… -Dhttps.proxyPort=…' (jars)."
        )


def say(text: str, *, transient: bool = False) -> None:
    """Print to stderr, so that the output of what runs after set-up stays clean; a transient line is overwritten."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}" + ("" if transient else "\n"))
    else:
        sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def last_line(log: Path) -> str:
    """The last line with something in it, for showing progress."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 1000))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def fresh_log(folder: Path, name: str) -> Path:
    """Return an empty log file."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.log"
    log.write_bytes(b"")
    return log


@contextlib.contextmanager
def locked(path: Path, waiting_for: str) -> Iterator[None]:
    """Hold an exclusive lock, saying so when another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"  Waiting: {waiting_for} ({path}).")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from embedded.install.steps import STAMP_NAME, SetupError, fingerprint, is_current, locked, run


def test_fingerprint_follows_content_and_order(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("a==1")
    before = fingerprint("3.11", lock)
    assert fingerprint("3.11", lock) == before
    assert fingerprint(lock, "3.11") != before
    lock.write_text("a==2")
    assert fingerprint("3.11", lock) != before


def test_fingerprint_keeps_parts_apart() -> None:
    assert fingerprint("ab", "c") != fingerprint("a", "bc")


def test_only_the_same_fingerprint_is_current(tmp_path: Path) -> None:
    assert not is_current(tmp_path, "one")
    (tmp_path / STAMP_NAME).write_text("one")
    assert is_current(tmp_path, "one")
    assert not is_current(tmp_path, "two")


def test_failed_command_shows_the_end_of_its_log_and_how_to_go_on(tmp_path: Path) -> None:
    log = tmp_path / "step.log"
    command = [sys.executable, "-c", "print('connection reset'); raise SystemExit(3)"]
    with pytest.raises(SetupError, match="exit code 3") as caught:
        run("Spark: packages", command, log, os.environ)
    message = str(caught.value)
    assert "connection reset" in message
    assert str(log) in message
    assert "make setup" in message


def test_second_holder_of_a_lock_says_that_it_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entered: list[float] = []

    def second() -> None:
        with locked(tmp_path / "lock", "somebody else is at it"):
            entered.append(time.monotonic())

    with locked(tmp_path / "lock", "nobody"):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.2)
        assert not entered
    waiting.join(5)
    assert entered
    assert "somebody else is at it" in capsys.readouterr().err

"""Real processes: what is ours is found and ended, what is not is left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from embedded.stack.processes import (
    ProcessRecord,
    end_all,
    find_in_folder,
    find_marked,
    read_record,
    start,
    start_moment,
    stop,
    wait_until,
)


def _start(folder: Path, *command: str, **variables: str) -> ProcessRecord:
    return start(
        command,
        log=folder / "process.log",
        record=folder / "process.json",
        environment={**os.environ, **variables},
        folder=folder,
    )


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[ProcessRecord]:
    record = _start(tmp_path, "sleep", "60", K2_TEST_MARK=str(tmp_path))
    yield record
    stop(record, signal.SIGKILL, 5)


def test_record_tells_the_process_from_another_with_its_id(sleeper: ProcessRecord, tmp_path: Path) -> None:
    assert read_record(tmp_path / "process.json") == sleeper
    assert sleeper.is_alive
    reused = replace(sleeper, started=sleeper.started + "1")
    assert not reused.is_alive
    stop(reused, signal.SIGKILL, 1)
    assert sleeper.is_alive


def test_process_has_a_session_of_its_own(sleeper: ProcessRecord) -> None:
    assert os.getsid(sleeper.pid) == sleeper.pid


def test_stop_ends_it_and_leaves_no_zombie(sleeper: ProcessRecord) -> None:
    stop(sleeper, signal.SIGTERM, 5)
    assert not sleeper.is_alive
    assert not psutil.pid_exists(sleeper.pid)


def test_stop_kills_what_does_not_listen(tmp_path: Path) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    record = _start(tmp_path, sys.executable, "-c", deaf)
    assert wait_until(lambda: "deaf" in (tmp_path / "process.log").read_text(), 10)
    stop(record, signal.SIGTERM, 0.3)
    assert not record.is_alive


def test_unreaped_process_counts_as_gone() -> None:
    with subprocess.Popen(["true"]) as child:
        assert wait_until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE, 5)
        assert start_moment(child.pid) is None


def test_orphans_are_found_by_what_they_inherited(tmp_path: Path) -> None:
    mark = {"K2_TEST_MARK": str(tmp_path)}
    # The child leaves its parent's session and outlives it: neither tells where it came from.
    record = _start(tmp_path, "sh", "-c", "setsid sleep 60 & exit 0", **mark)
    assert wait_until(lambda: not record.is_alive and len(find_marked(mark)) == 1, 5)
    assert len(end_all(lambda: find_marked(mark))) == 1
    assert find_marked(mark) == []


def test_search_never_finds_itself_or_its_ancestors(tmp_path: Path) -> None:
    mark = {"K2_TEST_MARK": str(tmp_path)}
    search = f"from embedded.stack.processes import find_marked; print(find_marked({mark!r}))"
    shown = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -c "$1"; true', "sh", search],
        env={**os.environ, **mark},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == "[]"


def test_only_the_named_program_is_found_in_a_folder(sleeper: ProcessRecord, tmp_path: Path) -> None:
    assert find_in_folder(tmp_path, program="sleep") == [sleeper.pid]
    assert find_in_folder(tmp_path, program="postgres") == []


def test_end_all_gives_up_on_nothing_but_the_dead(tmp_path: Path) -> None:
    deaf = "trap '' TERM; while :; do sleep 1; done"
    record = _start(tmp_path, "sh", "-c", deaf, K2_TEST_MARK=str(tmp_path))
    time.sleep(0.2)
    end_all(lambda: find_marked({"K2_TEST_MARK": str(tmp_path)}), grace_seconds=0.5)
    assert not record.is_alive


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', json.dumps({"pid": 1, "started": "", "extra": 1})])
def test_damaged_record_is_no_record(tmp_path: Path, text: str) -> None:
    (tmp_path / "process.json").write_text(text)
    assert read_record(tmp_path / "process.json") is None


def test_previous_log_is_kept(tmp_path: Path) -> None:
    (tmp_path / "process.log").write_text("the first run")
    again = _start(tmp_path, "echo", "the second run")
    assert wait_until(lambda: not again.is_alive, 5)
    assert (tmp_path / "process.log.1").read_text() == "the first run"
    assert (tmp_path / "process.log").read_text() == "the second run\n"
    assert asdict(again).keys() == {"pid", "started"}

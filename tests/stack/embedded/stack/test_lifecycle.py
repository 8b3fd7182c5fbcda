"""One stack of these tests' own, brought up, hurt and brought up again. The tests run in this order."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from embedded.stack import StackError, StackSettings, down, postgres, status, up
from embedded.stack.processes import STACK_VARIABLE, find_in_folder, find_marked, wait_until
from embedded.stack.secrets import Secrets
from tests.support import free_stack_ports


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, session_settings: StackSettings) -> Iterator[StackSettings]:
    # A space and root-only folders on the way: a checkout may lie anywhere.
    state = tmp_path_factory.mktemp("own stack").resolve()
    settings = StackSettings(state, free_stack_ports(), session_settings.clickhouse_version)
    yield settings
    down(settings)


def _pids(settings: StackSettings) -> dict[str, int | None]:
    return {each.name: each.pid for each in status(settings, airflow=False)}


def _everything_of(settings: StackSettings) -> list[int]:
    return find_marked({STACK_VARIABLE: str(settings.state)}) + find_in_folder(
        settings.postgres_data, program=postgres.PROGRAM
    )


def _kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, 5)


def test_failed_start_leaves_nothing_running(settings: StackSettings) -> None:
    (settings.state / "clickhouse").write_text("a file where the data directory should be")
    with pytest.raises(StackError, match=r"(?s)clickhouse ended.*cannot open the data path") as caught:
        up(settings, airflow=False)
    (settings.state / "clickhouse").unlink()
    assert str(settings.log("clickhouse")) in str(caught.value)
    assert _everything_of(settings) == []


def test_busy_port_stops_everything_before_it_starts(settings: StackSettings) -> None:
    with (
        socket.create_server(("127.0.0.1", settings.ports.clickhouse_http)),
        pytest.raises(StackError, match=f"(?s){settings.ports.clickhouse_http} is in use.*K2_CLICKHOUSE_HTTP_PORT="),
    ):
        up(settings, airflow=False)
    assert _everything_of(settings) == []


def test_up_starts_and_up_again_changes_nothing(settings: StackSettings) -> None:
    assert up(settings, airflow=False) == ["postgres", "clickhouse"]
    before = _pids(settings)
    assert up(settings, airflow=False) == []
    assert _pids(settings) == before
    assert {each.state for each in status(settings, airflow=False)} == {"up"}


def test_running_stack_refuses_other_ports(settings: StackSettings) -> None:
    other = StackSettings(settings.state, free_stack_ports(), settings.clickhouse_version)
    with pytest.raises(StackError, match="running with other settings"):
        up(other, airflow=False)


def test_second_command_at_the_same_time_is_refused(settings: StackSettings) -> None:
    hold = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True)"
    command = [sys.executable, "-c", f"{hold}; input()", str(settings.run_folder / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StackError, match="Another `up` or `down` is at work"):
            up(settings, airflow=False)
        holder.communicate("\n")


def test_killed_gateway_is_seen_and_comes_back_with_its_data(settings: StackSettings) -> None:
    _kill(_pids(settings)["clickhouse"])
    assert {each.name: each.state for each in status(settings, airflow=False)} == {
        "postgres": "up",
        "clickhouse": "down",
    }
    assert up(settings, airflow=False) == ["clickhouse"]


def test_power_cut_is_survived(settings: StackSettings) -> None:
    """All killed at once; and the ids they leave in their files belong to somebody else now."""
    for pid in _pids(settings).values():
        _kill(pid)
    assert wait_until(lambda: _everything_of(settings) == [], 10)
    stranger = os.getpid()
    postmaster_file = settings.postgres_data / "postmaster.pid"
    postmaster_file.write_text("\n".join([str(stranger), *postmaster_file.read_text().splitlines()[1:]]))
    for record in settings.run_folder.glob("*.json"):
        content = json.loads(record.read_text())
        if "pid" in content:
            record.write_text(json.dumps(content | {"pid": stranger}))
    assert {each.state for each in status(settings, airflow=False)} == {"down"}
    assert up(settings, airflow=False) == ["postgres", "clickhouse"]
    with psycopg.connect(postgres.dsn(settings, Secrets.load_or_make(settings.state), "airflow")) as connection:
        assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)


def test_down_ends_orphans_too_and_nobody_else(settings: StackSettings) -> None:
    stranger = subprocess.Popen(["sleep", "60"], cwd=settings.state)
    subprocess.run(
        ["sh", "-c", "setsid sleep 60 &"], env={**os.environ, STACK_VARIABLE: str(settings.state)}, check=True
    )
    assert len(_everything_of(settings)) > 2
    try:
        stopped = down(settings)
        assert stopped[:2] == ["postgres", "clickhouse"]
        assert any("left behind" in name for name in stopped[2:])
        assert _everything_of(settings) == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_down_again_says_that_nothing_ran(settings: StackSettings) -> None:
    assert down(settings) == []


def test_state_folder_keeps_to_its_clickhouse_version(settings: StackSettings) -> None:
    (settings.state / "clickhouse-version").write_text("24.3")
    with pytest.raises(StackError, match=r"(?s)made by ClickHouse 24\.3.*K2_CLICKHOUSE_VERSION=24\.3") as caught:
        up(settings, airflow=False)
    assert "Nothing was started" in str(caught.value)


def test_commands_speak_json_and_exit_codes(settings: StackSettings, tmp_path: Path) -> None:
    variables = {**os.environ, "K2_STATE_DIR": str(tmp_path), "K2_CLICKHOUSE_VERSION": settings.clickhouse_version}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "embedded.stack", *arguments]
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)

    shown = run("status", "--json")
    assert shown.returncode == 1
    assert {each["state"] for each in json.loads(shown.stdout)} == {"down"}
    assert run("down").stdout == "Nothing was running.\n"
    refused = run("env")
    assert (refused.returncode, "make up" in refused.stderr) == (1, True)
    variables["K2_POSTGRES_PORT"] = "none"
    refused = run("up")
    assert (refused.returncode, "K2_POSTGRES_PORT=none" in refused.stderr) == (1, True)
    assert "Traceback" not in refused.stderr

"""For all tests: nothing of this machine's own Airflow is touched, and the end says what ran.

A folder of this session's own is AIRFLOW_HOME from the first moment on, because Airflow reads it when it is imported.
Its configuration points at the stack that tests/stack starts; unit tests never connect to it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from embedded.stack import StackSettings, airflow_home
from embedded.stack.airflow_services import without_foreign_settings
from embedded.stack.secrets import Secrets
from tests.support import free_stack_ports

_SESSION_SETTINGS = pytest.StashKey[StackSettings]()
_PARTS = ("tests/unit", "tests/stack")


def pytest_configure(config: pytest.Config) -> None:
    clickhouse_version = StackSettings.from_environment(
        {name: value for name, value in os.environ.items() if name == "K2_CLICKHOUSE_VERSION"}
    ).clickhouse_version
    _forget_outer_settings()
    state = Path(tempfile.mkdtemp(prefix="k2-test-")).resolve()
    settings = StackSettings(state=state, ports=free_stack_ports(), clickhouse_version=clickhouse_version)
    airflow_home.write(settings, Secrets.load_or_make(state))
    os.environ["AIRFLOW_HOME"] = str(settings.airflow_home)
    config.stash[_SESSION_SETTINGS] = settings


@pytest.fixture(scope="session")
def session_settings(pytestconfig: pytest.Config) -> StackSettings:
    """Settings of the stack that `stack` starts; nothing runs yet."""
    return pytestconfig.stash[_SESSION_SETTINGS]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A part that was asked for and held no test is a failure, not a success."""
    if session.config.option.keyword or session.config.option.markexpr:
        return
    asked = {argument.rstrip("/") for argument in session.config.args}
    collected = {_part_of(item.nodeid) for item in session.items}
    if exitstatus == pytest.ExitCode.OK and any(part in asked and part not in collected for part in _PARTS):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    settings = config.stash[_SESSION_SETTINGS]
    counts: dict[str, Counter[str]] = {}
    seconds: Counter[str] = Counter()
    for outcome in ("passed", "failed", "error", "skipped", "xfailed", "xpassed"):
        for report in terminalreporter.stats.get(outcome, []):
            counts.setdefault(_part_of(report.nodeid), Counter())[outcome] += 1
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[_part_of(report.nodeid)] += report.duration
    terminalreporter.section("what ran")
    for part, outcomes in sorted(counts.items(), reverse=True):
        told = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items())
        terminalreporter.write_line(f"{part:<12} {seconds[part]:7.1f} s   {told}")
    terminalreporter.write_line(f"with ClickHouse {settings.clickhouse_version}")
    if _has_failures(terminalreporter):
        terminalreporter.write_line(f"kept for a look: {settings.logs} (and the data beside it)")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Keep the stack's logs and data after a failure, and only then."""
    settings = config.stash.get(_SESSION_SETTINGS, None)
    if settings is not None and not _has_failures(config.pluginmanager.get_plugin("terminalreporter")):
        shutil.rmtree(settings.state, ignore_errors=True)


def _has_failures(reporter: pytest.TerminalReporter | None) -> bool:
    return reporter is not None and any(reporter.stats.get(outcome) for outcome in ("failed", "error"))


def _part_of(nodeid: str) -> str:
    return "/".join(nodeid.split("/")[:2])


def _forget_outer_settings() -> None:
    """Settings meant for another stack or another Airflow must not reach the tests, nor the processes they start."""
    kept = without_foreign_settings(os.environ)
    for name in list(os.environ):
        if name not in kept or name == "K2_STATE_DIR" or (name.startswith("K2_") and name.endswith("_PORT")):
            del os.environ[name]

"""For all tests: nothing of this machine's own Airflow is touched, and the end says what ran and how long it took.

A folder of this process's own is AIRFLOW_HOME from the first moment on, because Airflow reads it when it is imported.
Its configuration points at the stack that tests/stack starts; unit tests never connect to it. With several workers
(pytest-xdist) each is such a process, with a stack of its own; the process that controls them has none.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import structlog

from embedded.stack import StackSettings, airflow_home
from embedded.stack.airflow_services import without_foreign_settings
from embedded.stack.secrets import Secrets
from tests.support import free_stack_ports
from tests.support.order import SLOWEST_FILES

_CLICKHOUSE_VERSION = pytest.StashKey[str]()
_SESSION_SETTINGS = pytest.StashKey[StackSettings]()
_FAILED = pytest.StashKey[bool]()
_KEPT = pytest.StashKey[list[str]]()
# A law does not depend on how busy the machine is.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")
_PARTS = ("tests/unit", "tests/stack", "tests/real")
_SLOWEST_SHOWN = 15


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_CLICKHOUSE_VERSION] = StackSettings.from_environment(
        {name: value for name, value in os.environ.items() if name == "K2_CLICKHOUSE_VERSION"}
    ).clickhouse_version
    config.stash[_KEPT] = []
    _forget_outer_settings()
    if _only_controls(config):
        return
    state = Path(tempfile.mkdtemp(prefix="k2-test-")).resolve()
    settings = StackSettings(state, free_stack_ports(), config.stash[_CLICKHOUSE_VERSION])
    airflow_home.write(settings, Secrets.load_or_make(state))
    os.environ["AIRFLOW_HOME"] = str(settings.airflow_home)
    config.stash[_SESSION_SETTINGS] = settings


@pytest.fixture(autouse=True)
def _process_of_a_test() -> Iterator[None]:
    """A command changes what is its own process elsewhere."""
    yield
    logging.disable(logging.NOTSET)
    os.environ.pop("_AIRFLOW_PROCESS_CONTEXT", None)


@pytest.fixture(scope="session")
def session_settings(pytestconfig: pytest.Config) -> StackSettings:
    """Settings of the stack that `stack` starts; nothing runs yet."""
    return pytestconfig.stash[_SESSION_SETTINGS]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _is_worker(config):
        order = {file: number for number, file in enumerate(SLOWEST_FILES)}
        items.sort(key=lambda item: order.get(_file_of(item.nodeid), len(order)))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keep the stack's logs and data after a failure. A part that was asked for and held no test is a failure, too."""
    config = session.config
    config.stash[_FAILED] = session.testsfailed > 0
    if _is_worker(config):
        if session.testsfailed:
            config.workeroutput["kept"] = str(config.stash[_SESSION_SETTINGS].logs)
        return
    if session.testsfailed and not _only_controls(config):
        config.stash[_KEPT].append(str(config.stash[_SESSION_SETTINGS].logs))
    option = config.option
    if option.keyword or option.markexpr or option.collectonly or exitstatus != pytest.ExitCode.OK:
        return
    asked = {argument.rstrip("/") for argument in config.args}
    ran = {_part_of(report.nodeid) for report in _reports(config.pluginmanager.get_plugin("terminalreporter"))}
    if any(part in asked and part not in ran for part in _PARTS):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker says where its stack's logs are."""
    if kept := getattr(node, "workeroutput", {}).get("kept"):
        node.config.stash[_KEPT].append(kept)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What ran: the slowest tests, then files, then parts; each list ends with what took longest."""
    reports = _reports(terminalreporter)
    by_test, by_file, by_part = Counter(), Counter(), Counter()
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    for report in reports:
        by_test[report.nodeid] += report.duration
        by_file[_file_of(report.nodeid)] += report.duration
        by_part[_part_of(report.nodeid)] += report.duration
    for outcome in ("passed", "failed", "error", "skipped", "xfailed", "xpassed"):
        for report in terminalreporter.stats.get(outcome, []):
            outcomes[_part_of(report.nodeid)][outcome] += 1
    write = terminalreporter.write_line
    terminalreporter.section("what ran")
    for seconds_by in (by_test, by_file):
        for name, seconds in reversed(seconds_by.most_common(_SLOWEST_SHOWN)):
            write(f"{seconds:7.1f} s   {name}")
        write("")
    for part, seconds in sorted(by_part.items(), key=lambda each: each[1]):
        told = ", ".join(f"{number} {outcome}" for outcome, number in outcomes[part].items())
        write(f"{seconds:7.1f} s   {part:<12} {told}")
    workers = len({report.node for report in reports if hasattr(report, "node")})
    write(
        f"with ClickHouse {config.stash[_CLICKHOUSE_VERSION]}{f', {workers} workers side by side' if workers else ''}"
    )
    for logs in config.stash[_KEPT]:
        write(f"kept for a look: {logs} (and the data beside it)")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Keep the stack's logs and data after a failure, and only then."""
    settings = config.stash.get(_SESSION_SETTINGS, None)
    if settings is not None and not config.stash.get(_FAILED, False):
        shutil.rmtree(settings.state, ignore_errors=True)


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _only_controls(config: pytest.Config) -> bool:
    return not _is_worker(config) and config.getoption("dist", "no") != "no"


def _reports(reporter: pytest.TerminalReporter) -> list[pytest.TestReport]:
    return [each for reports in reporter.stats.values() for each in reports if isinstance(each, pytest.TestReport)]


def _file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def _part_of(nodeid: str) -> str:
    return "/".join(nodeid.split("/")[:2])


def _forget_outer_settings() -> None:
    """Settings meant for another stack or another Airflow must not reach the tests, nor the processes they start."""
    kept = without_foreign_settings(os.environ)
    for name in list(os.environ):
        if name not in kept or name == "K2_STATE_DIR" or (name.startswith("K2_") and name.endswith("_PORT")):
            del os.environ[name]


@pytest.fixture
def log_on_stdout() -> Iterator[None]:
    """Tasks write their logs where the test's capsys looks, whatever a module has set up while it was imported."""
    before = structlog.get_config()
    structlog.reset_defaults()
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])  # drawn ones take seconds
    yield
    structlog.configure(**before)

"""The stack that all tests below this folder share. See :class:`tests.support.SharedStack` for what it offers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from embedded.stack import StackError, StackSettings, down, up
from embedded.stack.secrets import Secrets
from tests.support import SharedStack


@pytest.fixture(scope="session")
def stack(session_settings: StackSettings) -> Iterator[SharedStack]:
    """Postgres and ClickHouse with its schema applied, and a migrated AIRFLOW_HOME; no Airflow process runs.

    Started by the first test that asks for it (about eight seconds) and stopped at the end of the session. All tests
    share it: one works in tables, time ranges or databases of its own, and leaves the rest as it found it. Airflow in
    the test's own process (``DagBag``, ``dag.test()``, hooks) uses the same AIRFLOW_HOME.
    """
    try:
        up(session_settings, airflow=False)
    except StackError as error:
        pytest.fail(f"The embedded stack did not start.\n{error}", pytrace=False)
    with _ended_with_this_process(session_settings):
        yield SharedStack(session_settings, Secrets.load_or_make(session_settings.state))
        down(session_settings)


def _ended_with_this_process(settings: StackSettings) -> subprocess.Popen[bytes]:
    """Stop the stack even if this session is killed: the pipe closes then, and `down` follows."""
    command = 'cat >/dev/null; exec "$0" -m embedded.stack down >/dev/null 2>&1'
    return subprocess.Popen(
        ["sh", "-c", command, sys.executable],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env=os.environ | {"K2_STATE_DIR": str(settings.state)},
    )

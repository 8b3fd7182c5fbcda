"""Something that crashes in the middle of something else, and is started again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

from embedded.stack import lifecycle
from embedded.stack.processes import wait_until
from tests.support import SharedStack


class Crash:
    """For :meth:`tests.proxy.Proxy.when`.

    :param restart: ends it as a crash does, and starts it again
    """

    def __init__(self, restart: Callable[[], None]) -> None:
        self._restart = restart
        self._over = threading.Event()

    def __call__(self) -> None:
        self._restart()
        self._over.set()

    def wait(self) -> None:
        """Until it has been started again."""
        assert self._over.wait(180), "it did not start again"


def restart_clickhouse(stack: SharedStack) -> None:
    """Kill the embedded stack's ClickHouse, and start it again."""

    def pid() -> int | None:
        [found] = [each.pid for each in lifecycle.status(stack.settings, airflow=False) if each.name == "clickhouse"]
        return found

    running = pid()
    assert running is not None
    os.kill(running, signal.SIGKILL)
    assert wait_until(lambda: pid() is None, 30), "it did not end"  # its memory takes a moment to go
    lifecycle.up(stack.settings, airflow=False)

"""A ClickHouse that a test may kill: an engine of its own, beside the one that all tests share."""

from __future__ import annotations

import os
import signal
import subprocess
import time

from clickhouse_driver import Client
from clickhouse_driver.errors import NetworkError

from embedded.stack.processes import STACK_VARIABLE
from embedded.stack.settings import HOST


class Gateway:
    """A ClickHouse of the test's own.

    :param folder: for its data and log
    :param password: to be presented; without one, any will do
    """

    def __init__(self, stack, folder, native_port, http_port, *, host=HOST, password=""):
        self.native_port, self._http_port = native_port, http_port
        self._stack, self._folder, self._host, self._password = stack, folder, host, password
        self._process = None

    def start(self):
        settings = self._stack.settings
        command = [
            *(settings.layout.clickhouse.python, "-m", "embedded.gateway", "--data-path", self._folder / "clickhouse"),
            *("--host", self._host, "--native-port", str(self.native_port), "--http-port", str(self._http_port)),
        ]
        if self._password:
            file = self._folder / "password"
            file.write_text(self._password)
            command += ["--password-file", file]
        environment = {**os.environ, STACK_VARIABLE: str(settings.state)}
        with (self._folder / "gateway.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=settings.root, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while True:
            try:
                return self.sql("SELECT 1")
            except (EOFError, OSError, NetworkError):
                assert time.monotonic() < deadline, (self._folder / "gateway.log").read_text()
                time.sleep(0.1)

    def kill(self):
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def restart(self):
        self.kill()
        self.start()

    def sql(self, statement, rows=None, database="default"):
        with Client(self._host, port=self.native_port, password=self._password, database=database) as client:
            return client.execute(statement, rows)

"""A Spark application that stays up, for tests and benchmarks: starting one for each request takes too long.

This is the side of whoever asks; the application is :mod:`embedded.warm_application` or one that extends it.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Client, Connection
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from embedded.spark import submit_command, submit_environment

APPLICATION = Path(__file__).with_name("warm_application.py")
SOCKET_VARIABLE = "K2_WARM_SOCKET"

_START_SECONDS = 120
_POLL_SECONDS = 0.05


class SparkDied(RuntimeError):
    """The application has ended."""


class WarmSpark:
    """One application, for one request at a time. It ends when it is closed, or with this process.

    :param log: where its output goes
    :param application: a script that calls :func:`embedded.warm_application.serve`
    :param java_options: of the driver; ``None`` for those of a job that exports
    :param variables: for its environment
    :raises SparkDied: if it does not start
    """

    def __init__(
        self,
        log: IO[str],
        application: Path = APPLICATION,
        *,
        java_options: str | None = "",
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="k2-spark-")
        socket = Path(self._folder.name) / "socket"
        self._process = subprocess.Popen(
            submit_command(application, java_options=java_options),
            env={**submit_environment(), **variables, SOCKET_VARIABLE: str(socket)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            self._connection = self._connect(socket)
        except BaseException:
            self._end()
            raise

    def _connect(self, socket: Path) -> Connection:
        deadline = time.monotonic() + _START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(FileNotFoundError, ConnectionRefusedError):
                return Client(str(socket), "AF_UNIX")
            time.sleep(_POLL_SECONDS)
        raise SparkDied("the Spark application did not start; see its log")

    def ask(self, name: str, *arguments: object) -> Any:
        """Call a method of the application.

        :returns: what it returns; events on the way are left out
        :raises RuntimeError: if it raises
        :raises SparkDied: if it does not answer any more
        """
        self.send(name, *arguments)
        while True:
            kind, value = self.receive()
            if kind == "answer":
                return value

    def send(self, name: str, *arguments: object) -> None:
        """Call a method of the application; :meth:`receive` tells what becomes of it."""
        self._connection.send((name, arguments))

    def receive(self, seconds: float | None = None) -> tuple[str, Any]:
        """``("event", …)``, any number of times, and at last ``("answer", …)``.

        :param seconds: to wait; for ever when left out
        :raises TimeoutError: if nothing comes in that time
        :raises RuntimeError: if the method raises
        :raises SparkDied: if the application has ended
        """
        try:
            if not self._connection.poll(seconds):
                raise TimeoutError(f"the Spark application has said nothing for {seconds:.0f} s")
            kind, value = self._connection.recv()
        except (EOFError, ConnectionResetError) as error:
            raise SparkDied("the Spark application has ended; see its log") from error
        if kind == "error":
            raise RuntimeError(value)
        return kind, value

    def close(self) -> None:
        """End the application, whatever it is doing."""
        self._connection.close()
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

"""The harness's side of the Spark application that stays up: ask it to move a plan, or to run SQL."""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from embedded.spark import submit_command, submit_environment
from k2_offload.core.plan import Plan, PlannedWindow

_APPLICATION = Path(__file__).with_name("spark_application.py")


class WarmSpark:
    """One application, for one request at a time."""

    def __init__(self, connection: Connection, log: Path) -> None:
        self._connection = connection
        self._log = log

    def move(self, *tables: PlannedWindow) -> None:
        """Publish their windows.

        :raises RuntimeError: if one of them is not published, with the end of the application's log
        """
        if not self._ask("move", Plan("bench", tables).to_json()):
            raise RuntimeError(f"a window was not published:\n{self._log.read_text()[-4000:]}")

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of one statement."""
        return self.timed_sql(statement)[1]

    def timed_sql(self, statement: str) -> tuple[float, list[tuple[Any, ...]]]:
        """Seconds from the statement's text to its last row, and the rows."""
        seconds, rows = self._ask("sql", statement)
        return seconds, rows

    def _ask(self, kind: str, text: str) -> Any:
        self._connection.send((kind, text))
        answer = self._connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


@contextmanager
def warm_spark() -> Iterator[WarmSpark]:
    """Start the application, with a long job's Java options; it ends with the block."""
    key = secrets.token_bytes(16)
    with tempfile.TemporaryDirectory(prefix="k2-bench-spark-") as folder:
        address, log = str(Path(folder) / "socket"), Path(folder) / "log"
        variables = {"K2_BENCH_SOCKET": address, "K2_BENCH_KEY": key.hex()}
        with Listener(address, "AF_UNIX", authkey=key) as listener, log.open("w") as output:
            process = subprocess.Popen(
                submit_command(_APPLICATION, java_options=""),
                env={**submit_environment(), **variables},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                with listener.accept() as connection:
                    yield WarmSpark(connection, log)
            finally:
                process.kill()
                process.wait()

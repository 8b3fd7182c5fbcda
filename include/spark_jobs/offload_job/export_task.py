"""One export of a split window: what a thread of the driver runs, or a task on an executor.

Executors get this package from the driver (:mod:`offload_job.spark_cluster`); nothing of it is installed there.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime

from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.core.sql import fill, placeholder
from k2_offload.core.windows import format_time

TRY = placeholder("try")
"""Stands in a file's name: Spark repeats the task of a lost executor, whose query may still be writing."""


@dataclass(frozen=True)
class Export:
    """A file to write.

    :param uri: where; both it and the statement hold :data:`TRY`
    :param statement: the ``INSERT INTO FUNCTION`` that writes it
    """

    uri: str
    statement: str


@dataclass(frozen=True)
class Exported:
    """A file that is complete.

    :param process: who ran the export, as ``host:pid``
    """

    uri: str
    process: str
    started: datetime
    ended: datetime

    def __str__(self) -> str:
        file = self.uri.rpartition("/")[2]
        return f"exported {file} by {self.process} from {format_time(self.started)} to {format_time(self.ended)}"


def file_of(export: Export, number: int) -> str:
    """URI of the file that one try of an export writes.

    :param number: in the file's name; no other try of this export has it
    """
    return fill(export.uri, **{"try": number})


def run_export(export: Export, number: int, clickhouse: ClickHouse) -> Exported:
    """Write the file.

    :param number: see :func:`file_of`
    :raises OffloadError: if ClickHouse does not
    """
    started = datetime.now(UTC)
    clickhouse.execute(fill(export.statement, **{"try": number}))
    process = f"{socket.gethostname()}:{os.getpid()}"
    return Exported(file_of(export, number), process, started, datetime.now(UTC))

"""What a transport is, to the job; what planning knows of each is in :mod:`k2_offload.core.transports`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from k2_offload.core.errors import InvalidSource, StaleWindow
from k2_offload.core.queries import column_not_text
from k2_offload.core.transports import TRANSPORTS

if TYPE_CHECKING:
    from k2_offload.adapters.clickhouse import ClickHouse
    from k2_offload.core.exactly_once import Snapshot
    from k2_offload.core.job_connections import JobConnections
    from k2_offload.core.plan import PlannedRows
    from k2_offload.core.splits import Split
    from offload_job.cold_table_writer import ColdTableWriter, RowsStamp


class Transport(Protocol):
    """Brings rows into the cold table's storage and stages them as a snapshot.

    :param connections: where ClickHouse and the catalog are
    :param master: Spark's, as the application was submitted
    """

    def __init__(self, connections: JobConnections, master: str) -> None: ...

    def stage(
        self,
        clickhouse: ClickHouse,
        cold: ColdTableWriter,
        planned: PlannedRows,
        splits: Sequence[Split],
        stamp: RowsStamp,
    ) -> Snapshot:
        """Move and stage; nothing is visible to readers afterwards.

        :param splits: they hold every row once; empty if there are no rows
        :param stamp: what the snapshot must say of itself; its attempt also names the files
        """


def load_transport(name: str, connections: JobConnections, master: str) -> Transport:
    """The transport of that name, from the module that the registry names."""
    module, _, kind = TRANSPORTS[name].implementation.partition(":")
    transport: type[Transport] = getattr(importlib.import_module(module), kind)
    return transport(connections, master)


def check_source(clickhouse: ClickHouse, planned: PlannedRows, rows: str) -> None:
    """Whether the source's columns are still those that the rows were planned with: look after they were exported.

    :param rows: the table and which of its rows, for the message
    :raises StaleWindow: if they are not; values may have been cut to fit
    """
    types = dict(clickhouse.execute(planned.column_types_sql))
    for column in planned.columns:
        if column.source_type not in (None, types.get(column.name)):
            raise StaleWindow(
                f"{rows}: column '{column.name}' was {column.source_type} in the source when this was planned, and is "
                f"{types.get(column.name, 'missing')} by now. Nothing was published and no row is lost; the next run "
                "plans with the columns of now."
            )


@contextmanager
def text_checked(rows: str) -> Iterator[None]:
    """Say of a transport that fails at text which is not valid UTF-8 what that means.

    :param rows: the table and which of its rows, for the message
    :raises InvalidSource: with the column
    """
    try:
        yield
    except Exception as error:
        if (column := column_not_text(str(error))) is None:
            raise
        raise InvalidSource(
            f"{rows}: column '{column}' holds text that is not valid UTF-8, which readers of the cold table could not "
            "read. Nothing was published and no row is lost. Correct it in the source, or point 'source' at a view "
            f"that selects toValidUTF8({column}) or hex({column}) AS {column}; a new table can keep it as it is, with "
            f"'binary: [{column}]' in the table file. Then run `k2 validate`."
        ) from None

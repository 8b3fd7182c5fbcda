"""Both tiers, the ledger and the clock, opened once for a task or a command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.adapters.cold_catalog import ColdCatalog
from k2_offload.adapters.cold_table import ColdTable
from k2_offload.adapters.connections import catalog_settings, clickhouse_endpoint, get_connection
from k2_offload.adapters.ledger import Ledger
from k2_offload.adapters.postgres import airflow_connect
from k2_offload.adapters.schedule import longest_pause
from k2_offload.adapters.settings import USUAL_SCHEDULE, Settings, load_settings
from k2_offload.adapters.table_file import load_tables
from k2_offload.core.exactly_once import refuse_to_recreate
from k2_offload.core.limits import TASK_SECONDS
from k2_offload.core.tables import Tables, TableSpec

WORKER = "worker"
"""The process itself, without ClickHouse."""


@dataclass(frozen=True)
class Tiers:
    """What every piece of work is done with.

    :param clickhouse: the warm tier
    :param catalog: of the cold tier
    :param lake_collection: ClickHouse named collection of the lake's object store
    :param now: the clock; returns an aware UTC time
    :param task_timeout: how long a task may take
    :param cold_reader: who reads the cold tier for comparisons: ``clickhouse`` or :data:`WORKER`
    :param schedule: when cycles begin, a cron expression
    """

    tables: Tables
    ledger: Ledger
    clickhouse: ClickHouse
    catalog: ColdCatalog
    lake_collection: str
    now: Callable[[], datetime]
    task_timeout: timedelta = timedelta(seconds=TASK_SECONDS)
    cold_reader: str = "clickhouse"
    schedule: str = USUAL_SCHEDULE

    @property
    def pause(self) -> timedelta:
        """The longest one between the beginnings of two cycles."""
        return longest_pause(self.schedule)

    def load_cold(self, table: TableSpec) -> ColdTable | None:
        """The cold table as it is now; ``None`` if there never was one.

        :raises DamagedTable: if the one that the ledger has followed is not there
        """
        cold = self.catalog.load(table)
        if cold is None and (record := self.ledger.read_tables().get(table.name)) is not None:
            refuse_to_recreate(table.name, record.table_uuid)
        return cold


def wall_clock() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


def open_ledger(settings: Settings) -> Ledger:
    """The ledger, reached through its Airflow connection; each of its transactions connects anew.

    :raises ConfigurationError: if the connection is missing
    """
    get_connection(settings.ledger_conn_id)
    return Ledger(airflow_connect(settings.ledger_conn_id, settings.task_timeout_seconds), settings.ledger_conn_id)


@contextmanager
def open_tiers(
    tables: Tables | None = None, clock: Callable[[], datetime] | None = None, query_seconds: int | None = None
) -> Iterator[Tiers]:
    """All of it, from Airflow's settings and connections; closed at the end. Nothing connects before it is used.

    :param tables: those of the table file when left out
    :param clock: in place of this machine's and ClickHouse's, where time is played
    :param query_seconds: how long ClickHouse may say nothing during a query; as long as a task may take when left out
    :raises OffloadError: if a setting, a connection or the table file is wrong
    """
    settings = load_settings()
    tables = tables or load_tables(settings.tables_file)
    ledger = open_ledger(settings)
    with (
        closing(ClickHouse(clickhouse_endpoint(settings, query_seconds), clock)) as clickhouse,
        closing(ColdCatalog(catalog_settings(settings))) as catalog,
    ):
        task_timeout = timedelta(seconds=settings.task_timeout_seconds)
        own = settings.lake_collection, clock or wall_clock, task_timeout, settings.cold_reader, settings.schedule
        yield Tiers(tables, ledger, clickhouse, catalog, *own)

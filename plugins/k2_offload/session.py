"""Opens the outside world for one task or command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime

from k2_offload.adapters.airflow_config import load_catalog, load_clickhouse, load_ledger, load_settings, load_tables
from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.adapters.iceberg import ColdCatalog
from k2_offload.core.tables import Tables
from k2_offload.cycle import Cycle


@contextmanager
def open_cycle(
    dag_run_id: str, tables: Tables | None = None, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Iterator[Cycle]:
    """Everything a cycle needs, from Airflow's settings and connections; closed at the end.

    :param tables: those of the table file when left out
    :param now: the clock
    :raises OffloadError: if a setting, a connection or the table file is wrong
    """
    settings = load_settings()
    tables = tables or load_tables(settings)
    ledger = load_ledger(settings)
    with (
        closing(ClickHouse(load_clickhouse(settings))) as clickhouse,
        closing(ColdCatalog(load_catalog(settings))) as catalog,
    ):
        yield Cycle(
            tables,
            ledger,
            clickhouse,
            catalog,
            now=now,
            dag_run_id=dag_run_id,
            lake_collection=settings.lake_collection,
        )

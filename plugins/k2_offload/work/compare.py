"""Compares the rows of both tiers; ClickHouse reads either side."""

from __future__ import annotations

from k2_offload.core import queries
from k2_offload.core.comparison import Comparison, window_to_compare
from k2_offload.core.errors import OffloadError, Unreachable
from k2_offload.core.exactly_once import refuse_to_recreate, watermark_of
from k2_offload.core.lake import iceberg_table
from k2_offload.core.tables import TableSpec
from k2_offload.work.tiers import Tiers


def compare(tiers: Tiers, table: TableSpec) -> Comparison:
    """Compare one table as it is now; why it cannot be compared, for a reason of its own, becomes the ``problem``.

    :raises Unreachable: if a service is down
    """
    try:
        return _compare(tiers, table)
    except Unreachable:
        raise
    except OffloadError as error:
        return Comparison(table.name, None, problem=str(error))


def _compare(tiers: Tiers, table: TableSpec) -> Comparison:
    cold = tiers.catalog.load(table)
    window = window_to_compare(watermark_of(cold.published if cold else None), table.warm_retention, tiers.now())
    if cold is None and (record := tiers.ledger.read_tables().get(table.name)) is not None:
        refuse_to_recreate(table.name, record.table_uuid)
    if cold is None or window is None:
        return Comparison(table.name, None)
    columns = tiers.clickhouse.columns(table)
    reader = iceberg_table(cold.location, cold.metadata_location, tiers.lake_collection)
    [(warm_rows, warm_hash)] = tiers.clickhouse.execute(queries.warm_hash(table, columns, window))
    [(cold_rows, cold_hash)] = tiers.clickhouse.execute(queries.cold_hash(table, columns, window, reader))
    return Comparison(table.name, window, warm_rows, cold_rows, warm_hash, cold_hash)

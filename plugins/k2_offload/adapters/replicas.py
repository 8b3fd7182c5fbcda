"""What a server of ClickHouse says of its replicated tables."""

from __future__ import annotations

from collections.abc import Sequence

from k2_offload.adapters.clickhouse import MERGE_TREE, ClickHouse
from k2_offload.adapters.clickhouse_connection import ClickHouseConnection
from k2_offload.core import queries
from k2_offload.core.connections import ClickHouseEndpoint
from k2_offload.core.plan import PlannedBackfill, PlannedRows
from k2_offload.core.replicas import Replica, longest_delay_seconds, refuse_behind
from k2_offload.core.tables import TableSpec


def check_replicas(clickhouse: ClickHouse, table: TableSpec, again: str | None = None) -> list[str]:
    """Refuse what this server says of a table, as long as it has not fetched what other replicas have.

    :param again: the command to run again, where no next run tries by itself
    :returns: the replicated tables that the source is read from, for plans
    :raises ReplicaBehind: if a table that the source is read from is cut off, or too far behind
    """
    if replicas := read_replicas(clickhouse, table):
        refuse_behind(table.name, longest_delay_seconds(table), clickhouse.host, replicas, again)
    return [each.storage for each in replicas]


def open_planned(endpoint: ClickHouseEndpoint, planned: PlannedRows) -> ClickHouse:
    """A connection that refuses each server which lacks rows of a plan, as ``plan`` refuses the one that it asks.

    It may be another: of the list in the connection, or behind a load balancer. The audit counts rows; it cannot see
    that a server has an older version of them.
    """
    if not planned.replicated:
        return ClickHouse(endpoint)
    again = f"k2 backfill {planned.table}" if isinstance(planned, PlannedBackfill) else None

    def check(clickhouse: ClickHouseConnection) -> None:
        replicas = _replicas(clickhouse, planned.replicated)
        refuse_behind(planned.table, planned.longest_delay_seconds, clickhouse.host, replicas, again)

    return ClickHouse(endpoint, check=check)


def read_replicas(clickhouse: ClickHouse, table: TableSpec) -> list[Replica]:
    """The replicated tables of this server that the source is read from; none where it only asks other servers.

    :raises Refused: if the user may not read ``system.replicas``; nobody needs that without replicated tables
    """
    source = table.source
    engine = clickhouse.engine(source)
    if MERGE_TREE.match(engine):
        if not engine.startswith("Replicated"):
            return []
        return _replicas(clickhouse, [source])
    named, _ = clickhouse.reads(table)
    return _replicas(clickhouse, sorted(each for each in named if clickhouse.engine(each).startswith("Replicated")))


def _replicas(clickhouse: ClickHouseConnection, storages: Sequence[str]) -> list[Replica]:
    if not storages:
        return []
    rows = clickhouse.execute(queries.replicas(storages))
    found = {name: Replica(name, bool(cut_off), delay) for name, cut_off, delay in rows}
    # One that ClickHouse does not list has no state that could be trusted.
    return [found.get(name, Replica(name, cut_off=True, delay_seconds=0)) for name in storages]

"""The ClickHouse queries about the offsets of messages, as text; see docker/clickhouse/80_message_offsets.sql."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from k2_offload.core.sql import between, instant, is_named, literal, qualified, quote
from k2_offload.core.tables import TableSpec
from k2_offload.core.windows import Window, to_micros

OFFSETS_TABLE = "message_offsets"


def offsets_table(table: TableSpec) -> str:
    """``database.table`` of the offsets of its messages."""
    return f"{table.database}.{OFFSETS_TABLE}"


def kept_since(table: TableSpec) -> str:
    """One row with seconds since 1970, or none if there is no table of offsets.

    An ALTER moves the time of the metadata; the first row that is left may be older.
    """
    return (
        f"SELECT toUnixTimestamp(metadata_modification_time) FROM system.tables WHERE {is_named(offsets_table(table))}"
    )


def first_received(table: TableSpec) -> str:
    """One row: the microseconds of the oldest row of any table, 0 if there is none."""
    return f"SELECT toUnixTimestamp64Micro(min(received_at)) FROM {qualified(offsets_table(table))}"


def feeding_views(table: TableSpec) -> str:
    """One row: how many views write the table's offsets."""
    name = literal(literal(table.source.partition(".")[2]))
    return (
        f"SELECT count() FROM system.tables WHERE database = {literal(table.database)} "
        "AND engine = 'MaterializedView' "
        f"AND match(create_table_query, '[ .`]{OFFSETS_TABLE}[` (]') AND position(create_table_query, {name}) > 0"
    )


def queue_topics(table: TableSpec) -> str:
    """One row: the topics, with commas between, that the table's queue reads; none if there is no such queue."""
    return (
        "SELECT extract(engine_full, 'kafka_topic_list = \\'([^\\']*)') FROM system.tables "
        f"WHERE {is_named(f'{table.source}_queue')} AND engine = 'Kafka'"
    )


def last_offsets(table: TableSpec) -> str:
    """Rows ``(topic, partition, highest offset)``."""
    return f"SELECT topic, partition, max(offset) FROM {_offsets(table)} GROUP BY topic, partition"


def delivered(table: TableSpec) -> str:
    """Rows ``(topic, partition, first offset, last offset, microseconds of their first delivery)``, in that order."""
    island = "offset - dense_rank() OVER (PARTITION BY topic, partition ORDER BY offset) AS k2_island"
    return (
        "SELECT topic, partition, min(offset), max(offset), toUnixTimestamp64Micro(min(received_at)) "
        f"FROM (SELECT topic, partition, offset, received_at, {island} FROM {_offsets(table)}) "
        "GROUP BY topic, partition, k2_island ORDER BY topic, partition, min(offset)"
    )


def repeated(table: TableSpec) -> str:
    """Ranges, as :func:`_ranges`, of offsets that were delivered more than once."""
    return _ranges(
        f"SELECT topic, partition, offset FROM {_offsets(table)} GROUP BY topic, partition, offset HAVING count() > 1"
    )


def without_rows(
    table: TableSpec,
    rows: str,
    since: datetime,
    received_before: datetime,
    trade_before: datetime | None = None,
    left_out: Iterable[Window] = (),
) -> str:
    """Ranges, as :func:`_ranges`, of messages that have neither rows in a table nor were rejected.

    :param rows: the table, or a table function, that must have them
    :param since: what came or happened before may be gone
    :param trade_before: only of messages whose first trade is older than this
    :param left_out: trades in these are not asked for
    """
    low = instant(to_micros(since))
    due = f"received_at >= {low} AND received_at < {instant(to_micros(received_before))}"
    due += f" AND ifNull(first_trade_at, received_at) >= {low}"
    if trade_before is not None:
        due += f" AND first_trade_at < {instant(to_micros(trade_before))}"
    due += "".join(f" AND NOT ifNull({between('first_trade_at', window)}, 0)" for window in left_out)
    kept = f"SELECT sipHash64(raw_message) FROM {rows} WHERE {quote(table.timestamp_column)} >= {low}"
    rejected = f"SELECT sipHash64(raw_message) FROM {quote(table.database)}.rejected_messages"
    return _ranges(
        f"SELECT DISTINCT topic, partition, offset FROM {_offsets(table)} AND {due} "
        f"AND message_hash NOT IN ({kept}) AND message_hash NOT IN ({rejected})"
    )


def _offsets(table: TableSpec) -> str:
    return f"{qualified(offsets_table(table))} WHERE bronze_table = {literal(table.source.partition('.')[2])}"


def _ranges(offsets: str) -> str:
    """Rows ``(topic, partition, first offset, last offset)`` of consecutive ones."""
    island = "offset - row_number() OVER (PARTITION BY topic, partition ORDER BY offset) AS k2_island"
    return (
        f"SELECT topic, partition, min(offset), max(offset) FROM (SELECT topic, partition, offset, {island} "
        f"FROM ({offsets})) GROUP BY topic, partition, k2_island ORDER BY topic, partition, min(offset)"
    )

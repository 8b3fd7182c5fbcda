"""A table that another program has made and filled, through the real pyiceberg."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from datetime import UTC, date, datetime
from types import SimpleNamespace

import numpy as np
import pytest
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import SortDirection, SortField, SortOrder
from pyiceberg.transforms import DayTransform, IdentityTransform, MonthTransform
from pyiceberg.types import IntegerType, NestedField, StringType, TimestamptzType

from k2_offload.adapters import repeated_rows
from k2_offload.adapters.repeated_rows import read_day
from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.adoption import ADOPTED_PROPERTY, DayRows, Repeated
from k2_offload.core.errors import OffloadError
from k2_offload.core.exactly_once import LedgerEntry, adopted
from k2_offload.core.type_mapping import map_column
from k2_offload.core.windows import to_micros
from k2_offload.work.adoption import adopt, look

TABLE = parse_tables("tables: {trades: {layer: bronze, source: k2.trades, target: cold.trades, timestamp_column: at}}")[
    "trades"
]
CANDLES = replace(TABLE, key_columns=("symbol",), version_column="trades")
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
SCHEMA = Schema(
    NestedField(1, "symbol", StringType(), required=False),
    NestedField(2, "trades", IntegerType(), required=False),
    NestedField(3, "at", TimestamptzType(), required=False),
)


@pytest.fixture
def foreign(lake):
    lake.create_namespace("cold")

    def make(transform=None, sort_order=SortOrder(), **properties):  # noqa: B008
        table = lake.create_table("cold.trades", SCHEMA, sort_order=sort_order, properties=properties)
        if transform is not None:
            with table.update_spec() as spec:
                spec.add_field("at", transform, "at_part")
        return table

    return make


def append(table, *rows):
    import pyarrow as pa

    rows = [dict(zip(("symbol", "trades", "at"), row, strict=True)) for row in rows]
    table.append(pa.Table.from_pylist(rows, schema=table.schema().as_arrow()))


def test_rows_are_counted_by_day_and_those_of_none_apart(catalog, foreign):
    table = foreign(DayTransform())
    append(table, ("a", 1, NOON), ("b", 1, NOON.replace(day=5)), ("c", 1, None), ("d", 1, NOON))
    cold = catalog.load(TABLE)
    shape = cold.foreign.shape("at")
    assert (shape.rows_of_days, shape.undated_rows, shape.other_files) == (
        {date(2026, 3, 4): 2, date(2026, 3, 5): 1}, 1, 0,
    )  # fmt: skip
    assert (shape.name.partition(".")[2], shape.location, shape.sort_order) == ("cold.trades", cold.location, ())
    assert not cold.foreign.has_windows
    assert cold.foreign.last_commit.tzinfo is UTC


@pytest.mark.parametrize(("name", "quoted"), [("demo", "demo"), ("k2-lake", "`k2-lake`"), ("8`", "`8```")])
def test_statements_for_spark_quote_the_catalog_s_name_where_it_needs_that(catalog, foreign, lake, name, quoted):
    foreign(DayTransform())
    cold = catalog.load(TABLE)
    lake.name = name
    assert cold.rollback_statement(7) == f"CALL {quoted}.system.rollback_to_snapshot('cold.trades', 7)"
    assert cold.foreign.shape("at").name == f"{quoted}.cold.trades"


@pytest.mark.parametrize("transform", [MonthTransform(), None], ids=["month", "none"])
def test_files_of_other_partitions_are_told_also_after_the_table_was_changed(catalog, foreign, transform):
    table = foreign(transform)
    assert (table.spec() == UNPARTITIONED_PARTITION_SPEC) == (transform is None)
    append(table, ("a", 1, NOON))
    assert catalog.load(TABLE).foreign.shape("at").other_files == 1
    with table.update_spec() as spec:
        if transform is not None:
            spec.remove_field("at_part")
        spec.add_field("at", DayTransform(), "at_day")
    append(table, ("b", 1, NOON))
    shape = catalog.load(TABLE).foreign.shape("at")
    assert (shape.other_files, shape.rows_of_days) == (1, {NOON.date(): 1})


@pytest.mark.parametrize(
    ("direction", "told"), [(SortDirection.ASC, "symbol"), (SortDirection.DESC, "identity(symbol) DESC")]
)
def test_how_its_writers_sort_is_told(catalog, foreign, direction, told):
    foreign(sort_order=SortOrder(SortField(source_id=1, transform=IdentityTransform(), direction=direction)))
    assert catalog.load(TABLE).foreign.shape("at").sort_order == (told,)


def test_what_it_lacks_is_set_in_the_commit_that_takes_it_over(catalog, foreign):
    append(foreign(DayTransform(), **{"write.metadata.previous-versions-max": "7"}), ("a", 1, NOON))
    cold = catalog.load(TABLE)
    properties = cold.foreign.missing_properties(replace(TABLE, transport="jdbc"))
    assert properties.pop("schema.name-mapping.default")
    assert properties == {
        "write.wap.enabled": "true",
        "write.metadata.delete-after-commit.enabled": "true",
        "commit.retry.num-retries": "0",
    }
    window_id = adopted(cold.uuid, NOON)
    cold.publish_without_rows(window_id, "at", properties={ADOPTED_PROPERTY: "1"}, ledger_id=None)
    after = catalog.load(TABLE)
    assert after.published.window_id == window_id
    assert after.foreign.has_windows
    assert (after.foreign.property_of(ADOPTED_PROPERTY), after.foreign.property_of("k2.other")) == ("1", None)


def test_rows_that_are_there_more_than_once_are_counted_and_named(catalog, foreign):
    table = foreign(DayTransform())
    early = datetime(1999, 3, 4, tzinfo=UTC)
    append(table, ("a", 1, NOON), ("a", 1, NOON), (None, 1, NOON), ("b", 2, NOON), ("x", 1, early))
    append(table, ("a", 1, NOON), ("b", 3, NOON), ("c", 1, NOON.replace(day=5)))
    cold, day = catalog.load(TABLE), NOON.date()
    found = read_day(cold, TABLE, cold.columns, day, 10)
    at = "2026-03-04 12:00:00.000000"
    assert found == DayRows(day, 6, 2, newest_micros=to_micros(NOON), repeated=(Repeated({"at": at}, 3),))
    of_key = read_day(cold, CANDLES, cold.columns, day, 10)
    assert (of_key.duplicates, of_key.equal_keys) == (2, 1)
    assert of_key.repeated == (Repeated({"symbol": "a"}, 3), Repeated({"symbol": "b"}, 2))
    assert len(read_day(cold, CANDLES, cold.columns, day, 1).repeated) == 1
    assert read_day(cold, TABLE, cold.columns, early.date(), 10).early == 1
    assert read_day(cold, TABLE, cold.columns, date(2026, 3, 7), 10) == DayRows(date(2026, 3, 7), 0)
    by_other_time = replace(TABLE, timestamp_column="seen")
    with table.update_schema() as schema:
        schema.add_column("seen", TimestamptzType())
    cold = catalog.load(TABLE)
    assert read_day(cold, by_other_time, cold.columns, day, 10).undated == 6


@pytest.mark.parametrize("key", [{}, {"key_columns": ("trades",), "version_column": "trades"}], ids=["rows", "keys"])
def test_a_day_whose_rows_are_all_doubled_needs_little_memory_and_names_a_few(monkeypatch, key):
    import pyarrow as pa

    rows, step = 300_000, 10_000

    def batches(*_):
        for low in (*range(0, rows, step), *range(0, rows, step)):
            numbers = np.arange(low, low + step)
            times = pa.array(to_micros(NOON) + numbers, pa.timestamp("us", "UTC"))
            yield pa.RecordBatch.from_arrays([times, pa.array(numbers)], names=["at", "trades"])

    columns = [
        SimpleNamespace(name="at", iceberg_type="timestamptz"),
        SimpleNamespace(name="trades", iceberg_type="long"),
    ]
    texts = []
    monkeypatch.setattr(repeated_rows, "_text", lambda value: texts.append(value) or str(value))
    tracemalloc.start()
    found = read_day(SimpleNamespace(read_day=batches), replace(TABLE, **key), columns, NOON.date(), 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.rows, found.duplicates, found.equal_keys) == (2 * rows, rows, 0)
    assert (len(found.repeated), {each.times for each in found.repeated}) == (10, {2})
    assert peak / found.rows < 40
    assert len(texts) <= 10 * 2


def test_rows_that_differ_only_where_the_source_has_no_column_are_repeated(catalog, foreign):
    """As at-least-once writers leave them: each delivery has another number or time of arrival."""
    append(foreign(DayTransform()), ("a", 1, NOON), ("a", 2, NOON), ("a", 2, NOON), ("b", 1, NOON))
    kinds = {"symbol": "String", "at": "DateTime64(6, 'UTC')"}
    source = tuple(map_column("trades", name, kind) for name, kind in kinds.items())
    now = NOON.replace(month=11)
    tiers = SimpleNamespace(
        now=lambda: now,
        catalog=catalog,
        clickhouse=SimpleNamespace(columns=lambda _: source, now=lambda: now, rows_per_day=lambda _: {}),
        ledger=SimpleNamespace(read_entry=lambda _: LedgerEntry(None, None, None)),
    )
    seen = look(tiers, TABLE)
    [day] = seen.days
    assert (day.rows, day.duplicates, day.differing) == (4, 2, 1)
    assert [each.times for each in day.repeated] == [3]
    assert "PARTITION BY `symbol`, `at` ORDER BY `trades` NULLS LAST" in seen.deduplication(day.day)
    with pytest.raises(OffloadError, match="2 rows of the cold table are there more than once"):
        adopt(tiers, seen)

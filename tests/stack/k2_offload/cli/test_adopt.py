"""``k2 adopt``: a table that the old method has filled, with its duplicates and its lost boundary row."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import DayTransform, MonthTransform
from pyiceberg.types import DecimalType, NestedField, StringType, TimestamptzType

from k2_offload.core.adoption import ADOPTED_PROPERTY, deduplication
from k2_offload.core.day_comparison import Verdict
from k2_offload.core.errors import DamagedTable, OffloadError, StaleWindow
from k2_offload.core.exactly_once import LEDGER_PROPERTY
from k2_offload.core.fault_points import FaultPoint
from k2_offload.core.windows import TICK, format_time
from k2_offload.work.adoption import adopt, look
from k2_offload.work.reconcile import reconcile
from tests.faults.hook import Fault, Kind
from tests.faults.tasks import run_task
from tests.support import table_file
from tests.support.cold import load_cold_table

COLUMNS = ("at", "sequence", "symbol", "price", "note")
# Not in the source's order, and with ids of their own.
FIELDS = (
    NestedField(7, "symbol", StringType(), required=False),
    NestedField(3, "at", TimestamptzType(), required=False),
    NestedField(4, "note", StringType(), required=False),
    NestedField(5, "price", DecimalType(38, 18), required=False),
    NestedField(6, "sequence", DecimalType(20, 0), required=False),
)


class OldSystem:
    """Copies batches of rows on a cursor that takes the rows at both of its ends: those at a boundary twice."""

    def __init__(self, shell, table, transform=None):
        self._workbench, self._table = shell.workbench, table
        catalog = self._workbench.cold_catalog
        catalog.create_namespace_if_not_exists("cold")
        spec = PartitionSpec(PartitionField(3, 1000, transform or DayTransform(), "at_day"))
        catalog.create_table(f"cold.{table}", Schema(*FIELDS), partition_spec=spec)

    def copy(self, first, last):
        import pyarrow as pa

        micros = (f"toDateTime64('{time:%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC')" for time in (first, last))
        condition = "at >= {} AND at <= {}".format(*micros)
        rows = self._workbench.sql(f"SELECT {', '.join(COLUMNS)} FROM {self._table} WHERE {condition}")
        cold = self._workbench.cold_catalog.load_table(f"cold.{self._table}")
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        cold.append(pa.Table.from_pylist(rows, schema=cold.schema().as_arrow()))


def cold_rows(table):
    rows = load_cold_table(table).scan().to_arrow().to_pylist()
    return Counter(tuple(row[name] for name in COLUMNS) for row in rows)


@pytest.fixture
def noon():
    return (datetime.now(UTC) - timedelta(days=1)).replace(hour=12, minute=0, second=0, microsecond=0)


def test_ten_duplicates_and_a_lost_row_are_found_and_healed(shell, noon):
    workbench, table = shell.workbench, shell.workbench.create_trades()
    spec, old = workbench.spec(table), OldSystem(shell, table)
    shell.tables(spec)
    long_ago = noon - timedelta(days=10)
    for start, boundaries in ((long_ago, 2), (noon, 3)):  # two rows share each time
        workbench.insert_trades(table, start, 100, start_sequence=1000 * boundaries)
        for number in range(boundaries + 1):
            old.copy(start + timedelta(seconds=20 * number), start + timedelta(seconds=20 * (number + 1)))
        old.copy(start + timedelta(seconds=20 * (boundaries + 1) + 2), start + timedelta(seconds=99))
    boundary = noon + timedelta(seconds=20)
    workbench.insert_trades(table, boundary, 1, start_sequence=9001)  # it comes when its batch is done
    everything = workbench.warm_rows(table)
    workbench.sql(f"ALTER TABLE {table} DELETE WHERE at < '{noon:%Y-%m-%d}' SETTINGS mutations_sync = 2")
    before = load_cold_table(table).metadata
    cycle = workbench.cycle(spec)
    with pytest.raises(DamagedTable, match=f"210 rows that no offloaded window brought.*`k2 adopt {table}`"):
        cycle.plan(cycle.tables[table])

    found = shell.json("adopt", table, "--yes", exit_code=1)
    assert (found["rows"], found["duplicates"], found["equal_keys"], found["adopted"]) == (210, 10, 0, False)
    assert found["watermark"] == format_time(noon + timedelta(seconds=98) + TICK)
    first, second = found["repeated"]
    assert [(day["day"], day["duplicates"], day["as_in_clickhouse"]) for day in (first, second)] == [
        (str(long_ago.date()), 4, False),
        (str(noon.date()), 6, False),
    ]
    assert {each["row"]["sequence"] for each in first["among_them"]} == {"2020", "2021", "2040", "2041"}
    assert {each["times"] for each in first["among_them"]} == {2}
    assert "10 rows of the cold table are there more than once" in found["problems"][0]
    [day] = found["days"]
    assert (day["result"], day["late_rows"], day["gone_rows"]) == ("changed rows", 1, 6)
    assert load_cold_table(table).metadata == before

    workbench.spark.ask("sql", first["statement"])
    [refused] = shell.json("adopt", table, "--yes", exit_code=1)["problems"]
    assert f"6 rows of the cold table are there more than once: {noon.date()} (6)" in refused, "though it can be healed"
    assert "SELECT DISTINCT *" in second["statement"]
    shape, names = look(cycle.tiers, cycle.tables[table]).shape, [field.name for field in FIELDS]
    workbench.spark.ask("sql", deduplication(cycle.tables[table], shape, names, noon.date(), ["note"]))
    shown = shell.k2("adopt", table, "--yes").stdout
    assert f"Afterwards, k2_reconcile heals that day; `k2 heal {table}` does it at once" in " ".join(shown.split())
    assert f"taken over; the watermark is {found['watermark']}" in " ".join(shown.split())
    assert cycle.ledger.read_tables()[table].watermark == noon + timedelta(seconds=98) + TICK
    taken_over = load_cold_table(table).metadata
    again = look(cycle.tiers, cycle.tables[table])
    assert (again.window_id, again.watermark) == (None, noon + timedelta(seconds=98) + TICK)

    workbench.insert_trades(table, datetime.now(UTC) - timedelta(hours=2), 50, start_sequence=10**6)
    everything += workbench.warm_rows(table) - everything
    assert workbench.move(workbench.cycle(spec), table)
    assert load_cold_table(table).metadata.snapshots[-1].parent_snapshot_id == taken_over.current_snapshot_id
    [lost] = reconcile(cycle.tiers, [cycle.tables[table]], [noon.date()])
    workbench.publish(*lost.heals)
    assert cold_rows(table) == everything
    for healed in reconcile(cycle.tiers, [cycle.tables[table]]):
        assert {day.verdict for day in healed.days} == {Verdict.EQUAL}


def test_of_a_key_the_version_with_most_trades_is_left(shell, noon):
    """By Spark, in a session of any time zone, and of no other day."""
    workbench, table = shell.workbench, shell.workbench.create_trades()
    spec = workbench.spec(table, key_columns="[symbol, at]", version_column="sequence")
    old = OldSystem(shell, table)
    for start in (noon.replace(hour=0), noon.replace(hour=23, minute=59), noon + timedelta(days=-1, hours=11)):
        workbench.insert_trades(table, start, 8)
    workbench.sql(f"INSERT INTO {table} SELECT at, sequence + 100, symbol, price + 1, note FROM {table}")
    for _ in range(2):
        old.copy(noon - timedelta(days=2), noon + timedelta(days=1))
    cycle = workbench.cycle(spec)
    seen = look(cycle.tiers, cycle.tables[table])
    assert [(day.rows, day.duplicates, day.equal_keys) for day in seen.days] == [(32, 16, 8), (64, 32, 16)]
    before = cold_rows(table)
    workbench.spark.ask("sql", "SET TIME ZONE 'Asia/Tokyo'")
    try:
        workbench.spark.ask("sql", seen.deduplication(noon.date()))
    finally:
        workbench.spark.ask("sql", "SET TIME ZONE 'UTC'")
    midnight = noon.replace(hour=0)
    newest = {row for row in before if row[0] >= midnight and row[1] >= 100}
    assert cold_rows(table) == Counter({row: n for row, n in before.items() if row[0] < midnight}) + Counter(newest)


def test_it_is_taken_over_as_it_was_seen_or_not_at_all(shell, noon):
    workbench, table = shell.workbench, shell.workbench.create_trades()
    spec, old = workbench.spec(table), OldSystem(shell, table)
    cycle = workbench.cycle(spec)
    tiers, entry = cycle.tiers, cycle.tables[table]
    assert look(tiers, entry).window_id is None, "it holds no rows"
    workbench.insert_trades(table, noon, 20)
    old.copy(noon, noon + timedelta(seconds=9))
    seen = look(tiers, entry)
    old.copy(noon + timedelta(seconds=10), noon + timedelta(seconds=11))
    with pytest.raises(StaleWindow, match="another writer committed to the cold table meanwhile"):
        adopt(tiers, seen)
    assert ADOPTED_PROPERTY not in load_cold_table(table).properties

    fault = Fault(FaultPoint.COMMIT_STARTED, Kind.KILL, table)
    assert run_task("adopt", fault, table_file([spec]), [table], datetime.now(UTC)) == -9
    assert cycle.ledger.read_tables()[table].table_uuid is None, "it died before the ledger knew"
    assert look(tiers, entry).window_id is None, "it is taken over"
    snapshot, ledger = load_cold_table(table).current_snapshot(), cycle.ledger.read_entry(table)
    assert snapshot.summary[LEDGER_PROPERTY] == ledger.ledger_id
    with pytest.raises(OffloadError, match="nothing that can be taken over"):
        adopt(tiers, look(tiers, entry))
    workbench.move(cycle, table)
    assert cycle.ledger.read_tables()[table].watermark > noon + timedelta(seconds=11)
    assert cold_rows(table) == workbench.warm_rows(table)


def test_a_table_partitioned_by_month_is_refused(shell, noon):
    workbench, table = shell.workbench, shell.workbench.create_trades()
    old = OldSystem(shell, table, MonthTransform())
    workbench.insert_trades(table, noon, 20)
    old.copy(noon, noon + timedelta(seconds=20))
    cycle = workbench.cycle(workbench.spec(table))
    before = load_cold_table(table).metadata
    seen = look(cycle.tiers, cycle.tables[table])
    assert "partitioned by month of 'at'" in seen.problems[0]
    assert "1 files of the cold table are not partitioned by day" in seen.problems[1]
    with pytest.raises(OffloadError, match="nothing that can be taken over"):
        adopt(cycle.tiers, seen)
    assert load_cold_table(table).metadata == before

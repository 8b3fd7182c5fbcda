"""A message whose rows the cold table has lost is found by its offset; on the real stack."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.adapters.ledger_offsets import LedgerOffsets
from k2_offload.core.errors import OffloadError
from k2_offload.core.observation import OffsetComparison
from k2_offload.core.offsets import OffsetFinding, OffsetKind, OffsetRange, Partition, SeenEnd
from k2_offload.work.offsets import compare_due, compare_offsets
from tests.stack.k2_offload.test_retention import Proven

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=20)


@pytest.fixture
def offsets_table(workbench):
    """The columns of docker/clickhouse/80_message_offsets.sql; the stack has no broker's queue."""
    workbench.sql(
        "CREATE TABLE k2.message_offsets (bronze_table LowCardinality(String), topic LowCardinality(String), "
        "partition UInt32, offset Int64, received_at DateTime64(6, 'UTC'), "
        "first_trade_at Nullable(DateTime64(6, 'UTC')), message_hash UInt64) "
        "ENGINE = MergeTree ORDER BY (topic, partition, offset)"
    )
    yield
    workbench.sql("DROP TABLE k2.message_offsets SYNC")


@pytest.mark.usefixtures("offsets_table")
def test_a_message_whose_rows_are_not_cold_is_found(workbench):
    table = workbench.create_trades(extra=", raw_message String DEFAULT concat('m', toString(sequence))")
    workbench.insert_trades(table, NOON, 100)

    def cycle(now):
        return workbench.cycle(workbench.spec(table), now=now)

    workbench.move(cycle(NOON + timedelta(hours=1)), table)
    workbench.sql(
        f"INSERT INTO k2.message_offsets SELECT '{table}', 't', 0, sequence, at, at, sipHash64(raw_message) "
        f"FROM {table}"
    )
    tiers = cycle(LATER).tiers
    spec = tiers.tables[table]
    cold = workbench.cold_rows(table)
    assert compare_offsets(tiers, spec, None).findings == ()

    late = NOON + timedelta(seconds=10)
    workbench.insert_trades(table, late, 2, start_sequence=100)
    workbench.sql(
        f"INSERT INTO k2.message_offsets SELECT '{table}', 't', 0, sequence, at, at, sipHash64(raw_message) "
        f"FROM {table} WHERE sequence >= 100"
    )
    assert workbench.cold_rows(table) == cold
    found = compare_offsets(tiers, spec, None)
    assert found.findings == (OffsetFinding(Partition("t", 0), OffsetRange(100, 101), OffsetKind.NOT_COLD),)
    assert not found.passed

    # As the daily run does it: kept in the ledger, looked at in each run until all is there, then once an hour.
    kept = LedgerOffsets(tiers.ledger)
    assert [report.losses for report in compare_due(tiers, [spec], lambda: None)] == [found.losses]
    assert kept.read()[table] == OffsetComparison(LATER, 2, 0, 1)
    workbench.sql(f"DELETE FROM k2.message_offsets WHERE bronze_table = '{table}' AND offset >= 100")
    workbench.sql(
        f"CREATE MATERIALIZED VIEW k2.message_offsets_{table} TO k2.message_offsets AS SELECT '{table}' AS "
        "bronze_table, 't' AS topic, 0 AS partition, sequence AS offset, at AS received_at, sipHash64(raw_message) AS "
        f"message_hash FROM {table}"
    )
    [report] = compare_due(tiers, [spec], lambda: None)
    assert (report.passed, kept.read()[table]) == (True, OffsetComparison(LATER, 0, 0, 0))
    assert list(compare_due(tiers, [spec], lambda: None)) == []
    workbench.sql(f"DROP VIEW k2.message_offsets_{table}")
    workbench.sql("RENAME TABLE k2.message_offsets TO k2.message_offsets_elsewhere")
    later = cycle(LATER + timedelta(hours=1)).tiers
    with pytest.raises(OffloadError, match=r"does not show k2\.message_offsets") as hidden:
        list(compare_due(later, [spec], lambda: None))
    assert kept.read()[table] == OffsetComparison(LATER, 0, 0, 0), "no alert ends by that"
    [forget] = re.findall(r"DELETE FROM .* WHERE table_name = '\w+'", str(hidden.value))
    with tiers.ledger.transaction() as cursor:
        cursor.execute(forget)
        assert cursor.rowcount == 1
    assert [report.kept for report in compare_due(later, [spec], lambda: None)] == [False]
    workbench.sql("RENAME TABLE k2.message_offsets_elsewhere TO k2.message_offsets")

    assert kept.read_ends(table) == {}
    ends = {Partition("t", 0): SeenEnd(3, 5, 9, NOON), Partition("t", 1): SeenEnd(0, 4, 2**40, LATER)}
    for seen in ({Partition("t", 1): SeenEnd(0, 0, 7, NOON)}, ends):
        kept.record(table, OffsetComparison(LATER, 0, 0, 0), seen)
    assert kept.read_ends(table) == ends
    assert kept.read_ends("another") == {}

    assert not kept.has_asked_broker()
    for now in (LATER, NOON):
        kept.record_broker(now)
    assert kept.has_asked_broker()
    with tiers.ledger.transaction() as cursor:
        cursor.execute("DELETE FROM k2_offload.offload_broker")
        assert cursor.rowcount == 1


@pytest.mark.usefixtures("offsets_table")
def test_a_gap_that_is_read_again_in_part_stays_a_finding(workbench):
    """As the engine groups offsets: 100 to 149 and 200 never came; of those, 100 to 110 came days later, twice."""
    table = workbench.create_trades(extra=", raw_message String")
    tiers = workbench.cycle(workbench.spec(table), now=LATER).tiers
    for first, end, days, partition in (
        (0, 100, 0, 0), (150, 200, 1, 0), (201, 300, 1, 0), (100, 111, 3, 0), (100, 111, 4, 0), (0, 9, 1, 1)
    ):  # fmt: skip
        workbench.sql(
            f"INSERT INTO k2.message_offsets SELECT '{table}', 't', {partition}, number, toDateTime64('2026-03-01 "
            f"00:00:00', 6, 'UTC') + toIntervalDay({days}), NULL, 0 FROM numbers({first}, {end - first})"
        )

    def missing():
        found = compare_offsets(tiers, tiers.tables[table], None).findings
        return [(each.partition.number, str(each.offsets)) for each in found if each.kind is OffsetKind.UNCHECKED]

    assert missing() == [(0, "111 to 149"), (0, "200")]
    workbench.sql("DELETE FROM k2.message_offsets WHERE received_at < '2026-03-02 00:00:00'")
    assert missing() == [(0, "200")], "what lies below came after what lies above: whether more came, nobody knows"


@pytest.mark.usefixtures("offsets_table")
def test_a_day_that_proven_retention_has_moved_away_is_not_missing_in_bronze(workbench):
    """Its messages are younger than what is looked at, and a removal waits for midnight alone."""
    proven = Proven(
        workbench, workbench.create_trades(extra=", raw_message String DEFAULT concat('m', toString(sequence))")
    )
    workbench.sql(
        f"INSERT INTO k2.message_offsets SELECT '{proven.storage}', 't', 0, rowNumberInAllBlocks(), at, at, "
        f"sipHash64(raw_message) FROM (SELECT at, raw_message FROM {proven.storage} ORDER BY sequence)"
    )
    proven.seal(NOON + timedelta(days=1, hours=20))
    proven.remove()

    def compared():
        return compare_offsets(proven.tiers, proven.tables[0], None)

    proven.now = NOON + timedelta(days=2, hours=14)
    assert (compared().findings, compared().removed) == ((), ())
    assert proven.states() == {"20260304": "held", "20260305": "waits"}
    report = compared()
    assert report.findings == ()
    [removed] = report.removed
    assert (removed.low.date(), removed.high) == (NOON.date(), NOON + timedelta(hours=12))
    workbench.sql(f"ALTER TABLE {proven.storage} DELETE WHERE sequence = 20000 SETTINGS mutations_sync = 2")
    assert compared().findings == (OffsetFinding(Partition("t", 0), OffsetRange(40, 40), OffsetKind.NOT_IN_BRONZE),)

"""Watermarks, cold tables, rows that differ, seals, the TTL, columns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from k2_offload.cli.run import run_dag
from k2_offload.core.windows import format_time
from k2_offload.work.offsets import compare_due
from k2_offload.work.reconcile import reconcile
from k2_offload.work.seals import seal_days
from k2_offload.work.verify_seals import verify_due
from tests.support.ledger import change_ledger
from tests.support.runbooks import RAW_MESSAGE


def test_the_ttl_is_about_to_win(runbook):
    scenario = runbook("watermark.md#rows-are-about-to-expire", rows=0)
    scenario.workbench.sql(f"ALTER TABLE {scenario.table} MODIFY TTL toDateTime(at) + INTERVAL 7 DAY")
    scenario.use(scenario.entry(warm_retention_days=7))
    scenario.insert(timedelta(days=6, hours=23, minutes=30))
    scenario.insert(timedelta(hours=1))
    scenario.fires("K2RowsExpireSoon")
    scenario.fires("K2RowsExpireNow")
    assert "TTL" in scenario.check()
    scenario.fix()
    scenario.clears("K2RowsExpireSoon")
    scenario.clears("K2RowsExpireNow")
    scenario.verify()
    scenario.tables_equal()


def test_rows_have_gone_before_they_were_moved(runbook):
    scenario = runbook("watermark.md#rows-were-missed")
    scenario.insert(timedelta(minutes=30), 24, start_sequence=5000)
    cycle = scenario.cycle
    assert cycle.plan(cycle.tables[scenario.table]).rows == 24
    scenario.workbench.sql(f"ALTER TABLE {scenario.table} DELETE WHERE sequence >= 5004 SETTINGS mutations_sync = 2")
    assert "20 fewer than were planned" in scenario.check()
    scenario.fix()
    scenario.fires("K2RowsMissed")
    scenario.verify()
    scenario.clears("K2RowsMissed")
    scenario.tables_equal()


def test_a_table_begins_at_a_date(runbook):
    scenario = runbook("watermark.md#a-table-shall-begin-at-a-date", rows=0)
    scenario.insert(timedelta(hours=2))
    begin = format_time(datetime.now(UTC) - timedelta(hours=1))
    scenario.check(**{"2026-03-01": begin})
    scenario.fix(**{"2026-03-01": begin})
    scenario.fires("K2RowsMissed")
    scenario.verify()
    scenario.clears("K2RowsMissed")
    assert scenario.workbench.cold_rows(scenario.table) == {}


def test_the_cold_table_was_dropped(runbook):
    scenario = runbook("watermark.md#a-cold-table-was-dropped")
    scenario.insert(timedelta(minutes=20))
    scenario.workbench.cold_catalog.drop_table(f"cold.{scenario.table}")
    scenario.fires("K2TableStopped")
    assert "not there" in scenario.check()
    scenario.fix()
    scenario.clears("K2TableStopped")
    scenario.verify()
    scenario.tables_equal()


def test_the_cold_table_was_replaced_on_purpose(runbook):
    scenario = runbook("watermark.md#a-cold-table-was-replaced-or-damaged")
    catalog, old = scenario.workbench.cold_catalog, scenario.workbench.cold_table(scenario.table)
    catalog.drop_table(f"cold.{scenario.table}")
    catalog.create_table(f"cold.{scenario.table}", old.schema(), partition_spec=old.spec(), properties=old.properties)
    scenario.fires("K2TableStopped")
    assert "dropped and recreated" in scenario.check()
    scenario.fix()
    scenario.clears("K2TableStopped")
    scenario.verify()
    scenario.tables_equal()


def test_the_catalog_is_restored_from_a_backup(runbook):
    scenario = runbook("watermark.md#the-catalog-was-restored-from-a-backup")
    backup = scenario.workbench.cold_table(scenario.table).metadata_location
    scenario.insert(timedelta(minutes=50))
    scenario.workbench.move(scenario.cycle, scenario.table)
    cold = scenario.workbench.cold_table(scenario.table)
    with psycopg.connect(scenario.workbench.stack.iceberg_dsn) as connection:
        connection.execute(
            "UPDATE iceberg_tables SET metadata_location = %s, previous_metadata_location = NULL WHERE table_name = %s",
            (backup, scenario.table),
        )
    cold.io.delete(backup)
    scenario.fires("K2TableStopped")
    scenario.check()
    scenario.fix()
    scenario.clears("K2TableStopped")
    scenario.insert(timedelta(minutes=20))
    scenario.k2("run", scenario.table)
    scenario.verify()
    scenario.tables_equal()


def test_the_ledgers_watermark_was_edited(runbook):
    scenario = runbook("watermark.md#the-ledger-has-a-wrong-watermark")
    scenario.insert(timedelta(minutes=20))
    wrong = "UPDATE k2_offload.offload_watermarks SET last_offload_timestamp = '2020-01-01Z', last_snapshot_id = 7"
    change_ledger(scenario.workbench.stack.ledger_dsn, wrong, scenario.table)
    assert "2020-01-01" in scenario.check()
    scenario.fix()
    assert "2020-01-01" not in scenario.verify()
    scenario.tables_equal()


def test_late_rows_are_healed_by_hand(runbook):
    scenario = runbook("consistency.md#the-tiers-differ")
    scenario.insert(timedelta(hours=3, minutes=1), 3)
    assert "late rows" in scenario.check()
    earlier = "UPDATE k2_offload.offload_days SET unequal_since = now() - interval '3 hours' WHERE table_name = %s"
    cycle = scenario.cycle
    list(reconcile(cycle.tiers, [cycle.tables[scenario.table]]))
    assert scenario.airflow(f"{earlier} AND unequal_since IS NOT NULL", scenario.table) == 1
    scenario.fires("K2TiersDiffer")
    scenario.fix(row="late rows")
    scenario.clears("K2TiersDiffer")
    scenario.verify()
    scenario.tables_equal()


def test_a_sealed_day_was_changed(runbook):
    scenario = runbook("consistency.md#a-seal-is-broken", rows=0)
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)
    scenario.workbench.insert_trades(scenario.table, noon, 100)
    scenario.insert(timedelta(minutes=10))
    scenario.workbench.move(scenario.cycle, scenario.table)
    cycle = scenario.cycle
    spec = cycle.tables[scenario.table]
    list(reconcile(cycle.tiers, [spec]))
    assert len(seal_days(cycle.tiers, [spec]).seals) == 1
    scenario.workbench.cold_catalog.load_table(f"cold.{scenario.table}").delete("sequence = 7")
    assert verify_due(cycle.tiers, [spec])
    scenario.fires("K2SealBroken")
    day = noon.date().isoformat()
    assert "the first snapshot that differs is" in scenario.check(DAY=day)
    scenario.fix(row="a snapshot differs, and ClickHouse holds the day", DAY=day)
    scenario.verify()
    scenario.clears("K2SealBroken")
    assert scenario.workbench.cold_rows(scenario.table) == scenario.workbench.warm_rows(scenario.table)


def test_a_column_is_renamed_at_night(runbook):
    scenario = runbook("offload-failure.md#a-schema-change-at-night")
    scenario.insert(timedelta(minutes=20))
    scenario.workbench.sql(f"ALTER TABLE {scenario.table} RENAME COLUMN note TO remark")
    scenario.fires("K2TableStopped")
    assert "note" in scenario.check()
    scenario.workbench.sql(f"ALTER TABLE {scenario.table} RENAME COLUMN remark TO note")
    scenario.clears("K2TableStopped")
    scenario.verify()
    scenario.tables_equal()


def test_nobody_has_compared_for_hours(runbook):
    scenario = runbook("consistency.md#the-tiers-are-not-compared")
    scenario.insert(timedelta(hours=3, minutes=1), 3)  # so that there is something to heal
    scenario.airflow("UPDATE dag_run SET end_date = end_date - interval '5 hours' WHERE dag_id = 'k2_reconcile'")
    scenario.fires("K2ComparisonOverdue", "k2_reconcile")
    scenario.check()
    assert "all days equal" in scenario.verify()
    scenario.clears("K2ComparisonOverdue", "k2_reconcile")
    scenario.tables_equal()


def test_late_rows_were_not_healed_before_the_ttl(runbook):
    scenario = runbook("consistency.md#rows-came-too-late", ago=timedelta(hours=50))
    scenario.insert(timedelta(hours=50, minutes=1), 3)
    cycle = scenario.cycle
    [found] = reconcile(cycle.tiers, [cycle.tables[scenario.table]])
    assert found.days[0].late_rows == 3
    scenario.use(scenario.entry(warm_retention_days=1))
    scenario.fires("K2LateRowsLeftOut")
    scenario.check()
    scenario.verify()
    scenario.clears("K2LateRowsLeftOut")


@pytest.mark.usefixtures("offsets_table")
def test_messages_came_too_late_for_their_window(runbook):
    scenario = runbook("consistency.md#messages-are-missing", rows=0, columns=RAW_MESSAGE)
    view = f"message_offsets_{scenario.table}"
    scenario.workbench.sql(
        f"CREATE MATERIALIZED VIEW {view} TO message_offsets AS SELECT '{scenario.table}' AS bronze_table, "
        "'t' AS topic, 0 AS partition, toInt64(sequence) AS offset, at AS received_at, at AS first_trade_at, "
        f"sipHash64(raw_message) AS message_hash FROM {scenario.table}"
    )
    scenario.insert(timedelta(hours=3), 1000, start_sequence=0)
    scenario.workbench.move(scenario.cycle, scenario.table)

    def compare():
        tiers = scenario.cycle.tiers
        return sum(report.missing for report in compare_due(tiers, [tiers.tables[scenario.table]], lambda: None))

    assert compare() == 0
    scenario.insert(timedelta(hours=3), 3, start_sequence=1000)
    assert scenario.is_quiet("K2OffsetsNotCompared")
    earlier = (
        "UPDATE k2_offload.offload_offsets SET compared_at = compared_at - interval '5 hours' WHERE table_name = %s"
    )
    assert scenario.airflow(earlier, scenario.table) == 1
    scenario.fires("K2OffsetsNotCompared")
    assert scenario.is_quiet("K2MessagesMissing")
    assert compare() == 3
    scenario.clears("K2OffsetsNotCompared")
    scenario.fires("K2MessagesMissing")
    assert "offsets 1000 to 1002 (3): missing in Iceberg" in scenario.check()
    assert compare() == 3, "nobody has healed them"
    assert not scenario.is_quiet("K2MessagesMissing")
    scenario.fix(row="missing in Iceberg")
    assert run_dag("k2_reconcile", [], {}) is None
    scenario.verify()
    scenario.clears("K2MessagesMissing")
    scenario.workbench.sql(f"DROP VIEW {view} SYNC")
    scenario.tables_equal()

"""The ledger's schema from version to version: upgraded with a window open, and gone back from."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest

from k2_offload.adapters.ledger import Ledger
from k2_offload.adapters.ledger_offsets import LedgerOffsets
from k2_offload.adapters.ledger_seals import LedgerSeals
from k2_offload.adapters.ledger_sql import migrations
from k2_offload.adapters.postgres import airflow_connect
from k2_offload.core.errors import OldLedger
from k2_offload.core.exactly_once import Published, Snapshot, WindowId, follow_chain
from k2_offload.core.gaps import Gap, GapKind
from k2_offload.core.windows import Window

OLD = Path(__file__).parents[2] / "data" / "ledger-0.1.0"
_, *OLD_PARTS = re.split(r"^-- name: (\w+)\n", (OLD / "queries.sql").read_text(), flags=re.MULTILINE)
OLD_STATEMENTS = dict(zip(OLD_PARTS[::2], OLD_PARTS[1::2], strict=True))
NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
WINDOW_ID = WindowId("uuid", Window(NOW.replace(hour=10), NOW.replace(hour=11)))


def old_version(database, *statements, **values):
    """What version 0.1.0 ran, word for word."""
    with psycopg.connect(database) as connection:
        connection.execute((OLD / "schema.sql").read_text())  # as it did before every plan
        for name in statements:
            found = connection.execute(OLD_STATEMENTS[name], {"table": "trades", **values})
        return found.fetchall() if found.description else None


def old_version_plans_a_window(database):
    old_version(
        database, "add_table", "open_window", window_id=str(WINDOW_ID), low=WINDOW_ID.window.low,
        high=WINDOW_ID.window.high, dag_run_id="old", rows=5, max_sequence=None, now=NOW,
    )  # fmt: skip
    old_version(database, "set_watermark", watermark=WINDOW_ID.window.low, table_uuid="uuid", snapshot_id=1)


def versions(database):
    with psycopg.connect(database) as connection:
        return [row[0] for row in connection.execute("SELECT version FROM k2_offload.schema_versions ORDER BY 1")]


def test_an_upgrade_keeps_the_open_window_and_what_was_known(database, ledger):
    old_version_plans_a_window(database)
    ledger.migrate()
    assert versions(database) == list(migrations())
    with ledger.locked("trades") as locked:
        entry = locked.entry()
        assert (entry.open_window, entry.watermark, entry.table_uuid) == (WINDOW_ID, WINDOW_ID.window.low, "uuid")
        locked.resume(WINDOW_ID, "new")


def test_the_old_version_goes_on_with_the_schema_of_the_new_one_and_the_new_one_after_it(database, ledger):
    old_version_plans_a_window(database)
    ledger.migrate()
    [(opened, planned_rows)] = old_version(database, "open_window_of")
    assert (WindowId.parse(opened), planned_rows) == (WINDOW_ID, 5)
    values = {"window_id": str(WINDOW_ID), "rows": 5, "size_bytes": 9, "snapshot_id": 2, "now": NOW}
    old_version(database, "commit_window", "record_success", **values)
    [shown] = old_version(database, "read_tables")
    assert shown[0] == "trades"
    ledger.migrate()
    record = ledger.read_tables()["trades"]
    assert (record.status, record.state, record.rows) == ("success", "committed", 5)
    totals = ledger.read_totals(NOW)["trades"]
    assert (totals.committed, totals.open, totals.rows, totals.size_bytes) == (1, 0, 5, 9)


def test_processes_that_start_at_the_same_moment_migrate_once(database):
    together = threading.Barrier(4)

    def start(_):
        together.wait()
        Ledger(lambda: psycopg.connect(database), "test").migrate()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, range(4)))
    assert versions(database) == list(migrations())


def test_migrations_that_were_made_side_by_side_may_come_in_either_order(database, ledger, monkeypatch):
    scripts = dict(migrations())
    *_, earlier, _ = scripts
    with monkeypatch.context() as patch:
        patch.setattr(
            "k2_offload.adapters.ledger.migrations", lambda: {k: v for k, v in scripts.items() if k != earlier}
        )
        ledger.migrate()
        assert earlier not in versions(database)
    ledger.migrate()
    assert versions(database) == list(scripts)
    assert ledger.read_tables() == {}


def test_a_ledger_gets_its_id_by_the_upgrade_and_keeps_what_it_knows(database, ledger, monkeypatch):
    """The windows that it has published until then are nobody's."""
    before = {version: script for version, script in migrations().items() if version < 16}
    with monkeypatch.context() as patch:
        patch.setattr("k2_offload.adapters.ledger.migrations", lambda: before)
        ledger.migrate()
    old_version_plans_a_window(database)
    for look in (partial(ledger.read_entry, "trades"), ledger.read_tables):
        with pytest.raises(OldLedger, match="migration 0016 is missing"):
            look()
    ledger.migrate()
    with ledger.locked("trades") as locked:
        entry = locked.entry()
        assert (entry.ledger_id, entry.open_window) == (ledger.read_entry("trades").ledger_id, WINDOW_ID)
        nobodys = Snapshot(1, None, 1, WINDOW_ID, 5, 9)
        state = follow_chain("trades", entry, "uuid", Published(nobodys, WINDOW_ID))
        assert state.committed == WINDOW_ID
    assert entry.ledger_id is not None


def test_why_a_table_failed_is_known_until_it_moves_again(ledger):
    ledger.migrate()

    def shown():
        record = ledger.read_tables()["trades"]
        return record.status, record.reason

    with ledger.locked("trades") as locked:
        locked.set_failed("one")
        locked.set_failed("two", keep=True)
    assert shown() == ("failed", "one")
    with ledger.locked("trades") as locked:
        locked.set_failed("x" * 5000)
    assert shown() == ("failed", "x" * 1000)
    with ledger.locked("trades") as locked:
        locked.open(WINDOW_ID, dag_run_id="run", rows=5, max_sequence=None, first_row=None, now=NOW)
    assert shown() == ("running", None)
    with ledger.locked("trades") as locked:
        locked.set_failed("three", keep=True)
    assert shown() == ("failed", "three")


def test_the_same_gap_is_on_record_once(ledger):
    ledger.migrate()
    gap = Gap(WINDOW_ID.window, GapKind.SKIPPED, 5, NOW)
    for each in (gap, replace(gap, accepted_at=NOW.replace(hour=13)), replace(gap, rows=None), replace(gap, rows=None)):
        with ledger.locked("trades") as locked:
            locked.record_gap(each)
    assert ledger.read_gaps()["trades"] == [gap, replace(gap, rows=None)]


def test_as_many_rows_may_be_gone_once_more(ledger):
    ledger.migrate()
    gaps = [Gap(WINDOW_ID.window, GapKind.FEWER_ROWS, 3, NOW.replace(hour=hour)) for hour in (12, 13)]
    for each in gaps:
        with ledger.locked("trades") as locked:
            locked.record_gap(each)
    assert ledger.read_gaps()["trades"] == gaps


def test_times_are_utc_whatever_zone_postgres_has(database, monkeypatch):
    """In the hour in which clocks go back there, a window's end would come before its beginning."""
    with psycopg.connect(database, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET timezone = 'Europe/Berlin'")
    monkeypatch.setenv("AIRFLOW_CONN_ZONED", database.replace("postgresql://", "postgres://"))
    ledger = Ledger(airflow_connect("zoned"), "zoned")
    ledger.migrate()
    begin = datetime(2026, 10, 25, 0, 55, tzinfo=UTC)
    gap = Gap(Window(begin, begin + timedelta(minutes=15)), GapKind.FEWER_ROWS, 3, begin)
    with ledger.locked("trades") as locked:
        locked.record_gap(gap)
    assert ledger.read_gaps()["trades"] == [gap]
    assert ledger.read_gaps()["trades"][0].window.low.utcoffset() == timedelta(0)


def test_a_migration_that_fails_leaves_the_schema_as_it_was(database, ledger, monkeypatch):
    old_version_plans_a_window(database)
    broken = migrations() | {max(migrations()) + 1: "CREATE TABLE k2_offload.half (x int); SELECT 1/0;"}
    monkeypatch.setattr("k2_offload.adapters.ledger.migrations", lambda: broken)
    with pytest.raises(Exception, match="division by zero"):
        ledger.migrate()
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT to_regclass('k2_offload.half')").fetchone() == (None,)
    assert old_version(database, "open_window_of")


def test_a_user_who_may_not_create_anything_can_use_a_schema_that_is_up_to_date(database, ledger):
    ledger.migrate()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS k2_reader")
        connection.execute("CREATE ROLE k2_reader LOGIN PASSWORD 'of a test'")
        connection.execute("GRANT USAGE ON SCHEMA k2_offload TO k2_reader")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA k2_offload TO k2_reader")
    try:
        reader = re.sub(r"//[^@]*@", "//k2_reader:of%20a%20test@", database)
        Ledger(lambda: psycopg.connect(reader), "test").migrate()
    finally:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("DROP OWNED BY k2_reader")
            connection.execute("DROP ROLE k2_reader")


def looks(ledger):
    """Everything that is read for status, the page and metrics."""
    return (
        ledger.read_tables,
        ledger.read_gaps,
        ledger.last_maintained,
        ledger.last_attempts,
        ledger.read_comparisons,
        lambda: ledger.read_totals(NOW),
        lambda: ledger.read_days("trades"),
        lambda: ledger.read_maintenance(NOW),
    )


def test_a_look_makes_no_schema(database, ledger):
    seals, offsets = LedgerSeals(ledger), LedgerOffsets(ledger)
    assert not any(look() for look in looks(ledger))
    assert not any((seals.read(["trades"]), seals.read_sealed_days(), offsets.read(), offsets.read_ends("trades")))
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT to_regnamespace('k2_offload')").fetchone() == (None,)


def test_a_look_at_an_older_schema_changes_nothing_and_says_so(database, ledger):
    old_version_plans_a_window(database)
    for look in looks(ledger):
        with pytest.raises(OldLedger, match="migration 0001 is missing"):
            look()
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT to_regclass('k2_offload.schema_versions')").fetchone() == (None,)
    ledger.migrate()
    assert ledger.read_tables()["trades"].state == "open"

"""State damaged from outside: the ledger edited or restored, the cold table rolled back, expired, recreated, copied.

Each is repaired by the next cycle, or stops that table alone with an error whose command repairs it. Rows are compared
after every repair.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from k2_offload.core.errors import DamagedTable, UnreadableTable
from k2_offload.core.exactly_once import PUBLISHED_BRANCH, watermark_of
from k2_offload.work.compare import compare
from k2_offload.work.status import read_status
from k2_offload.work.validate import check_source
from tests.support import table_file
from tests.support.ledger import change_ledger, copy_ledger, restore_ledger

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Damaged:
    """Tables with two windows each in both tiers, to be damaged, and then a third hour of rows to be moved."""

    def __init__(self, workbench, names):
        self.workbench = workbench
        self.tables = {name: workbench.create_trades(name) for name in names}
        self.specs = [workbench.spec(table) for table in self.tables.values()]
        self.catalog = workbench.cold_catalog
        self.ledger = workbench.stack.ledger_dsn
        self.backup = None
        for hour in range(2):
            self.add_rows(hour)
            self.move(hour)
            self.backup = self.backup or copy_ledger(self.ledger, list(self.tables.values()))

    def add_rows(self, hour):
        for table in self.tables.values():
            self.workbench.insert_trades(table, NOON + hour * HOUR, 300, start_sequence=1000 * hour)

    def cycle(self, hour=9):
        return self.workbench.cycle(*self.specs, now=NOON + hour * HOUR + timedelta(minutes=59))

    def move(self, hour=9, names=None):
        self.workbench.move(self.cycle(hour), *(self.tables[name] for name in names or self.tables))

    def cold(self, name):
        return self.catalog.load_table(f"cold.{self.tables[name]}")

    def copy(self, name):
        """Drop the table and make another of its files, as a move to another catalog does: no history comes along."""
        old = self.cold(name)
        files = [task.file.file_path for task in old.scan().plan_files()]
        self.catalog.drop_table(old.name())
        new = self.catalog.create_table(
            old.name(), old.schema(), partition_spec=old.spec(), sort_order=old.sort_order()
        )
        new.add_files(files)

    def sql(self, name, statement):
        change_ledger(self.ledger, statement, self.tables[name])

    def check(self, *names):
        cycle = self.cycle()
        records = cycle.ledger.read_tables()
        for name in names:
            table = self.tables[name]
            assert self.workbench.cold_rows(table) == self.workbench.warm_rows(table), name
            assert records[table].watermark == watermark_of(cycle.catalog.load(cycle.tables[table]).published), name
            assert records[table].state == "committed", name

    def rebuild(self, name):
        """Run the command that the error names; returns what it says."""
        return self.run("watermark", "rebuild", self.tables[name])

    def run(self, *command):
        file = self.workbench.folder / "tables.yaml"
        file.write_text(table_file(self.specs))
        environment = {**self.workbench.stack.environment, "AIRFLOW__K2_OFFLOAD__TABLES_FILE": str(file)}
        command = ["k2", *command, "--yes", "--json"]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        return json.loads(result.stdout)


WATERMARKS = "UPDATE k2_offload.offload_watermarks SET last_offload_timestamp ="


def test_what_befalls_the_ledger_is_repaired_by_the_next_cycle(workbench):
    damages = {
        "null": f"{WATERMARKS} NULL",
        "future": f"{WATERMARKS} '2099-01-01'",
        "past": f"{WATERMARKS} '2001-01-01'",
        "no_windows": "DELETE FROM k2_offload.offload_windows",
        "reopened": "UPDATE k2_offload.offload_windows SET state = 'abandoned'",
    }
    damaged = Damaged(workbench, [*damages, "nothing_left", "restored"])
    for name, statement in damages.items():
        damaged.sql(name, statement)
    damaged.sql("nothing_left", "DELETE FROM k2_offload.offload_windows")
    damaged.sql("nothing_left", "DELETE FROM k2_offload.offload_watermarks")
    restore_ledger(damaged.ledger, damaged.backup, [damaged.tables["restored"]])
    damaged.add_rows(2)
    damaged.move()
    damaged.check(*damaged.tables)


def test_a_backup_that_was_taken_while_a_window_was_open_neither_repeats_nor_skips_it(workbench):
    damaged = Damaged(workbench, ["once"])
    damaged.add_rows(2)
    cycle = damaged.cycle(2)
    planned = cycle.plan(cycle.tables[damaged.tables["once"]])
    backup = copy_ledger(damaged.ledger, [damaged.tables["once"]])
    workbench.publish(planned)
    damaged.add_rows(3)
    damaged.move(3)
    restore_ledger(damaged.ledger, backup, [damaged.tables["once"]])
    damaged.add_rows(4)
    damaged.move()
    damaged.check("once")


def test_what_befalls_the_cold_table_is_repaired_or_stops_that_table_with_the_command_that_repairs_it(workbench):
    names = ["rolled_back", "expired", "marker_gone", "recreated", "cut", "copied"]
    damaged = Damaged(workbench, names)
    first = damaged.cold("rolled_back").history()[0].snapshot_id
    damaged.cold("rolled_back").manage_snapshots().set_current_snapshot(first).commit()
    for name in ("expired", "cut"):
        with damaged.cold(name).transaction() as transaction:  # so that the last window is no longer the head
            transaction.update_snapshot().fast_append().commit()
    for name in ("marker_gone", "cut"):
        damaged.cold(name).manage_snapshots().remove_branch(PUBLISHED_BRANCH).commit()
    for name in ("expired", "cut"):
        damaged.cold(name).maintenance.expire_snapshots().older_than(datetime(2100, 1, 1)).commit()
    damaged.catalog.drop_table(f"cold.{damaged.tables['recreated']}")
    damaged.copy("copied")

    damaged.add_rows(2)
    repaired = ["rolled_back", "expired", "marker_gone"]
    damaged.move(names=repaired)
    damaged.check(*repaired)

    for name, reason, cure in (
        ("recreated", "is not there. It was not made anew", "watermark rebuild"),
        ("cut", "expired", "watermark rebuild"),
        ("copied", "600 rows that no offloaded window brought", "adopt"),
    ):
        cycle, table = damaged.cycle(), damaged.tables[name]
        with pytest.raises(DamagedTable, match=reason) as refusal:
            cycle.plan(cycle.tables[table])
        assert f"`k2 {cure} {table}`" in str(refusal.value)
        assert re.search("no row is lost|Nothing was changed", str(refusal.value))
        damaged.rebuild(name)
    damaged.move(names=["recreated", "cut", "copied"])
    damaged.check(*names)


@pytest.mark.parametrize(
    "definition",
    [
        "(at timestamp) USING iceberg",
        "(at timestamp, sequence decimal(20, 0), symbol string, price decimal(38, 18), note string) USING iceberg "
        "PARTITIONED BY (days(at))",
        "USING iceberg PARTITIONED BY (days(at)) AS SELECT * FROM {} WHERE sequence < 1000",
    ],
    ids=["otherwise", "alike", "of_itself"],
)
def test_a_replaced_cold_table_comes_back(workbench, definition):
    damaged = Damaged(workbench, ["replaced"])
    table, catalog = damaged.tables["replaced"], workbench.cold_catalog.name
    before = damaged.cold("replaced").metadata_location
    name = f"{catalog}.cold.{table}"
    workbench.spark.ask("sql", f"CREATE OR REPLACE TABLE {name} {definition.format(name)}")
    assert damaged.cold("replaced").metadata.metadata_log[-1].metadata_file == before
    damaged.add_rows(2)
    cycle = damaged.cycle()
    with pytest.raises(DamagedTable, match=f"somebody has replaced it.*`k2 register {table} --from FILE`"):
        cycle.plan(cycle.tables[table])
    damaged.run("register", table, "--from", before)
    damaged.move()
    damaged.check("replaced")


def test_a_copied_cold_table_without_a_ledger_is_not_filled_a_second_time(workbench):
    damaged = Damaged(workbench, ["moved_house"])
    damaged.copy("moved_house")
    damaged.sql("moved_house", "DELETE FROM k2_offload.offload_windows")
    damaged.sql("moved_house", "DELETE FROM k2_offload.offload_watermarks")
    cycle = damaged.cycle()
    with pytest.raises(DamagedTable, match="600 rows that no offloaded window brought"):
        cycle.plan(cycle.tables[damaged.tables["moved_house"]])
    document = damaged.rebuild("moved_house")
    assert document["cold_watermark"] == "2026-03-04T13:04:58.000001Z"
    damaged.add_rows(2)
    damaged.move()
    damaged.check("moved_house")


def test_a_clock_that_jumps_back_or_ahead_moves_no_row_in_flight(workbench):
    table = workbench.create_trades()
    now = datetime.now(UTC)
    workbench.insert_trades(table, now - timedelta(minutes=40), 2400)
    for clock in (now + HOUR, now - HOUR, now + HOUR):
        cycle = workbench.cycle(workbench.spec(table))
        cycle = replace(cycle, tiers=replace(cycle.tiers, now=lambda clock=clock: clock))
        workbench.move(cycle, table)
        watermark = watermark_of(cycle.catalog.load(cycle.tables[table]).published)
        assert watermark <= datetime.now(UTC) - timedelta(minutes=5)
        assert workbench.cold_rows(table) == workbench.warm_rows(table, until=watermark)
    workbench.insert_trades(
        table, now - timedelta(minutes=4), 60, start_sequence=9000
    )  # in flight when the clocks were wrong
    workbench.move(
        workbench.cycle(workbench.spec(table, buffer_seconds=0, idle_after_seconds=0), now=now + HOUR), table
    )
    assert workbench.cold_rows(table) == workbench.warm_rows(table)


def test_a_metadata_file_that_is_unreadable_stops_its_table_alone(workbench):
    damaged = Damaged(workbench, ["good", "bad"])
    good, bad = damaged.tables.values()
    damaged.add_rows(2)
    cycle = damaged.cycle()
    tiers, records = cycle.tiers, cycle.ledger.read_tables()
    file = Path(urlsplit(workbench.cold_table(bad).metadata_location).path)
    kept = file.read_bytes()
    for text in (None, "{", '{"format-version": 2}'):
        file.unlink() if text is None else file.write_text(text)
        for work in (cycle.plan, cycle.commit):
            with pytest.raises(UnreadableTable, match=f"^{bad}: .*k2 validate"):
                work(cycle.tables[bad])
        assert bad in read_status(tiers, cycle.tables[bad], records[bad], counts=True).problem
        assert bad in compare(tiers, cycle.tables[bad]).problem
        assert bad in check_source(tiers, cycle.tables[bad]).problem
    damaged.move(names=["good"])
    assert workbench.cold_rows(good) == workbench.warm_rows(good)
    assert compare(tiers, cycle.tables[good]).problem is None

    file.write_bytes(kept)
    damaged.move(names=["bad"])
    workbench.check(cycle, [good, bad])

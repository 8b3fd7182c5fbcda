"""Postgres is lost, and with it the ledger and Iceberg's catalog: what the lake alone brings back."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from k2_offload.core.errors import DamagedTable, UnreadableTable
from k2_offload.core.exactly_once import FIRST_WATERMARK, watermark_of
from k2_offload.work import watermarks
from k2_offload.work.watermarks import find_skip
from tests.support import table_file
from tests.support.commands import run_k2
from tests.support.ledger import change_ledger, copy_ledger, restore_ledger

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Postgres:
    """What it holds of one table: the catalog's pointer to a metadata file, and the ledger."""

    def __init__(self, workbench, table):
        self.workbench, self.table = workbench, table

    def backup(self):
        return self._pointer(), copy_ledger(self.workbench.stack.ledger_dsn, [self.table])

    def restore(self, backup):
        pointer, ledger = backup
        self._catalog("UPDATE iceberg_tables SET metadata_location = %s, previous_metadata_location = NULL", pointer)
        restore_ledger(self.workbench.stack.ledger_dsn, ledger, [self.table])

    def lose(self):
        self._catalog("DELETE FROM iceberg_tables")
        for part in ("offload_windows", "offload_gaps", "offload_days", "offload_watermarks"):
            change_ledger(self.workbench.stack.ledger_dsn, f"DELETE FROM k2_offload.{part}", self.table)

    def _pointer(self):
        return self.workbench.cold_table(self.table).metadata_location

    def _catalog(self, statement, *values):
        with psycopg.connect(self.workbench.stack.iceberg_dsn) as connection:
            changed = connection.execute(f"{statement} WHERE table_name = %s", (*values, self.table))
            assert changed.rowcount == 1


class Table:
    """Two windows of trades in both tiers; a backup of Postgres was made between them."""

    def __init__(self, workbench, name):
        self.workbench, self.name = workbench, workbench.create_trades(name)
        self.postgres = Postgres(workbench, self.name)
        self.add_rows(0)
        self.move(0)
        self.backup = self.postgres.backup()
        self.add_rows(1)
        self.move(1)

    @property
    def metadata_file(self):
        return self.workbench.cold_table(self.name).metadata_location.rpartition("/")[2]

    def add_rows(self, hour):
        self.workbench.insert_trades(self.name, NOON + hour * HOUR, 300, start_sequence=1000 * hour)

    def cycle(self, hour=9):
        return self.workbench.cycle(self.workbench.spec(self.name), now=NOON + hour * HOUR + timedelta(minutes=59))

    def plan(self):
        cycle = self.cycle()
        return cycle.plan(cycle.tables[self.name])

    def move(self, hour=9):
        return self.workbench.move(self.cycle(hour), self.name)

    def register(self, *options):
        [found] = self.k2("register", self.name, "--yes", "--json", *options)
        assert found["registered"]
        return found, found["chosen"]["metadata_file"].rpartition("/")[2]

    def check(self):
        self.workbench.check(self.cycle(), [self.name])

    def k2(self, *arguments):
        done = self.run_k2(*arguments)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def run_k2(self, *arguments):
        file = self.workbench.folder / "tables.yaml"
        file.write_text(table_file([self.workbench.spec(self.name)]))
        environment = {"AIRFLOW__K2_OFFLOAD__TABLES_FILE": str(file)}
        return run_k2(*arguments, environment=environment)


def test_a_backup_of_yesterday_goes_back_to_its_watermark_and_what_followed_is_moved_again_once(workbench):
    table = Table(workbench, "restored")
    before = workbench.files_referred_to(table.name)
    table.postgres.restore(table.backup)
    assert sum(workbench.cold_rows(table.name).values()) == 300
    assert "published 300 rows" in table.move()
    table.check()
    assert before - workbench.files_referred_to(table.name), "files of what followed the backup are orphans now"


def test_after_the_backup_the_newest_metadata_file_brings_back_all_and_nothing_is_moved_again(workbench):
    """Also what ClickHouse no longer has, and where the metadata file that the backup names is gone."""
    table = Table(workbench, "registered")
    newest, files = table.metadata_file, workbench.files_on_disk(table.name)
    everything = workbench.cold_rows(table.name)
    table.postgres.restore(table.backup)
    cold = workbench.cold_table(table.name)
    cold.io.delete(cold.metadata_location)
    with pytest.raises(UnreadableTable, match=table.name):
        table.plan()
    later = f"{NOON + HOUR:%Y-%m-%d %H:%M:%S}"
    workbench.sql(f"ALTER TABLE {table.name} DELETE WHERE at >= '{later}' SETTINGS mutations_sync = 2")

    assert table.register()[1] == newest
    assert table.plan() is None
    assert workbench.cold_rows(table.name) == everything
    assert workbench.files_on_disk(table.name) == files
    kept = workbench.warm_rows(table.name)
    table.add_rows(2)
    table.move()
    assert workbench.cold_rows(table.name) == everything + (workbench.warm_rows(table.name) - kept)


def test_a_catalog_and_a_ledger_that_are_gone_do_not_make_an_empty_table_of_a_full_one(workbench):
    table = Table(workbench, "lost")
    newest = table.metadata_file
    everything = workbench.cold_rows(table.name)
    table.postgres.lose()
    workbench.sql(f"TRUNCATE TABLE {table.name}")
    table.add_rows(2)
    cycle = table.cycle()
    skip = find_skip(cycle.tiers, cycle.tables[table.name], NOON + HOUR)
    for act in (
        table.plan,
        lambda: cycle.commit(cycle.tables[table.name]),  # as after each plan, whatever became of it
        table.plan,
        lambda: watermarks.skip(cycle.tiers, cycle.tables[table.name], skip),
    ):
        with pytest.raises(DamagedTable, match=r"holds another one of 600 rows .* Nothing was moved") as refusal:
            act()
    assert f"`k2 register {table.name}`" in str(refusal.value)
    found, file = table.register()
    assert (file, found["current"]["rows"]) == (newest, 0)
    assert workbench.cold_rows(table.name) == everything

    assert "published 300 rows" in table.move()
    assert workbench.cold_rows(table.name) == everything + workbench.warm_rows(table.name)


def test_a_person_may_start_over_all_the_same(workbench):
    table = Table(workbench, "over")
    table.postgres.lose()
    with pytest.raises(DamagedTable, match=f"`k2 watermark rebuild {table.name}`"):
        table.plan()
    assert table.k2("watermark", "rebuild", table.name, "--yes", "--json")["ledger_table_uuid"]
    cycle = table.cycle()
    cold = cycle.catalog.load(cycle.tables[table.name])
    assert watermark_of(cold.published) == FIRST_WATERMARK
    assert "published 600 rows" in table.move()
    table.check()


def test_a_person_may_go_back_by_name_and_what_followed_is_moved_again(workbench):
    table = Table(workbench, "by_name")
    older, newest = table.backup[0], table.metadata_file
    [found] = table.k2("register", table.name, "--json")
    assert (found["chosen"], found["notes"]) == (None, [])
    assert "That goes back" in table.register("--from", older)[0]["notes"][0]
    assert sum(workbench.cold_rows(table.name).values()) == 300
    assert table.register()[1] == newest
    table.register("--from", older)
    assert "published 300 rows" in table.move()
    table.check()
    [found] = table.k2("register", table.name, "--json")
    assert found["chosen"] is None
    assert {each["rows"] for each in found["found"]} == {600}
    assert len(found["found"]) == 2, "the line that was given up stays in sight"


@pytest.mark.parametrize("done", [False, True])
def test_what_a_lost_connection_leaves_is_ended_by_the_command_that_the_message_names(workbench, monkeypatch, done):
    """Lost between the removal of the old entry and the new one, or after both."""
    table = Table(workbench, f"interrupted_{done}")
    newest, everything = table.metadata_file, workbench.cold_rows(table.name)
    table.postgres.restore(table.backup)

    def lose(catalog, *arguments):
        if done:
            registers(catalog, *arguments)
        raise ConnectionError("connection reset by peer")

    registers = SqlCatalog.register_table
    monkeypatch.setattr(SqlCatalog, "register_table", lose)
    refused = table.run_k2("register", table.name, "--yes")
    monkeypatch.undo()
    assert refused.exit_code == 1
    [command] = re.findall(rf"`(k2 register {table.name} --from \S+/{newest})`", refused.output)
    assert table.run_k2(*command.split()[1:], "--yes").exit_code == 0
    assert workbench.cold_rows(table.name) == everything
    assert table.plan() is None
    table.check()


def test_a_person_chooses_where_the_tables_folder_is_not_known(workbench):
    table = Table(workbench, "elsewhere")
    folder, everything = workbench.cold_table(table.name).location(), workbench.cold_rows(table.name)
    workbench.cold_catalog.drop_table(f"cold.{table.name}")
    empty = workbench.folder.as_uri()
    refused = table.run_k2("register", table.name, "--from", empty)
    assert refused.exit_code == 1
    assert f"none in {empty}. Nothing was changed" in refused.output
    table.register("--from", folder)
    assert workbench.cold_rows(table.name) == everything

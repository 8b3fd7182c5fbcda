"""Two deployments on one cold table, each with a ledger of its own: one of them is always red, and says why."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from k2_offload.core.errors import DamagedTable
from k2_offload.core.exactly_once import (
    BACKFILL_PROPERTY,
    HEAL_PROPERTY,
    LEDGER_PROPERTY,
    SKIPPED_PROPERTY,
    WINDOW_PROPERTY,
)
from k2_offload.work.backfill import find_left_out, plan_backfills
from k2_offload.work.reconcile import reconcile
from k2_offload.work.status import read_status
from k2_offload.work.watermarks import accept, find_skip, read_cold_table, skip
from tests.support import Cycle, table_file
from tests.support.commands import run_k2
from tests.support.pages import DOCS

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def elsewhere(cycle, ledger):
    """A copy of the deployment, with a ledger of its own."""
    ledger.migrate()
    return Cycle(replace(cycle.tiers, ledger=ledger), "elsewhere")


def begun(workbench):
    """A table of which one window was moved and another one waits, its entry, and the deployment that has moved it."""
    table = workbench.create_trades()
    spec = workbench.spec(table)
    workbench.insert_trades(table, NOON, 300)
    ours = workbench.cycle(spec, now=NOON + HOUR)
    workbench.move(ours, table)
    workbench.insert_trades(table, NOON + HOUR, 300, start_sequence=1000)
    return table, spec, ours


def heals(cycle, table):
    return [heal for found in reconcile(cycle.tiers, [cycle.tables[table]]) for heal in found.heals]


def refusal_of(cycle, table):
    """What a look says, before any cycle has."""
    return read_status(cycle.tiers, cycle.tables[table], cycle.ledger.read_tables()[table], counts=False).refusal


def test_the_other_deployments_window_stops_the_table_until_a_person_has_decided(workbench, ledger):
    table, spec, ours = begun(workbench)
    open_here = workbench.cycle(spec, now=NOON + 2 * HOUR)
    planned = open_here.plan(open_here.tables[table])

    copy = workbench.create_trades("of_the_copy")
    workbench.sql(f"INSERT INTO {copy} SELECT * FROM {table} WHERE sequence NOT BETWEEN 1100 AND 1199")
    source = f"k2.{copy}"
    theirs = elsewhere(workbench.cycle(workbench.spec(table, source=source), now=NOON + 2 * HOUR), ledger)
    assert "published 200 rows" in workbench.move(theirs, table)
    their_id, our_id = (each.read_entry(table).ledger_id for each in (ledger, ours.ledger))
    assert their_id != our_id

    assert "already published" in workbench.publish(planned), "the other one's window has the same bounds"
    before = ours.ledger.read_tables()[table]
    ours = workbench.cycle(spec, now=NOON + 3 * HOUR)
    for act in (ours.commit, ours.plan):
        with pytest.raises(DamagedTable, match=rf"has the id {their_id}, .* this ledger \({our_id}\)") as refused:
            act(ours.tables[table])
    ours.mark_failed(ours.tables[table], str(refused.value))
    after = ours.ledger.read_tables()[table]
    assert (after.watermark, after.state, after.reason) == (before.watermark, "open", str(refused.value))
    assert (refusal_of(ours, table), refusal_of(theirs, table)) == (str(refused.value), None)

    ours = workbench.cycle(spec, now=NOON + 20 * HOUR)
    compared = [each for each in reconcile(ours.tiers, [ours.tables[table]]) if each.problems or each.heals]
    assert compared
    assert all(f"has the id {their_id}" in each.problems[0] and not each.heals for each in compared)
    ours = workbench.cycle(spec, now=NOON + 3 * HOUR)

    file = workbench.folder / "tables.yaml"
    file.write_text(table_file([spec]))
    environment = {"AIRFLOW__K2_OFFLOAD__TABLES_FILE": str(file)}
    shown = run_k2("watermark", "show", table, "--json", environment=environment)
    assert shown.exit_code == 1
    assert json.loads(shown.stdout)["problem"] == str(refused.value)
    assert run_k2("watermark", "rebuild", table, "--yes", environment=environment).exit_code == 0

    workbench.insert_trades(table, NOON + 2 * HOUR, 300, start_sequence=2000)
    assert "published 300 rows" in workbench.move(ours, table)
    later = workbench.cycle(spec, now=NOON + 20 * HOUR)
    workbench.publish(*heals(later, table))
    workbench.check(ours, [table])
    with pytest.raises(DamagedTable, match=f"has the id {our_id}"):
        theirs.plan(theirs.tables[table])


def test_the_copy_of_a_ledger_is_told_apart_once_it_has_an_id_of_its_own(workbench, database, ledger):
    [statement] = re.findall(r"`(UPDATE k2_offload\.offload_ledger [^`]+)`", (DOCS / "production.md").read_text())
    table, spec, ours = begun(workbench)
    theirs = elsewhere(workbench.cycle(spec, now=NOON + 2 * HOUR), ledger)
    with psycopg.connect(database) as connection:
        our_id = ours.ledger.read_entry(table).ledger_id
        connection.execute("UPDATE k2_offload.offload_ledger SET ledger_id = %s", [our_id])
        connection.execute(statement)
    assert "published 300 rows" in workbench.move(theirs, table)
    ours = workbench.cycle(spec, now=NOON + 3 * HOUR)
    with pytest.raises(DamagedTable, match=f"has the id {theirs.ledger.read_entry(table).ledger_id}"):
        ours.plan(ours.tables[table])


@pytest.mark.parametrize("transport", ["export", "jdbc"])
def test_whatever_is_published_says_which_ledger_planned_it(workbench, transport):
    table = workbench.create_trades()
    spec = workbench.spec(table, transport=transport, history="backfill")
    for hour in range(3):
        workbench.insert_trades(table, NOON + hour * HOUR, 100, start_sequence=1000 * hour)
        cycle = workbench.cycle(spec, now=NOON + (hour + 1) * HOUR)
        if hour == 1:
            skip(cycle.tiers, cycle.tables[table], find_skip(cycle.tiers, cycle.tables[table], NOON + 1.9 * HOUR))
        workbench.move(cycle, table)
    workbench.publish(*plan_backfills(cycle.tiers, find_left_out(cycle.tiers, cycle.tables[table])))
    workbench.insert_trades(table, NOON - HOUR, 3, start_sequence=10**6)
    later = workbench.cycle(spec, now=NOON + 20 * HOUR)
    workbench.publish(*heals(later, table))
    reading = read_cold_table(later.tiers, later.tables[table])
    accept(later.tiers, later.tables[table], replace(reading, adopt=reading.published.window_id))

    found = [shot.summary.additional_properties for shot in workbench.cold_table(table).snapshots()]
    for kind in (WINDOW_PROPERTY, SKIPPED_PROPERTY, HEAL_PROPERTY, BACKFILL_PROPERTY):
        assert any(kind in summary for summary in found), kind
    assert {summary.get(LEDGER_PROPERTY) for summary in found} == {cycle.ledger.read_entry(table).ledger_id}


def test_a_ledger_is_the_same_for_ever_and_no_other_is(database, ledger):
    ledger.migrate()
    with ledger.locked("trades") as locked:
        made = locked.ledger_id
    assert made is not None
    ledger.migrate()
    with ledger.locked("trades") as locked:
        assert (locked.ledger_id, locked.entry().ledger_id) == (made, made)
    assert ledger.read_tables()["trades"].ledger_id == made
    with psycopg.connect(database) as connection:
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO k2_offload.offload_ledger DEFAULT VALUES")
        connection.rollback()
        connection.execute("DROP SCHEMA k2_offload CASCADE")
    assert ledger.read_entry("trades").ledger_id is None
    ledger.migrate()
    with ledger.locked("trades") as locked:
        assert locked.ledger_id not in (None, made)

"""What has to be shown of a partition before it goes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from k2_offload.adapters.table_file import parse_tables
from k2_offload.core import retention_queries as sql
from k2_offload.core.combined_view import ViewState
from k2_offload.core.holding import Partition, Record, Step
from k2_offload.core.plan import PlannedColumn
from k2_offload.core.retention import Reader
from k2_offload.core.seals import Seal
from k2_offload.core.type_mapping import map_column, no_value
from k2_offload.core.view_queries import read_all_views
from k2_offload.work import removal_proof
from k2_offload.work.removal_proof import Proof

TABLES = parse_tables(
    "tables: {trades: {layer: bronze, source: k2.trades, target: cold.trades, timestamp_column: at, retention: proven}}"
)
DAY, NOW = date(2026, 3, 4), datetime(2026, 3, 30, 12, tzinfo=UTC)
PARTITION = Partition("20260304", ("a",), 10, {"at": (DAY, DAY)})
COLUMNS = (PlannedColumn("at", "timestamptz"), PlannedColumn("venue", "int"))
SEAL = Seal("trades", "uuid", DAY, "at", 10, 7, COLUMNS, None, 1, NOW)
READER = Reader(TABLES["trades"], NOW.date(), {DAY: SEAL}, {}, {DAY: 10}, frozenset(("at", "venue")))


class FakeClickHouse:
    """One partition of ten rows."""

    def __init__(self):
        self.readable = 10
        self.parts = [("20260304", ["a"], 10)]
        self.unmasked = 7
        self.mutations = []

    def columns(self, table):  # noqa: ARG002
        return ()

    def execute(self, statement):
        if "system.parts" in statement:
            return self.parts
        if "system.mutations" in statement:
            return self.mutations
        if "sum(" not in statement:
            return [(self.readable,)]
        return [(10, 7 if "NULL, `venue`" in statement else self.unmasked)]


@pytest.fixture
def clickhouse():
    return FakeClickHouse()


@pytest.fixture
def why(monkeypatch, clickhouse):
    since = datetime(2026, 3, 10, tzinfo=UTC)
    columns = {"at": map_column("trades", "at", "DateTime"), "venue": map_column("trades", "venue", "UInt8")}
    columns["venue"] = replace(columns["venue"], compared_from=since)
    monkeypatch.setattr(removal_proof, "settle", lambda *_: tuple(columns.values()))
    monkeypatch.setattr(removal_proof, "verify_seal", lambda *_: SimpleNamespace(problem=None, healed=False))
    tiers = SimpleNamespace(clickhouse=clickhouse, load_cold=lambda _: SimpleNamespace(columns=()))
    proof = Proof(tiers, "k2.trades", [TABLES["trades"]], NOW, lambda: None)

    def why(stopped=()):
        columns.update({name: no_value(name, "int") for name in stopped})
        return proof.prove(PARTITION, [READER])[1]

    return why


def test_all_that_its_files_hold_can_be_read(why, clickhouse):
    assert why() is None
    clickhouse.readable = 9
    assert "its parts have 10 rows, and 9 can be read" in why()
    clickhouse.readable = 10
    clickhouse.parts.append(("patch-0123-20260304", ["p"], 1))
    assert "patch parts" in why()
    clickhouse.parts.pop()
    clickhouse.mutations = [("mutation_1.txt", "DELETE WHERE 1", 1, 0)]
    assert why() is None
    clickhouse.mutations.append(("mutation_2.txt", "UPDATE venue = 1 WHERE 1", 0, 10**6))
    assert "a mutation that is not done yet: mutation_2.txt (UPDATE venue = 1 WHERE 1)" in why()


ENTRY = "{}: {{layer: bronze, source: k2.{}, target: cold.{}, timestamp_column: at, retention: proven}}"
VIEWED = parse_tables(f"tables: {{{ENTRY.format(*['trades'] * 3)}, {ENTRY.format('viewed', 'v', 'v')}}}")


@pytest.mark.parametrize(
    ("shown", "why"),
    [
        ((10, 10), None),
        ((4, 4), None),
        ((0, 0), None),
        ((10, 0), "k2.v shows 10 rows of it as of other days than its own: its at is not that of k2.trades"),
        ((4, 3), "k2.v shows 1 rows of it as of other days"),
    ],
    ids=["all", "some", "none", "of other days", "one of another day"],
)
def test_rows_that_a_view_beside_its_storage_shows_as_of_other_days_keep_their_partition(shown, why):
    """Nothing of those days was compared in the cold table of the view."""
    asked = {
        sql.count_source(VIEWED["trades"], (DAY, DAY)): [(10,)],
        sql.count_shown(VIEWED["viewed"], "k2.trades", "20260304", (DAY, DAY)): [shown],
    }
    proof = Proof(SimpleNamespace(clickhouse=SimpleNamespace(execute=asked.pop)), "k2.trades", [], NOW, lambda: None)
    readers = [replace(READER, table=table) for table in VIEWED.by_name.values()]
    found = proof.find_hidden(PARTITION, readers, 10)
    assert found is None if why is None else why in found
    assert asked == {}


def test_mutations_that_nobody_has_seen_are_found(clickhouse):
    clickhouse.mutations = [("mutation_1.txt", "DELETE WHERE 1", 1, 0), ("mutation_2.txt", "DELETE WHERE 2", 1, 10**6)]
    proof = Proof(SimpleNamespace(clickhouse=clickhouse), "k2.trades", [], NOW, lambda: None)
    assert proof.find_mutation() is None
    assert proof.find_mutation(proof.mutations()) is None
    assert proof.find_mutation(proof.mutations(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))).startswith("mutation_2.txt")
    clickhouse.parts.append(("patch-0123-20260304", ["p"], 1))
    assert proof.find_mutation(proof.mutations()) == "patch-0123-20260304 (patch parts of an UPDATE)"


@pytest.mark.parametrize(
    ("uuid", "ancestors", "is_broken"), [("one", (7, 8), False), ("one", (8,), True), ("two", (7, 8), True)]
)
def test_a_cold_table_that_was_rolled_back_meanwhile_is_seen(monkeypatch, uuid, ancestors, is_broken):
    def cold(uuid, snapshots):
        chain = SimpleNamespace(ancestors=lambda: [SimpleNamespace(snapshot_id=each) for each in snapshots])
        return SimpleNamespace(uuid=uuid, snapshot_id=7, chain=chain)

    loaded = iter([cold("one", [7]), cold(uuid, ancestors)])
    monkeypatch.setattr(removal_proof, "verify_seal", lambda *_: SimpleNamespace(problem=None, healed=False))
    proof = Proof(SimpleNamespace(load_cold=lambda _: next(loaded)), "k2.trades", [], NOW, lambda: None)
    record = Record("20260304", Step.HELD, ("a",), 10, {"at": (DAY, DAY)}, {"trades": {DAY: SEAL.seal_id}}, NOW)
    found = proof.find_broken(record, [READER])
    expected = "trades: its cold table was rolled back, or made anew, while it was verified."
    assert found == (expected if is_broken else None)


@pytest.mark.parametrize(
    ("valid_for", "column", "table", "warm_from"),
    [
        (1, "at", "trades", DAY),
        (0, "at", "trades", None),
        (1, "until", "trades", date.min),
        (1, "at", "others", None),
    ],
)
def test_days_that_a_view_reads_from_clickhouse_are_known(monkeypatch, valid_for, column, table, warm_from):
    boundary = datetime(2026, 3, 4, tzinfo=UTC)
    state = ViewState(table, "uuid", column, boundary, 1, "file", NOW + timedelta(days=valid_for))
    clickhouse = SimpleNamespace(
        execute=lambda sql: [("{}",), (state.comment,)] if sql == read_all_views() else [],
        column_types=lambda _: {},
        rows_per_day=None,
    )
    monkeypatch.setattr(removal_proof, "LedgerSeals", lambda _: SimpleNamespace(read=lambda _: []))
    tiers = SimpleNamespace(clickhouse=clickhouse, load_cold=lambda _: None, ledger=None)
    [found] = Proof(tiers, "k2.trades", [TABLES["trades"]], NOW, lambda: None).readers([])
    assert found.warm_from == warm_from


def test_values_that_came_later_are_not_taken_for_none(why, clickhouse):
    clickhouse.unmasked = 8
    assert "a column that came later" in why()
    clickhouse.unmasked = 7
    assert "values of column venue of trades are not moved any more" in why(["venue"])

"""A run, or a person, changes nothing of a partition while it is not certain what has become of it."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from k2_offload.adapters.table_file import parse_tables
from k2_offload.core import retention_queries as sql
from k2_offload.core.errors import InvalidSource, OffloadError, Overloaded
from k2_offload.core.holding import Holding, Partition, Record, Step
from k2_offload.core.ttl import Storage
from k2_offload.work import proven_storage, retention
from k2_offload.work.retention import remove_proven, restore_day

ENTRY = """
tables:
  trades:
    layer: bronze
    source: k2.trades
    target: cold.trades
    timestamp_column: at
    retention: proven
"""
TABLES = parse_tables(ENTRY)
TRADES, DAY, ID = TABLES["trades"], date(2026, 3, 4), "20260304"
NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)
HOLDING = "k2.trades_k2_holding"
RECORD = Record(ID, Step.HELD, ("a",), 10, {"at": (DAY, DAY)}, {"trades": {DAY: "seal"}}, NOW - timedelta(days=9))


class FakeClickHouse:
    """A storage and its holding table, with one partition at most: parts and their rows."""

    def __init__(self):
        self.holding = Holding("k2.trades", date(2026, 3, 1)).with_record(RECORD)
        self.tables = {"k2.trades": {}, HOLDING: {"a": 10}}
        self.in_both = 0
        self.done = []

    def storage(self, table):  # noqa: ARG002
        return Storage("k2.trades", ())

    def engine(self, name):  # noqa: ARG002
        return "MergeTree ORDER BY at"

    def now(self):
        return NOW

    def execute(self, statement):
        for name, parts in self.tables.items():
            if statement == sql.parts(name):
                return [(ID, sorted(parts), sum(parts.values()))] if parts else []
        if statement == sql.describe_table(HOLDING):
            return [("MergeTree", self.holding.text)]
        if statement == sql.count_in_both("k2.trades", ID):
            return [(self.in_both,)]
        if statement == sql.count_source(TRADES, (DAY, DAY)):
            return [(sum(self.tables["k2.trades"].values()),)]
        if statement == sql.move_back("k2.trades", ID):
            self.tables["k2.trades"] |= self.tables[HOLDING]
            self.tables[HOLDING] = {}
            self.done.append("moved back")
        elif statement == sql.drop("k2.trades", ID):
            self.tables[HOLDING] = {}
            self.done.append("dropped")
        else:
            assert "MODIFY COMMENT" in statement, statement
        return []


class FakeLedger:
    """Nobody else is there."""

    def __init__(self, ledger):
        self.ledger = ledger

    @contextmanager
    def alone(self, storage):  # noqa: ARG002
        yield lambda: self.ledger.append("checked")

    def record(self, *step):
        self.ledger.append(step)


class Kept:
    """The tiers of a storage that holds one partition."""

    def __init__(self, monkeypatch):
        self.clickhouse = FakeClickHouse()
        self.ledger = []
        tags = SimpleNamespace(release=lambda _: None)
        catalog = SimpleNamespace(tags=lambda _: tags, seals=lambda _: None)
        self.tiers = SimpleNamespace(
            clickhouse=self.clickhouse, ledger=self.ledger, catalog=catalog, tables=TABLES, now=lambda: NOW
        )
        self.while_verified = lambda: None
        monkeypatch.setattr(proven_storage, "LedgerRetention", FakeLedger)
        monkeypatch.setattr(retention, "share_seals", lambda *_: [])
        monkeypatch.setattr(proven_storage, "seals_obstacle", lambda *_: None)
        monkeypatch.setattr(proven_storage.HoldingTable, "write", lambda _, holding: self.write(holding))
        monkeypatch.setattr(
            proven_storage, "Proof", lambda *_: SimpleNamespace(readers=lambda _: [], find_broken=self.verify)
        )
        monkeypatch.setattr(proven_storage, "ttl_in_the_way", lambda *_: "not looked at")

    def write(self, holding):
        self.clickhouse.holding = holding

    def verify(self, *_):
        self.while_verified()

    def restore(self):
        restore_day(self.tiers, TRADES, DAY)

    def remove(self):
        done = remove_proven(self.tiers, [TRADES])
        return [state.state for state in done.states], [each for each in done.problems if "not looked at" not in each]


@pytest.fixture
def kept(monkeypatch):
    return Kept(monkeypatch)


def test_rows_are_not_doubled_by_a_person(kept):
    kept.clickhouse.tables["k2.trades"] = {"b": 4}
    kept.clickhouse.in_both = 4
    with pytest.raises(OffloadError, match="4 rows of partition 20260304 are in"):
        kept.restore()
    assert kept.clickhouse.done == []
    kept.clickhouse.in_both = 0
    kept.restore()
    assert kept.clickhouse.done == ["moved back"]


def test_what_is_held_is_looked_at_right_before_it_is_dropped(kept):
    kept.while_verified = lambda: kept.clickhouse.tables["k2.trades"].update(b=4)
    assert kept.remove() == (["held"], [])
    assert kept.clickhouse.tables[HOLDING] == {"a": 10}
    kept.while_verified = lambda: kept.clickhouse.tables.update({HOLDING: {"c": 10}, "k2.trades": {}})
    kept.clickhouse.tables["k2.trades"] = {}
    assert kept.remove() == (["held"], [])
    assert kept.clickhouse.tables[HOLDING] == {"c": 10}
    kept.clickhouse.tables[HOLDING] = {"a": 10}
    kept.while_verified = lambda: None
    assert kept.remove() == (["dropped"], [])
    assert kept.clickhouse.done == ["dropped"]


@pytest.mark.parametrize(
    ("in_source", "gone"), [({}, True), ({"a": 10}, False), ({"merged": 12}, False), ({"late": 3}, True)]
)
def test_nothing_comes_back_when_nothing_is_held(kept, in_source, gone):
    kept.clickhouse.tables = {"k2.trades": in_source, HOLDING: {}}
    with pytest.raises(OffloadError, match="nothing to bring back"):
        kept.restore()
    holding = kept.clickhouse.holding
    assert (holding.records, holding.kept("at").is_gone(DAY)) == ((), gone)


def test_a_person_decides_on_rows_that_are_neither_here_nor_there(kept):
    kept.clickhouse.tables = {"k2.trades": {"late": 3}, HOLDING: {}}
    [problem] = kept.remove()[1]
    assert "fewer than the 10 that were to be moved" in problem
    assert "`k2 retention trades --restore 2026-03-04` takes it for gone" in problem
    assert kept.clickhouse.holding.records == (RECORD,)


def test_nothing_goes_while_a_table_may_read_it_unseen(kept, monkeypatch):
    def read_by(_):
        raise InvalidSource("k2.trades is read by ReadFromMerge.")

    storages = iter([Storage("k2.trades", ()), None])
    monkeypatch.setattr(kept.clickhouse, "storage", lambda _: next(storages))
    kept.clickhouse.read_by = read_by
    states, [problem] = kept.remove()
    assert (states, kept.clickhouse.done) == ([], [])
    assert problem.startswith("trades: what its source reads cannot be known, and it might be what others remove")


def test_days_stay_whole_while_clickhouse_does_not_answer(kept, monkeypatch):
    def overloaded(*_):
        raise Overloaded(202, "too many queries")

    monkeypatch.setattr(proven_storage, "ttl_in_the_way", overloaded)
    kept.clickhouse.holding = Holding("k2.trades", date(2026, 3, 1))
    kept.clickhouse.tables = {"k2.trades": {"a": 10}, HOLDING: {}}
    assert "too many queries" in kept.remove()[1][0]
    assert kept.clickhouse.holding.whole_since == date(2026, 3, 1)


def test_nothing_is_moved_while_the_comment_is_long(kept, monkeypatch):
    monkeypatch.setattr(proven_storage, "ttl_in_the_way", lambda *_: None)
    monkeypatch.setattr(proven_storage, "obstacle", lambda *_: None)
    monkeypatch.setattr(proven_storage, "LONGEST_COMMENT", 10)
    table = proven_storage.HoldingTable
    partition = Partition(ID, ("a",), 10, {"at": (DAY, DAY)})
    monkeypatch.setattr(table, "columns", ["at"])
    monkeypatch.setattr(table, "prepare", lambda _, holding: holding)
    monkeypatch.setattr(table, "partitions", lambda *_: [partition])
    kept.clickhouse.holding = Holding("k2.trades", date(2026, 3, 1))
    kept.clickhouse.tables = {"k2.trades": {"a": 10}, HOLDING: {}}
    [waits] = remove_proven(kept.tiers, [TRADES]).states
    assert (waits.state, waits.reason) == (
        "waits",
        f"{HOLDING} has too much on record: what is held has to be dropped first",
    )


def test_a_setting_that_only_begins_alike_is_set():
    first, second = "max_bytes_to_merge_at_max_space_in_pool = 1", "max_bytes_to_merge_at_min_space_in_pool = 1"
    assert sql.prepare_holding("k2.trades", f"MergeTree SETTINGS {first}, {second}", has_ttl=False) == []
    [changed] = sql.prepare_holding("k2.trades", f"MergeTree SETTINGS {first}0, {second}", has_ttl=False)
    assert changed.endswith(f"MODIFY SETTING {first}")

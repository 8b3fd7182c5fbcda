"""A run, or a person, changes nothing of a partition while it is not certain what has become of it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from k2_offload.adapters.table_file import parse_tables
from k2_offload.core import retention_queries as sql
from k2_offload.core.errors import (
    DamagedTable,
    InvalidSource,
    OffloadError,
    OtherRun,
    Overloaded,
    StaleWindow,
    Unreachable,
)
from k2_offload.core.fault_points import FaultPoint
from k2_offload.core.holding import Holding, Partition, Parts, Record, Step
from k2_offload.core.retention import Reader
from k2_offload.core.seals import Seal
from k2_offload.core.ttl import Removal, Storage
from k2_offload.work import held_tags, holding, proven_moves, proven_storage, retention
from k2_offload.work.holding import HoldingTable
from k2_offload.work.proven_moves import move_proven
from k2_offload.work.proven_storage import ProvenStorage, Retention
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
PARTITION = Partition(ID, ("a",), 10, {"at": (DAY, DAY)})
SEAL = Seal("trades", "uuid", DAY, "at", 10, 7, (), None, 1, NOW)
READER = Reader(TRADES, NOW.date(), {DAY: SEAL}, {}, {DAY: 10}, frozenset(("at",)))
TAG = "k2_held_2026-03-04"
RECORD = Record(ID, Step.HELD, ("a",), 10, {"at": (DAY, DAY)}, {"trades": {DAY: "seal"}}, NOW - timedelta(days=9))


class FakeClickHouse:
    """A storage and its holding table, with one partition at most: parts and their rows."""

    servers = 1

    def __init__(self):
        self.holding = Holding("k2.trades", date(2026, 3, 1)).with_record(RECORD)
        self.tables = {"k2.trades": {}, HOLDING: {"a": 10}}
        self.in_both = 0
        self.done = []
        self.known_structure = [("at", "DateTime")]
        self.known_column_ttls = {}

    def storage(self, table):  # noqa: ARG002
        return Storage("k2.trades", ())

    def engine(self, name):  # noqa: ARG002
        return "MergeTree ORDER BY at"

    def column_ttls(self, name):  # noqa: ARG002
        return self.known_column_ttls

    def now(self):
        return NOW

    def execute(self, statement):
        for name, parts in self.tables.items():
            if statement == sql.parts(name):
                return [(ID, sorted(parts), sum(parts.values()))] if parts else []
        if statement == sql.any_holding():
            return [(1,)]
        if statement == sql.describe_table(HOLDING):
            return [("MergeTree", self.holding.text)]
        if statement in map(sql.structure, self.tables):
            return self.known_structure
        if statement == sql.count_in_both("k2.trades", ID):
            return [(self.in_both,)]
        if statement == sql.count_source(TRADES, (DAY, DAY)):
            return [(sum(self.tables["k2.trades"].values()),)]
        if statement == sql.move_back("k2.trades", ID):
            self.tables["k2.trades"] |= self.tables[HOLDING]
            self.tables[HOLDING] = {}
            self.done.append("moved back")
        elif statement == sql.move("k2.trades", ID):
            self.tables[HOLDING] |= self.tables["k2.trades"]
            self.tables["k2.trades"] = {}
            self.done.append("moved")
        elif statement == sql.drop("k2.trades", ID):
            self.tables[HOLDING] = {}
            self.done.append("dropped")
        else:
            assert "MODIFY COMMENT" in statement, statement
        return []


class FakeLedger:
    """Nobody else is there."""

    busy = False

    def __init__(self, ledger):
        self.ledger = ledger

    @contextmanager
    def alone(self, storage, wait_seconds=0):  # noqa: ARG002
        if self.busy:
            raise OtherRun(f"{storage}: another run is moving its partitions.")
        yield lambda: self.ledger.append("checked")

    def record(self, *step):
        self.ledger.append(step)


class Kept:
    """The tiers of a storage that holds one partition."""

    def __init__(self, monkeypatch):
        self.clickhouse = FakeClickHouse()
        self.ledger = []
        self.tags, self.tags_fail = [], 0
        tags = SimpleNamespace(release=self.release, hold=self.hold)
        catalog = SimpleNamespace(tags=lambda _: tags, seals=lambda _: None)
        self.tiers = SimpleNamespace(
            clickhouse=self.clickhouse, ledger=self.ledger, catalog=catalog, tables=TABLES, now=lambda: NOW
        )
        self.while_verified = self.while_proven = lambda: None
        self.mutations = []
        for module in (proven_storage, holding):
            monkeypatch.setattr(module, "LedgerRetention", FakeLedger)
        monkeypatch.setattr(retention, "share_seals", lambda *_: [])
        monkeypatch.setattr(proven_storage, "seals_obstacle", lambda *_: None)
        monkeypatch.setattr(proven_storage.HoldingTable, "write", lambda _, holding: self.write(holding))
        self.proof = SimpleNamespace(
            readers=lambda _: [READER],
            find_broken=self.verify,
            prove=self.prove,
            mutations=lambda *_: set(self.mutations),
            find_mutation=lambda seen: next((each for each in self.mutations if each not in seen), None),
        )
        monkeypatch.setattr(proven_storage, "Proof", lambda *_: self.proof)
        monkeypatch.setattr(proven_moves, "ttl_in_the_way", lambda *_: "not looked at")

    def move_proven(self, monkeypatch, holding=None):
        """Nothing is in the way of moving the one partition of the storage."""
        monkeypatch.setattr(proven_moves, "ttl_in_the_way", lambda *_: None)
        monkeypatch.setattr(proven_moves, "obstacle", lambda *_: None)
        monkeypatch.setattr(proven_storage.HoldingTable, "prepare", lambda _, holding, *__: holding)
        monkeypatch.setattr(proven_storage.HoldingTable, "partitions", lambda *_: [PARTITION])
        self.clickhouse.holding = Holding("k2.trades", date(2026, 3, 1))
        self.clickhouse.tables = {"k2.trades": {"a": 10}, HOLDING: holding or {}}
        done = remove_proven(self.tiers, [TRADES])
        return [(state.state, state.reason) for state in done.states], done.problems

    def prove(self, *_):
        self.while_proven()
        return {"trades": SimpleNamespace(snapshot_id=7)}, None

    def hold(self, snapshots):
        if self.tags_fail:
            self.tags_fail -= 1
            raise StaleWindow("another writer committed")
        self.tags += snapshots

    def release(self, tags):
        self.tags = [tag for tag in self.tags if tag not in tags]

    def write(self, holding):
        self.clickhouse.holding = holding

    def verify(self, *_):
        return self.while_verified()

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
    ("in_source", "gone"), [({}, True), ({"a": 10}, False), ({"merged": 12}, True), ({"late": 3}, True)]
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
    assert "rows of it that are not all of the 10 that were to be moved" in problem
    assert "`k2 retention trades --restore 2026-03-04` takes it for gone" in problem
    assert kept.clickhouse.holding.records == (RECORD,)


def test_nothing_goes_while_a_table_may_read_it_unseen(kept, monkeypatch):
    def read_by(_):
        raise InvalidSource("k2.trades is read by ReadFromMerge.")

    storages = iter([*[Storage("k2.trades", ())] * 3, None])
    monkeypatch.setattr(kept.clickhouse, "storage", lambda _: next(storages))
    kept.clickhouse.read_by = read_by
    states, [problem] = kept.remove()
    assert (states, kept.clickhouse.done) == ([], [])
    assert problem.startswith("trades: what its source reads cannot be known, and it might be what others remove")


def test_days_stay_whole_while_clickhouse_does_not_answer(kept, monkeypatch):
    def overloaded(*_):
        raise Overloaded(202, "too many queries")

    monkeypatch.setattr(proven_moves, "ttl_in_the_way", overloaded)
    kept.clickhouse.holding = Holding("k2.trades", date(2026, 3, 1))
    kept.clickhouse.tables = {"k2.trades": {"a": 10}, HOLDING: {}}
    assert "too many queries" in kept.remove()[1][0]
    assert kept.clickhouse.holding.whole_since == date(2026, 3, 1)


def test_another_run_is_told_and_who_only_looks_does_not_wait_for_it(kept, monkeypatch):
    monkeypatch.setattr(FakeLedger, "busy", True)
    done = remove_proven(kept.tiers, [TRADES])
    assert (done.states, done.problems) == ([], ["k2.trades: another run is moving its partitions."])
    look = remove_proven(kept.tiers, [TRADES], dry_run=True)
    assert [state.state for state in look.states] == ["held"]
    assert kept.ledger == []


@pytest.mark.parametrize("there", [{}, {"late": 3}])
def test_who_only_looks_sees_that_a_partition_is_missing(kept, there):
    kept.clickhouse.tables = {"k2.trades": there, HOLDING: {}}
    done = remove_proven(kept.tiers, [TRADES], dry_run=True)
    assert [state.state for state in done.states] == ["missing"]
    assert "neither in k2.trades_k2_holding nor in k2.trades" in done.problems[0]
    assert (kept.clickhouse.done, kept.ledger) == ([], [])


def test_nothing_is_moved_while_the_comment_is_long(kept, monkeypatch):
    monkeypatch.setattr(proven_moves, "LONGEST_COMMENT", 10)
    [waits], _ = kept.move_proven(monkeypatch)
    assert waits == ("waits", f"{HOLDING} has too much on record: what is held has to be dropped first")


def test_a_proven_partition_is_tagged_and_moved(kept, monkeypatch):
    kept.tags_fail = 2
    assert kept.move_proven(monkeypatch) == ([("held", "")], [])
    assert (kept.clickhouse.done, kept.tags) == (["moved"], [TAG])
    assert kept.clickhouse.holding.records[0].step is Step.HELD


def test_what_is_held_without_a_record_is_not_doubled(kept, monkeypatch):
    kept.proof.prove = None
    states, [problem] = kept.move_proven(monkeypatch, {"a": 10})
    assert states == []
    assert f"{HOLDING}: partition {ID} is not on record, and k2.trades has rows of it" in problem
    with pytest.raises(OffloadError, match=f"{HOLDING} has rows of partition {ID}, which are not on record"):
        kept.restore()
    assert kept.clickhouse.done == []


@pytest.mark.parametrize("why", ["parts of it that are not on record", "another writer committed", "a mutation"])
def test_what_cannot_be_moved_now_is_as_if_never_on_record(kept, monkeypatch, why):
    def meanwhile():
        if "parts" in why:
            kept.clickhouse.tables[HOLDING] = {"a": 10}
        elif "writer" in why:
            kept.tags_fail = held_tags.ATTEMPTS
        else:
            kept.mutations.append("mutation_2.txt (DELETE WHERE 1)")

    kept.while_proven = meanwhile
    [(state, reason)], problems = kept.move_proven(monkeypatch)
    assert (state, problems, kept.clickhouse.done, kept.tags) == ("waits", [], [], [])
    assert why in reason
    assert kept.clickhouse.holding.records == ()


def test_what_dies_before_it_is_moved_leaves_no_record(kept, monkeypatch):
    def away(_):
        raise Unreachable("The catalog", "k2_iceberg", "no answer")

    kept.tiers.catalog.tags = lambda _: SimpleNamespace(release=away, hold=away)
    with pytest.raises(Unreachable):
        kept.move_proven(monkeypatch)
    assert (kept.clickhouse.done, kept.clickhouse.holding.records) == ([], ())


@pytest.mark.parametrize("step", [Step.MOVING, Step.RESTORING])
def test_what_is_merged_where_it_was_is_no_days_loss(kept, step):
    record = replace(RECORD, step=step, shown={"trades": 7})
    for shown, states in ((6, []), (7, ["is where it was"])):
        kept.clickhouse.holding = Holding("k2.trades", date(2026, 3, 1)).with_record(record)
        kept.clickhouse.tables = {"k2.trades": {"merged": shown}, HOLDING: {}}
        assert kept.remove()[0] == states
    assert (kept.clickhouse.holding.records, kept.clickhouse.holding.gone) == ((), {})


def test_a_mutation_that_missed_moved_rows_is_told(kept, monkeypatch):
    kept.mutations = ["mutation_1.txt"]
    moved = FaultPoint.REMOVAL_MOVED
    monkeypatch.setattr(
        proven_moves, "reached", lambda point, _: kept.mutations.append("mutation_2.txt") if point is moved else None
    )
    [(state, _)], [problem] = kept.move_proven(monkeypatch)
    assert (state, kept.clickhouse.done, kept.tags) == ("moved back", ["moved", "moved back"], [])
    assert "does not any more: mutation_2.txt" in problem


def test_a_partition_that_was_moved_twice_is_not_moved_back(kept, monkeypatch):
    monkeypatch.setattr(
        proven_storage.HoldingTable,
        "parts",
        lambda _, name: {ID: Parts(("a", "a"), 20)} if name == HOLDING else {},
    )
    for step in (Step.MOVING, Step.HELD):
        kept.clickhouse.holding = Holding("k2.trades", None).with_record(replace(RECORD, step=step))
        with pytest.raises(OffloadError, match="has parts of partition 20260304 more often"):
            kept.restore()
    assert kept.clickhouse.done == []


def test_what_was_half_dropped_comes_back_as_a_day_that_is_gone(kept):
    half = replace(RECORD, step=Step.DROPPING, parts=("a", "b"), rows=20)
    kept.clickhouse.holding = Holding("k2.trades", None).with_record(half)
    with pytest.raises(OffloadError, match="not all of the 20 rows that were moved were still held"):
        kept.restore()
    assert kept.clickhouse.tables == {"k2.trades": {"a": 10}, HOLDING: {}}
    assert kept.clickhouse.holding.records == ()
    assert kept.clickhouse.holding.kept("at").is_gone(DAY)


def test_what_no_run_has_dropped_keeps_its_tags_until_it_is_verified(kept):
    kept.clickhouse.tables = {"k2.trades": {}, HOLDING: {}}
    kept.tags = [TAG]
    kept.while_verified = lambda: "its seal is broken."
    states, [problem] = kept.remove()
    assert (states, kept.tags, kept.clickhouse.holding.records) == ([], [TAG], (RECORD,))
    assert "no run has dropped it. The cold tier may not hold all of its rows: its seal is broken." in problem
    kept.while_verified = lambda: None
    states, [problem] = kept.remove()
    assert (states, kept.tags, kept.clickhouse.holding.records) == (["gone"], [], ())
    assert "no run has dropped it. Its seals were verified" in problem
    assert kept.clickhouse.holding.kept("at").is_gone(DAY)


HALF = replace(RECORD, parts=("a", "b"), rows=20, shown={"trades": 20})


@pytest.mark.parametrize(
    ("record", "source", "held", "by_person"),
    [
        (RECORD, {}, {}, True),
        (HALF, {"z": 3}, {}, True),
        (HALF, {}, {"a": 10}, True),
        (replace(HALF, step=Step.MOVING), {"c": 20}, {}, False),
        (replace(HALF, step=Step.MOVING), {}, {"c": 20}, False),
    ],
    ids=["dropped by hand", "other rows", "half is held", "merged before it moved", "merged and moved"],
)
@pytest.mark.parametrize("broken", ["its seal is broken.", None])
def test_tags_stay_until_the_seals_are_verified_where_not_all_is_back(kept, record, source, held, by_person, broken):
    kept.clickhouse.holding, kept.tags = Holding("k2.trades", None).with_record(record), [TAG]
    kept.clickhouse.tables = {"k2.trades": dict(source), HOLDING: dict(held)}
    kept.while_verified = lambda: broken
    if by_person:
        with pytest.raises(OffloadError) as told:
            kept.restore()
        assert held or ("keep their tags k2_held_…: its seal is broken." in str(told.value)) == bool(broken)
    else:
        problems = kept.remove()[1]
        assert bool(problems) == bool(broken)
    assert (kept.clickhouse.holding.records, kept.tags) == ((), [TAG] if broken else [])


def test_tags_go_without_a_look_at_seals_when_all_is_back(kept):
    kept.while_verified = lambda: pytest.fail("that takes minutes")
    for source, held in (({"a": 10}, {}), ({}, {"a": 10}), ({"late": 3}, {"a": 10})):
        kept.clickhouse.holding = Holding("k2.trades", None).with_record(replace(RECORD, step=Step.RESTORING))
        kept.clickhouse.tables, kept.tags = {"k2.trades": source, HOLDING: held}, [TAG]
        kept.remove()
        assert (kept.clickhouse.holding.records, kept.tags) == ((), [])


def test_a_cold_table_that_is_not_there_does_not_keep_a_partition_on_record(kept):
    def damaged():
        raise DamagedTable("its cold table is not there.")

    kept.while_verified = damaged
    kept.clickhouse.holding, kept.tags = Holding("k2.trades", None).with_record(replace(HALF, step=Step.MOVING)), [TAG]
    kept.clickhouse.tables = {"k2.trades": {"c": 20}, HOLDING: {}}
    [problem] = kept.remove()[1]
    assert "snapshots keep their tags k2_held_…: its cold table is not there." in problem
    assert (kept.clickhouse.holding.records, kept.tags) == ((), [TAG])


def test_nothing_is_said_of_seals_of_what_was_never_on_record(kept):
    unknown = Record(ID, Step.RESTORING, ("a",), 0, {}, {}, NOW)
    kept.clickhouse.holding = Holding("k2.trades", None).with_record(unknown)
    kept.clickhouse.tables = {"k2.trades": {}, HOLDING: {}}
    states, [problem] = kept.remove()
    assert (states, kept.clickhouse.holding.records) == (["gone"], ())
    assert "Which days it held was never on record" in problem


def test_tags_of_a_table_that_has_left_the_file_are_told(kept):
    record = replace(RECORD, step=Step.DROPPING, seals={"old": {DAY: "seal"}})
    kept.clickhouse.holding = Holding("k2.trades", None).with_record(record)
    kept.clickhouse.tables = {"k2.trades": {}, HOLDING: {}}
    states, [problem] = kept.remove()
    assert states == ["gone"]
    assert problem.startswith("old: it is not in the table file any more, so its cold table keeps these tags")
    assert TAG in problem


def test_old_days_are_not_whole_once_a_clock_has_removed_rows(kept):
    begun = Holding("k2.trades", date(2026, 3, 1)).with_gone(RECORD)
    kept.clickhouse.holding = begun
    by_clock = replace(TRADES, retention="ttl")
    assert remove_proven(kept.tiers, [by_clock], dry_run=True) == Retention()
    assert kept.clickhouse.holding == begun
    assert remove_proven(kept.tiers, [by_clock]) == Retention()
    assert kept.clickhouse.holding == replace(begun, whole_since=None)


@pytest.mark.parametrize("why", ["shared", "engine"])
def test_old_days_are_not_whole_once_nothing_is_proven_of_a_storage(kept, monkeypatch, why):
    kept.clickhouse.holding = Holding("k2.trades", date(2026, 3, 1))
    if why == "shared":
        by_clock = replace(TRADES, name="others", retention="ttl")
        monkeypatch.setattr(retention, "_readers", lambda *_: {"k2.trades": [(TRADES, True), (by_clock, True)]})
    else:
        kept.clickhouse.engine = lambda _: "ReplacingMergeTree ORDER BY at"
    done = remove_proven(kept.tiers, [TRADES], dry_run=True)
    assert kept.clickhouse.holding.whole_since is not None, "whoever only looks writes nothing"
    assert remove_proven(kept.tiers, [TRADES]).problems == done.problems != []
    assert kept.clickhouse.holding.whole_since is None


@pytest.mark.parametrize(
    ("cold", "warm", "since"),
    [
        ({}, {20: 5}, 16),
        ({18: 9, 19: 9}, {18: 9, 19: 9}, 16),
        ({18: 9, 19: 9}, {18: 9, 19: 11, 25: 3}, 16),
        ({17: 9, 19: 9}, {25: 3, 26: 3}, 26),
        ({17: 9, 19: 9}, {17: 9, 19: 8}, 30),
        (None, {25: 3}, 30),
    ],
    ids=["all is to come", "all is there", "late rows", "a TTL took what was not moved", "and left none", "unknown"],
)
def test_days_are_whole_since_the_cold_tier_knows_of_no_other_rows(kept, monkeypatch, cold, warm, since):
    def of_days(rows):
        return rows and {date(2026, 3, day): count for day, count in rows.items()}

    kept.tiers.load_cold = lambda _: SimpleNamespace(rows_per_day=lambda *_: of_days(cold))
    kept.clickhouse.rows_per_day = lambda _: of_days(warm)
    table = replace(TRADES, warm_retention_days=15)
    monkeypatch.setattr(proven_storage.HoldingTable, "prepare", lambda *_: Holding("k2.trades", None))
    monkeypatch.setattr(proven_storage.HoldingTable, "partitions", lambda *_: [])
    monkeypatch.setattr(proven_moves, "ttl_in_the_way", lambda *_: None)
    storage = ProvenStorage(kept.tiers, "k2.trades", [table], Retention(), lambda: None, False, None, NOW)
    move_proven(storage, lambda: False)
    assert kept.clickhouse.holding.whole_since == date(2026, 3, since)


@pytest.mark.parametrize("differs", [sql.structure, sql.layout])
def test_a_holding_table_that_differs_is_made_anew_once_it_is_empty(kept, differs):
    table, before = HoldingTable(kept.tiers, "k2.trades"), Holding("k2.trades", None)
    kept.clickhouse.tables[HOLDING] = {}
    known = {differs("k2.trades"): [("new",)], differs(HOLDING): [("old",)]}
    kept.clickhouse.execute = lambda statement: kept.clickhouse.done.append(statement) or known.get(statement, [])
    with pytest.raises(OffloadError, match="columns, keys, indices or projections have changed"):
        table.prepare(before.with_record(RECORD), lambda: None)
    assert not [statement for statement in kept.clickhouse.done if "CREATE" in statement]
    table.prepare(before, lambda: None)
    assert [statement[:23] for statement in kept.clickhouse.done if "CREATE" in statement] == [
        "CREATE OR REPLACE TABLE"
    ]


def test_a_holding_table_whose_values_a_clock_removes_takes_no_partition(kept):
    kept.clickhouse.known_column_ttls = {"raw": Removal("at + 1")}
    kept.clickhouse.execute = lambda _: []
    with pytest.raises(OffloadError, match=rf"'raw' has a TTL.*`ALTER TABLE {HOLDING} MODIFY COLUMN raw REMOVE TTL`"):
        HoldingTable(kept.tiers, "k2.trades").prepare(Holding("k2.trades", None), lambda: None)


def test_a_holding_table_is_made_by_who_has_the_lock(kept):
    def check_alone():
        raise OffloadError("the lock was lost")

    table = HoldingTable(kept.tiers, "k2.trades")
    kept.clickhouse.tables[HOLDING] = {}
    known = {sql.structure("k2.trades"): [("at",), ("venue",)], sql.structure(HOLDING): [("at",)]}
    kept.clickhouse.execute = lambda statement: kept.clickhouse.done.append(statement) or known.get(statement, [])
    for before in (None, Holding("k2.trades", None)):
        with pytest.raises(OffloadError, match="the lock was lost"):
            table.prepare(before, check_alone)
    assert not [statement for statement in kept.clickhouse.done if "CREATE" in statement]


def test_a_setting_that_only_begins_alike_is_set():
    first, second = "max_bytes_to_merge_at_max_space_in_pool = 1", "max_bytes_to_merge_at_min_space_in_pool = 1"
    assert sql.prepare_holding("k2.trades", f"MergeTree SETTINGS {first}, {second}", has_ttl=False) == []
    [changed] = sql.prepare_holding("k2.trades", f"MergeTree SETTINGS {first}0, {second}", has_ttl=False)
    assert changed.endswith(f"MODIFY SETTING {first}")

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
from k2_offload.work import held_tags, holding, known_seals, proven_moves, proven_storage, retention
from k2_offload.work.holding import HoldingTable
from k2_offload.work.known_seals import share_seals
from k2_offload.work.proven_moves import move_proven
from k2_offload.work.proven_storage import ProvenStorage, Retention
from k2_offload.work.retention import check_retention, remove_proven, restore_day

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
        self.shown = None
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
        if statement.startswith(sql.count_source(TRADES, (DAY, DAY)).partition(" WHERE ")[0]):
            rows = sum(self.tables["k2.trades"].values())
            return [(rows if self.shown is None else min(rows, self.shown),)]
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

    def move_proven(self, monkeypatch, holding=None, parts=(("a", 10),)):
        """Nothing is in the way of moving the one partition of the storage."""
        partition = replace(PARTITION, parts=tuple(name for name, _ in parts), rows=sum(rows for _, rows in parts))
        monkeypatch.setattr(proven_moves, "ttl_in_the_way", lambda *_: None)
        monkeypatch.setattr(proven_moves, "obstacle", lambda *_: None)
        monkeypatch.setattr(proven_storage.HoldingTable, "prepare", lambda _, holding, *__: holding)
        monkeypatch.setattr(proven_storage.HoldingTable, "partitions", lambda *_: [partition])
        self.clickhouse.holding = Holding("k2.trades", date(2026, 3, 1))
        self.clickhouse.tables = {"k2.trades": dict(parts), HOLDING: holding or {}}
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


@pytest.fixture
def merged(kept, monkeypatch):
    """Moves candles whose two parts are merged after they were compared: one part with so many rows, fewer than both.

    Then nothing else is moved.
    """

    def move(rows):
        def merge(_):
            kept.clickhouse.tables["k2.trades"] = {"ab": rows}

        kept.clickhouse.shown = 10
        kept.tiers.catalog.tags = lambda _: SimpleNamespace(release=kept.release, hold=merge)
        try:
            states, problems = kept.move_proven(monkeypatch, parts=(("a", 8), ("b", 6)))
        finally:
            monkeypatch.setattr(proven_moves, "ttl_in_the_way", lambda *_: "not looked at")
        assert kept.clickhouse.holding.records == ()
        return [state for state, _ in states], problems

    return move


def test_candles_that_were_merged_before_they_were_moved_are_known_by_what_is_shown(kept, merged):
    assert merged(10) == (["moved back"], [])
    assert (kept.clickhouse.done, kept.clickhouse.tables["k2.trades"]) == (["moved", "moved back"], {"ab": 10})
    assert kept.clickhouse.holding.gone == {}
    states, [problem] = merged(9)
    assert "it was moved back, but not all of the 14 rows" in problem
    assert (states, kept.clickhouse.holding.gone) == (["moved back"], {"at": ((DAY, DAY),)})


@pytest.mark.parametrize("point", [FaultPoint.RETURN_RECORDED, FaultPoint.RETURNED])
@pytest.mark.parametrize("rows", [10, 9])
def test_nor_are_they_gone_if_the_run_dies_before_that_is_known(kept, merged, monkeypatch, point, rows):
    def kill(reached, _):
        if reached is point:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(proven_storage, "reached", kill)
        with pytest.raises(KeyboardInterrupt):
            merged(rows)
    assert (kept.clickhouse.holding.records[0].step, kept.clickhouse.holding.gone) == (Step.RESTORING, {})
    states, problems = kept.remove()
    assert kept.clickhouse.tables == {"k2.trades": {"ab": rows}, HOLDING: {}}
    assert (problems == []) is (rows == 10)
    assert kept.clickhouse.holding.kept("at").is_gone(DAY) is (rows == 9)
    assert (
        states
        == {
            (10, FaultPoint.RETURN_RECORDED): ["moved back"],
            (10, FaultPoint.RETURNED): ["is where it was"],
            (9, FaultPoint.RETURN_RECORDED): ["moved back"],
            (9, FaultPoint.RETURNED): [],  # a person decides
        }[rows, point]
    )


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
    others = f"{second}, min_age_to_force_merge_seconds = 0"
    assert sql.prepare_holding("k2.trades", f"MergeTree SETTINGS {first}, {others}", has_ttl=False) == []
    [changed] = sql.prepare_holding("k2.trades", f"MergeTree SETTINGS {first}0, {others}", has_ttl=False)
    assert changed.endswith(f"MODIFY SETTING {first}")


def test_what_is_held_is_not_merged_however_old_it_is():
    """Nor by a setting of the storage, which the holding table is made with."""
    both = "max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1"
    own = "min_age_to_force_merge_on_partition_only = 1, min_age_to_force_merge_seconds = 3600"
    [changed] = sql.prepare_holding("k2.trades", f"MergeTree SETTINGS {both}, {own}", has_ttl=False)
    assert changed.endswith("MODIFY SETTING min_age_to_force_merge_seconds = 0")


BY_CLOCK = parse_tables(ENTRY.replace("retention: proven", "retention: ttl"))


@pytest.mark.parametrize("dry_run", [True, False])
def test_what_is_held_of_a_table_that_is_proven_no_more_is_told_until_it_is_back(kept, dry_run):
    kept.tiers.tables = BY_CLOCK
    trades = BY_CLOCK["trades"]
    done = remove_proven(kept.tiers, [trades, replace(trades, name="the_same_source")], dry_run=dry_run)
    [problem], [state] = done.problems, done.states
    assert (state.storage, state.partition_id, state.state, state.rows) == ("k2.trades", ID, "held", 10)
    told = "`k2 retention trades --restore 2026-03-04` brings it back"
    assert state.reason == f"'retention: ttl' is set: {told}"
    assert f"{HOLDING} still holds 1 partition, which nobody looks after then: 2026-03-04. No row is lost" in problem
    assert problem == check_retention(kept.tiers, trades)
    assert told in problem
    assert kept.clickhouse.done == []

    restore_day(kept.tiers, trades, DAY)
    assert remove_proven(kept.tiers, [trades], dry_run=dry_run) == Retention()
    assert check_retention(kept.tiers, trades) is None
    assert (kept.clickhouse.done, kept.tags) == (["moved back"], [])


def test_what_is_held_comes_back_whatever_its_table_reads_by_then(kept):
    """A TTL that groups rows, or a view that reads another table, too."""
    kept.tiers.tables = BY_CLOCK
    kept.clickhouse.storage = lambda _: None
    kept.clickhouse.reads = lambda _: ({"k2.trades"}, set())
    kept.clickhouse.read_by = lambda _: {"k2.trades"}
    [problem] = remove_proven(kept.tiers, [BY_CLOCK["trades"]]).problems
    assert "`k2 retention trades --restore 2026-03-04` brings it back" in problem
    with pytest.raises(InvalidSource, match=r"which table holds the rows of k2\.trades is not known"):
        restore_day(kept.tiers, BY_CLOCK["trades"], DAY + timedelta(days=1))
    restore_day(kept.tiers, BY_CLOCK["trades"], DAY)
    assert kept.clickhouse.done == ["moved back"]


def test_the_command_that_is_told_brings_the_partition_back(kept):
    """Where its days by two columns differ, and where the partition column is another one now."""
    later = DAY + timedelta(days=1)
    record = replace(RECORD, days={"taken_at": (later, later), "at": (DAY, DAY)})
    kept.clickhouse.holding = Holding("k2.trades", date(2026, 3, 1)).with_record(record)
    kept.tiers.tables = parse_tables(ENTRY.replace("timestamp_column: at", "timestamp_column: taken_at"))
    kept.while_verified = lambda: "it was healed since it was sealed."
    done = remove_proven(kept.tiers, [kept.tiers.tables["trades"]])
    assert any(f"`k2 retention trades --restore {later}` brings it back" in each for each in done.problems)
    with pytest.raises(OffloadError, match="its rows are not held"):
        restore_day(kept.tiers, kept.tiers.tables["trades"], DAY)
    restore_day(kept.tiers, kept.tiers.tables["trades"], later)
    assert kept.clickhouse.done == ["moved back"]


def test_a_day_comes_back_although_the_partition_column_is_another_one_now(kept):
    kept.tiers.tables = parse_tables(f"{ENTRY}    partition_column: other\n")
    restore_day(kept.tiers, kept.tiers.tables["trades"], DAY)
    assert (kept.clickhouse.done, kept.clickhouse.holding.gone) == (["moved back"], {})


@pytest.fixture
def two(kept, monkeypatch):
    """Two storages of one namespace, each with a partition that may be compared, and is not what was sealed."""
    kept.tiers.tables = parse_tables(ENTRY + ENTRY.partition("tables:")[2].replace("trades", "quotes"))
    kept.clickhouse.storage = lambda table: Storage(table.source, ())
    kept.asked = []

    @contextmanager
    def opened(tiers, name, tables, done, *, dry_run):
        kept.asked.append(name)
        yield SimpleNamespace(
            tiers=tiers, name=name, tables=tables, done=done, dry_run=dry_run, known=Holding(name, DAY),
            held={}, go_on=lambda: None, check_alone=lambda: None, proof=kept.proof, holding=Holding(name, DAY),
            table=SimpleNamespace(prepare=lambda before, _: before), write=lambda _: None, now=NOW,
        )  # fmt: skip

    kept.proof.prove = lambda *_: ({}, "it is not what was sealed")
    monkeypatch.setattr(ProvenStorage, "opened", opened)
    monkeypatch.setattr(proven_moves, "ttl_in_the_way", lambda *_: None)
    monkeypatch.setattr(proven_moves, "obstacle", lambda *_: None)
    monkeypatch.setattr(proven_moves, "partitions_of", lambda *_: [PARTITION])
    monkeypatch.setattr(retention, "remember_ttl", lambda *_: None)
    return kept


def test_seals_are_read_once_for_all_storages_of_a_namespace(two, monkeypatch):
    read = []
    lake = SimpleNamespace(read=lambda: read.append("the lake") or ([], []))
    two.tiers.catalog.seals = lambda namespace: read.append(namespace) or lake
    monkeypatch.setattr(retention, "share_seals", share_seals)
    monkeypatch.setattr(
        known_seals, "LedgerSeals", lambda _: SimpleNamespace(read=lambda names: read.append(names) or [])
    )
    remove_proven(two.tiers, two.tiers.tables.select([]), dry_run=True)
    assert (sorted(two.asked), read) == (["k2.quotes", "k2.trades"], [])
    remove_proven(two.tiers, two.tiers.tables.select([]))
    assert read == ["cold", "the lake", ["trades", "quotes"]]


def test_the_time_to_compare_is_that_of_all_storages(two):
    times = (NOW + timedelta(seconds=number) for number in range(100))
    two.tiers.now = lambda: next(times)
    done = remove_proven(two.tiers, two.tiers.tables.select([]), budget=timedelta(0))
    assert [state.reason for state in done.states] == [
        "it is not what was sealed",
        "there was no time to compare it; the next run does",
    ]


def test_another_storage_comes_first_each_day(two):
    first = []
    for number in range(3):
        two.tiers.now = lambda: NOW + timedelta(days=number)  # noqa: B023 - called at once
        two.asked.clear()
        remove_proven(two.tiers, two.tiers.tables.select([]), dry_run=True)
        assert sorted(two.asked) == ["k2.quotes", "k2.trades"]
        first.append(two.asked[0])
    assert first[0] == first[2] != first[1]


def test_days_that_lie_in_several_partitions_are_told(kept, monkeypatch):
    other = replace(PARTITION, partition_id="20260305", days={"at": (DAY, DAY + timedelta(days=1))})
    monkeypatch.setattr(HoldingTable, "prepare", lambda _, holding, *__: holding)
    kept.clickhouse.holding = Holding("k2.trades", date(2026, 3, 1))
    kept.clickhouse.tables = {"k2.trades": {"a": 10}, HOLDING: {}}
    told = f"trades: rows of {DAY} lie in partitions {ID} and 20260305 of k2.trades"
    monkeypatch.setattr(HoldingTable, "partitions", lambda *_: [PARTITION, other])
    monkeypatch.setattr(retention, "ttl_in_the_way", lambda *_: None)
    assert told in check_retention(kept.tiers, TRADES)
    monkeypatch.setattr(proven_moves, "ttl_in_the_way", lambda *_: None)
    for dry_run in (True, False):
        [problem] = remove_proven(kept.tiers, [TRADES], dry_run=dry_run).problems
        assert told in problem
        assert problem.endswith("which needs another table. Nothing was dropped and no row is lost.")
    monkeypatch.setattr(HoldingTable, "partitions", lambda *_: [PARTITION])
    assert check_retention(kept.tiers, TRADES) is None
    assert remove_proven(kept.tiers, [TRADES], dry_run=True).problems == []


def test_a_partition_column_that_the_storage_has_not_got_is_told(kept, monkeypatch):
    table = parse_tables(f"{ENTRY}    partition_column: other\n")["trades"]
    monkeypatch.setattr(retention, "ttl_in_the_way", lambda *_: None)
    with pytest.raises(InvalidSource, match="partition_column other of a view on it is no column of it"):
        check_retention(kept.tiers, table)

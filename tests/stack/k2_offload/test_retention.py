"""Nothing is forgotten that is not proven: attempts to get around ``retention: proven``, on the real stack."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.core import fault_points
from k2_offload.core.combined_view import ViewState
from k2_offload.core.errors import ExpiredRows, OffloadError
from k2_offload.core.fault_points import FaultPoint
from k2_offload.core.sql import literal
from k2_offload.work.compare import compare
from k2_offload.work.holding import HoldingTable
from k2_offload.work.reconcile import compare_day, count_days, reconcile
from k2_offload.work.retention import check_retention, remove_proven, restore_day
from k2_offload.work.seals import seal_days
from k2_offload.work.status import read_status
from tests.faults.hook import Fault, Faults, InjectedFault, Kind

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
DAY = NOON.date()
SEALED = NOON + timedelta(days=1, hours=20)
OLD = NOON + timedelta(days=4)
RETENTION = {"retention": "proven", "warm_retention_days": 3}


class Proven:
    """Tables with proven retention over one storage of two days, of which the first, of 40 rows, is over."""

    def __init__(self, workbench, storage=None, views=(), last=20, **entry):
        self.workbench = workbench
        self.storage = storage or workbench.create_trades()
        self.names = list(views) or [self.storage]
        self.now = NOON
        self.cycle = workbench.cycle(
            *(workbench.spec(name, **RETENTION, **entry) for name in self.names), now=lambda: self.now
        )
        self.tables = [self.cycle.tables[name] for name in self.names]
        self.tiers = self.cycle.tiers
        for window in ((0,), (1, last)):
            for hours in window:
                self.insert(NOON + timedelta(hours=hours), 20, 1000 * hours)
            self.move(NOON + timedelta(hours=window[-1] + 0.6))

    def insert(self, at, count, sequence):
        self.workbench.insert_trades(self.storage, at, count, start_sequence=sequence)

    def late(self, sequence=10**6):
        self.insert(NOON + timedelta(minutes=30), 3, sequence)

    def move(self, now):
        self.now = now
        self.workbench.move(self.cycle, *self.names)

    def seal(self, now=None):
        """Compare, heal what differs, and seal; returns the sealed days' rows."""
        self.now = now or self.now
        for found in list(reconcile(self.tiers, self.tables)):
            if found.heals:
                self.workbench.publish(*found.heals)
        list(reconcile(self.tiers, self.tables))
        done = seal_days(self.tiers, self.tables)
        assert done.problems == []
        return [seal.rows for seal in done.seals]

    def remove(self, now=None):
        self.now = now or self.now
        return remove_proven(self.tiers, self.tables)

    def remove_often(self):
        """A part that is merged while a day is proven makes it wait for the next run."""
        for _ in range(5):
            self.remove()

    def states(self, now=None):
        done = self.remove(now)
        assert done.problems == []
        return {state.partition_id: state.state for state in done.states}

    def rows(self, name):
        return sum(self.workbench.warm_rows(name, NOON + timedelta(hours=12)).values())

    @property
    def where(self):
        """Rows of the day in the storage, in the holding table, and in each cold table."""
        cold = [self.cold(name).scan(f"at < '{DAY + timedelta(days=1)}T00:00:00+00:00'").count() for name in self.names]
        return (self.rows(self.storage), self.rows(f"{self.storage}_k2_holding"), *cold)

    def cold(self, name=None):
        return self.workbench.cold_catalog.load_table(f"cold.{name or self.names[0]}")

    def tags(self):
        return [tag for tag in self.cold().metadata.refs if tag.startswith("k2_held_")]

    def day(self, table=0):
        return compare_day(self.tiers, count_days(self.tiers, self.tables[table]), DAY)

    def late_of_old_days(self):
        """As told by the status, a comparison of all that is whole, and the ledger: of whole days, and of others."""
        [table] = self.tables
        status = read_status(self.tiers, table, None, counts=True)
        found = compare(self.tiers, table)
        assert (status.problem, found.problem) == (None, None)
        compared = {day.scope.day: day.late_rows for day in found.differing}
        lost = [day for day in self.tiers.ledger.read_comparisons()[table.name].unequal if not day.whole]
        return status.late, compared, {day.day: day.late_rows for day in lost}

    def forget_gone(self):
        """As if nothing had ever been removed."""
        table = HoldingTable(self.tiers, f"k2.{self.storage}")
        table.write(replace(table.read(), gone={}))

    def at(self, point, action):
        """Let something happen at a point."""
        fault_points.arm(lambda reached, _: action() if reached is point else None)


@pytest.fixture
def proven(workbench):
    made = Proven(workbench)
    assert made.seal(SEALED) == [40]
    assert made.states() == {"20260304": "waits", "20260305": "waits"}
    yield made
    fault_points.arm(None)


def test_a_proven_day_is_moved_held_and_dropped(workbench, proven):
    before, twice = workbench.warm_rows(proven.storage), []
    proven.at(FaultPoint.REMOVAL_PROVEN, lambda: twice.append(proven.remove()))
    assert proven.states(OLD) == {"20260304": "held", "20260305": "waits"}
    fault_points.arm(None)
    [busy] = twice
    assert busy.states == [], "a run at the same time leaves it alone"
    assert "another run is moving its partitions" in busy.problems[0]
    assert (proven.where, proven.tags()) == ((0, 40, 40), ["k2_held_2026-03-04"])
    assert proven.states(OLD + timedelta(days=2.9)) == {"20260304": "held", "20260305": "waits"}
    found = proven.day()
    assert (found.whole, found.differs) == (False, False)
    assert not [problem for each in reconcile(proven.tiers, proven.tables, [DAY]) for problem in each.problems]

    assert proven.states(OLD + timedelta(days=3)) == {"20260304": "dropped", "20260305": "waits"}
    assert (proven.where, proven.tags()) == ((0, 0, 40), [])
    assert workbench.cold_rows(proven.storage) == before
    proven.late()
    [waits, _] = proven.remove().states
    assert "rows of 2026-03-04 came after that day was removed" in waits.reason
    list(reconcile(proven.tiers, proven.tables, [DAY]))
    assert proven.late_of_old_days() == ({}, {}, {DAY: 3}), "no heal brings them"
    found = proven.day()
    assert (found.late_rows, found.whole) == (3, False)
    assert found.obstacle() == "the warm tier may no longer hold the day as a whole"

    workbench.sql(f"ALTER TABLE {proven.storage} ADD COLUMN venue String")
    assert "came after that day was removed" in proven.remove().states[0].reason, "the holding table is made anew"
    workbench.sql(f"ALTER TABLE {proven.storage} MOVE PARTITION ID '20260304' TO TABLE {proven.storage}_k2_holding")
    assert proven.states()["20260304"] == "waits", "moved by hand, and moved back"
    assert proven.where == (3, 0, 40)

    for change in ("INDEX by_price price TYPE minmax", "PROJECTION by_symbol (SELECT symbol, count() GROUP BY symbol)"):
        workbench.sql(f"ALTER TABLE {proven.storage} ADD {change}")
        assert "came after that day was removed" in proven.remove().states[0].reason
        moved = f"MOVE PARTITION ID '20260304' TO TABLE {proven.storage}_k2_holding"
        workbench.sql(f"ALTER TABLE {proven.storage} {moved}")
        assert proven.states()["20260304"] == "waits"
    assert proven.where == (3, 0, 40)


def test_a_holding_table_that_is_gone_is_told_until_a_person_has_decided(workbench, proven):
    assert proven.states(OLD)["20260304"] == "held"
    holding = f"{proven.storage}_k2_holding"
    workbench.sql(f"RENAME TABLE {holding} TO {holding}_x")
    for look in (proven.remove, lambda: remove_proven(proven.tiers, proven.tables, dry_run=True)):
        [problem] = look().problems
        assert f"there is no k2.{holding}, and the cold table of {proven.storage} has tags of 1 days" in problem
    workbench.sql(f"RENAME TABLE {holding}_x TO {holding}")
    assert proven.states()["20260304"] == "held"

    workbench.sql(f"DROP TABLE {holding}")
    assert "somebody has dropped or renamed it" in proven.remove().problems[0]
    with proven.cold().manage_snapshots() as manage:
        manage.remove_tag("k2_held_2026-03-04")
    assert proven.states() == {"20260305": "waits"}
    found = proven.day()
    assert (found.whole, found.differs) == (False, False), "no heal takes its rows"


def test_a_partition_with_rows_of_long_intervals_waits(workbench):
    """After a rollback of the cold table, nobody would know which windows lack them."""
    storage = workbench.create_trades(extra=", until DateTime64(6, 'UTC') DEFAULT at + INTERVAL 2 DAY")
    proven = Proven(workbench, storage, timestamp_column="until", partition_column="at")
    proven.remove(NOON + timedelta(hours=21))
    for hours in (49, 72):
        proven.move(NOON + timedelta(hours=hours))
    assert proven.seal(NOON + timedelta(hours=73)) == [40, 20]
    for _ in range(5):
        [reason, _] = [state.reason for state in proven.remove(OLD + timedelta(days=2)).states]
    assert "have a until more than a day after their at" in reason


def test_a_row_that_comes_in_between_is_never_dropped(proven):
    proven.at(FaultPoint.REMOVAL_PROVEN, proven.late)
    assert proven.states(OLD)["20260304"] == "moved back"
    fault_points.arm(None)
    assert (proven.where, proven.tags()) == ((43, 0, 40), [])
    assert proven.states()["20260304"] == "waits"
    assert proven.late_of_old_days() == ({DAY: 3}, {DAY: 3}, {}), "it is told although it is old"
    assert proven.seal(OLD) == [43], "healed, and sealed anew"
    assert proven.late_of_old_days() == ({}, {}, {})
    assert proven.states()["20260304"] == "held"
    proven.late(3 * 10**6)
    later = OLD + timedelta(days=9)
    assert [each.state for each in proven.remove(later).states] == ["moved back", "waits", "waits"]
    assert (proven.where, proven.tags()) == ((46, 0, 43), [])
    assert proven.seal(later) == [46]
    assert proven.states()["20260304"] == "held"
    assert proven.states(later + timedelta(days=3))["20260304"] == "dropped"
    assert proven.where == (0, 0, 46)


POINTS = [
    FaultPoint.REMOVAL_PROVEN, FaultPoint.REMOVAL_RECORDED, FaultPoint.REMOVAL_TAGGED, FaultPoint.REMOVAL_MOVED,
    FaultPoint.REMOVAL_HELD, FaultPoint.DROP_RECORDED, FaultPoint.REMOVAL_DROPPED, FaultPoint.REMOVAL_ENDED,
]  # fmt: skip
AFTER_DROP = POINTS[-2:]
AFTER_HOLDING = POINTS[-3:]


def test_a_run_may_die_anywhere(proven):
    """And whatever it left is gone on with by the next one."""
    for point in POINTS:
        later = OLD + timedelta(days=4)
        proven.now = later if point in AFTER_HOLDING else OLD
        fault_points.arm(Faults([Fault(point, Kind.RAISE, f"k2.{proven.storage}")], None))
        with pytest.raises(InjectedFault):
            proven.remove_often()
        fault_points.arm(None)
        warm, held, cold = proven.where
        assert (warm + held, cold) == (0 if point in AFTER_DROP else 40, 40), point
        expected = {FaultPoint.REMOVAL_DROPPED: "gone", FaultPoint.REMOVAL_ENDED: None}.get(
            point, "dropped" if point in AFTER_HOLDING else "held"
        )
        assert proven.states().get("20260304") == expected, point
        if point in AFTER_HOLDING:
            assert (proven.where, proven.tags()) == ((0, 0, 40), []), point
            proven.insert(NOON, 20, 0)
            proven.insert(NOON + timedelta(hours=1), 20, 1000)
            proven.forget_gone()
        elif point is not FaultPoint.REMOVAL_HELD:
            restore_day(proven.tiers, proven.tables[0], DAY)
            assert (proven.where, proven.tags()) == ((40, 0, 40), []), point
        if point is FaultPoint.DROP_RECORDED or point in AFTER_DROP:
            assert proven.states(OLD)["20260304"] == "held"


def test_a_return_may_die_anywhere_and_a_ttl_has_to_be_far(proven):
    for point in (FaultPoint.RETURN_RECORDED, FaultPoint.RETURNED):
        assert proven.states(OLD)["20260304"] == "held"
        fault_points.arm(Faults([Fault(point, Kind.RAISE, f"k2.{proven.storage}")], None))
        with pytest.raises(InjectedFault):
            restore_day(proven.tiers, proven.tables[0], DAY)
        fault_points.arm(None)
        assert sum(proven.where[:2]) == 40, point
        proven.late()
        proven.remove()
        assert proven.where == (43, 0, 40), point
        proven.workbench.sql(
            f"ALTER TABLE {proven.storage} DELETE WHERE sequence >= 1000000 SETTINGS mutations_sync = 2"
        )

    def set_ttl(days):
        proven.workbench.sql(
            f"ALTER TABLE {proven.storage} MODIFY TTL toDateTime(at) + INTERVAL {days} DAY "
            "SETTINGS materialize_ttl_after_modify = 0"
        )

    proven.workbench.sql(f"SYSTEM STOP TTL MERGES {proven.storage}")
    assert count_days(proven.tiers, proven.tables[0]).kept.whole_since is not None
    set_ttl(10**4)
    assert check_retention(proven.tiers, proven.tables[0]) is None
    proven.workbench.sql(
        f"ALTER TABLE {proven.storage} MODIFY COLUMN note TTL toDateTime(at) + INTERVAL 10000 DAY "
        "SETTINGS materialize_ttl_after_modify = 0"
    )
    assert count_days(proven.tiers, proven.tables[0]).kept.whole_since is None
    proven.workbench.sql(check_retention(proven.tiers, proven.tables[0]).split("`")[1])
    assert check_retention(proven.tiers, proven.tables[0]) is None
    set_ttl(11)
    assert count_days(proven.tiers, proven.tables[0]).kept.whole_since is None
    assert HoldingTable(proven.tiers, f"k2.{proven.storage}").read().whole_since is not None, "nobody has planned yet"
    with pytest.raises(ExpiredRows):
        proven.cycle.plan(proven.tables[0])
    proven.workbench.sql(f"ALTER TABLE {proven.storage} REMOVE TTL")
    with pytest.raises(ExpiredRows):
        proven.cycle.plan(proven.tables[0])
    assert HoldingTable(proven.tiers, f"k2.{proven.storage}").read().whole_since is None, "it is not forgotten"
    set_ttl(11)
    problem = check_retention(proven.tiers, proven.tables[0])
    assert "an outage may lose them" in problem
    assert proven.remove(OLD).problems == [f"{problem}. Nothing was dropped and no row is lost."]
    assert proven.where == (40, 0, 40)


def test_a_cold_table_that_was_rolled_back_keeps_all_days(workbench, proven):
    first = proven.cold().metadata.snapshots[0].snapshot_id
    assert proven.states(OLD)["20260304"] == "held"
    proven.cold().manage_snapshots().rollback_to_snapshot(first).commit()
    [problem] = proven.remove(OLD + timedelta(days=9)).problems
    assert "it is held" in problem
    assert "was not dropped" in problem
    assert "main was rolled back below the sealed snapshot" in problem
    assert f"`k2 retention {proven.storage} --restore {DAY}`" in problem
    with pytest.raises(ExpiredRows, match=f"is still held: first, `k2 retention {proven.storage} --restore {DAY}`"):
        proven.cycle.plan(proven.tables[0])
    restore_day(proven.tiers, proven.tables[0], DAY)
    assert proven.where[:2] == (40, 0)
    [problem] = proven.remove().problems
    assert "main was rolled back below the sealed snapshot" in problem
    assert proven.where[:2] == (40, 0), "it does not go again"
    with pytest.raises(OffloadError, match="nothing to bring back"):
        restore_day(proven.tiers, proven.tables[0], DAY)

    workbench.cold_catalog.drop_table(f"cold.{proven.storage}")
    assert "cold table" in proven.remove().problems[0]
    proven.tiers.catalog.create(proven.tables[0], proven.tiers.clickhouse.columns(proven.tables[0]))
    assert proven.remove().states[0].reason == f"{DAY} is not sealed in {proven.storage}", "made anew"


def test_a_partition_that_spans_days_waits_for_all(workbench):
    storage = f"{workbench.name}_monthly"
    workbench.sql(
        f"CREATE TABLE {storage} (at DateTime64(6, 'UTC'), sequence UInt64, symbol String, price Decimal(38, 18), "
        "note Nullable(String)) ENGINE = MergeTree PARTITION BY toYYYYMM(at) ORDER BY (symbol, at)"
    )
    proven = Proven(workbench, storage)
    assert proven.seal(SEALED) == [40]
    proven.states()
    old = NOON + timedelta(days=9)
    [waits] = proven.remove(old).states
    assert (waits.state, waits.reason) == ("waits", f"2026-03-05 is not sealed in {storage}")
    proven.insert(NOON + timedelta(days=3), 20, 9000)
    proven.move(NOON + timedelta(days=3, hours=1))
    assert proven.seal(old) == [20], "an old day is whole as long as nothing was removed"
    [waits] = proven.remove(NOON + timedelta(days=20)).states
    assert waits.reason == f"2026-03-07 is not sealed in {storage}", "the last day of a silent source"
    workbench.sql(f"ALTER TABLE {storage} DELETE WHERE at >= '2026-03-07 00:00:00' SETTINGS mutations_sync = 2")
    assert proven.states() == {"202603": "held"}
    assert proven.states(NOON + timedelta(days=24)) == {"202603": "dropped"}


VIEW = "CREATE VIEW {name} AS SELECT at, sequence, symbol, price, note FROM {storage} WHERE {condition}"


CANDLES = {
    "timestamp_column": "until", "partition_column": "at", "sequence_column": None,
    "key_columns": "[symbol, at]", "version_column": "trades",
}  # fmt: skip


class Candles(Proven):
    """Candles of two lengths in one storage whose rows merge."""

    def insert(self, at, count, sequence):  # noqa: ARG002
        self.workbench.sql(
            f"INSERT INTO {self.storage} SELECT seconds, "
            "toDateTime64(intDiv(toUnixTimestamp(time), seconds) * seconds, 6, 'UTC') AS at, "
            f"at + toIntervalSecond(seconds) AS until, 'BTC', 1 FROM (SELECT arrayJoin([60, 3600]) AS seconds, "
            f"toDateTime64('{at:%Y-%m-%d %H:%M:%S}', 6, 'UTC') + intDiv(number, 2) * 60 AS time FROM numbers({count}))"
        )


def test_candles_go_when_all_lengths_are_sealed(workbench):
    storage = f"{workbench.name}_candles"
    workbench.sql(
        f"CREATE TABLE {storage} (seconds UInt32, at DateTime64(6, 'UTC'), until DateTime64(6, 'UTC'), symbol String, "
        "trades SimpleAggregateFunction(sum, UInt64)) ENGINE = AggregatingMergeTree PARTITION BY toDate(at) "
        "ORDER BY (seconds, at, until, symbol)"
    )
    workbench.sql(f"SYSTEM STOP MERGES {storage}")
    views = [f"{storage}_{seconds}" for seconds in (60, 3600)]
    for name in views:
        workbench.sql(
            f"CREATE VIEW {name} AS SELECT at, until, symbol, sum(stored.trades)::UInt64 AS trades "
            f"FROM {storage} AS stored WHERE seconds = {name.rpartition('_')[2]} GROUP BY at, until, symbol"
        )
    proven = Candles(workbench, storage, views, last=44, **CANDLES)
    later = OLD + timedelta(days=1)
    proven.remove(NOON + timedelta(hours=46))
    list(reconcile(proven.tiers, proven.tables))
    assert [seal.rows for seal in seal_days(proven.tiers, proven.tables[:1]).seals] == [20]
    assert proven.remove(later).states[0].reason == f"{DAY} is not sealed in {views[1]}", "half sealed"
    assert proven.seal() == [2]
    proven.at(FaultPoint.REMOVAL_MOVED, proven.late)
    assert proven.states(later)["20260304"] == "moved back"
    fault_points.arm(None)
    assert sorted(proven.seal(later)) == [2, 22]

    of_day = f"WHERE active AND table = '{storage}' AND partition_id = '20260304'"
    [(before,)] = workbench.sql(f"SELECT sum(rows) FROM system.parts {of_day}")

    def merge():
        workbench.sql(f"SYSTEM START MERGES {storage}")
        workbench.sql(f"OPTIMIZE TABLE {storage} PARTITION ID '20260304' FINAL")

    proven.at(FaultPoint.REMOVAL_TAGGED, merge)
    assert proven.states()["20260304"] == "moved back", "no day is gone that has fewer rows for as many candles"
    fault_points.arm(None)
    assert [(24,)] == workbench.sql(f"SELECT sum(rows) FROM system.parts {of_day}") != [(before,)]
    assert HoldingTable(proven.tiers, f"k2.{storage}").read().gone == {}
    assert proven.day().whole
    assert proven.states()["20260304"] == "held"
    assert proven.states(later + timedelta(days=3))["20260304"] == "dropped"
    proven.late()
    assert proven.day().obstacle() == "the warm tier may no longer hold the day as a whole"
    assert proven.where[2:] == (22, 2)


def test_rows_that_no_table_shows_keep_their_partition(workbench):
    storage = workbench.create_trades()
    view = f"{storage}_btc"
    workbench.sql(VIEW.format(name=view, storage=storage, condition="symbol = 'BTC/USDT'"))
    proven = Proven(workbench, storage, [view])
    assert proven.seal(SEALED) == [20]
    [waits, _] = proven.remove(OLD).states
    assert waits.reason == "the tables that read it do not show all of its rows"
    other = workbench.cycle(workbench.spec(view, **RETENTION), workbench.spec(storage), now=OLD)
    [problem] = remove_proven(other.tiers, [other.tables[view]]).problems
    assert problem.startswith(f"{storage}: it reads k2.{storage}, too, and 'retention: proven' is not set for it")
    assert check_retention(other.tiers, other.tables[view]) in problem


@pytest.mark.parametrize(
    ("shown", "sealed", "reason"),
    [
        ("at, sequence, symbol, price, note FROM {} WHERE symbol = 'BTC/USDT'", [20, 40], None),
        ("taken_at AS at, sequence, symbol, price, note FROM {}", [40], "shows 40 rows of it as of other days"),
    ],
    ids=["less", "as of other days"],
)
def test_a_view_beside_its_storage_shows_rows_as_of_their_days(workbench, shown, sealed, reason):
    """It may show less of them; as of another day, they would go before they are moved."""
    storage = workbench.create_trades(extra=", taken_at DateTime64(6, 'UTC') DEFAULT at + INTERVAL 1 DAY")
    workbench.sql(f"CREATE VIEW {storage}_v AS SELECT {shown.format(storage)}")
    proven = Proven(workbench, storage, [storage, f"{storage}_v"])
    assert sorted(proven.seal(SEALED)) == sealed
    for _ in range(5):
        state = proven.remove(OLD).states[0]
    assert state.state == ("held" if reason is None else "waits")
    assert (reason or "until") in state.reason
    assert proven.where[:2] == ((0, 40) if reason is None else (40, 0))


def test_days_of_another_time_zone_are_told(workbench):
    storage = f"{workbench.name}_local"
    workbench.sql(
        f"CREATE TABLE {storage} (at DateTime64(6, 'Europe/Berlin'), sequence UInt64, symbol String, "
        "price Decimal(38, 18), note Nullable(String)) ENGINE = MergeTree PARTITION BY toDate(at) ORDER BY (symbol, at)"
    )
    proven = Proven(workbench, storage)
    assert check_retention(proven.tiers, proven.tables[0]) is None
    proven.insert(NOON + timedelta(hours=11.5), 20, 10**6)
    problem = check_retention(proven.tiers, proven.tables[0])
    assert f"{storage}: rows of {DAY} lie in partitions 20260304 and 20260305 of k2.{storage}" in problem
    assert proven.remove(OLD).problems == [f"{problem}. Nothing was dropped and no row is lost."]
    assert proven.where == (60, 0, 40)


def test_a_day_waits_for_what_people_and_views_do_to_it(workbench, proven):
    storage, holding = proven.storage, f"{proven.storage}_k2_holding"
    workbench.sql(f"ALTER TABLE {holding} ATTACH PARTITION ID '20260304' FROM {storage}")
    done = proven.remove(OLD)
    assert [state.partition_id for state in done.states] == ["20260305"]
    assert f"{holding}: partition 20260304 is not on record, and k2.{storage} has rows of it" in done.problems[0]
    with pytest.raises(OffloadError, match="partition 20260304, which are not on record"):
        restore_day(proven.tiers, proven.tables[0], DAY)
    assert proven.where == (40, 40, 40), "40 rows twice are not 80"
    workbench.sql(f"ALTER TABLE {holding} DROP PARTITION ID '20260304'")

    midnight = datetime(2026, 3, 4, tzinfo=UTC)
    view = ViewState(storage, "uuid", "at", midnight, 1, "file", OLD + timedelta(hours=1))
    workbench.sql(f"CREATE VIEW {storage}_both AS SELECT 1 COMMENT {literal(view.comment)}")
    assert "over both tiers reads days from 2026-03-04 on from ClickHouse" in proven.remove().states[0].reason
    workbench.sql(f"DROP VIEW {storage}_both")

    delete = f"ALTER TABLE {storage} DELETE WHERE sequence = 10000000 SETTINGS mutations_sync = 2"
    proven.at(FaultPoint.REMOVAL_TAGGED, lambda: workbench.sql(delete))
    assert "a mutation has just been given: mutation_" in proven.remove().states[0].reason
    assert (proven.where, proven.tags()) == ((40, 0, 40), [])
    proven.at(FaultPoint.REMOVAL_MOVED, lambda: workbench.sql(delete))
    done = proven.remove()
    assert (done.states[0].state, proven.where, proven.tags()) == ("moved back", (40, 0, 40), [])
    assert "does not any more: mutation_" in done.problems[0]
    fault_points.arm(None)
    assert proven.states()["20260304"] == "held"

    by_clock = replace(proven.tables[0], retention="ttl", warm_retention_days=30)
    assert count_days(proven.tiers, by_clock).kept.is_gone(DAY), "whatever the table file says now"
    look = remove_proven(proven.tiers, [by_clock], dry_run=True)
    assert look.problems == [check_retention(proven.tiers, by_clock)]
    assert [(state.partition_id, state.state, state.rows) for state in look.states] == [("20260304", "held", 40)]
    workbench.sql(f"ALTER TABLE {holding} DROP PARTITION ID '20260304'")
    done = proven.remove()
    assert ([state.state for state in done.states], proven.tags()) == (["gone", "waits"], [])
    assert "no run has dropped it. Its seals were verified" in done.problems[0]
    assert not proven.day().whole


def test_an_outage_longer_than_the_retention_loses_nothing(workbench, proven):
    proven.insert(NOON + timedelta(days=2), 20, 5000)
    proven.now = NOON + timedelta(days=60)
    proven.insert(proven.now - timedelta(hours=1), 20, 6000)
    proven.late()
    for _ in range(2):
        proven.move(proven.now)
    assert set(proven.seal(proven.now)) == {43, 20}
    proven.states(proven.now)
    done = proven.states(proven.now + timedelta(days=3))
    assert {day for day, state in done.items() if state == "dropped"} == {"20260304", "20260305", "20260306"}
    assert sum(workbench.cold_rows(proven.storage).values()) == 103
    assert sum(workbench.warm_rows(proven.storage).values()) == 20

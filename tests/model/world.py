"""All services together, the runs that work on them, and what must be true of the cold tables at any moment."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from itertools import count

from k2_offload.adapters.ledger import Ledger
from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.backfill import BackfillId
from k2_offload.core.day_comparison import CONTENT_EVERY, day_window, first_whole_day
from k2_offload.core.errors import AuditFailed, DamagedTable, OffloadError, StaleWindow, Unreachable
from k2_offload.core.exactly_once import (
    BACKFILL_PROPERTY,
    FIRST_WATERMARK,
    LEDGER_PROPERTY,
    SKIPPED_PROPERTY,
    WindowId,
)
from k2_offload.core.gaps import soon_expired
from k2_offload.core.heal import HealId
from k2_offload.core.job_connections import JobConnections
from k2_offload.core.maintenance_plan import PlannedMaintenance
from k2_offload.core.plan import PlannedBackfill, PlannedHeal, PlannedWindow
from k2_offload.core.skips import Skips
from k2_offload.core.tables import LAYERS, Tables, TableSpec
from k2_offload.core.windows import TICK, Window, from_micros, to_micros
from k2_offload.work.accept import accept_missed, find_missed
from k2_offload.work.backfill import find_left_out, plan_backfills
from k2_offload.work.reconcile import reconcile
from k2_offload.work.tiers import Tiers
from k2_offload.work.watermarks import accept as rebuild
from k2_offload.work.watermarks import find_skip, read_cold_table, skip
from offload_job import backfill as filling
from offload_job import heal as healing
from offload_job import move as job
from offload_job.maintenance.rewrite import OldFiles, rewrite_days
from offload_job.swap import Swap
from offload_job.transports.export import ExportTransport
from tests.model.actors import Actor
from tests.model.clickhouse import Row, Server, SimulatedClickHouse
from tests.model.iceberg import (
    SIMULATED_JVM,
    Lakehouse,
    SimulatedCatalog,
    SimulatedColdTable,
    SimulatedRewriter,
    SimulatedSnapshot,
    SimulatedTasks,
)
from tests.model.ledger import Entry, Postgres, Seals, TableRow
from tests.support import Cycle

EXCHANGES = ("bronze_a", "bronze_b")
CANDLES = {"candles_1m": 1, "candles_5m": 5}
START = datetime(2026, 3, 4, 23, 30, tzinfo=UTC)  # the model's runs go past midnight, into another partition
SHORT, LONG = timedelta(hours=2), timedelta(hours=40)
"""How long ClickHouse keeps rows: the TTL is at work, or whole days can be compared."""
_ATTEMPTS = 2

TABLES = parse_tables(
    textwrap.dedent(
        """
        defaults: {max_window_rows: 40, max_file_rows: 15, parallel_exports: 1}
        tables:
          bronze_a: &trades {layer: bronze, source: k2.bronze_a, target: cold.bronze_a, timestamp_column: at}
          bronze_b: {<<: *trades, source: k2.bronze_b, target: cold.bronze_b}
          silver: {<<: *trades, layer: silver, source: k2.silver, target: cold.silver}
          candles_1m: &candles
            {<<: *trades, layer: gold, source: k2.candles_1m, target: cold.candles_1m, partition_column: starts,
             key_columns: [starts], version_column: trades}
          candles_5m: {<<: *candles, source: k2.candles_5m, target: cold.candles_5m}
        """
    )
)
BUFFER = TABLES["silver"].buffer
IDLE_AFTER = TABLES["silver"].idle_after
OUT_OF_ORDER = TABLES["silver"].out_of_order
_PLANNED_REWRITES = {
    table.name: PlannedMaintenance(
        table=table.name,
        target=table.target,
        table_uuid="",
        partition_column=table.partition_column,
        sort_columns=(),
        target_file_bytes=table.target_file_bytes,
        closed_before=START,
        expire_before=START,
        orphans_before=START,
    )
    for table in TABLES.by_name.values()
}


class World:
    """:param elsewhere: the ledger of another deployment, which works on the same cold tables
    :param bronze_of: trade → its bronze table
    :param tables: as the table file says at the moment
    :param begun: table → when its first window was planned
    :param gaps: table → what somebody has accepted, also if the ledger that has it on record was lost since
    :param future: trades that came with a time that is still to come, and say nothing about their feed
    :param fillable: backfill → rows that were there each time it was planned
    :param late: table → trades that came below what the table may have moved already, so that it owes nothing for them
    :param altered: table → days in which another writer has put other rows into the place of what was moved
    """

    def __init__(self, retention: timedelta = SHORT) -> None:
        self.now = START
        self.keep_for(retention)
        self.future: set[int] = set()
        self.begun: dict[str, datetime] = {}
        self.gaps: dict[str, list[Window]] = {name: [] for name in TABLES.by_name}
        self.clickhouse = Server(lambda: self.now)
        self.postgres = Postgres()
        self.elsewhere = Postgres("another's")
        self.lakehouse = Lakehouse(lambda: self.now, self.clickhouse)
        self.actors: list[Actor] = []
        self.bronze_of: dict[int, str] = {}
        self.newest: dict[str, datetime] = {}
        self.late: dict[str, set[int]] = {name: set() for name in TABLES.by_name}
        self.altered: dict[str, set[date]] = {name: set() for name in TABLES.by_name}
        self.trades: dict[int, Row] = {}
        self.fillable: dict[str, set[int]] = {}
        self._ids = count(1)
        self._attempts = count(1)
        self._checked: dict[str, tuple[int | None, int]] = {}
        self._floors: dict[tuple[str, str], datetime] = {}
        self._skips: dict[str, tuple[int | None, Skips]] = {}
        self._last_head: dict[str, int | None] = {}
        self._followed: dict[tuple[Postgres, str], TableRow] = {}
        self._checked_files: set[int] = set()

    def begin_at_the_front(self) -> None:
        """New tables leave what lies behind to backfills."""
        specs = self.tables.by_name.items()
        self.tables = Tables({name: replace(spec, history="backfill") for name, spec in specs})

    def keep_for(self, retention: timedelta) -> None:
        """The model lives for hours; a table file has whole days."""
        self.retention = retention
        days = retention / timedelta(days=1)
        self.tables = Tables({name: replace(spec, warm_retention_days=days) for name, spec in TABLES.by_name.items()})

    # What happens outside of the offload.

    def trade(self, bronze: str, at: datetime) -> None:
        """One trade comes in, and is in all tables at once."""
        row = Row(next(self._ids), to_micros(at), to_micros(at))
        if at < self.now - BUFFER:
            for table in (bronze, "silver"):
                if at < max(self._may_have_moved(table, bronze), self.now - self.retention / 2):
                    self.late[table].add(row.id)
        if at <= self.now:
            self._wake(bronze)
            self.newest[bronze] = max(at, self.newest.get(bronze, at))
        else:
            self.future.add(row.id)
        self.bronze_of[row.id] = bronze
        self.trades[row.id] = row
        self.clickhouse.add(bronze, row)
        self.clickhouse.add("silver", row)
        for candles, minutes in CANDLES.items():
            self.clickhouse.add_to_candle(candles, minutes, row)

    def _may_have_moved(self, table: str, bronze: str) -> datetime:
        """Up to where a table may have been moved, as far as a stall of the exchange allows it."""
        newest = self.newest.get(bronze)
        if newest is None or self.now - newest > IDLE_AFTER:
            end = newest + TICK if newest else FIRST_WATERMARK
            return end if table == bronze else self.now - BUFFER
        return max(newest - OUT_OF_ORDER, self._floors.get((table, bronze), FIRST_WATERMARK))

    def _wake(self, bronze: str) -> None:
        """After a long silence, what was moved meanwhile stays moved."""
        for table in (bronze, "silver"):
            newest = self.newest.get(bronze)
            if newest is None or self.now - newest > IDLE_AFTER:
                self._floors[table, bronze] = self._may_have_moved(table, bronze)

    def expire_warm_rows(self) -> None:
        """The TTL: it takes rows that some table has not moved as well."""
        for name in self.clickhouse.tables:
            before = set(self.clickhouse.tables[name])
            self.clickhouse.drop_before(name, to_micros(self.now - self.retention))
            if self.watermark(name) == FIRST_WATERMARK:  # nobody has ever looked: what was there is nobody's loss
                self.late[name] |= self._trades_of(name, before - set(self.clickhouse.tables[name]))

    def expire_snapshots(self, name: str, older_than: datetime, *, clear_parents: bool) -> None:
        """As Iceberg does it, and nobody else looks."""
        self.lakehouse.expire(f"cold.{name}", older_than, clear_parents=clear_parents)

    def _trades_of(self, name: str, holders: set[int]) -> set[int]:
        if name not in CANDLES:
            return holders
        length = CANDLES[name] * 60_000_000
        return {trade.id for trade in self.trades.values() if trade.at // length * length in holders}

    def accept(self, name: str) -> None:
        """Somebody looks why a table stops, and lets it go on."""
        tiers = self.cycle().tiers
        with suppress(OffloadError):
            if "another deployment" in (self.postgres.entries.get(name, Entry()).row.reason or ""):
                rebuild(tiers, self.tables[name], read_cold_table(tiers, self.tables[name]))
                self._followed.pop((self.postgres, name), None)
            missed = find_missed(tiers, self.tables[name])
            accept_missed(tiers, self.tables[name], missed)
            self.gaps[name] += [each.gap.window for each in missed]

    def delete_from_open_window(self, name: str) -> bool:
        """Somebody deletes the first rows of the window that is open, so that one is left fewer than were planned.

        :returns: whether there was such a window, large enough to be made smaller
        """
        entry = self.postgres.entries.get(name, Entry())
        for window in (entry.windows[each] for each in entry.open_windows):
            if window.low == self.watermark(name) and window.rows > 2:
                low, high = to_micros(window.low), to_micros(window.high)
                rows = self.clickhouse.tables[name]
                inside = sorted((row.at, row.id) for row in rows.values() if low <= row.at < high)
                for _, row_id in inside[: len(inside) - window.rows + 1]:
                    del rows[row_id]
                self.clickhouse.versions[name] += 1
                return True
        return False

    @contextmanager
    def losing_a_trade(self, name: str) -> Iterator[None]:
        """Meanwhile a candle that was moved is made of fewer trades in the warm tier.

        It is put back afterwards: with a late trade it would have as many as the cold one, and no count would tell.
        """
        warm, cold = self.clickhouse.tables.get(name, {}), self.cold(name)
        candles = [warm[start] for start in warm.keys() & cold.keys() if warm[start] == cold[start]]
        before = max((each for each in candles if len(each.made_of) > 1), key=lambda each: each.id, default=None)
        if before is not None:
            self.clickhouse.add(name, replace(before, made_of=before.made_of - {min(before.made_of)}))
        yield
        if before is not None:
            self.clickhouse.add(name, before)

    def restore_ledger(self, backup: tuple[dict[str, Entry], Seals]) -> None:
        """From :meth:`Postgres.copy`."""
        self.postgres.restore(backup)

    def edit_partitions(self, name: str) -> None:
        """Somebody edits the table file, or puts it back."""
        before = self.tables[name]
        other = {"at": "starts", "starts": "at"}[before.partition_column]
        self.tables = Tables({**self.tables.by_name, name: replace(before, partition_column=other)})

    # The offload.

    def begin(self, layer: str, clock_off: timedelta = timedelta(0)) -> Actor:
        """One run of a layer's DAG, which stops before its first input or output."""
        actor = Actor(layer, partial(self._run, layer, clock_off))
        self.actors.append(actor)
        return actor

    def begin_elsewhere(self, layer: str) -> Actor:
        """The same of another deployment; that it has the same ClickHouse says nothing of whom a ledger follows."""
        actor = Actor(f"{layer} elsewhere", partial(self._run, layer, timedelta(0), self.elsewhere))
        self.actors.append(actor)
        return actor

    def running(self, layer: str | None = None) -> list[Actor]:
        self.actors = [actor for actor in self.actors if not actor.dead]
        return [actor for actor in self.actors if layer in (None, actor.name)]

    def cycle(self, clock_off: timedelta = timedelta(0), postgres: Postgres | None = None) -> Cycle:
        """What the tasks of one run work with."""
        tiers = Tiers(
            self.tables,
            Ledger((postgres or self.postgres).connect, "ledger"),
            SimulatedClickHouse(self.clickhouse),
            SimulatedCatalog(self.lakehouse),
            "lake",
            now=lambda: self.now + clock_off,
        )
        return Cycle(tiers, "model")

    def _run(self, layer: str, clock_off: timedelta, postgres: Postgres | None = None) -> None:
        cycle = self.cycle(clock_off, postgres)
        planned, upstream_watermarks = [], {}
        for table in self.tables.in_layer(layer):
            try:
                planned.append(_with_retries(partial(cycle.plan, table, upstream_watermarks)))
            except Unreachable:
                return
            except OffloadError as error:
                with suppress(OffloadError):
                    cycle.mark_failed(table, str(error))
        for entry in planned:
            if entry is not None:
                with suppress(OffloadError):
                    _with_retries(partial(self._move, entry))
        for table in self.tables.in_layer(layer):
            with suppress(OffloadError):
                _with_retries(partial(cycle.commit, table))

    def _move(self, planned: PlannedWindow) -> None:
        window_id = WindowId.parse(planned.window_id)
        job.move(
            planned,
            window_id,
            SimulatedColdTable(self.lakehouse, planned.target, planned.table),
            SimulatedClickHouse(self.clickhouse),
            ExportTransport(JobConnections(None, None, "lake"), "local"),
            lambda: f"attempt-{next(self._attempts)}",
        )

    def begin_heal(self) -> Actor:
        """One run of the DAG that compares and heals."""
        actor = Actor("heal", self._heal)
        self.actors.append(actor)
        return actor

    def _heal(self) -> None:
        tiers = self.cycle().tiers
        found = []
        with suppress(Unreachable):
            found = list(reconcile(tiers, list(self.tables.by_name.values())))
        assert not [problem for each in found for problem in each.problems if "unexpected" in problem]
        for planned in (heal for each in found for heal in each.heals):
            with suppress(OffloadError):
                _with_retries(partial(self._heal_day, planned))

    def _heal_day(self, planned: PlannedHeal) -> None:
        heal_id = HealId.parse(planned.heal_id)
        cold = SimulatedColdTable(self.lakehouse, planned.target, planned.table)
        healing.heal(
            planned,
            heal_id,
            cold,
            Swap(SIMULATED_JVM, cold, planned.table, planned.partition_column, [heal_id.day]),
            SimulatedClickHouse(self.clickhouse),
            ExportTransport(JobConnections(None, None, "lake"), "local"),
            "lake",
            lambda: f"attempt-{next(self._attempts)}",
        )

    def begin_skip(self, table: str, ago: timedelta) -> Actor:
        """Somebody lets a table go on at a later time."""
        actor = Actor("skip", partial(self._skip, table, self.now - ago))
        self.actors.append(actor)
        return actor

    def _skip(self, table: str, time: datetime) -> None:
        tiers = self.cycle().tiers
        with suppress(OffloadError):
            spec = self.tables[table]
            skip(tiers, spec, find_skip(tiers, spec, time))

    def begin_backfill(self, table: str, max_rows: int = 8, *, newest_first: bool = False) -> Actor:
        """One run of the DAG that brings what was skipped, for one table."""
        actor = Actor("backfill", partial(self._backfill, table, max_rows, newest_first))
        self.actors.append(actor)
        return actor

    def _backfill(self, table: str, max_rows: int, newest_first: bool) -> None:
        tiers = self.cycle().tiers
        with suppress(OffloadError):
            found = find_left_out(tiers, self.tables[table])
            for planned in plan_backfills(tiers, found, max_rows, newest_first=newest_first, accept_fewer=True):
                window = BackfillId.parse(planned.backfill_id).window
                low, high = to_micros(window.low), to_micros(window.high)
                rows = {row.id for row in self.clickhouse.tables.get(table, {}).values() if low <= row.at < high}
                rows &= self.fillable.setdefault(planned.backfill_id, rows)
                self.fillable[planned.backfill_id] = rows
                with suppress(StaleWindow):
                    _with_retries(partial(self._fill, planned))

    def _fill(self, planned: PlannedBackfill) -> None:
        cold = SimulatedColdTable(self.lakehouse, planned.target, planned.table)
        filling.backfill(
            planned,
            BackfillId.parse(planned.backfill_id),
            cold,
            SimulatedClickHouse(self.clickhouse),
            ExportTransport(JobConnections(None, None, "lake"), "local"),
            lambda: f"attempt-{next(self._attempts)}",
        )

    def begin_rewrite(self, table: str, *, together: bool = True) -> Actor:
        """What maintenance does to the files of each day of one table.

        :param together: whether all days are one commit, or each is its own
        """
        actor = Actor("rewrite", partial(self._rewrite, TABLES[table], together))
        self.actors.append(actor)
        return actor

    def _rewrite(self, table: TableSpec, together: bool) -> None:
        if not self.exists(table.name):
            return
        with suppress(OffloadError):
            cold = SimulatedColdTable(self.lakehouse, table.target, table.name)
            head = cold.java.currentSnapshot()
            days = sorted({file.day for file in head.held} if head else ())
            for group in [days] if together and days else [[day] for day in days]:
                with suppress(OffloadError):
                    tasks = SimulatedTasks([file for file in head.held if file.day in group])
                    old = OldFiles(tuple(group), tasks.files(), tasks, 1, head.snapshot_id)
                    rewrite_days(
                        _PLANNED_REWRITES[table.name], old, cold,
                        Swap(SIMULATED_JVM, cold, table.name, table.partition_column, group),
                        SimulatedRewriter(self.lakehouse, partial(next, self._attempts)),
                        lambda: f"attempt-{next(self._attempts)}",
                    )  # fmt: skip

    # What the cold tables hold.

    def exists(self, table: str) -> bool:
        return f"cold.{table}" in self.lakehouse.tables

    def head(self, table: str) -> int | None:
        return self.lakehouse.tables[f"cold.{table}"].current_snapshot_id if self.exists(table) else None

    def history(self, table: str) -> list[SimulatedSnapshot]:
        return self.lakehouse.history(f"cold.{table}") if self.exists(table) else []

    def cold(self, table: str) -> dict[int, Row]:
        return {row.id: row for row in self._cold_rows(table)}

    def watermark(self, table: str) -> datetime:
        """As the history says, expired snapshots included."""
        windows = _windows(self.history(table))
        return windows[-1].window.high if windows else FIRST_WATERMARK

    def _cold_rows(self, table: str) -> tuple[Row, ...]:
        return self.lakehouse.tables[f"cold.{table}"].rows() if self.exists(table) else ()

    # What must be true.

    def check(self) -> None:
        assert not self.lakehouse.missed, f"files that a snapshot refers to were removed: {self.lakehouse.missed}"
        for table in TABLES.by_name.values():
            for postgres in (self.postgres, self.elsewhere):
                self._check_ledger(table, postgres.entries.get(table.name, Entry()))
                self._check_followed(table.name, postgres)
            state = self.head(table.name), self.clickhouse.versions[table.name]
            if self._checked.get(table.name) != state:
                self._check_cold(table)
                self._checked[table.name] = state

    def _check_ledger(self, table: TableSpec, entry: Entry) -> None:
        if entry.windows:
            self.begun.setdefault(table.name, self.now)
        assert len(entry.open_windows) <= 1, f"{table.name}: two windows in the air"
        believed = entry.row.watermark
        if believed is not None and not entry.row.damaged:
            assert believed <= self.watermark(table.name), f"{table.name}: the ledger leads"

    def _check_followed(self, name: str, postgres: Postgres) -> None:
        """A ledger that knows a table goes on after its own windows alone, until a person says otherwise."""
        row = postgres.entries.get(name, Entry()).row
        before, self._followed[postgres, name] = self._followed.get((postgres, name), TableRow()), row
        if row is before or row.watermark is None or before.watermark is None or before.table_uuid is None:
            return
        if not row.damaged and not before.damaged and row.watermark > before.watermark:
            windows = {_window_id(each.properties.get("wap.id")): each.properties for each in self.history(name)}
            [by] = [each[LEDGER_PROPERTY] for key, each in windows.items() if key and key.window.high == row.watermark]
            assert by == postgres.ledger_id, f"{name}: a window of another deployment is followed in silence"

    def _check_cold(self, table: TableSpec) -> None:
        name, watermark = table.name, self.watermark(table.name)
        history = self.history(name)
        before, self._last_head[name] = self._last_head.get(name), self.head(name)
        assert before is None or before in [each.snapshot_id for each in history], f"{name}: main has lost a snapshot"
        low = FIRST_WATERMARK
        for window_id in _windows(history):
            assert window_id.window.low == low, f"{name}: windows with a gap or an overlap"
            low = window_id.window.high
        rows = self._cold_rows(name)
        cold = {row.id: row for row in rows}
        assert len(cold) == len(rows), f"{name}: a row stands twice"
        assert all(row.at < to_micros(watermark) for row in rows), f"{name}: a row at or above the watermark"
        self._check_partitions(name)
        self._check_skips(name, history, rows)
        for holder in self._missing(name, watermark, cold):
            assert holder in cold, f"{name}: a row is missing"
            raise AssertionError(f"{name}: a candle moved before it was complete")
        self._check_against_layer_below(name, cold)

    def _check_skips(self, name: str, history: list[SimulatedSnapshot], rows: tuple[Row, ...]) -> None:
        """The chain says what is left out, however much of it is left, and the table holds none of it."""
        expected, cold = self.skips(name), {row.id for row in rows}
        for left_out in expected.left_out:
            low, high = to_micros(left_out.low), to_micros(left_out.high)
            assert not any(low <= row.at < high for row in rows), f"{name}: a row of what is left out"
        for snapshot in history:
            if (backfill_id := snapshot.properties.get(BACKFILL_PROPERTY)) is not None:
                still_there = self.fillable[backfill_id] & self.clickhouse.tables.get(name, {}).keys()
                assert still_there <= cold, f"{name}: a row was not brought"
        with suppress(DamagedTable):
            table = self.cycle().catalog.load(TABLES[name])
            found = table.skips if table is not None else expected
            assert found == expected, f"{name}: the chain has forgotten what is left out: {found}, not {expected}"

    def _check_partitions(self, name: str) -> None:
        for snapshot in self.history(name):
            if snapshot.snapshot_id in self._checked_files:
                continue
            self._checked_files.add(snapshot.snapshot_id)
            for file in snapshot.files:
                column = self._partition_column(name)
                days = {from_micros(getattr(row, column)).date() for row in file.rows}
                assert days <= {file.day}, f"{name}: rows in a partition where nobody looks for them"

    def _partition_column(self, name: str) -> str:
        """As readers are told."""
        [field] = self.lakehouse.tables[f"cold.{name}"].partition_spec.fields
        return field.name.removesuffix("_day")

    def _gone(self, name: str, micros: int) -> bool:
        """Whether it is on record that rows of that time may be missing."""
        if name in self.begun and micros < to_micros(soon_expired(self.begun[name], self.retention)):
            return True  # it was as good as gone before anybody looked
        return any(_within(window, micros) for window in (*self.gaps[name], *self.skips(name).left_out))

    def skips(self, name: str) -> Skips:
        """As the snapshots there ever were say one after the other, expired ones included."""
        head = self.head(name)
        if name not in self._skips or self._skips[name][0] != head:
            self._skips[name] = head, _skips(self.history(name))
        return self._skips[name][1]

    def _skipped(self, name: str, trade: Row) -> bool:
        """Whether a trade was ever left out of a table, or of one that this is made of: those may run ahead then."""
        below = [self.bronze_of[trade.id]] if name not in EXCHANGES else []
        below += ["silver"] if name in CANDLES else []
        at = trade.at
        if name in CANDLES:
            length = CANDLES[name] * 60_000_000
            at = at // length * length + length
        ever = [(name, at), *((each, trade.at) for each in below)]
        return any(
            _within(window, micros)
            for each, micros in ever
            for skips in [self.skips(each)]
            for window in (*skips.left_out, *skips.filled)
        )

    def _missing(self, name: str, watermark: datetime, cold: dict[int, Row]) -> Iterator[int]:
        """Rows that stand for trades which came in time and lie below the watermark, and are not there or lack them."""
        below, late, length = to_micros(watermark), self.late[name], CANDLES.get(name, 0) * 60_000_000
        if length:
            late = late | self.late["silver"]
        for trade_id in self.trades.keys() - self._trades_in(name, cold) - late:
            trade = self.trades[trade_id]
            start = trade.at // length * length if length else trade.at
            if (
                (name not in EXCHANGES or self.bronze_of[trade_id] == name)
                and start + length < below
                and not self._gone(name, start + length)
                and not self._skipped(name, trade)
            ):
                yield start if length else trade_id

    def _trades_in(self, name: str, cold: dict[int, Row]) -> set[int]:
        return set().union(*(row.made_of for row in cold.values())) if name in CANDLES else set(cold)

    def _check_against_layer_below(self, name: str, cold: dict[int, Row]) -> None:
        if name in EXCHANGES:
            return
        below = ["silver"] if name in CANDLES else EXCHANGES
        not_below = self._trades_in(name, cold).difference(self.late["silver"], *(self.cold(each) for each in below))
        for trade_id in not_below & self.trades.keys():
            assert self._gone_below(name, self.trades[trade_id]), f"{name} holds a trade that is not below it yet"

    def _gone_below(self, name: str, trade: Row) -> bool:
        below = "silver" if name in CANDLES else self.bronze_of[trade.id]
        return self._skipped(name, trade) or self._gone(below, trade.at) or trade.id in self.late[below]

    def settle(self, *, zombies_wake: bool) -> None:
        """With nothing going wrong any more, all that came in time moves.

        :param zombies_wake: whether runs that are paused go on, or are never heard of again
        """
        if not zombies_wake:
            for actor in self.running():
                actor.crash()
        for _ in range(40):
            paused = self.running()
            for actor in paused:
                actor.proceed()
                self.check()
            if not paused:
                break
        assert not self.running(), "two runs wait for each other"
        self.clickhouse.losses = self.clickhouse.lagging = 0
        for name in TABLES.by_name:
            if self.exists(name) and self.tables[name].partition_column != self._partition_column(name):
                self.edit_partitions(name)
        self._run_until_nothing_moves()
        for name in EXCHANGES:
            self._check_moved(name, min(self.now - BUFFER, self.newest.get(name, self.now) - OUT_OF_ORDER))
        self.now += timedelta(hours=2)
        self._run_until_nothing_moves()
        for name in TABLES.by_name:
            self._check_moved(name, self.now - BUFFER)
        for name in TABLES.by_name:
            self._check_filled(name)
        if self.retention == LONG:
            self.check_healed()

    def _check_filled(self, name: str) -> None:
        """With nothing going wrong, all that was skipped is brought."""
        if not self.exists(name) or self.head(name) is None:
            return
        self.begin_backfill(name).proceed()
        self.check()
        assert not self.skips(name).left_out, f"{name}: something is left out for ever"

    def _run_until_nothing_moves(self) -> None:
        quiet = 0  # rounds: what one has refused, somebody accepts in the next
        for _ in range(60):
            before = [self.head(name) for name in TABLES.by_name]
            for layer in LAYERS:
                for table in TABLES.in_layer(layer):
                    self.accept(table.name)
                actor = self.begin(layer)
                actor.proceed()
                assert actor.dead
                self.check()
            quiet = quiet + 1 if before == [self.head(name) for name in TABLES.by_name] else 0
            if quiet == 2:
                return
        raise AssertionError("the tables never come to rest")

    def check_healed(self) -> None:
        """With nothing going wrong, a heal makes the cold tier equal to the warm one, late rows and candles too.

        Of days, that is, that the warm tier still holds as a whole, of which nothing is on record as missed, and of
        which the cold tier has no row that the warm one has lost, or never had. Candles that a skip (of theirs, or of
        their trades) has let run ahead, and of which no count tells, are healed a day later, when contents are compared
        again.
        """
        self.begin_heal().proceed()
        self.check()
        for name, day in self._unhealed():
            warm, cold = ([row for row in rows.values() if self._day(name, row) == day] for rows in self._both(name))
            low, high = day_window(day - CONTENT_EVERY).low, day_window(day + CONTENT_EVERY).high
            all_skips = [each for table in TABLES.by_name for each in self.skips(table).all]
            skipped = any(each.low < high and low < each.high for each in all_skips)
            ran_ahead = skipped and all(row.made_of for row in warm)
            assert ran_ahead, f"{name}: a late row was not healed"
            assert len(warm) == len(cold), f"{name}: a late row was not healed"
        self.now += CONTENT_EVERY
        self.begin_heal().proceed()
        self.check()
        assert not self._unhealed(), "a day that differs was not healed a day later"

    def _both(self, name: str) -> tuple[dict[int, Row], dict[int, Row]]:
        """What both tiers hold below the watermark."""
        below = to_micros(self.watermark(name))
        warm = self.clickhouse.tables.get(name, {})
        return {key: row for key, row in warm.items() if row.at < below}, self.cold(name)

    def _unhealed(self) -> list[tuple[str, date]]:
        """Days of which the cold tier lacks a row that a heal may bring."""
        whole_from = first_whole_day(self.now, self.retention)
        found = set()
        for name in TABLES.by_name:
            everything = self.clickhouse.tables.get(name, {})
            warm, cold = self._both(name)
            left = {
                self._day(name, row) for row in cold.values() if row.id not in everything or self._gone(name, row.at)
            }
            left |= self.altered[name]
            for row in warm.values():
                day = self._day(name, row)
                if day >= whole_from and day not in left and not self._gone(name, row.at) and cold.get(row.id) != row:
                    found.add((name, day))
        return sorted(found)

    def _day(self, name: str, row: Row) -> date:
        return from_micros(getattr(row, self._partition_column(name))).date()

    def _check_moved(self, name: str, edge: datetime) -> None:
        cold = self.cold(name)
        for holder in self._missing(name, edge, cold):
            assert holder in cold, f"{name}: a row is never moved"
            raise AssertionError(f"{name}: a candle is never complete")


def _within(window: Window, micros: int) -> bool:
    return to_micros(window.low) <= micros < to_micros(window.high)


def _skips(history: list[SimulatedSnapshot]) -> Skips:
    """What is left out, and what was filled, as the snapshots there ever were say one after the other."""
    skips = Skips()
    for snapshot in history:
        if SKIPPED_PROPERTY in snapshot.properties:
            skips = skips.skipping(_window_id(snapshot.properties["wap.id"]).window)
        if (backfill_id := snapshot.properties.get(BACKFILL_PROPERTY)) is not None:
            rows = sum(len(file.rows) for file in snapshot.files)
            skips = skips.filling(BackfillId.parse(backfill_id).window, rows)
    return skips


def _windows(history: list[SimulatedSnapshot]) -> list[WindowId]:
    ids = (_window_id(snapshot.properties.get("wap.id")) for snapshot in history)
    return [window_id for window_id in ids if window_id is not None]


@cache
def _window_id(text: str | None) -> WindowId | None:
    """Parsed once: the world looks at its whole history after every step."""
    return WindowId.parse(text)


def _with_retries(step: Callable[[], object]) -> object:
    """As :func:`k2_offload.adapters.retry.with_retries`, without its pauses."""
    for _ in range(_ATTEMPTS - 1):
        with suppress(Unreachable, AuditFailed):
            return step()
    return step()

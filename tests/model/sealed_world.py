"""A world in which a day is over and sealed: what befalls sealed days and seals, and what must be true of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial

from k2_offload.core import fault_points
from k2_offload.core.day_comparison import first_whole_day
from k2_offload.core.errors import DamagedTable, OffloadError, Unreachable
from k2_offload.core.exactly_once import HEAL_PROPERTY, WINDOW_PROPERTY
from k2_offload.core.fault_points import FaultPoint
from k2_offload.core.heal import HealId
from k2_offload.core.seals import Content, Seal, is_over, newest
from k2_offload.core.windows import from_micros
from k2_offload.work.accept_seal import accept_changed_day, find_changed_day
from k2_offload.work.seals import seal_days
from k2_offload.work.verify_seals import verify_due, verify_sealed
from tests.model.actors import Actor
from tests.model.clickhouse import Row
from tests.model.iceberg import SimulatedSnapshot
from tests.model.ledger import Entry, Seals
from tests.model.world import EXCHANGES, LAYERS, LONG, START, World

DAY = START.date()
SEALED = (*EXCHANGES, "silver")
"""Days of candles are over a day later; ClickHouse does not hold them as a whole for so long here."""

MINUTE = timedelta(minutes=1)
_OTHER = frozenset({0})  # no trade has this id
_WRITES = ("create seals", "append seals")


@dataclass(frozen=True)
class Explanation:
    """What became of a sealed day, as all snapshots there ever were tell.

    :param held: the last snapshot that held the sealed rows; ``None`` if main was rolled back below all that did
    :param unlawful: the first one since that changed the day and is no heal of it
    """

    held: int | None
    unlawful: int | None


class SealedWorld(World):
    """Begins when a day is over, with rows of it and of the next one in all tables.

    :param changed: snapshots of another writer who has changed a day
    :param undone: snapshots that a rollback took out of main before a sealing looked whether they are there
    """

    def __init__(self) -> None:
        super().__init__(LONG)
        self.changed: set[int] = set()
        self.undone: set[int] = set()
        self._seen: set[tuple[str, int]] = set()
        self._contents: dict[tuple[str, int, date], Content] = {}
        self._seals_checked: tuple[object, object] = (None, None)

    def live_through_a_day(self) -> None:
        for minutes in (10, 10, 75, 5):
            self.now += minutes * MINUTE
            for exchange in EXCHANGES:
                self.trade(exchange, self.now)
        self.now += 6 * MINUTE
        self.run_layers()

    def run_layers(self) -> None:
        for layer in LAYERS:
            self.begin(layer).proceed()

    # Those who work on seals.

    def begin_seal(self) -> Actor:
        """What a run of the DAG that compares and heals does at its end."""
        return self._begin("seal", self._seal)

    def begin_verify(self) -> Actor:
        """What maintenance does with seals."""
        return self._begin("verify", self._verify)

    def begin_accept(self, name: str) -> Actor:
        """A person accepts what a sealed day holds now."""
        return self._begin("accept", partial(self._accept, name))

    def when_compared(self, act: Callable[[], None]) -> None:
        """Let something happen once, when the next sealing has compared its first day."""

        def hook(point: FaultPoint, _: str) -> None:
            if point is FaultPoint.SEAL_COMPARED:
                fault_points.arm(None)
                act()

        fault_points.arm(hook)

    def _begin(self, name: str, work) -> Actor:
        actor = Actor(name, work)
        self.actors.append(actor)
        return actor

    def _seal(self) -> None:
        warm = {name: set(self._warm_day(name, DAY)) for name in SEALED}
        with suppress(Unreachable):
            done = seal_days(self.cycle().tiers, list(self.tables.by_name.values()))
            assert not [each for each in done.problems if "not one chain" in each]
            for seal in (each for each in done.seals if each.day == DAY):
                rows = self._rows_of_day(seal.table, seal.snapshot_id, DAY)
                assert warm[seal.table] <= set(rows), f"{seal.table}: sealed without rows that ClickHouse held"

    def _verify(self) -> None:
        with suppress(Unreachable):
            verify_due(self.cycle().tiers, list(self.tables.by_name.values()))

    def _accept(self, name: str) -> None:
        tiers, table = self.cycle().tiers, self.tables[name]
        with suppress(OffloadError):
            accept_changed_day(tiers, table, find_changed_day(tiers, table, DAY))

    def seal(self) -> None:
        """A whole run: it compares, heals, compares, and seals."""
        for _ in range(2):
            self.begin_heal().proceed()
        self.begin_seal().proceed()

    # What befalls sealed days.

    def late_trade(self, exchange: str, minutes: int) -> None:
        """One of the day that is over."""
        self.trade(exchange, START + minutes * MINUTE)

    def alter_row(self, name: str) -> None:
        """Another writer puts a row of other values into the place of one of the day's."""
        if self._rows_of_day(name, self.head(name), DAY):
            self.altered[name].add(DAY)
            self._change_day(name, lambda rows: [replace(rows[0], made_of=_OTHER), *rows[1:]])

    def remove_row(self, name: str) -> None:
        """Another writer removes one of the day's rows."""
        rows = self._rows_of_day(name, self.head(name), DAY)
        if len(rows) > 1:
            self.late[name].add(rows[0].id)  # its windows owe it no more
            self._change_day(name, lambda rows: rows[1:])

    def _change_day(self, name: str, change: Callable[[list[Row]], list[Row]]) -> None:
        self.lakehouse.change_day(f"cold.{name}", DAY, change)
        self.changed.add(self.head(name))

    def expire_snapshots(self, name: str, older_than: datetime, *, clear_parents: bool) -> None:
        """Not what would leave the table refused until a person confirms it.

        As where another writer has changed rows since the last window or heal: no row total leads over that any more.
        """
        before = self.lakehouse.tables[f"cold.{name}"]
        super().expire_snapshots(name, older_than, clear_parents=clear_parents)
        try:
            cold = self.cycle().catalog.load(self.tables[name])
            assert cold is None or cold.published is None or cold.skips is not None
        except DamagedTable:
            self.lakehouse.tables[f"cold.{name}"] = before

    def roll_back(self, name: str, snapshots: int) -> None:
        """Somebody rolls the cold table back; what that takes out is moved again at once.

        Not below the last window that is left: such a table is refused until a person confirms it.
        """
        metadata = self.lakehouse.tables[f"cold.{name}"]
        chain = list(metadata.chain(metadata.current_snapshot_id))
        windows = [each for each in chain if WINDOW_PROPERTY in metadata.by_id[each].properties]
        if not windows or chain.index(windows[-1]) < snapshots or self.postgres.in_use(name):
            return
        self._check_seals()
        held = set(self.cold(name))
        self.lakehouse.roll_back(f"cold.{name}", chain[snapshots])
        if not any(actor.next_io in _WRITES for actor in self.running()):
            self.undone |= set(chain[:snapshots])
        self.late[name] |= held - set(self.cold(name))
        self._last_head.pop(name, None)
        if name in self.postgres.entries:
            entry = self.postgres.entries[name]
            self.postgres.entries[name] = replace(entry, row=replace(entry.row, damaged=True))
        self.clickhouse.losses = self.clickhouse.lagging = 0
        for _ in range(2):
            self.run_layers()

    def lose_seals(self, side: str) -> None:
        """Somebody removes all seals from the lake or from the ledger, but those that the other one lacks."""
        in_lake, in_ledger = {row["seal_id"] for row in self.lakehouse.seals.rows}, self.postgres.seals
        if side == "lake":
            self.lakehouse.seals.lose(lambda row: row["seal_id"] in in_ledger)
        else:
            self.postgres.seals = {key: row for key, row in in_ledger.items() if key not in in_lake}

    def restore_ledger(self, backup: tuple[dict[str, Entry], Seals]) -> None:
        in_lake = {row["seal_id"] for row in self.lakehouse.seals.rows}
        entries, seals = backup
        alone = {key: row for key, row in self.postgres.seals.items() if key not in in_lake}
        super().restore_ledger((entries, {**seals, **alone}))

    # What must be true.

    def check(self) -> None:
        super().check()
        state = self.lakehouse.seals.current, self.postgres.seals
        if any(now is not before for now, before in zip(state, self._seals_checked, strict=True)):
            self._check_seals()
            self._seals_checked = state

    def _check_seals(self) -> None:
        seals = [Seal.read(row) for row in (*self.lakehouse.seals.rows, *self.postgres.seals.values())]
        for seal in seals:
            if (key := (seal.seal_id, seal.snapshot_id)) not in self._seen:
                self._check_new(seal, seals)
                self._seen.add(key)
        for name, day in sorted({(seal.table, seal.day) for seal in seals}):
            try:
                self._newest(name, day, seals)
            except DamagedTable as error:
                raise AssertionError(f"{name}: {error}") from None

    def _check_new(self, seal: Seal, seals: list[Seal]) -> None:
        name = seal.table
        assert self._content(name, seal.snapshot_id, seal.day) == seal.content, f"{name}: sealed what no day held"
        assert seal.snapshot_id not in self.undone, f"{name}: sealed what was rolled back"
        rows = self._rows_of_day(name, seal.snapshot_id, seal.day)
        if seal.accepted:
            is_whole = first_whole_day(self.now, self.retention) <= seal.day
            differs = is_whole and not set(rows) <= set(self._warm_day(name, seal.day))
            assert not differs, f"{name}: accepted rows that ClickHouse holds otherwise"
            return
        assert all(self.trades[row.id] == row for row in rows), f"{name}: sealed rows that ClickHouse never had"
        if seal.before is not None:
            [before, *_] = [each for each in seals if each.seal_id == seal.before]
            found = self._explain(before, seal.snapshot_id)
            assert found.held is not None, f"{name}: a broken seal was followed: {found}"
            assert found.unlawful is None, f"{name}: a broken seal was followed: {found}"

    def settle(self, *, zombies_wake: bool) -> None:
        super().settle(zombies_wake=zombies_wake)
        for _ in range(2):  # a seal that was known as broken is verified before it is followed
            self.seal()
            self.check()
            self.begin_verify().proceed()
            self.check()
        assert {row["seal_id"] for row in self.lakehouse.seals.rows} == set(self.postgres.seals), "a lost seal"
        for name in SEALED:
            if self.head(name) is not None:
                self._check_sealed(name)

    def _check_sealed(self, name: str) -> None:
        table, tiers = self.tables[name], self.cycle().tiers
        seals = [Seal.read(row) for row in self.postgres.seals.values() if row["table_name"] == name]
        seal = self._newest(name, DAY, seals)
        holds = self._rows_of_day(name, self.head(name), DAY)
        is_due = (
            set(holds) == set(self._warm_day(name, DAY)) != set()
            and first_whole_day(self.now, self.retention) <= DAY
            and is_over(table, DAY, self.watermark(name))
        )
        if seal is None:
            assert not is_due, f"{name}: a day that is over and equal is never sealed"
            return
        found = verify_sealed(tiers, table).findings
        if seal.content == self._content(name, self.head(name), DAY):
            assert not found, f"{name}: the seal of what a day holds is told as broken: {found}"
            return
        explained = self._explain(seal, self.head(name))
        metadata = self.lakehouse.tables[f"cold.{name}"]
        kept = explained.held in set(metadata.chain(metadata.current_snapshot_id))
        broken = [each for each in found if each.startswith(f"{name} {DAY}: its seal is broken")]
        if explained.held is None or explained.unlawful is not None:
            assert broken, f"{name}: a broken seal is not told"
            assert explained.unlawful in (*self.changed, None), f"{name}: a window has come to a day that was sealed"
            if kept:
                named = f"the first snapshot that differs is {explained.unlawful}."
                assert named in broken[0], f"{name}: {explained}, and not: {broken[0]}"
        elif kept:
            assert not broken, f"{name}: a seal is told as broken, and only heals have changed its day: {broken}"
            assert not is_due, f"{name}: a seal that heals have changed the day of is never followed"

    def _newest(self, name: str, day: date, seals: list[Seal]) -> Seal | None:
        chosen = [seal for seal in seals if (seal.table, seal.day) == (name, day)]
        return newest(name, day, chosen) if chosen else None

    def _explain(self, seal: Seal, head: int | None) -> Explanation:
        below = {each.snapshot_id for each in self._chain(seal.snapshot_id)}
        since = []
        for snapshot in self._chain(head):
            since.insert(0, snapshot)
            if snapshot.snapshot_id in below:
                break
        contents = [self._content(seal.table, each.snapshot_id, seal.day) for each in since]
        held = [place for place, content in enumerate(contents) if content == seal.content]
        if not held:
            return Explanation(None, None)
        for place in range(held[-1] + 1, len(since)):
            heal = HealId.parse(since[place].properties.get(HEAL_PROPERTY))
            if contents[place] != contents[place - 1] and (heal is None or heal.day != seal.day):
                return Explanation(since[held[-1]].snapshot_id, since[place].snapshot_id)
        return Explanation(since[held[-1]].snapshot_id, None)

    def _chain(self, head: int | None) -> list[SimulatedSnapshot]:
        """From a snapshot to the first there ever was."""
        chain = []
        while head is not None:
            chain.append(self.lakehouse.ever[head])
            head = chain[-1].parent_snapshot_id
        return chain

    def _content(self, name: str, snapshot_id: int | None, day: date) -> Content:
        key = name, snapshot_id or 0, day
        if key not in self._contents:
            rows = self._rows_of_day(name, snapshot_id, day)
            self._contents[key] = len(rows), sum(row.content_hash for row in rows) % 2**64
        return self._contents[key]

    def _rows_of_day(self, name: str, snapshot_id: int | None, day: date) -> list[Row]:
        snapshot = self.lakehouse.ever.get(snapshot_id or 0)
        return [row for row in snapshot.rows if self._day(name, row) == day] if snapshot else []

    def _warm_day(self, name: str, day: date) -> list[Row]:
        rows: Mapping[int, Row] = self.clickhouse.tables.get(name, {})
        return [row for row in rows.values() if from_micros(row.starts).date() == day]

"""What the templates show, made of what was read."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import NamedTuple
from urllib.parse import quote

from k2_offload.adapters.dag_runs import DagState
from k2_offload.adapters.ledger_records import RecordedDay, RecordedWindow
from k2_offload.adapters.snapshot_chain import SnapshotEntry
from k2_offload.core.dag_ids import RECONCILE_DAG_ID, dag_id
from k2_offload.core.day_comparison import Verdict
from k2_offload.core.lag import lag_target
from k2_offload.core.needs import DIFFERENCES, MESSAGES, MISSED, SEALS, Finding, find_needs
from k2_offload.core.needs import State as Urgency
from k2_offload.core.tables import LAYERS, TableSpec
from k2_offload.core.text import UNKNOWN, show_duration, show_window
from k2_offload.work.figures import Figure, sparkline
from k2_offload.work.notes import describe_runs, explain, find_notes
from k2_offload.work.overview import Overview, TableOverview


class State(NamedTuple):
    """A word for where a table stands.

    :param kind: how much it needs a person: ``ok``, ``busy``, ``quiet``, ``warn``, ``bad``
    """

    word: str
    kind: str


@dataclass(frozen=True)
class TableView:
    """One table's line.

    :param dag: of its layer; ``None`` if Airflow's database did not answer
    :param ledger: whether the ledger could be read
    :param lag_target: how long a row may wait
    """

    overview: TableOverview
    dag: DagState | None
    now: datetime
    ledger: bool
    lag_target: timedelta

    @property
    def table(self) -> TableSpec:
        """Its entry in the table file."""
        return self.overview.status.table

    @property
    def dag_id(self) -> str:
        """The DAG that moves it."""
        return dag_id(self.table.layer)

    @cached_property
    def state(self) -> State:
        """The first that applies, of what a person should know."""
        return next(self._states())

    def _states(self) -> Iterator[State]:
        status, days = self.overview.status, self.overview.records.comparisons
        yield from self._alarms()
        if self.dag is not None and self.dag.paused is not False:
            yield State("paused" if self.dag.paused else "no DAG", "warn")
        if not self.is_known:
            yield State("unknown", "warn")
        if status.held_back_by is not None:
            yield State("held back", "warn")
        if self.is_behind:
            yield State("behind", "warn")
        if days is not None and days.differing:
            yield State("late rows" if days.late_rows else "differs", "warn")
        if status.silence is not None and status.silence.since is None:
            yield State("no rows", "warn")
        if status.record is not None and status.record.status == "running":
            yield State("running", "busy")
        if status.silence is not None:
            yield State("silent", "quiet")
        if status.watermark is None:
            yield State("not started", "quiet")
        yield State("up to date", "ok")

    def _alarms(self) -> Iterator[State]:
        status, messages = self.overview.status, self.overview.records.offsets
        red = self._red
        alarms = {
            "unreadable": status.problem is not None,
            "failed": status.record is not None and status.record.status == "failed",
            "refused": status.refusal is not None,
            "rows may expire": self.expires is not None and self.expires <= timedelta(0),
            "seal broken": SEALS in red,
            "messages missing": MESSAGES in red and messages is not None and bool(messages.missing),
            "messages unclear": MESSAGES in red,
            "differs": DIFFERENCES in red,
        }
        return (State(word, "bad") for word, holds in alarms.items() if holds)

    @cached_property
    def needs(self) -> list[Finding]:
        """What of its days, seals, messages and gaps needs somebody, or should be known."""
        return list(find_needs(self.table.name, self.overview.records, self.now))

    @property
    def _red(self) -> set[str]:
        return {need.check for need in self.needs if need.state is Urgency.RED}

    @property
    def is_behind(self) -> bool:
        """Whether a row waits for longer than the target."""
        lag = self.overview.status.lag
        return lag is not None and lag > self.lag_target

    @property
    def expires(self) -> timedelta | None:
        """When the warm tier drops the oldest row that waits; where nobody looked, as if one at the watermark did."""
        status = self.overview.status
        if status.expiry is not None:
            return status.expiry.left(self.now)
        if status.lag is not None or status.watermark is None or self.table.is_proven:
            return None
        return status.watermark + self.table.warm_retention - self.now

    @property
    def expires_text(self) -> str:
        """The same, in words."""
        if self.table.is_proven and self.expires is None:
            return "when proven"
        if self.expires is None:
            lag = self.overview.status.lag
            return UNKNOWN if lag is None else "never" if lag else "nothing waits"
        return show_duration(self.expires) if self.expires > timedelta(0) else "now"

    @property
    def expires_soon(self) -> bool:
        """Whether that is within a quarter of the retention."""
        return self.expires is not None and self.expires < self.table.warm_retention / 4

    @property
    def lag_text(self) -> str:
        """Its lag; of a source that is silent and moved, no lag says anything."""
        status = self.overview.status
        return "silent" if status.silent else show_duration(status.lag)

    @cached_property
    def notes(self) -> list[str]:
        """Why it moves, or does not."""
        status = self.overview.status if self.is_known else replace(self.overview.status, lag=None)
        found = explain(status, self.now, self.dag_id, self.dag, self.lag_target)
        healing = bool(self.late_rows) and DIFFERENCES not in self._red
        needs = [
            need.sentence
            for need in self.needs
            if need.check != MISSED and not (healing and need.check == DIFFERENCES)  # explain() has each gap
        ]
        if healing:
            needs.append(f"{self.late_rows:,} late rows: {RECONCILE_DAG_ID} heals their days, or says why not.")
        return needs + found or ["not everything could be asked: see the top of this page."]

    @property
    def is_known(self) -> bool:
        """Whether all services were asked."""
        return self.overview.looked_at and self.ledger

    @property
    def is_remarkable(self) -> bool:
        """Whether the notes should be read without asking for them."""
        return self.state.kind in ("warn", "bad") or bool(self.needs) or any(find_notes(self.overview.status, self.now))

    @property
    def late_rows(self) -> int | None:
        """Those that may still be healed; ``None`` if no day has been compared."""
        return self.overview.records.late_rows

    @property
    def last_window(self) -> RecordedWindow | None:
        """The last one that was not given up."""
        return next((each for each in self.overview.windows if each.state != "abandoned"), None)

    @property
    def sparkline(self) -> Figure:
        """The last day."""
        return sparkline(self.overview.windows, self.now)

    def run_path(self, window: RecordedWindow) -> str:
        """Of a window's DAG run, below Airflow's root."""
        return f"{dag_path(self.dag_id)}/runs/{quote(window.dag_run_id, safe='')}"

    @property
    def reconcile_conf(self) -> str:
        """What the trigger form of ``k2_reconcile`` takes to look at this table alone."""
        return json.dumps({"tables": [self.table.name]})


@dataclass(frozen=True)
class LayerView:
    """One layer with its DAG.

    :param run: what its DAG is busy with
    """

    name: str
    dag_id: str
    tables: Sequence[TableView]
    run: str | None

    @property
    def path(self) -> str:
        """Of its DAG, below Airflow's root."""
        return dag_path(self.dag_id)


def dag_path(name: str = RECONCILE_DAG_ID) -> str:
    """Of a DAG, below Airflow's root."""
    return f"dags/{quote(name, safe='')}"


def table_views(overview: Overview, layers: Collection[str]) -> dict[str, TableView]:
    """The tables of some layers, by name, in the order in which they move."""
    views = [
        TableView(
            each,
            overview.dags.get(each.status.table.layer),
            overview.now,
            overview.ledger,
            lag_target(each.status.table.buffer, overview.pause),
        )
        for layer in LAYERS
        if layer in layers
        for each in overview.tables
        if each.status.table.layer == layer
    ]
    return {view.table.name: view for view in views}


def layer_views(overview: Overview, layers: Collection[str]) -> list[LayerView]:
    """The same, layer by layer; without those that have no table."""
    views = table_views(overview, layers).values()
    found = []
    for layer in LAYERS:
        tables = [view for view in views if view.table.layer == layer]
        state = overview.dags.get(layer)
        run = describe_runs(state.runs, overview.now) if state and state.runs else None
        if tables:
            found.append(LayerView(layer, dag_id(layer), tables, run))
    return found


def count_states(layers: Sequence[LayerView]) -> list[tuple[State, int]]:
    """How many tables are in each state, what needs a person first."""
    counts: dict[State, int] = {}
    for view in (view for layer in layers for view in layer.tables):
        counts[view.state] = counts.get(view.state, 0) + 1
    urgency = ("bad", "warn", "busy", "quiet", "ok")
    return sorted(counts.items(), key=lambda each: urgency.index(each[0].kind))


def describe_target(layers: Sequence[LayerView]) -> str:
    """How long a row may wait, if that is the same for all tables; the page of each has its own."""
    targets = {view.lag_target for layer in layers for view in layer.tables}
    return "by table" if len(targets) > 1 else show_duration(targets.pop()).removesuffix(" 00 s")


class DayCell(NamedTuple):
    """One day of the heat map.

    :param kind: ``equal``, ``expected`` (as it should be, and not equal), ``differs``, ``unreadable``, ``none``
    """

    day: date
    kind: str
    mark: str
    title: str


_CELLS = {
    Verdict.EQUAL: ("equal", "="),
    Verdict.EXPIRED: ("expected", "·"),
    Verdict.LEFT_OUT: ("expected", "·"),
    Verdict.LATE_ROWS: ("differs", "<"),
    Verdict.CHANGED_ROWS: ("differs", "≠"),
    Verdict.COLD_HAS_MORE: ("differs", ">"),
    Verdict.UNREADABLE: ("unreadable", "?"),
}


def heat_map(days: Sequence[RecordedDay]) -> list[DayCell]:
    """One cell a day from a Monday on, those that were never compared included; empty if none was.

    :param days: oldest first
    """
    if not days:
        return []
    found = {each.day: each for each in days}
    first = days[0].day - timedelta(days=days[0].day.weekday())
    return [
        _cell(day, found.get(day))
        for day in (first + timedelta(days=each) for each in range((days[-1].day - first).days + 1))
    ]


def _cell(day: date, found: RecordedDay | None) -> DayCell:
    if found is None:
        return DayCell(day, "none", "", f"{day}: not compared")
    kind, mark = _CELLS[found.verdict]
    counts = f"{found.warm_rows:,} rows warm, {found.cold_rows:,} cold"
    differing = f", {found.late_rows:,} only warm, {found.gone_rows:,} only cold" if kind == "differs" else ""
    at = f"compared {found.compared_at:%Y-%m-%d %H:%M} UTC"
    return DayCell(day, kind, mark, f"{day}: {found.verdict}; {counts}{differing}; {at}")


def describe_snapshot(entry: SnapshotEntry) -> str:
    """What a snapshot brought."""
    snapshot = entry.snapshot
    if snapshot.window_id is not None:
        return f"window {show_window(snapshot.window_id.window.low, snapshot.window_id.window.high)}"
    if snapshot.heal is not None:
        return "heal of a day"
    if snapshot.backfill is not None:
        return "backfill of what was skipped"
    return "maintenance: files rewritten" if entry.rewritten_days else "another writer"

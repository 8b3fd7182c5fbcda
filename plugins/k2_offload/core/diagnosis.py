"""What of an observation a person should do something about: the alerts' questions, asked of one moment.

An alert also asks for how long something has been so; a number that an alert has is the same here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from k2_offload.core.dag_ids import LAYER_DAGS
from k2_offload.core.failure_kinds import failure_kind
from k2_offload.core.lag import lag_target, later_by
from k2_offload.core.needs import (
    COMPARED_WITHIN,
    DIFFERENCES,
    JUDGES,
    LEFT_OUT,
    MESSAGES,
    MISSED,
    SEALS,
    Finding,
    State,
)
from k2_offload.core.observation import DagObservation, Observation, Records, TableObservation
from k2_offload.core.text import show_duration

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CLOCK_SECONDS = 60
LITTLE_FREE, HARDLY_FREE = 0.1, 0.03
FAILED_RUNS = 3
DAILY_DAGS = ("k2_maintenance", "k2_report")
"""Of these one run is enough: what it has found, the next one may not tell again."""
STAGED_SNAPSHOTS = 20


_Judge = Callable[[TableObservation, datetime], Finding | None]


def diagnose(seen: Observation, paused: Mapping[str, bool | None]) -> Iterator[Finding]:
    """Judge services, clocks, disk, runs and tables; each check has at least one finding.

    :param paused: whether each DAG is, by id; ``None`` if Airflow does not know it. Empty if its database is away
    """
    for service, up in seen.up.items():
        if up:
            yield Finding("service", State.OK, "answers", service)
        else:
            yield _red(
                "service", "does not answer, or refuses", service, "k2 validate", "offload-failure.md#a-service-is-down"
            )
    if seen.old_ledger is not None:
        yield _red("ledger", seen.old_ledger, "", "k2 run", "offload-failure.md#a-service-is-down")
    yield _clock(seen.clock_seconds)
    yield _disk(seen)
    for dag in seen.dags:
        wrong = list(judge_runs(dag, paused.get(dag.dag_id), seen.at))
        yield from wrong or [Finding("runs", State.OK, "as scheduled", dag.dag_id)]
    for check, judge in _table_checks(seen.pause).items():
        concerned = [table for table in seen.tables if _concerns(check, table)]
        found = [judge(table, seen.at) for table in concerned if not _explained(check, table, seen)]
        if seen.tables and not concerned:
            yield Finding(check, State.OK, "followed for no table")
        else:
            yield from _of_all(check, found, len(seen.tables))


def _concerns(check: str, table: TableObservation) -> bool:
    """Whether a check can be made of a table at all: messages are followed where a comparison of them is on record."""
    return check != MESSAGES or table.records.offsets is not None or table.records.comparisons is None


def _explained(check: str, table: TableObservation, seen: Observation) -> bool:
    """Whether another finding says why this cannot be known."""
    if check == MISSED and table.readable is False and table.gaps is None:
        return True
    if check in _OF_LEDGER:
        return seen.old_ledger is not None
    unread = table.history if check == "staged leftovers" else table.lag_seconds
    return check in _OF_BOTH_SIDES and table.readable is False and unread is None


def _of_all(check: str, found: Sequence[Finding | None], tables: int) -> Iterator[Finding]:
    """What is wrong, or one line that nothing is; nothing about what could not be looked at."""
    wrong = [each for each in found if each is not None]
    if wrong or not (found or not tables):
        yield from wrong
    else:
        told = f"{tables} tables" if len(found) == tables else f"{len(found)} of {tables} tables"
        yield Finding(check, State.OK, told)


def _red(check: str, found: str, subject: str, do: str, page: str) -> Finding:
    return Finding(check, State.RED, found, subject, do, page)


def _unknown(check: str, table: TableObservation) -> Finding:
    return _red(check, "not known", table.name, "look at the services first", "offload-failure.md#a-service-is-down")


def _clock(seconds: float | None) -> Finding:
    page = "offload-failure.md#the-clocks-differ"
    if seconds is None:
        return _red("clocks", "not known: ClickHouse does not answer", "", "k2 validate", page)
    found = f"ClickHouse is {abs(seconds):.1f} s {'ahead' if seconds >= 0 else 'behind'}"
    if abs(seconds) <= CLOCK_SECONDS:
        return Finding("clocks", State.OK, found)
    return _red("clocks", found, "", "timedatectl, on both machines", page)


def _disk(seen: Observation) -> Finding:
    if seen.disk is None or not seen.disk.size_bytes:  # some file systems of a network do not say
        return Finding(
            "disk", State.OK, "not known here: no folder, or another machine's; its store has alerts of its own"
        )
    free = seen.disk.free_bytes / seen.disk.size_bytes
    found = f"{free:.0%} of the lake's disk is free"
    if free >= LITTLE_FREE:
        return Finding("disk", State.OK, found)
    state = State.RED if free < HARDLY_FREE else State.WARNING
    return Finding("disk", state, found, "", "make room, then k2 maintain", "maintenance.md#the-disk-is-full")


def judge_runs(dag: DagObservation, paused: bool | None, now: datetime) -> Iterator[Finding]:
    """What is wrong with the runs of one DAG; the page says it, too.

    :param paused: ``None`` if Airflow does not know the DAG
    """
    page, layer = "offload-failure.md#no-run-starts", dag.dag_id in LAYER_DAGS
    if paused is None:
        yield _red("runs", "Airflow does not know it", dag.dag_id, "airflow dags list-import-errors", page)
    elif paused:
        yield _red("runs", "paused", dag.dag_id, f"airflow dags unpause {dag.dag_id}", page)
    elif layer and (dag.last_start is None or (now - dag.last_start > HOUR / 2 and dag.missed not in (0, 1))):
        ago = "never" if dag.last_start is None else f"{show_duration(now - dag.last_start)} ago"
        yield _red("runs", f"the last run began {ago}", dag.dag_id, "is the scheduler up? k2 run", page)
    if layer and dag.active_since is not None and now - dag.active_since > timedelta(minutes=10):
        found = f"a run has been going on for {show_duration(now - dag.active_since)}"
        page = "offload-failure.md#a-run-takes-too-long"
        yield Finding("runs", State.WARNING, found, dag.dag_id, "k2 status", page)
    if dag.failures >= (1 if dag.dag_id in DAILY_DAGS else FAILED_RUNS):
        found = f"the last {dag.failures} runs have failed" if dag.failures > 1 else "the last run has failed"
        do = "k2 status" if layer else "read its log in Airflow's UI"
        yield _red("runs", found, dag.dag_id, do, "offload-failure.md#runs-fail")
    if dag.dag_id == "k2_reconcile" and paused is False:
        yield from _comparison(dag, now)


def _comparison(dag: DagObservation, now: datetime) -> Iterator[Finding]:
    last, state = dag.last_success, State.RED
    if last is not None and now - last <= COMPARED_WITHIN:
        return
    if last is not None:
        found = f"the last comparison that succeeded ended {show_duration(now - last)} ago"
    elif dag.last_start is not None:
        found = "no comparison has succeeded yet"
    else:
        state, found = State.WARNING, "no comparison has run yet"
    yield Finding("runs", state, found, dag.dag_id, "k2 verify", "consistency.md#the-tiers-are-not-compared")


def _cold_table(table: TableObservation, _: datetime) -> Finding | None:
    if table.readable is None:
        return _unknown("chain and source", table)
    if table.readable and not table.refused:
        return None
    page = "offload-failure.md#a-table-does-not-move"
    return _red("chain and source", table.problem or "refused", table.name, f"k2 status {table.name}", page)


def _failure(table: TableObservation, _: datetime) -> Finding | None:
    if table.failure is None:
        return None if table.totals is not None else _unknown("last attempt", table)
    if not table.failure:
        return None
    page = "offload-failure.md#a-table-does-not-move"
    return _red("last attempt", failure_kind(table.failure), table.name, f"k2 status {table.name}", page)


def _late(table: TableObservation, pause: timedelta) -> timedelta:
    return HOUR + later_by(table.buffer, pause)


def _lag(table: TableObservation, _: datetime, pause: timedelta) -> Finding | None:
    if table.lag_seconds is None:
        return _unknown("lag", table)
    lag = timedelta(seconds=table.lag_seconds)
    if lag <= lag_target(table.buffer, pause):
        return None
    state = State.RED if lag > _late(table, pause) else State.WARNING
    return Finding("lag", state, show_duration(lag), table.name, "k2 run", "performance.md#cold-lag-is-high")


def _ttl(table: TableObservation, _: datetime, pause: timedelta) -> Finding | None:
    if table.lag_seconds is None:
        return _unknown("TTL", table)
    if table.ttl_seconds is None or table.ttl_seconds >= DAY.total_seconds():
        return None
    left = timedelta(seconds=table.ttl_seconds)
    if table.lag_seconds <= (HOUR if left < HOUR else _late(table, pause)).total_seconds():
        return None
    state, found = (State.RED if left < HOUR else State.WARNING), f"{show_duration(left)} left for the oldest row"
    page = "watermark.md#rows-are-about-to-expire"
    return Finding("TTL", state, found, table.name, "SYSTEM STOP TTL MERGES, in ClickHouse; then k2 run", page)


def _feed(table: TableObservation, now: datetime) -> Finding | None:
    if table.silent is None:
        return _unknown("feed", table)
    page = "watermark.md#a-feed-is-silent"
    if table.silent and table.silent_since is None:
        found = "no row up to now, and none was ever moved"
        return Finding("feed", State.WARNING, found, table.name, "is the source right, and its timestamps' unit?", page)
    if table.silent_since is None or now - table.silent_since <= 6 * HOUR:
        return None
    found = f"silent for {show_duration(now - table.silent_since)}"
    return Finding("feed", State.WARNING, found, table.name, "is the market closed?", page)


def _of_records(check: str, known: Callable[[Records], object]) -> _Judge:
    """What the ledger's records say, as the page and ``k2 status`` say it; of what is not known, that it is not."""

    def judge(table: TableObservation, now: datetime) -> Finding | None:
        if known(table.records) is None:
            return _unknown(check, table)
        return JUDGES[check](table.name, table.records, now)

    return judge


def _staged(table: TableObservation, now: datetime) -> Finding | None:
    history = table.history
    if history is None:
        return _unknown("staged leftovers", table) if table.readable is None else None  # there is no cold table yet
    if history.oldest_staged is None or history.staged <= STAGED_SNAPSHOTS or now - history.oldest_staged <= DAY:
        return None
    page = "maintenance.md#staged-snapshots-are-left"
    return Finding("staged leftovers", State.WARNING, f"{history.staged} snapshots", table.name, "k2 maintain", page)


def _maintenance(table: TableObservation, now: datetime) -> Finding | None:
    if table.totals is None:
        return _unknown("maintenance", table)
    last = table.last_maintenance or table.totals.first_planned_at
    do, page = f"k2 maintain {table.name}", "maintenance.md#maintenance-does-not-run"
    if table.maintenance and last is not None and now - last > 2 * DAY:
        ago = show_duration(now - last)
        found = f"{ago} ago" if table.last_maintenance else f"never, and the first window is {ago} old"
        return Finding("maintenance", State.WARNING, found, table.name, do, page)
    if table.maintenance_overdue:
        return Finding("maintenance", State.WARNING, "metadata grows", table.name, do, "maintenance.md#metadata-grows")
    return None


def _table_checks(pause: timedelta) -> Mapping[str, _Judge]:
    return {
        "chain and source": _cold_table,
        "last attempt": _failure,
        "lag": partial(_lag, pause=pause),
        "TTL": partial(_ttl, pause=pause),
        "feed": _feed,
        DIFFERENCES: _of_records(DIFFERENCES, lambda records: records.comparisons),
        LEFT_OUT: _of_records(LEFT_OUT, lambda records: records.comparisons),
        SEALS: _of_records(SEALS, lambda records: records.sealed),
        MESSAGES: _of_records(MESSAGES, lambda records: records.comparisons),  # none on record: they are not followed
        MISSED: _of_records(MISSED, lambda records: records.gaps),
        "staged leftovers": _staged,
        "maintenance": _maintenance,
    }


_OF_LEDGER = {"last attempt", DIFFERENCES, LEFT_OUT, SEALS, MESSAGES, MISSED, "maintenance"}
"""Checks that the ledger alone answers."""

_OF_BOTH_SIDES = {"lag", "TTL", "feed", "staged leftovers"}
"""Checks that nobody can make of a table that cannot be read."""

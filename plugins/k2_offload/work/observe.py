"""Looks at all services and tables, for metrics: what is away or broken is part of what was seen, and stops nobody."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar
from urllib.parse import unquote, urlparse

from k2_offload.adapters.dag_runs import read_latest_runs
from k2_offload.adapters.ledger_records import TableRecord
from k2_offload.adapters.schedule import missed_cycles
from k2_offload.core.dag_ids import LAYER_DAGS
from k2_offload.core.errors import OffloadError, OldLedger, Unreachable
from k2_offload.core.gaps import Gap, on_record
from k2_offload.core.limits import LOOK_REST, OBSERVE_EVERY_SECONDS, OBSERVE_QUERY_SECONDS, SCRAPE_SECONDS
from k2_offload.core.observation import (
    SERVICES,
    DagObservation,
    Disk,
    Observation,
    Records,
    TableObservation,
    WindowTotals,
)
from k2_offload.core.skips import Skips
from k2_offload.core.tables import Tables, TableSpec
from k2_offload.work.records import AllRecords, read_records
from k2_offload.work.status import TableStatus, read_cold_status, read_status
from k2_offload.work.tiers import Tiers, open_tiers
from k2_offload.work.ttl import read_waiting

log = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True)
class _LedgerView:
    """What the ledger says of all tables; ``None`` while it is away."""

    records: Mapping[str, TableRecord] | None = None
    gaps: Mapping[str, Sequence[Gap]] = field(default_factory=dict)
    totals: Mapping[str, WindowTotals] = field(default_factory=dict)
    maintained: Mapping[str, datetime] = field(default_factory=dict)
    checked: AllRecords = field(default_factory=AllRecords)


def look(dags_of: Callable[[Tables], Mapping[str, Collection[str]]], seconds: Callable[[], float]) -> Observation:
    """Look at everything that the settings and the table file name.

    :param dags_of: the DAGs of a table file whose runs to look at, and the tables that a whole run of each is for
    :param seconds: a clock that never goes back
    :raises OffloadError: if a setting, a connection or the table file is wrong
    """
    with open_tiers(query_seconds=OBSERVE_QUERY_SECONDS) as tiers:
        return observe(tiers, dags_of(tiers.tables), seconds)


def observe(tiers: Tiers, dags_of: Mapping[str, Collection[str]], seconds: Callable[[], float]) -> Observation:
    """Look at all services, and at all tables as far as those answer.

    :param dags_of: the DAGs whose runs to look at, and the tables that a whole run of each is for
    :param seconds: a clock that never goes back
    """
    began, at = seconds(), tiers.now()
    up = dict.fromkeys(SERVICES, True)
    old_ledger = None
    try:
        ledger = _ask(up, "ledger", lambda: _read_ledger(tiers)) or _LedgerView()
    except OldLedger as error:  # it answers
        log.warning("%s", error)
        ledger, old_ledger = _LedgerView(), str(error)
    dags = _ask(up, "airflow", lambda: [read_latest_runs(dag_id, of) for dag_id, of in dags_of.items()]) or []
    clock_seconds = _ping(tiers, up)
    tables = [_observe_table(tiers, table, ledger, up) for table in tiers.tables.by_name.values()]
    dags = [_with_missed_runs(dag, tiers.schedule, at) for dag in dags]
    disk = _ask(up, "catalog", lambda: _disk(tiers))
    return Observation(at, seconds() - began, up, tables, dags, disk, clock_seconds, old_ledger, tiers.pause)


def _with_missed_runs(dag: DagObservation, schedule: str, now: datetime) -> DagObservation:
    """The schedule is that of the layers' DAGs."""
    if dag.dag_id not in LAYER_DAGS or dag.last_start is None:
        return dag
    return replace(dag, missed=missed_cycles(schedule, dag.last_start, now))


def _ask(up: dict[str, bool], service: str, question: Callable[[], Result]) -> Result | None:
    """Ask a service something, if it is not known to be away.

    :raises OldLedger: if an older version has made the ledger
    """
    if not up[service]:
        return None
    try:
        return question()
    except OldLedger:
        raise
    except OffloadError as error:
        log.warning("%s", error)
    except Exception:
        log.exception("%s: unexpected", service)
    up[service] = False
    return None


def _ping(tiers: Tiers, up: dict[str, bool]) -> float | None:
    """Which of the two that tables need answer; returns by how many seconds ClickHouse's clock is ahead."""
    _ask(up, "catalog", tiers.catalog.ping)
    _ask(up, "clickhouse", tiers.clickhouse.now)  # connects, which may take long
    theirs = _ask(up, "clickhouse", tiers.clickhouse.now)
    return None if theirs is None else (theirs - tiers.now()).total_seconds()


def _read_ledger(tiers: Tiers) -> _LedgerView:
    ledger = tiers.ledger
    return _LedgerView(
        ledger.read_tables(),
        ledger.read_gaps(),
        ledger.read_totals(tiers.now()),
        ledger.last_maintained(),
        read_records(ledger),
    )


def _disk(tiers: Tiers) -> Disk | None:
    storage = tiers.catalog.storage(())
    where = urlparse(storage.location) if storage else None
    if where is None or where.scheme not in ("", "file"):
        return None
    try:
        usage = shutil.disk_usage(unquote(where.path))
    except OSError:  # no table was made yet, or another machine has it
        return None
    return Disk(usage.total, usage.free)


def _observe_table(tiers: Tiers, table: TableSpec, ledger: _LedgerView, up: dict[str, bool]) -> TableObservation:
    record = (ledger.records or {}).get(table.name)
    try:
        status = _look_at(tiers, table, record, up)
    except Unreachable as error:  # a moment ago it answered
        log.warning("%s", error)
        _ping(tiers, up)
        _ask(up, "catalog", lambda: _read_storage(tiers))
        # If both are there, it is this table that cannot be looked at.
        status = TableStatus(table, None, problem=str(error)) if up["clickhouse"] and up["catalog"] else None
    except Exception:  # one table's surprise must not hide the others
        log.exception("%s: unexpected", table.name)
        status = TableStatus(table, None, problem="unexpected")
    looked_at = status is not None and status.problem is None
    found = status or TableStatus(table, None)
    if not looked_at and found.lag is None and up["clickhouse"]:
        found = _with_what_waits(tiers, found, record)
    is_known = status is not None and (up["clickhouse"] or status.problem is not None)
    return _seen(tiers, found, ledger, readable=looked_at if is_known else None)


def _with_what_waits(tiers: Tiers, found: TableStatus, record: TableRecord | None) -> TableStatus:
    """What stands still must not hide that the TTL comes near it."""
    watermark = found.watermark or (record.watermark if record else None)
    try:
        waiting, expiry = read_waiting(tiers, found.table, watermark, tiers.now())
    except OffloadError as error:
        log.warning("%s", error)
        return found
    except Exception:
        log.exception("%s: what waits is not known", found.table.name)
        return found
    return replace(found, lag=waiting, expiry=expiry)


def _read_storage(tiers: Tiers) -> None:
    """Ask the cold tier's storage for a file that is not there: a catalog may answer without it."""
    try:
        storage = tiers.catalog.storage(tiers.tables.by_name.values())
        if storage is not None:
            storage.read(storage.new_file())
    except Unreachable:
        raise
    except OffloadError as error:  # it answers
        log.info("%s", error)


def _look_at(tiers: Tiers, table: TableSpec, record: TableRecord | None, up: dict[str, bool]) -> TableStatus | None:
    if not up["catalog"]:
        return None
    if not up["clickhouse"]:
        return read_cold_status(tiers, table, record)
    found = read_status(tiers, table, record, counts=False)
    if found.problem is None:
        return found
    # What is wrong may be the source alone.
    log.warning("%s", found.problem)
    cold = read_cold_status(tiers, table, record)
    return replace(cold, lag=found.lag, expiry=found.expiry, problem=found.problem)


def _seen(tiers: Tiers, found: TableStatus, ledger: _LedgerView, *, readable: bool | None) -> TableObservation:
    table, known = found.table, ledger.records is not None
    record = ledger.records.get(table.name) if ledger.records is not None else None
    failure = None
    if record is not None:
        failure = (record.reason or "unknown") if record.status == "failed" else ""
    gaps = tuple(ledger.gaps.get(table.name, ()))
    looked_at = readable and (found.silence is not None or found.lag is not None)
    metadata, now = found.metadata, tiers.now()
    skips = found.skips
    if skips is None and readable:  # no cold table yet; of one that cannot be read, nobody knows what was brought
        skips = Skips()
    missed = on_record(gaps, skips) if skips is not None else None
    records = ledger.checked.of(table, now, missed) if known else Records()
    return TableObservation(
        table.name,
        table.layer,
        table.transport,
        table.buffer,
        readable=readable,
        problem=found.problem or found.refusal,
        refused=found.refusal is not None if looked_at else None,
        failure=failure,
        watermark=found.watermark,
        last_success=record.last_successful_run if record else None,
        lag_seconds=found.lag.total_seconds() if found.lag is not None else None,
        silent=found.silence is not None if looked_at else None,
        silent_since=found.silence.since if found.silence else None,
        ttl_seconds=found.expiry.left(now).total_seconds() if found.expiry is not None else None,
        cold_rows=found.cold_rows,
        snapshots=metadata.snapshots if metadata else None,
        metadata_bytes=metadata.size_bytes if metadata else None,
        maintenance_overdue=metadata.overdue if metadata else None,
        history=metadata.history if metadata else None,
        maintenance=table.maintenance,
        last_maintenance=ledger.maintained.get(table.name),
        totals=ledger.totals.get(table.name, WindowTotals()) if known else None,
        comparisons=records.comparisons,
        sealed=records.sealed,
        offsets=records.offsets,
        gaps=records.gaps,
        skips=skips,
    )


class LatestObservation:
    """What was seen last; looked at anew when somebody asks and it is old enough, by one thread for all who ask.

    :param look: takes as long as it takes
    :param seconds: a clock that never goes back
    :param wait_seconds: how long somebody who asks waits for a look that is under way
    """

    def __init__(
        self, look: Callable[[], Observation], seconds: Callable[[], float], wait_seconds: float = SCRAPE_SECONDS
    ) -> None:
        self._look = look
        self._seconds = seconds
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._under_way: threading.Event | None = None
        self._next = float("-inf")
        self._latest: Observation | None = None

    def get(self) -> Observation | None:
        """The one that is under way, if it ends in time; else the one before.

        :returns: ``None`` if none has come to its end yet, or the last one has failed
        """
        with self._lock:
            if self._under_way is None and self._seconds() >= self._next:
                started = threading.Event()
                threading.Thread(target=self._renew, args=(started,), daemon=True).start()
                self._under_way = started
            under_way = self._under_way
        if under_way is not None:
            under_way.wait(self._wait_seconds)
        with self._lock:
            return self._latest

    def _renew(self, done: threading.Event) -> None:
        began, seen = self._seconds(), None
        try:
            seen = self._look()
        except OffloadError as error:
            log.error("%s", error)
        except Exception:
            log.exception("unexpected")
        finally:
            ended = self._seconds()
            with self._lock:
                self._latest = seen
                self._next = max(began + OBSERVE_EVERY_SECONDS, ended + LOOK_REST * (ended - began))
                self._under_way = None
            done.set()

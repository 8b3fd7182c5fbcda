"""The metrics: what each is called and means, and how it is read off an observation.

Names are OpenMetrics': base units, the unit last, ``_total`` for what only grows; what the ledger takes
back after a rollback is a gauge. Labels are names of tables, of DAGs
and of the short lists here, so that there is a bounded number of series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

from k2_offload.core.failure_kinds import FAILURE_KINDS, failure_kind
from k2_offload.core.gaps import GapKind, count_missed
from k2_offload.core.lag import lag_target
from k2_offload.core.observation import (
    SERVICES,
    DagObservation,
    Observation,
    TableObservation,
    UnequalDay,
)


class Kind(StrEnum):
    """What Prometheus calls a metric's type."""

    GAUGE = "gauge"
    COUNTER = "counter"


Sample = tuple[tuple[str, ...], float]
"""Values of the metric's labels, and the metric's own."""


@dataclass(frozen=True)
class Metric:
    """One metric.

    :param read: its samples in an observation; what is not known has none
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    read: Callable[[Observation], Iterable[Sample]]

    @property
    def unit(self) -> str:
        """Of its values, as its name ends; empty for numbers of things."""
        stem = self.name.removesuffix("_total")
        return next((unit for unit in ("seconds", "bytes") if stem.endswith(f"_{unit}")), "")


def _seconds(time: datetime | date | None) -> float | None:
    """Seconds since 1970; of a day, its beginning."""
    if time is None:
        return None
    if not isinstance(time, datetime):
        time = datetime(time.year, time.month, time.day, tzinfo=UTC)
    return time.timestamp()


def _metric(name: str, help_text: str, value: Callable[[Observation], float | None]) -> Metric:
    return Metric(name, Kind.GAUGE, help_text, (), lambda seen: () if (found := value(seen)) is None else [((), found)])


def _of_tables(
    name: str, help_text: str, value: Callable[[TableObservation], float | None], kind: Kind = Kind.GAUGE
) -> Metric:
    def read(seen: Observation) -> Iterator[Sample]:
        for table in seen.tables:
            if (found := value(table)) is not None:
                yield (table.name,), found

    return Metric(name, kind, help_text, ("table",), read)


def _of_tables_by(
    name: str, help_text: str, label: str, values: Callable[[TableObservation], Mapping[str, float] | None]
) -> Metric:
    def read(seen: Observation) -> Iterator[Sample]:
        for table in seen.tables:
            for key, found in (values(table) or {}).items():
                yield (table.name, key), found

    return Metric(name, Kind.GAUGE, help_text, ("table", label), read)


def _of_dags(name: str, help_text: str, value: Callable[[DagObservation, datetime], float | None]) -> Metric:
    def read(seen: Observation) -> Iterator[Sample]:
        for dag in seen.dags:
            if (found := value(dag, seen.at)) is not None:
                yield (dag.dag_id,), found

    return Metric(name, Kind.GAUGE, help_text, ("dag",), read)


def _totals(value: Callable[..., float | None]) -> Callable[[TableObservation], float | None]:
    return lambda table: None if table.totals is None else value(table.totals)


def _differences(table: TableObservation) -> Mapping[str, float] | None:
    days = table.comparisons
    return None if days is None else {"warm": days.late_rows, "cold": days.gone_rows}


def _differing(table: TableObservation) -> list[UnequalDay]:
    return [] if table.comparisons is None else table.comparisons.differing


def _files(table: TableObservation, size: bool) -> Mapping[str, float] | None:
    history = table.history
    if history is None or history.today is None or history.closed is None:
        return None
    days = {"today": history.today, "closed": history.closed}
    return {day: files.size_bytes if size else files.count for day, files in days.items()}


def _phases(table: TableObservation) -> Mapping[str, float] | None:
    """Of the last window, as far as both the chain and the ledger know it."""
    totals, history = table.totals, table.history
    if totals is None or history is None or history.published_at is None:
        return None
    planned, committed, staged = totals.last_planned_at, totals.last_committed_at, history.published_at
    if planned is None or committed is None or not planned <= staged <= committed:
        return None
    return {"move": (staged - planned).total_seconds(), "record": (committed - staged).total_seconds()}


def _rows_per_second(table: TableObservation) -> float | None:
    totals = table.totals
    if totals is None or totals.last_rows is None or totals.last_planned_at is None or totals.last_committed_at is None:
        return None
    seconds = (totals.last_committed_at - totals.last_planned_at).total_seconds()
    return totals.last_rows / seconds if seconds > 0 else None


def _kinds(table: TableObservation) -> Mapping[str, float] | None:
    if table.failure is None:
        return None
    found = failure_kind(table.failure) if table.failure else None
    return {kind: float(kind == found) for kind in FAILURE_KINDS}


def _missed(table: TableObservation) -> Mapping[str, float] | None:
    if table.gaps is None:
        return None
    return {str(kind): sum(gap.rows or 0 for gap in table.gaps if gap.kind is kind) for kind in GapKind}


def _skipped(table: TableObservation) -> Mapping[str, float] | None:
    if table.skips is None:
        return None
    ranges = {"left_out": table.skips.left_out, "brought": table.skips.filled}
    return {state: sum((each.high - each.low).total_seconds() for each in of) for state, of in ranges.items()}


def _results(table: TableObservation) -> Mapping[str, float] | None:
    totals = table.totals
    return None if totals is None else {"committed": totals.committed, "abandoned": totals.abandoned}


def _maintained(table: TableObservation) -> float | None:
    first = table.totals.first_planned_at if table.totals else None
    return _seconds(table.last_maintenance or first) if table.maintenance else None


def _age(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max(now - since, timedelta(0)).total_seconds()


METRICS: tuple[Metric, ...] = (
    _metric("k2_observation_timestamp_seconds", "When everything was looked at last.", lambda seen: _seconds(seen.at)),
    _metric("k2_observation_duration_seconds", "How long that took.", lambda seen: seen.seconds),
    Metric(
        "k2_service_up",
        Kind.GAUGE,
        "Whether the service answered: clickhouse, catalog (with its storage), ledger, airflow (its database).",
        ("service",),
        lambda seen: (((name,), float(seen.up[name])) for name in SERVICES if name in seen.up),
    ),
    _metric(
        "k2_clock_difference_seconds",
        "By how much ClickHouse's clock is ahead of Airflow's. Windows end by the one that is behind.",
        lambda seen: seen.clock_seconds,
    ),
    Metric(
        "k2_table_info",
        Kind.GAUGE,
        "Always 1: the layer and the transport of each table of the table file.",
        ("table", "layer", "transport"),
        lambda seen: (((table.name, table.layer, table.transport), 1.0) for table in seen.tables),
    ),
    _of_tables(
        "k2_table_readable",
        "Whether the table could be looked at. Missing while a service that it needs is away.",
        lambda table: table.readable,
    ),
    _of_tables(
        "k2_table_refused",
        "Whether the next cycle will refuse the table: its columns, or an edit of the table file.",
        lambda table: table.refused,
    ),
    _of_tables_by(
        "k2_table_failed",
        "Whether the last attempt to move the table failed, by kind: 1 for the kind that the ledger's reason is of.",
        "kind",
        _kinds,
    ),
    _of_tables(
        "k2_lag_seconds",
        "Age of the oldest row that ClickHouse holds and no window has moved, or of the watermark if it cannot say. "
        "0 if none waits.",
        lambda table: table.lag_seconds,
    ),
    Metric(
        "k2_lag_target_seconds",
        Kind.GAUGE,
        "How long a row may wait: 25 minutes, more with a longer buffer_seconds or a calmer schedule than usual.",
        ("table",),
        lambda seen: (((table.name,), lag_target(table.buffer, seen.pause).total_seconds()) for table in seen.tables),
    ),
    _of_tables(
        "k2_publication_lag_p50_seconds",
        "How long the oldest row of a window has waited at most until it was published: median of a day's windows.",
        _totals(lambda totals: totals.lag_p50),
    ),
    _of_tables(
        "k2_publication_lag_p99_seconds",
        "The same, for all but the hundredth of the windows that waited longest.",
        _totals(lambda totals: totals.lag_p99),
    ),
    _of_tables(
        "k2_watermark_timestamp_seconds",
        "The watermark, as the cold table's chain of snapshots says it: every row below it is in the cold table.",
        lambda table: _seconds(table.watermark),
    ),
    _of_tables(
        "k2_last_success_timestamp_seconds",
        "When a window of the table was last recorded as published.",
        lambda table: _seconds(table.last_success),
    ),
    _of_tables(
        "k2_ttl_remaining_seconds",
        "How long the source's TTL will keep the oldest row that waits; no sample if none waits.",
        lambda table: table.ttl_seconds,
    ),
    _of_tables(
        "k2_feed_silent",
        "Whether ClickHouse has got no row for longer than idle_after_seconds.",
        lambda table: table.silent,
    ),
    _of_tables(
        "k2_feed_silent_since_timestamp_seconds",
        "Timestamp of the last row of a silent feed. Missing while it is not silent, or if it never had a row.",
        lambda table: _seconds(table.silent_since),
    ),
    _of_tables_by(
        "k2_windows",
        "Windows that have ended, by result: committed, or abandoned (made smaller, or passed by).",
        "result",
        _results,
    ),
    _of_tables(
        "k2_windows_open",
        "Windows that are planned and not published yet: 0 or 1.",
        _totals(lambda totals: totals.open),
    ),
    _of_tables("k2_moved_rows", "Rows of all committed windows.", _totals(lambda totals: totals.rows)),
    _of_tables(
        "k2_moved_bytes",
        "Bytes of the data files of all committed windows.",
        _totals(lambda totals: totals.size_bytes),
    ),
    _of_tables(
        "k2_window_retries_total",
        "How often a window was planned once more.",
        _totals(lambda totals: totals.retries),
        Kind.COUNTER,
    ),
    _of_tables(
        "k2_window_failures",
        "How often a window was planned and not published.",
        _totals(lambda totals: totals.failures),
    ),
    _of_tables(
        "k2_window_failures_in_a_row",
        "How often the open window was planned and not published. 0 if none is open.",
        _totals(lambda totals: totals.open_failures),
    ),
    _of_tables(
        "k2_window_duration_p50_seconds",
        "How long a day's committed windows took, from the first plan to the record of the commit: the median.",
        _totals(lambda totals: totals.duration_p50),
    ),
    _of_tables(
        "k2_window_duration_p99_seconds",
        "The same, of all but the hundredth of the windows that took longest. Retries are included.",
        _totals(lambda totals: totals.duration_p99),
    ),
    _of_tables_by(
        "k2_last_window_duration_seconds",
        "How long the last window took, by phase: move (until it was staged), record (audit, publication, commit).",
        "phase",
        _phases,
    ),
    _of_tables("k2_last_window_rows", "Rows of the last window.", _totals(lambda totals: totals.last_rows)),
    _of_tables(
        "k2_last_window_rows_per_second", "Rows of the last window by the seconds that it took.", _rows_per_second
    ),
    _of_tables(
        "k2_last_comparison_timestamp_seconds",
        "When a day of both tiers was last compared.",
        lambda table: _seconds(table.comparisons.last) if table.comparisons else None,
    ),
    _of_tables_by(
        "k2_difference_rows",
        "Rows that only one tier held at the last comparison, of whole days in ClickHouse; warm: late rows.",
        "tier",
        _differences,
    ),
    _of_tables(
        "k2_unequal_partitions",
        "Days that ClickHouse holds as a whole and that the last comparison found unequal.",
        lambda table: None if table.comparisons is None else len(table.comparisons.differing),
    ),
    _of_tables(
        "k2_unequal_since_timestamp_seconds",
        "When the first of these days was found unequal. Missing if there is none.",
        lambda table: _seconds(table.comparisons.differs_since) if table.comparisons else None,
    ),
    _of_tables(
        "k2_oldest_unequal_day_timestamp_seconds",
        "Beginning of the oldest of these days. Missing if there is none.",
        lambda table: _seconds(min((day.day for day in _differing(table)), default=None)),
    ),
    _of_tables(
        "k2_late_rows_left_out",
        "Late rows on record of days that ClickHouse no longer holds as a whole: no heal brings them.",
        lambda table: None if table.comparisons is None else table.comparisons.left_out_rows,
    ),
    _of_tables(
        "k2_sealed_days",
        "Days of the cold table that are sealed.",
        lambda table: table.sealed.days if table.sealed else None,
    ),
    _of_tables(
        "k2_broken_seals",
        "Sealed days that the last verification found changed.",
        lambda table: table.sealed.broken if table.sealed else None,
    ),
    _of_tables(
        "k2_oldest_seal_verification_timestamp_seconds",
        "When the sealed day was verified that was not for the longest time. Missing if none is sealed.",
        lambda table: _seconds(table.sealed.oldest_verification) if table.sealed else None,
    ),
    _of_tables(
        "k2_missing_messages",
        "Messages of the broker that ClickHouse, bronze or Iceberg lacked at the last comparison of offsets.",
        lambda table: table.offsets.missing if table.offsets else None,
    ),
    _of_tables(
        "k2_unclear_messages",
        "What else that comparison has found or could not compare, so that nobody can tell how many are missing.",
        lambda table: table.offsets.unclear if table.offsets else None,
    ),
    _of_tables(
        "k2_repeated_messages",
        "Messages that the broker has delivered more than once, as far as their offsets are kept.",
        lambda table: table.offsets.repeated if table.offsets else None,
    ),
    _of_tables(
        "k2_last_offset_comparison_timestamp_seconds",
        "When the offsets of messages were last compared. Missing, as the three before, where they are not kept.",
        lambda table: _seconds(table.offsets.at) if table.offsets else None,
    ),
    _of_tables(
        "k2_gaps",
        "Ranges on record in which rows are missing: see k2_missed_rows.",
        lambda table: None if table.gaps is None else count_missed(table.gaps),
    ),
    _of_tables_by(
        "k2_missed_rows",
        "Rows that the table has missed, on record, by kind of gap; those that nobody could count are not in it.",
        "kind",
        _missed,
    ),
    _of_tables_by(
        "k2_skipped_seconds",
        "Length of the ranges that were left out of the cold table on purpose: left_out still are, brought no more.",
        "state",
        _skipped,
    ),
    _of_tables("k2_cold_rows", "Rows of the cold table that readers see.", lambda table: table.cold_rows),
    _of_tables_by(
        "k2_data_files",
        "Data files of the cold table: today are those of windows since midnight UTC, closed are all others.",
        "day",
        lambda table: _files(table, size=False),
    ),
    _of_tables_by(
        "k2_data_bytes",
        "Bytes of these files. By k2_data_files: the mean size of a file.",
        "day",
        lambda table: _files(table, size=True),
    ),
    _of_tables("k2_snapshots", "Snapshots of the cold table that have not expired.", lambda table: table.snapshots),
    _of_tables(
        "k2_metadata_bytes",
        "Size of the cold table's metadata file, which every load reads.",
        lambda table: table.metadata_bytes,
    ),
    _of_tables(
        "k2_maintenance_overdue",
        "Whether old snapshots should have been expired by now.",
        lambda table: table.maintenance_overdue,
    ),
    _of_tables(
        "k2_last_maintenance_timestamp_seconds",
        "When maintenance of the table last went well; if it never has, when its first window was planned.",
        _maintained,
    ),
    _of_tables(
        "k2_staged_snapshots",
        "Snapshots that no branch leads to: staged and never published, or rolled back.",
        lambda table: table.history.staged if table.history else None,
    ),
    _of_tables(
        "k2_oldest_staged_snapshot_timestamp_seconds",
        "When the oldest of these was made. Missing if there is none.",
        lambda table: _seconds(table.history.oldest_staged) if table.history else None,
    ),
    _of_dags(
        "k2_runs_missed",
        "How many runs of a layer's DAG should have begun since its newest one, by the schedule; 3 stands for more.",
        lambda dag, _: dag.missed,
    ),
    _of_dags(
        "k2_run_active_seconds",
        "For how long a run of the DAG has been running. 0 if none is.",
        lambda dag, now: _age(dag.active_since, now),
    ),
    _of_dags("k2_runs_waiting", "Runs of the DAG that are queued.", lambda dag, _: dag.waiting),
    _of_dags(
        "k2_last_run_start_timestamp_seconds", "When its newest run began.", lambda dag, _: _seconds(dag.last_start)
    ),
    _of_dags(
        "k2_last_run_success_timestamp_seconds",
        "When the newest of its runs that succeeded ended.",
        lambda dag, _: _seconds(dag.last_success),
    ),
    _of_dags(
        "k2_last_run_duration_seconds",
        "How long its newest run that has ended took, its wait for the layer below included.",
        lambda dag, _: dag.last_seconds,
    ),
    _of_dags(
        "k2_run_failures_in_a_row",
        "How many of its runs have failed since one succeeded, among the latest twenty.",
        lambda dag, _: dag.failures,
    ),
    _metric(
        "k2_lake_size_bytes",
        "Size of the file system that a lake in a folder is on.",
        lambda seen: seen.disk.size_bytes if seen.disk else None,
    ),
    _metric(
        "k2_lake_free_bytes",
        "What is free of it.",
        lambda seen: seen.disk.free_bytes if seen.disk else None,
    ),
)

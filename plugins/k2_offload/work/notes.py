"""What a person should know of a table beside its numbers, in sentences: for ``k2 status`` and the page alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta

from k2_offload.adapters.dag_runs import ActiveRun, DagState
from k2_offload.core.exactly_once import FIRST_WATERMARK
from k2_offload.core.needs import MISSED, find_needs
from k2_offload.core.observation import Records
from k2_offload.core.text import show_bytes, show_duration, show_time, show_window
from k2_offload.core.ttl import Urgency
from k2_offload.work.status import TableStatus


def find_notes(line: TableStatus, now: datetime) -> Iterator[str]:
    """What a person should know of a table beside its numbers."""
    looks = (show_failure(line), show_refusal(line), show_silence(line, now), show_ttl(line, now), show_overdue(line))
    yield from filter(None, looks)
    if line.held_back_by:
        below, watermark = line.held_back_by.table, line.held_back_by.watermark
        if watermark == FIRST_WATERMARK:
            yield f"held back by {below}, which has moved nothing yet."
        else:
            yield f"held back by {below} at {show_time(watermark)}."
    if line.unreadable_below:
        below = ", ".join(line.unreadable_below)
        yield f"what it is made from cannot be read: {below}. No new window of it begins until it can."
    if line.before_first:
        yield f"{line.before_first:,} rows are of times before 2000-01-01. No cycle moves them."
    if line.future:
        yield f"{line.future:,} rows are from the future. They are moved when their time has come."
    if line.record and line.record.row_limit is not None:
        yield (
            f"its windows have been made smaller, since a larger one has failed twice: about {line.record.row_limit:,} "
            "rows at most. They grow again with each one that is moved."
        )
    for gap in line.gaps:
        rows = "an unknown number of" if gap.rows is None else f"{gap.rows:,}"
        yield f"{rows} rows missed in {show_window(gap.window.low, gap.window.high)} ({gap.kind})."


def describe_late(days: Iterable[date]) -> str:
    """That there are late rows, and what becomes of them."""
    return (
        f"rows of {', '.join(map(str, days))} that came below the watermark. No window brings them; `k2_reconcile` "
        "heals their day as long as ClickHouse holds it as a whole. `k2 heal TABLE --dry-run` says what it will do."
    )


def describe_records(table: str, records: Records, now: datetime) -> Iterator[str]:
    """Up to which day a table is sealed, and what of its days, seals and messages needs somebody."""
    if records.sealed is not None and records.sealed.newest is not None:
        yield f"sealed up to {records.sealed.newest}."
    for need in find_needs(table, records, now):
        if need.check != MISSED:  # find_notes() has each of them
            yield need.sentence


def explain(line: TableStatus, now: datetime, dag_id: str, dag: DagState | None, target: timedelta) -> list[str]:
    """Why the table does not move, or that it does: the sentences of ``k2 status``, and what its DAG has to do with it.

    :param line: of a table that could be looked at, or has a ``problem``
    :param dag_id: of the table's layer
    :param dag: ``None`` if that is not known
    :param target: how long a row of the table may wait
    """
    sentences = [] if line.problem is None else [line.problem]
    if dag is not None:
        sentences += _describe_dag(dag_id, dag)
    sentences += find_notes(line, now)
    if sentences or line.lag is None:
        return sentences
    if not line.lag:
        return ["everything has moved."]
    if line.lag <= target:
        return ["what waits is moved by the next cycle."]
    if line.rests:
        return ["its last rows wait until the feed has been silent for longer than `idle_after_seconds`."]
    if dag is not None and dag.runs:
        return [f"behind its target; {dag_id}: {describe_runs(dag.runs, now)}"]
    moved_at = line.record.last_successful_run if line.record else None
    if moved_at is not None and now - moved_at <= target:
        ago = show_duration(now - moved_at)
        return [f"behind its target; a window was moved {ago} ago, and the next cycle moves more."]
    return [
        f"behind its target, and no run of {dag_id} goes on: is Airflow's scheduler up? "
        f"`k2 run {line.table.name}` moves it at once."
    ]


def _describe_dag(dag_id: str, dag: DagState) -> Iterator[str]:
    if dag.paused is None:
        yield f"Airflow knows no DAG {dag_id} yet: its DAG processor has not read the file, or could not."
    elif dag.paused:
        yield f"its DAG {dag_id} is paused: nothing moves until `airflow dags unpause {dag_id}`."


def describe_runs(runs: Sequence[ActiveRun], now: datetime) -> str:
    """Which run a DAG is busy with, and how many wait for it.

    :param runs: of one DAG; the first is the one that goes on
    """
    first = runs[0]
    text = (
        f"run {first.run_id} has been {first.state} since {show_time(first.since)} ({show_duration(now - first.since)})"
    )
    if len(runs) > 1:
        text += f"; runs that wait for it: {len(runs) - 1}"
    if first.is_abandoned(now):
        text += ". The process that ran it is gone: `k2 run` ends it"
    return text + "."


def show_silence(line: TableStatus, now: datetime) -> str | None:
    """Since when the source has been silent, if it is."""
    if line.silence is None:
        return None
    if line.silence.since is None:
        return (
            "ClickHouse has no rows up to now, and none was ever moved. If its feed sends, is it the right source, and "
            "are its timestamps of the right unit?"
        )
    return f"no new rows since {show_time(line.silence.since)} ({show_duration(now - line.silence.since)})."


def show_failure(line: TableStatus) -> str | None:
    """What failed, as far as the ledger knows, if anything did."""
    if line.record is None or line.record.status != "failed":
        return None
    return f"failed: {line.record.reason or 'the ledger does not say why; the log of the last run does.'}"


def show_refusal(line: TableStatus) -> str | None:
    """Why the next cycle will not move the table, if it will not."""
    return f"the next cycle will refuse it: {line.refusal}" if line.refusal else None


def show_ttl(line: TableStatus, now: datetime) -> str | None:
    """How much time the TTL leaves for what has not been moved, if that is little."""
    return line.expiry.describe(now) if line.expiry and line.expiry.urgency(now) is not Urgency.NONE else None


def show_overdue(line: TableStatus) -> str | None:
    """That old snapshots should have been expired, and how, if they should."""
    if line.metadata is None or not line.metadata.overdue:
        return None
    return (
        f"{line.metadata.snapshots:,} snapshots, {show_bytes(line.metadata.size_bytes)} of metadata that every load "
        f"reads: maintenance is overdue. `k2 maintain {line.table.name}` does it now; look whether the DAG "
        "k2_maintenance runs."
    )

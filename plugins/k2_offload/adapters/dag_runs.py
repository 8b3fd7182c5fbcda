"""Airflow's runs that have not ended, read from its own database: for commands and pages; tasks may not look there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from k2_offload.adapters.processes import has_ended, own_process
from k2_offload.adapters.settings import load_settings
from k2_offload.core.dag_ids import attempt_seconds
from k2_offload.core.errors import NoAirflowDatabase
from k2_offload.core.limits import TASK_SECONDS, unchanged_seconds
from k2_offload.core.observation import DagObservation

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

PROCESS = "process"
"""What a run's conf says for :class:`ActiveRun` alone; no task is told it."""

_LATEST_RUNS = 20
_LATEST_SUCCESSES = 200  # some may have been for a few tables


@dataclass(frozen=True)
class ActiveRun:
    """A run that has not ended.

    :param state: ``running`` or ``queued``
    :param since: when it came into that state
    :param last_change: when one of its tasks changed its state last
    :param outside: whether it runs in a process outside of the scheduler, as with ``airflow dags test``
    :param process: which one, if it has said so
    :param task_seconds: how long one attempt of a task of it may take
    """

    dag_id: str
    run_id: str
    state: str
    since: datetime
    last_change: datetime
    outside: bool
    process: str | None
    task_seconds: int = TASK_SECONDS

    def is_abandoned(self, now: datetime) -> bool:
        """Whether the process that ran it is gone, so that it will never end: the scheduler does not adopt its tasks.

        Without doubt where the process can be looked up; elsewhere after no task has changed for longer than one may
        take.
        """
        if not self.outside or self.state != "running":
            return False
        ended = has_ended(self.process)
        return self.is_unchanged(now) if ended is None else ended

    def is_unchanged(self, now: datetime) -> bool:
        """Whether no task has changed its state for longer than one attempt may take."""
        return now - self.last_change > timedelta(seconds=unchanged_seconds(self.task_seconds))


@dataclass(frozen=True)
class DagState:
    """What Airflow knows of one DAG.

    :param paused: ``None`` if Airflow does not know the DAG
    :param runs: those that have not ended, what runs first
    """

    paused: bool | None
    runs: tuple[ActiveRun, ...] = ()


def conf_of_this_process(conf: dict[str, Any]) -> dict[str, Any]:
    """The conf for a run that this process makes, so that it is known as its own."""
    return conf | {PROCESS: own_process()}


def read_active_runs(dag_ids: Sequence[str]) -> list[ActiveRun]:
    """The runs of these DAGs that are running or queued, what runs first.

    :raises NoAirflowDatabase: if Airflow's database does not answer
    """
    from airflow.models.dagrun import DagRun  # noqa: PLC0415 - loading Airflow's models takes seconds
    from airflow.models.taskinstance import TaskInstance  # noqa: PLC0415
    from airflow.utils.types import DagRunTriggeredByType  # noqa: PLC0415
    from sqlalchemy import func, select  # noqa: PLC0415

    changed = (
        select(func.max(TaskInstance.updated_at))
        .where(TaskInstance.dag_id == DagRun.dag_id, TaskInstance.run_id == DagRun.run_id)
        .scalar_subquery()
    )
    query = (
        select(DagRun, changed)
        .where(DagRun.dag_id.in_(dag_ids), DagRun.state.in_(("running", "queued")))
        .order_by(DagRun.state.desc(), DagRun.id)
    )
    task_seconds = load_settings().task_timeout_seconds
    with _session() as session:
        return [
            ActiveRun(
                run.dag_id,
                run.run_id,
                str(run.state),
                since := (run.start_date if run.state == "running" else run.queued_at) or run.run_after,
                last_change or since,
                run.triggered_by == DagRunTriggeredByType.TEST,
                (run.conf or {}).get(PROCESS),
                attempt_seconds(run.dag_id, task_seconds),
            )
            for run, last_change in session.execute(query)
        ]


def read_dags(dag_ids: Sequence[str]) -> dict[str, DagState]:
    """What Airflow knows of these DAGs.

    :raises NoAirflowDatabase: if Airflow's database does not answer
    """
    from airflow.models.dag import DagModel  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    query = select(DagModel.dag_id, DagModel.is_paused).where(DagModel.dag_id.in_(dag_ids), ~DagModel.is_stale)
    with _session() as session:
        paused = {dag_id: bool(is_paused) for dag_id, is_paused in session.execute(query)}
    runs = read_active_runs(dag_ids)
    return {
        dag_id: DagState(paused.get(dag_id), tuple(run for run in runs if run.dag_id == dag_id)) for dag_id in dag_ids
    }


def read_latest_runs(dag_id: str, tables: Collection[str]) -> DagObservation:
    """What the latest runs of a DAG came to.

    A run for some tables or days, or a dry one, says nothing of all others: it is neither a success nor a failure.

    :param tables: the names of those that a whole run is for
    :raises NoAirflowDatabase: if Airflow's database does not answer
    """
    from airflow.models.dagrun import DagRun  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    columns = (DagRun.state, DagRun.start_date, DagRun.end_date, DagRun.conf)
    query = select(*columns).where(DagRun.dag_id == dag_id).order_by(DagRun.id.desc()).limit(_LATEST_RUNS)
    succeeded = (
        select(DagRun.end_date, DagRun.conf)
        .where(DagRun.dag_id == dag_id, DagRun.state == "success", DagRun.end_date.is_not(None))
        .order_by(DagRun.id.desc())
        .limit(_LATEST_SUCCESSES)
    )
    with _session() as session:
        found = [(str(state), start, end, conf) for state, start, end, conf in session.execute(query)]
        successes = (end for end, conf in session.execute(succeeded) if not _is_partial(conf, tables))
        last_success = next(successes, None)
    runs = [(state, start, end) for state, start, end, _ in found]
    ended = [
        (state, start, end)
        for state, start, end, conf in found
        if start is not None and end is not None and not _is_partial(conf, tables)
    ]
    states = [state for state, *_ in ended]
    return DagObservation(
        dag_id,
        active_since=min((start for state, start, _ in runs if state == "running" and start is not None), default=None),
        waiting=sum(state == "queued" for state, *_ in runs),
        last_start=max((start for _, start, _ in runs if start is not None), default=None),
        last_success=last_success,
        last_seconds=(ended[0][2] - ended[0][1]).total_seconds() if ended else None,
        failures=states.index("success") if "success" in states else len(states),
    )


def _is_partial(conf: Any, tables: Collection[str]) -> bool:
    """Whether a run with this ``conf`` was for less than all ``tables``, or changed nothing."""
    if not isinstance(conf, Mapping):
        return False
    chosen = conf.get("tables") or tables
    return bool(conf.get("dry_run") or conf.get("days")) or not set(tables) <= set(chosen)


def end_run(dag_id: str, run_id: str) -> None:
    """Let a run end as failed, its unfinished tasks as skipped: what Airflow does at a run's timeout.

    Does nothing if it has ended.

    :raises NoAirflowDatabase: if Airflow's database does not answer
    """
    from airflow.models.dagrun import DagRun  # noqa: PLC0415
    from airflow.models.taskinstance import TaskInstance  # noqa: PLC0415
    from airflow.utils.state import DagRunState, State, TaskInstanceState  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    with _session() as session:
        run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
        if run is None or run.state in State.finished_dr_states:
            return
        tasks = select(TaskInstance).where(TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)
        for task in session.scalars(tasks):
            if task.state not in State.finished:
                task.set_state(TaskInstanceState.SKIPPED, session=session)
        run.set_state(DagRunState.FAILED)


@contextmanager
def _session() -> Iterator[Session]:
    from airflow.utils.session import create_session  # noqa: PLC0415
    from sqlalchemy.exc import OperationalError  # noqa: PLC0415

    try:
        with create_session() as session:
            yield session
    except OperationalError as error:
        raise NoAirflowDatabase(str(error.orig).strip().rstrip(".")) from None

"""Runs layers' DAGs one after another, so that Airflow is loaded once for all of them.

    python -m k2_offload.cli.dag_runner '{"layers": ["bronze"], "tables": [], "conf": {}}'

In place of a layer may stand the id of another DAG; "conf" is what its run is told besides.

Where a scheduler is at work, it runs them: a run in this process would be taken up by both. Otherwise they run in this
process, as with ``airflow dags test``, without retries. Standard output gets one JSON line per event; the log of it all
goes to standard error.

No scheduler adopts a run whose process was killed, and a layer has one run at a time. So a run of this process ends
with it, and what others have left behind is ended first. With ``"tables": null`` that is all that is done. A run that
the scheduler has begun goes on when this process is interrupted, and a notice says so.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from k2_offload.adapters.dag_runs import ActiveRun, conf_of_this_process, end_run, read_active_runs
from k2_offload.adapters.ledger_records import TableRecord
from k2_offload.adapters.retry import with_retries
from k2_offload.adapters.settings import load_settings
from k2_offload.cli.run_log import as_console
from k2_offload.core.dag_ids import dag_id
from k2_offload.core.errors import OffloadError
from k2_offload.core.gaps import GapKind
from k2_offload.core.limits import MISSING_RUN_SECONDS
from k2_offload.core.tables import LAYERS
from k2_offload.core.windows import format_time
from k2_offload.work.tiers import open_ledger, wall_clock

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class LayerEnded:
    """A layer's run has ended.

    :param state: Airflow's, ``success`` or ``failed``; ``missing`` if there is no such DAG, or it has none of the
        tables; ``queued`` or ``running`` if the scheduler stopped before the run had ended
    """

    layer: str
    state: str
    seconds: float


@dataclass(frozen=True)
class WindowMoved:
    """The ledger has a new window of a table, or knows it as published; or a range that the table has left out.

    :param state: ``open``, ``committed`` or ``left_out``
    :param rows: planned while it is open, published afterwards; those that are left out
    :param seconds: from planning to committing
    """

    table: str
    state: str
    low: str
    high: str
    rows: int
    seconds: float | None


@dataclass(frozen=True)
class Notice:
    """Something that a person should know of other runs."""

    text: str


Event = LayerEnded | WindowMoved | Notice


class Events:
    """Writes events, one JSON line each; safe from several threads."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, event: Event) -> None:
        """Write one event."""
        with self._lock:
            self._stream.write(json.dumps({"event": type(event).__name__, **asdict(event)}) + "\n")
            self._stream.flush()


class LedgerWatch:
    """Tells what changes in the ledger while it is entered, from a thread of its own."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._ledger = open_ledger(load_settings())
        self._ledger.migrate()
        self._seen = {record.table: _progress(record) for record in self._ledger.read_tables().values()}
        self._skipped = self._read_skipped()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> LedgerWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.look()

    def look(self) -> None:
        """Tell what has changed since the last look."""
        for record in self._ledger.read_tables().values():
            if record.low and record.high and record.state and self._seen.get(record.table) != _progress(record):
                self._seen[record.table] = _progress(record)
                rows = record.rows if record.state == "committed" else record.planned_rows
                seconds = record.last_run_duration_seconds if record.state == "committed" else None
                self._events.send(
                    WindowMoved(
                        record.table,
                        record.state,
                        format_time(record.low),
                        format_time(record.high),
                        rows or 0,
                        seconds,
                    )
                )
        for table, low, high, rows in self._read_skipped() - self._skipped:
            self._skipped.add((table, low, high, rows))
            self._events.send(WindowMoved(table, "left_out", low, high, rows, None))

    def _read_skipped(self) -> set[tuple[str, str, str, int]]:
        return {
            (table, format_time(gap.window.low), format_time(gap.window.high), gap.rows or 0)
            for table, gaps in self._ledger.read_gaps().items()
            for gap in gaps
            if gap.kind is GapKind.SKIPPED
        }

    def _watch(self) -> None:
        while not self._ended.wait(_POLL_SECONDS):
            self.look()


def _progress(record: TableRecord) -> tuple[object, ...]:
    return record.low, record.high, record.state


def main() -> None:
    """Run the layers until one fails."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
    request = json.loads(sys.argv[1])
    # Airflow and Spark write to standard output too; keep it for the events.
    events = Events(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)

    layers = request["layers"]
    for layer in layers:
        _end_abandoned(_id(layer), events)
    if request["tables"] is None:
        return
    dags = _load_dags()
    with LedgerWatch(events) as watch:
        for layer in layers:
            started = time.monotonic()
            dag = dags.get(_id(layer))
            state = "missing" if dag is None else run_layer(dag, request["tables"], request["conf"], events)
            watch.look()
            events.send(LayerEnded(layer, state, time.monotonic() - started))
            if state != "success":
                sys.exit(1)


def _id(name: str) -> str:
    return dag_id(name) if name in LAYERS else name


def _end_abandoned(dag_id: str, events: Events) -> None:
    for run in with_retries(partial(read_active_runs, [dag_id])):
        if run.is_abandoned(wall_clock()):
            end_run(dag_id, run.run_id)
            events.send(Notice(f"{dag_id}: ended run {run.run_id}, which nobody ran any more ({_since(run)})"))


def _since(run: ActiveRun) -> str:
    return f"{run.state} since {run.since:%Y-%m-%d %H:%M:%S} UTC"


def _load_dags() -> dict[str, Any]:
    """All DAGs by id. A scheduler's database knows them too: its DAG processor may not have seen them yet."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager  # noqa: PLC0415 - once output has been moved
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db  # noqa: PLC0415

    bundles = DagBundlesManager()  # type: ignore[no-untyped-call]
    if scheduled := _has_scheduler():  # a run in this process makes them known itself
        bundles.sync_bundles_to_db()
    dags: dict[str, Any] = {}
    for bundle in bundles.get_all_dag_bundles():
        bundle.initialize()
        bag = BundleDagBag(bundle.path, bundle_path=bundle.path, bundle_name=bundle.name)
        if scheduled:
            sync_bag_to_db(bag, bundle.name, bundle.version)
        dags |= bag.dags
        for file, error in bag.import_errors.items():
            print(f"ERROR {file}: {error}", file=sys.stderr)
    return dags


def run_layer(dag: Any, tables: list[str], conf: dict[str, Any], events: Events) -> str:
    """Run a DAG for those of ``tables`` that are its own; for all of them if none is named.

    :returns: the run's state, as of :class:`LayerEnded`
    """
    # The names of other layers' tables mean nothing to this DAG's trigger form.
    chosen = [name for name in tables if name in dag.params.get_param("tables").schema["examples"]]
    if tables and not chosen:  # they have left the table file since the command looked; none chosen would mean all
        text = f"not run, because the table file has none of these any more for it: {', '.join(tables)}"
        events.send(Notice(f"{dag.dag_id}: {text}. Nothing was changed"))
        return "missing"
    conf = {**conf, "tables": chosen}
    if _scheduler_takes(dag.dag_id):
        return run_by_scheduler(dag.dag_id, conf, events)
    return _run_here(dag, conf, events)


def _run_here(dag: Any, conf: dict[str, Any], events: Events) -> str:
    from airflow.models.dagrun import DagRun  # noqa: PLC0415
    from airflow.utils.types import DagRunType  # noqa: PLC0415

    for task in dag.tasks:
        task.retries = 0
    now = wall_clock()
    run_id = DagRun.generate_run_id(run_type=DagRunType.MANUAL, logical_date=now, run_after=now)
    try:
        with interrupted_when_stuck(dag.dag_id, run_id, events):
            return str(dag.test(logical_date=now, run_conf=conf_of_this_process(conf)).state)
    except BaseException:
        try:
            with_retries(partial(end_run, dag.dag_id, run_id))
        except OffloadError as error:
            events.send(Notice(f"{dag.dag_id}: run {run_id} is left behind; the next `k2 run` ends it. {error}"))
        raise


@contextmanager
def interrupted_when_stuck(dag_id: str, run_id: str, events: Events, look_seconds: float = 15) -> Iterator[None]:
    """Interrupt the main thread if none of a run's tasks has changed for longer than one may take.

    Airflow's loop waits for ever for a task whose end it could not write down, as when Postgres was away.
    """
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(look_seconds):
            with suppress(OffloadError):
                for run in read_active_runs([dag_id]):
                    if run.run_id == run_id and run.is_unchanged(wall_clock()):
                        events.send(Notice(f"{dag_id}: run {run_id} does not go on ({_since(run)}); ending it"))
                        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                        return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _has_scheduler() -> bool:
    from airflow.jobs.job import most_recent_job  # noqa: PLC0415

    job = most_recent_job("SchedulerJob")
    return job is not None and job.is_alive()


def _scheduler_takes(dag_id: str) -> bool:
    """Whether a scheduler is at work that runs this DAG."""
    from airflow.models.dag import DagModel  # noqa: PLC0415

    model = DagModel.get_current(dag_id)
    return _has_scheduler() and model is not None and not model.is_paused


def run_by_scheduler(dag_id: str, conf: dict[str, Any], events: Events) -> str:
    """Trigger a run and wait for its end, and say what it waits for itself.

    Interrupted, it takes the run back if it has not begun.

    :returns: the run's state, as of :class:`LayerEnded`
    """
    from airflow.models.dagrun import DagRun  # noqa: PLC0415
    from airflow.utils.types import DagRunType  # noqa: PLC0415

    for earlier in read_active_runs([dag_id]):
        events.send(Notice(f"{dag_id}: waiting for run {earlier.run_id}, {_since(earlier)}"))
    run_id = DagRun.generate_run_id(run_type=DagRunType.MANUAL, run_after=wall_clock())
    try:
        return _await_scheduler(dag_id, run_id, conf, events)
    except KeyboardInterrupt:
        _take_back(dag_id, run_id, events)
        raise


def _await_scheduler(dag_id: str, run_id: str, conf: dict[str, Any], events: Events) -> str:
    from airflow.api.common.trigger_dag import trigger_dag  # noqa: PLC0415
    from airflow.models.dagrun import DagRun  # noqa: PLC0415
    from airflow.utils.types import DagRunTriggeredByType  # noqa: PLC0415

    run = trigger_dag(dag_id, run_id=run_id, conf=conf, triggered_by=DagRunTriggeredByType.CLI)
    if run is None:
        return "missing"
    print(f"{dag_id} {run_id}: run by the scheduler", file=sys.stderr)
    last_seen = time.monotonic()
    while True:
        time.sleep(_POLL_SECONDS)
        [now] = DagRun.find(dag_id=dag_id, run_id=run_id)
        if now.state in ("success", "failed"):
            sys.stderr.writelines(f"{line}\n" for line in _task_logs(dag_id, run_id))
            return str(now.state)
        if now.state == "queued":
            _end_abandoned(dag_id, events)
        if _scheduler_takes(dag_id):
            last_seen = time.monotonic()
        elif time.monotonic() - last_seen > MISSING_RUN_SECONDS:
            events.send(Notice(f"{dag_id}: no scheduler is at work any more; run {run_id} waits until one is"))
            return str(now.state)


def _take_back(dag_id: str, run_id: str, events: Events) -> None:
    """End a run that the scheduler has not begun; say of one that it has begun that it goes on."""
    how = f"To stop it, mark run {run_id} of {dag_id} as failed in Airflow's UI."
    try:
        state = next((run.state for run in read_active_runs([dag_id]) if run.run_id == run_id), None)
        if state == "queued":
            end_run(dag_id, run_id)
            events.send(Notice(f"{dag_id}: ended run {run_id}, which had not begun"))
        elif state is not None:
            events.send(Notice(f"{dag_id}: run {run_id} goes on: the scheduler runs it. {how}"))
    except OffloadError as error:
        events.send(Notice(f"{dag_id}: run {run_id} may go on: the scheduler has it. {how} {error}"))


def _task_logs(dag_id: str, run_id: str) -> Iterator[str]:
    """What the tasks of a run logged, if they logged on this machine."""
    from airflow.configuration import conf  # noqa: PLC0415

    folder = Path(conf.get("logging", "base_log_folder")) / f"dag_id={dag_id}" / f"run_id={run_id}"
    for path in sorted(folder.rglob("*.log")):
        yield f"--- {path}"
        for line in path.read_text(errors="replace").splitlines():
            yield from as_console(line)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Interrupted.")

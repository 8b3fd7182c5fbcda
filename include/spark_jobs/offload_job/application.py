"""The generic offload job: for each window of a plan, stage → audit → publish.

It decides nothing: everything is in the plan. Connections come from the environment variable K2_OFFLOAD_CONNECTIONS.
Each table is isolated: one that fails makes the job fail at the end, after the others have been published, and a retry
finds those done.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import groupby
from pathlib import Path

from k2_offload.adapters.log_lines import about, print_lines
from k2_offload.adapters.replicas import open_planned
from k2_offload.adapters.retry import with_retries
from k2_offload.core.backfill import BackfillId
from k2_offload.core.day_comparison import day_window
from k2_offload.core.errors import OffloadError, StaleWindow
from k2_offload.core.exactly_once import Snapshot, WindowId
from k2_offload.core.heal import HealId
from k2_offload.core.job_connections import JobConnections
from k2_offload.core.plan import Plan, PlannedBackfill, PlannedHeal, PlannedRows, PlannedWindow
from k2_offload.core.transports import TRANSPORTS
from offload_job.backfill import backfill
from offload_job.cold_table_writer import ColdTableWriter, open_catalog
from offload_job.heal import heal
from offload_job.jvm import Jvm, end_with_parent, start_jvm
from offload_job.move import move
from offload_job.steps import Steps
from offload_job.swap import Swap
from offload_job.transport import Transport, load_transport

log = logging.getLogger(__name__)


class Job:
    """One application's work.

    :param connections: where ClickHouse and the catalog are
    :param jvm: of the spark-submit that this runs in
    """

    def __init__(self, connections: JobConnections, jvm: Jvm) -> None:
        # Loaded while Java connects to the catalog: each takes a tenth of a second.
        threading.Thread(target=importlib.import_module, args=("clickhouse_driver",)).start()
        self.connections = connections
        self._jvm = jvm
        self._catalog = open_catalog(jvm, connections.catalog)
        self._master = str(jvm.java.lang.System.getProperty("spark.master"))
        self._transports: dict[str, Transport] = {}
        self._loading = threading.Lock()

    def move(self, planned: PlannedWindow) -> None:
        """Move one window.

        :raises OffloadError: if nothing was published by this attempt
        """
        window_id = WindowId.parse(planned.window_id)
        if window_id is None:
            raise OffloadError(f"{planned.table}: '{planned.window_id}' is not a window id")
        steps = Steps(log, planned.table, window_id.window)
        published = with_retries(lambda: self._move(planned, window_id))
        if published is None:
            steps.done("publish", "already published, found")
            return
        rows, size = published.rows, published.size_bytes
        steps.done("publish", f"published {rows} rows, {size} bytes", rows=rows, bytes=size)

    def heal(self, planned: PlannedHeal) -> None:
        """Heal one day.

        :raises OffloadError: if nothing was changed by this attempt
        """
        heal_id = HealId.parse(planned.heal_id)
        if heal_id is None:
            raise OffloadError(f"{planned.table}: '{planned.heal_id}' is not a heal id")
        day = day_window(heal_id.day)
        steps = Steps(log, planned.table, day, heal_id.day)
        try:
            healed = with_retries(lambda: self._heal(planned, heal_id))
        except StaleWindow as stale:  # the comparison that follows says what is left to do
            log.info("%s", stale, extra=about("heal", planned.table, day))
            return
        before = healed.rows_before - healed.rows_after + healed.rows
        text = f"healed, {healed.rows} rows in place of {before},"
        steps.done("heal", text, rows=healed.rows, rows_before=before, bytes=healed.size_bytes)

    def backfill(self, planned: PlannedBackfill) -> None:
        """Bring one skipped range.

        :raises OffloadError: if nothing was published by this attempt
        """
        backfill_id = BackfillId.parse(planned.backfill_id)
        if backfill_id is None:
            raise OffloadError(f"{planned.table}: '{planned.backfill_id}' is not a backfill id")
        steps = Steps(log, planned.table, backfill_id.window)
        filled = with_retries(lambda: self._backfill(planned, backfill_id))
        if filled is None:
            steps.done("backfill", "already filled, found")
        else:
            steps.done("backfill", f"filled, {filled.rows} rows", rows=filled.rows, bytes=filled.size_bytes)

    def _backfill(self, planned: PlannedBackfill, backfill_id: BackfillId) -> Snapshot | None:
        cold, transport = self._cold(planned), self._transport(planned.transport)
        with closing(open_planned(self.connections.clickhouse, planned)) as clickhouse:
            return backfill(planned, backfill_id, cold, clickhouse, transport, lambda: uuid.uuid4().hex)

    def _heal(self, planned: PlannedHeal, heal_id: HealId) -> Snapshot:
        cold = self._cold(planned)
        swap = Swap(self._jvm, cold, planned.table, planned.partition_column, [heal_id.day])
        with closing(open_planned(self.connections.clickhouse, planned)) as clickhouse:
            return heal(
                planned, heal_id, cold, swap, clickhouse, self._transport(planned.transport),
                self.connections.lake_collection, lambda: uuid.uuid4().hex,
            )  # fmt: skip

    def _cold(self, planned: PlannedRows) -> ColdTableWriter:
        connection_id = self.connections.catalog.connection_id
        cold = ColdTableWriter(self._jvm, self._catalog, planned.target, planned.table, connection_id)
        cold.require(TRANSPORTS[planned.transport].table_properties)
        return cold

    def _move(self, planned: PlannedWindow, window_id: WindowId) -> Snapshot | None:
        cold, transport = self._cold(planned), self._transport(planned.transport)
        with closing(open_planned(self.connections.clickhouse, planned)) as clickhouse:
            return move(planned, window_id, cold, clickhouse, transport, lambda: uuid.uuid4().hex)

    def _transport(self, name: str) -> Transport:
        with self._loading:
            if name not in self._transports:
                self._transports[name] = load_transport(name, self.connections, self._master)
            return self._transports[name]


def run(job: Job, plan: Plan, parallel_tables: int) -> bool:
    """Do all of the plan, several tables at once; says of each window, heal and backfill what became of it.

    :returns: whether all of them are published now
    """

    def attempt(planned: PlannedRows) -> bool:
        try:
            match planned:
                case PlannedWindow():
                    job.move(planned)
                case PlannedHeal():
                    job.heal(planned)
                case PlannedBackfill():
                    job.backfill(planned)
        except OffloadError as error:
            log.error("%s", error, extra=about("offload", planned.table))
            return False
        except Exception:  # one table's surprise must not stop the others
            told = about("offload", planned.table)
            log.exception(
                "%s: unexpected, see below. No row is lost; the retry moves the window.", planned.table, extra=told
            )
            return False
        return True

    with ThreadPoolExecutor(parallel_tables) as pool:
        others: list[PlannedRows] = sorted([*plan.heals, *plan.backfills], key=lambda planned: planned.table)
        # One after another of a table: each moves its main.
        work: list[list[PlannedRows]] = [[window] for window in plan.windows]
        work += [list(of_table) for _, of_table in groupby(others, key=lambda planned: planned.table)]
        return all(list(pool.map(lambda each: all([attempt(planned) for planned in each]), work)))  # noqa: C419


def main(start: Callable[[], Jvm] = start_jvm) -> int:
    """Move every window, and heal every day, of the plan that the command line names.

    :param start: gives the virtual machine
    :returns: 1 if any window failed
    """
    parser = argparse.ArgumentParser(description="Move the windows of a plan from ClickHouse to Iceberg.")
    parser.add_argument("plan", type=Path, help="file with the plan, as the task 'plan' returns it")
    parser.add_argument("--parallel-tables", type=int, default=4, help="how many tables to move at once")
    arguments = parser.parse_args()
    end_with_parent()
    print_lines()
    plan = Plan.from_json(arguments.plan.read_text())
    try:
        job = Job(JobConnections.from_environment(os.environ), start())
    except OffloadError as error:
        log.error("%s", error)
        return 1
    return 0 if run(job, plan, arguments.parallel_tables) else 1

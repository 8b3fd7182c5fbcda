"""The generic offload job: for each window of a plan, stage → audit → publish.

    spark-submit --driver-class-path <jars> offload.py PLAN.json

It decides nothing: everything is in the plan. Connections come from the environment variable K2_OFFLOAD_CONNECTIONS.
Each table is isolated: one that fails makes the job fail at the end, after the others have been published, and a retry
finds those done.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins"))

from cold_table import ColdTable, open_catalog
from export_transport import ExportTransport
from jdbc_transport import JdbcTransport
from jvm import start_jvm
from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.core.connections import JobConnections
from k2_offload.core.errors import OffloadError
from k2_offload.core.exactly_once import PublishDecision, Snapshot, WindowId, audit, decide_publish
from k2_offload.core.plan import Plan, PlannedTable

_PUBLISH_ATTEMPTS = 5


class Transport(Protocol):
    """Brings a window's rows into the cold table's storage and stages them as a snapshot."""

    def stage(
        self,
        clickhouse: ClickHouse,
        cold: ColdTable,
        planned: PlannedTable,
        window_id: WindowId,
        rows_per_day: Mapping[date, int],
        attempt: str,
    ) -> Snapshot:
        """Move and stage; nothing is visible to readers afterwards.

        :param rows_per_day: rows of the window by partition day (UTC); days without rows are missing
        :param attempt: unique; names this attempt's files and its snapshot
        """


class Job:
    """One application's work.

    :param connections: where ClickHouse and the catalog are
    """

    def __init__(self, connections: JobConnections) -> None:
        self._connections = connections
        self._jvm = start_jvm()
        self._catalog = open_catalog(self._jvm, connections.catalog)
        self._transports: dict[str, Transport] = {
            "export": ExportTransport(connections),
            "jdbc": JdbcTransport(connections),
        }

    def move(self, planned: PlannedTable) -> str:
        """Move one window.

        :returns: what happened, for the log
        :raises OffloadError: if nothing was published by this attempt
        """
        window_id = WindowId.parse(planned.window_id)
        if window_id is None:
            raise OffloadError(f"{planned.table}: '{planned.window_id}' is not a window id")
        window = window_id.window
        started = time.monotonic()
        cold = ColdTable(self._jvm, self._catalog, planned.target, planned.table)
        if decide_publish(planned.table, window_id, cold.uuid, cold.published()) is PublishDecision.ALREADY_PUBLISHED:
            return f"{planned.table} {window}: already published"
        clickhouse = ClickHouse(self._connections.clickhouse)
        try:
            rows_per_day = clickhouse.rows_per_day(planned.rows_per_day_sql)
            staged = self._transports[planned.transport].stage(
                clickhouse, cold, planned, window_id, rows_per_day, uuid.uuid4().hex
            )
        finally:
            clickhouse.close()
        audit(planned.table, window, staged.rows, sum(rows_per_day.values()))
        self._publish(planned.table, window_id, cold, staged.snapshot_id)
        seconds = time.monotonic() - started
        return f"{planned.table} {window}: published {staged.rows} rows, {staged.size_bytes} bytes in {seconds:.1f} s"

    def _publish(self, table: str, window_id: WindowId, cold: ColdTable, snapshot_id: int) -> None:
        """Check the staged snapshot's ancestors and move main to it; where main has moved on, stage again on top."""
        for _ in range(_PUBLISH_ATTEMPTS):
            ancestors = cold.published(cold.parent_of(snapshot_id))
            if decide_publish(table, window_id, cold.uuid, ancestors) is PublishDecision.ALREADY_PUBLISHED:
                return
            if cold.fast_forward(snapshot_id):
                return
            snapshot_id = cold.stage_again(snapshot_id, attempt=uuid.uuid4().hex)
        raise OffloadError(
            f"{table} {window_id.window}: other writers committed to the cold table {_PUBLISH_ATTEMPTS} times in a row "
            "while this window was being published. Nothing was published and no row is lost; the retry tries again."
        )


def main() -> int:
    """Move every window of the plan; 1 if any of them failed."""
    parser = argparse.ArgumentParser(description="Move the windows of a plan from ClickHouse to Iceberg.")
    parser.add_argument("plan", type=Path, help="file with the plan, as the task 'plan' returns it")
    parser.add_argument("--parallel-tables", type=int, default=4, help="how many tables to move at once")
    arguments = parser.parse_args()
    plan = Plan.from_json(arguments.plan.read_text())
    job = Job(JobConnections.from_json(os.environ[JobConnections.VARIABLE]))

    def attempt(planned: PlannedTable) -> bool:
        try:
            print(job.move(planned), flush=True)
        except OffloadError as error:
            print(f"ERROR {error}", flush=True)
            return False
        except Exception:  # noqa: BLE001 - one table's surprise must not stop the others
            traceback.print_exc()
            print(
                f"ERROR {planned.table}: unexpected, see above. No row is lost; the retry moves the window.", flush=True
            )
            return False
        return True

    with ThreadPoolExecutor(arguments.parallel_tables) as pool:
        return 0 if all(list(pool.map(attempt, plan.tables))) else 1


if __name__ == "__main__":
    sys.exit(main())

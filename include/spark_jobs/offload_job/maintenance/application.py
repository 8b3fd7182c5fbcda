"""The maintenance job: of each table, expire snapshots → remove orphan files → rewrite days of many files.

It can be stopped at any time, and started again: what is done stays done. Tables are isolated from each other.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2_offload.adapters.log_lines import about, print_lines
from k2_offload.adapters.retry import with_retries
from k2_offload.core.day_comparison import day_window
from k2_offload.core.errors import OffloadError
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.job_connections import JobConnections
from k2_offload.core.maintenance import DayFiles, Tidied, begun, files_wanted, together
from k2_offload.core.maintenance_plan import MaintenancePlan, PlannedMaintenance, report_to_json
from k2_offload.core.sql import spark_name
from k2_offload.core.text import show_days
from offload_job.cold_table_writer import ColdTableWriter, open_catalog
from offload_job.jvm import Jvm, end_with_parent, start_jvm
from offload_job.maintenance.problems import Problems, rewrite_or_each_alone, window_of
from offload_job.maintenance.rewrite import OldFiles, rewrite_days
from offload_job.maintenance.rewriter import Rewriter
from offload_job.maintenance.storage import Storage
from offload_job.session import start_session
from offload_job.swap import Swap, tasks_of_days

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from offload_job.scan_tasks import ScannedFile

log = logging.getLogger(__name__)

_LOCAL = "local[2]"


class MaintenanceJob:
    """One application's work.

    :param connections: where the catalog is
    :param jvm: of the spark-submit that this runs in
    """

    def __init__(self, connections: JobConnections, jvm: Jvm) -> None:
        self._catalog_settings = connections.catalog
        self._jvm = jvm
        self._catalog = open_catalog(jvm, connections.catalog)

    @cached_property
    def spark(self) -> SparkSession:
        """The session; nothing may be remembered in it, others commit meanwhile."""
        master = str(self._jvm.java.lang.System.getProperty("spark.master"))
        # Here, whatever cluster there is: its workers need neither Iceberg's jars nor access to the lake.
        local = None if master.startswith("local") else _LOCAL
        session = start_session(self._catalog_settings, procedures=True, cached=False, master=local)
        # Lists of files are joined, no rows: Spark's 200 partitions take most of a small table's time.
        session.conf.set("spark.sql.shuffle.partitions", str(session.sparkContext.defaultParallelism))
        return session

    def tidy(self, planned: PlannedMaintenance, *, dry_run: bool) -> Tidied:
        """All steps for one table; one that fails is told, and the next ones are taken.

        :raises OffloadError: if the table cannot even be looked at
        """
        reached(FaultPoint.MAINTENANCE_STARTED, planned.table)
        started = time.monotonic()
        settings = self._catalog_settings
        cold = ColdTableWriter(self._jvm, self._catalog, planned.target, planned.table, settings.connection_id)
        storage = Storage(self._jvm, cold, planned.table, f"{spark_name(settings.name)}.{planned.target}")
        if cold.uuid != planned.table_uuid:
            raise OffloadError(
                f"{planned.table}: the cold table was dropped and made anew since this run was planned. Nothing was "
                "changed; the next run looks at it."
            )
        before = storage.folder()
        done, problems = _Done(), Problems(planned.table)
        with problems.told():
            # Files go only from a table of which it is known which window came last.
            done.expired = with_retries(lambda: storage.expire(planned.expire_before, dry_run=dry_run))
            orphans = storage.orphans(self.spark, planned.orphans_before)
            if not dry_run:
                storage.remove(orphans)
            done.orphans, done.orphan_bytes = len(orphans), sum(orphans.values())
        # Last: a day that takes longer than the task may must not keep old snapshots for ever.
        with problems.told():
            done.days = self._rewrite(planned, cold, problems, dry_run=dry_run)
        return Tidied(
            planned.table, before, storage.folder(), done.days, done.expired, done.orphans, done.orphan_bytes,
            time.monotonic() - started, tuple(problems.all), tuple(problems.differences),
        )  # fmt: skip

    def _rewrite(self, planned: PlannedMaintenance, cold: ColdTableWriter, problems: Problems, *, dry_run: bool) -> int:
        """Rewrite the days that need it.

        :returns: how many
        """
        days = 0
        found = tasks_of_days(cold, planned.table, planned.partition_column)
        if found is None:
            return 0
        base, tasks = found
        by_day: dict[date, list[ScannedFile]] = {}
        for file in tasks.files():
            if file.day is not None:
                by_day.setdefault(file.day, []).append(file)
        for group in together(self._to_rewrite(planned, by_day)):
            if dry_run:
                days += len(group)
                for each in group:
                    told = about(
                        "rewrite", planned.table, day_window(each.day), files=each.files, bytes=each.size_bytes
                    )
                    text = f"{each.files} files, {each.size_bytes:,} bytes, to be rewritten into {each.into}"
                    log.info("%s %s: %s", planned.table, each.day, text, extra=told)
            else:

                def rewrite(chosen: Sequence[date], into: int = group[0].into) -> None:
                    files = [file for day in chosen for file in by_day[day]]
                    chosen_tasks = tasks.of_files([file.path for file in files])
                    self._rewrite_days(planned, OldFiles(tuple(chosen), files, chosen_tasks, into, base), cold)

                days += rewrite_or_each_alone([each.day for each in group], rewrite, problems)
        return days

    def _to_rewrite(
        self, planned: PlannedMaintenance, by_day: Mapping[date, Sequence[ScannedFile]]
    ) -> Iterator[DayFiles]:
        for day, files in sorted(by_day.items()):
            closed = day_window(day).high <= planned.closed_before
            sizes = [file.size_bytes for file in files]
            into = files_wanted(sizes, planned.target_file_bytes, closed=closed)
            if into is None:
                continue
            if any(file.delete_files for file in files):
                told = about("rewrite", planned.table, day_window(day))
                text = "has delete files of another writer, and is left as it is"
                log.info("%s %s: %s", planned.table, day, text, extra=told)
                continue
            yield DayFiles(day, len(files), sum(sizes), into, closed)

    def _rewrite_days(self, planned: PlannedMaintenance, old: OldFiles, cold: ColdTableWriter) -> None:
        started = time.monotonic()
        rewriter = Rewriter(self._jvm, self.spark, cold.java, planned.table)
        swap = Swap(self._jvm, cold, planned.table, planned.partition_column, old.days)
        written = rewrite_days(planned, old, cold, swap, rewriter, lambda: uuid.uuid4().hex)
        seconds, size_bytes = time.monotonic() - started, sum(file.size_bytes for file in old.files)
        numbers = {"files": len(old.files), "rows": written.rows, "bytes": written.size_bytes}
        text = (
            f"{len(old.files):,} files of {len(old.days)} days rewritten, {written.rows:,} rows, {size_bytes:,} → "
            f"{written.size_bytes:,} bytes, in {seconds:.1f} s"
        )
        told = about("rewrite", planned.table, window_of(old.days), **numbers, seconds=round(seconds, 3))
        log.info("%s %s: %s", planned.table, show_days(old.days), text, extra=told)


@dataclass
class _Done:
    days: int = 0
    expired: int = 0
    orphans: int = 0
    orphan_bytes: int = 0


def run(
    job: MaintenanceJob, plan: MaintenancePlan, tell: Callable[[list[Tidied]], None] = lambda _: None
) -> list[Tidied]:
    """Tidy every table of the plan, one after another.

    :param tell: gets what was done so far, and with which table it begins, before each table and after it
    :returns: what was done; a table that could not be looked at is missing
    """
    report: list[Tidied] = []
    for planned in plan.tables:
        problems = Problems(planned.table)
        with problems.told():
            tell([*report, begun(planned.table)])
        with problems.told():
            report.append(job.tidy(planned, dry_run=plan.dry_run))
            log.info("%s", _line(report[-1], dry_run=plan.dry_run), extra=_about(report[-1]))
        with problems.told():
            tell(report)
    return report


def _line(tidied: Tidied, *, dry_run: bool) -> str:
    before, after = tidied.before, tidied.after
    would = "would be " if dry_run else ""
    return (
        f"{tidied.table}: {before.files:,} → {after.files:,} files, "
        f"{before.size_bytes:,} → {after.size_bytes:,} bytes, "
        f"{tidied.rewritten_days:,} days {would}rewritten, {tidied.expired_snapshots:,} of {before.snapshots:,} "
        f"snapshots {would}expired, {tidied.orphans:,} orphan files {would}removed ({tidied.orphan_bytes:,} bytes), "
        f"{before.metadata_bytes:,} → {after.metadata_bytes:,} bytes of metadata, in {tidied.seconds:.1f} s"
    )


def _about(tidied: Tidied) -> dict[str, Any]:
    return about(
        "maintenance",
        tidied.table,
        files_before=tidied.before.files,
        files=tidied.after.files,
        bytes=tidied.after.size_bytes,
        rewritten_days=tidied.rewritten_days,
        expired_snapshots=tidied.expired_snapshots,
        orphan_files=tidied.orphans,
        seconds=round(tidied.seconds, 3),
    )


def _write(file: Path, text: str) -> None:
    """At once, so that nobody reads half of it whenever this process ends."""
    half = file.with_suffix(".half")
    half.write_text(text)
    half.replace(file)


def main(start: Callable[[], Jvm] = start_jvm) -> int:
    """Tidy every table of the plan that the command line names.

    :param start: gives the virtual machine
    :returns: 1 if anything went wrong
    """
    parser = argparse.ArgumentParser(description="Tidy cold tables.")
    parser.add_argument("plan", type=Path, help="file with the plan")
    parser.add_argument("report", type=Path, help="file that gets what was done")
    arguments = parser.parse_args()
    end_with_parent()
    print_lines()
    plan = MaintenancePlan.from_json(arguments.plan.read_text())
    try:
        job = MaintenanceJob(JobConnections.from_environment(os.environ), start())
    except OffloadError as error:
        log.error("%s", error)
        return 1
    report = run(job, plan, lambda report: _write(arguments.report, report_to_json(report)))
    return 1 if len(report) < len(plan.tables) or any(tidied.problems for tidied in report) else 0

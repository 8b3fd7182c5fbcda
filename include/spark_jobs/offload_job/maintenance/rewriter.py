"""Reads and writes data files of a cold table with Spark; commits nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from k2_offload.core.errors import OffloadError
from offload_job.java_errors import first_line
from offload_job.jvm import call_static

if TYPE_CHECKING:
    from datetime import date

    from pyspark.sql import Column, DataFrame, SparkSession

    from k2_offload.core.maintenance_plan import PlannedMaintenance
    from offload_job.jvm import Jvm
    from offload_job.scan_tasks import ScanTasks


class Rewriter:
    """Works on sets of Iceberg's scan tasks, as Iceberg's own ``rewrite_data_files`` does.

    Through the same classes, too: that procedure commits by itself, which this must not.

    :param java: Iceberg's ``Table``
    :param name: the table's name in messages
    """

    def __init__(self, jvm: Jvm, spark: SparkSession, java: Any, name: str) -> None:
        self._spark = spark
        self._java = java
        self._name = name
        classes = jvm.org.apache.iceberg.spark
        self._tables = call_static(jvm, "org.apache.iceberg.spark.SparkTableCache", "get")
        self._tasks = classes.ScanTaskSetManager.get()
        self._rewrites = classes.FileRewriteCoordinator.get()

    def content(self, tasks: ScanTasks, partition_column: str) -> dict[date | None, tuple[int, int]]:
        """Number of rows of some files, and the sum of the rows' hashes, by the day of the rows.

        :param partition_column: the time that days are days of; ``None`` where it is NULL
        """
        from pyspark.sql import functions

        with self._staged(tasks, "read") as (_, rows):
            row_hash = functions.xxhash64(*_hashed(rows)).cast("decimal(38, 0)")
            days = rows.groupBy(_day(rows, partition_column))
            found = days.agg(functions.count("*"), functions.sum(row_hash)).collect()
        return {day: (count, int(content)) for day, count, content in found}

    def rewrite(self, tasks: ScanTasks, planned: PlannedMaintenance, into: int, days: int) -> list[Any]:
        """Write the rows of some files to new ones. A file that grows beyond twice what was planned is split.

        :param into: how many files to write of one day; of several, each gets one
        :param days: how many days the files are of
        :returns: Iceberg's ``DataFile`` objects; nothing refers to them yet
        """
        with self._staged(tasks, "rewritten") as (set_id, rows):
            order: list[str | Column] = list(planned.sort_columns)
            if days > 1:
                day = _day(rows, planned.partition_column)
                gathered = rows.repartition(days, day)
                order.insert(0, day)  # the writer closes a day's file when the next day begins
            elif into > 1 and order:
                gathered = rows.repartitionByRange(into, *order)
            else:
                gathered = rows.coalesce(into)
            ordered = gathered.sortWithinPartitions(*order) if order else gathered
            writer = ordered.write.format("iceberg").mode("append")
            writer.option("use-table-distribution-and-ordering", "false")
            writer.option("rewritten-file-scan-task-set-id", set_id)  # for Iceberg before 1.11
            writer.option("target-file-size-bytes", str(2 * planned.target_file_bytes))
            writer.save(set_id)
            return list(self._rewrites.fetchNewFiles(self._java, set_id))

    @contextmanager
    def _staged(self, tasks: ScanTasks, done: str) -> Iterator[tuple[str, DataFrame]]:
        set_id = uuid.uuid4().hex
        try:
            self._tables.add(set_id, self._java)
            self._tasks.stageTasks(self._java, set_id, tasks.java)
            reader = self._spark.read.format("iceberg").option("scan-task-set-id", set_id)
            yield set_id, reader.load(set_id)
        except Exception as error:
            raise OffloadError(
                f"{self._name}: files of the cold table could not be {done}: {first_line(error)}. Nothing was changed "
                f"and no row is lost. `k2 verify {self._name} --cold-only` names files that cannot be read."
            ) from error
        finally:
            self._tables.remove(set_id)
            self._tasks.removeTasks(self._java, set_id)
            self._rewrites.clearRewrite(self._java, set_id)


def _day(rows: DataFrame, partition_column: str) -> Column:
    from pyspark.sql import functions

    return functions.to_date(rows[_quoted(partition_column)])  # of UTC, as the session has it


def _quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"


def _hashed(rows: DataFrame) -> Iterator[Column]:
    """Each column, and whether it is NULL: Spark's hash passes NULL over, and takes 0.0 for -0.0."""
    for name, kind in rows.dtypes:
        value = rows[_quoted(name)]
        yield value.cast("string") if kind in ("float", "double") else value
        yield value.isNull()

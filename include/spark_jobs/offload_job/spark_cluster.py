"""Runs the exports of one window on the executors of a Spark cluster.

Each has a connection of its own; on one machine threads of the driver do the same. ClickHouse's credentials are part
of the tasks, as serialised data: they are in no configuration, argument, log or page of Spark's UI.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from k2_offload.adapters.replicas import open_planned
from k2_offload.core.connections import ClickHouseEndpoint
from k2_offload.core.errors import OffloadError
from k2_offload.core.plan import PlannedRows
from k2_offload.files import PACKAGE
from offload_job.export_task import Export, Exported, file_of, run_export

if TYPE_CHECKING:
    from pyspark import SparkContext

_PACKAGES = (PACKAGE, Path(__file__).parent)
"""What the executors run: this package, and the one whose core and adapters it uses."""


class SparkCluster:
    """The cluster that the application was submitted to; its context starts when the first exports come.

    :param clickhouse: must be reachable from the executors
    """

    def __init__(self, clickhouse: ClickHouseEndpoint) -> None:
        self._clickhouse = clickhouse
        self._context: SparkContext | None = None
        self._folder = tempfile.TemporaryDirectory()  # executors fetch from it as long as the job lasts
        self._starting = Lock()

    def run(self, planned: PlannedRows, exports: Sequence[Export], written: list[str]) -> list[Exported]:
        """Run all exports, as many at once as the application has cores; Spark repeats those of a lost executor.

        :param planned: whose exports they are
        :param written: gets the files of exports that have ended, also where others fail
        :returns: the files, in the order of the exports
        :raises OffloadError: as ClickHouse's adapter does; or if the cluster fails
        """
        from py4j.protocol import Py4JJavaError  # noqa: PLC0415

        endpoint = self._clickhouse

        def run(export: Export) -> tuple[str, Exported | OffloadError]:
            from pyspark import TaskContext

            number = TaskContext.get().taskAttemptId()
            try:
                with closing(open_planned(endpoint, planned)) as clickhouse:
                    return file_of(export, number), run_export(export, number, clickhouse)
            except OffloadError as error:
                return file_of(export, number), error  # raised, Spark would repeat it four times and bury it

        results: list[tuple[str, Exported | OffloadError]]
        try:
            results = self._started().parallelize(exports, len(exports)).map(run).collect()
        except Py4JJavaError as error:
            message = str(error.java_exception.getMessage())
            print(message, file=sys.stderr)
            reason = message.partition("\n")[0]
            raise OffloadError(
                f"The Spark cluster could not run the exports: {reason} Nothing was published and no row is lost; "
                "the retry exports again. If it goes on, see what docs/scaling.md asks of the workers."
            ) from error
        written += [file for file, _ in results]
        exported = []
        for _, result in results:
            if isinstance(result, OffloadError):
                raise result
            exported.append(result)
        return exported

    def _started(self) -> SparkContext:
        from pyspark import SparkConf, SparkContext

        with self._starting:
            if self._context is None:
                # A second try of a slow export would only take ClickHouse's cores from the first.
                configuration = SparkConf().set("spark.speculation", "false")
                self._context = SparkContext.getOrCreate(configuration)
                for package in _PACKAGES:
                    archive = f"{self._folder.name}/{package.name}"
                    self._context.addPyFile(shutil.make_archive(archive, "zip", package.parent, package.name))
            return self._context

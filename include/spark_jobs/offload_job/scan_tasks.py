"""Iceberg's scan tasks of thousands of files, kept in Java: see :mod:`offload_job.bulk`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Any

from offload_job.bulk import Bulk
from offload_job.jvm import Jvm

_TASK, _FILE, _PARTITION = (f"org.apache.iceberg.{name}" for name in ("FileScanTask", "ContentFile", "StructLike"))
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class ScannedFile:
    """A data file, as its manifest describes it.

    :param day: of its partition; ``None`` where its rows have none
    :param delete_files: that have to be read with it
    """

    path: str
    day: date | None
    rows: int
    size_bytes: int
    delete_files: int


class ScanTasks:
    """Tasks of whole files.

    :param java: a ``java.util.List`` of ``FileScanTask``
    """

    def __init__(self, bulk: Bulk, java: Any) -> None:
        self._bulk = bulk
        self.java = java

    @classmethod
    def plan(cls, jvm: Jvm, scan: Any) -> ScanTasks:
        """All tasks of Iceberg's ``TableScan``."""
        planned = scan.planFiles()
        try:
            return cls(Bulk(jvm), java_list(jvm, planned))
        finally:
            planned.close()

    @cached_property
    def paths(self) -> list[str]:
        """Of the files, in the order of the tasks."""
        return self._bulk.ask(self.java, *self._path_to("location"))

    def files(self) -> list[ScannedFile]:
        """What is known of the files, in the order of the tasks. Their partitions must be days and nothing else."""
        ask, method = self._bulk.ask, self._bulk.method
        first = method(_PARTITION, "get", 0, self._bulk.class_of("java.lang.Integer"))
        days = ask(self.java, *self._path_to("partition"), first)
        numbers = (
            ask(self.java, *self._path_to("recordCount")),
            ask(self.java, *self._path_to("fileSizeInBytes")),
            ask(self.java, method(_TASK, "deletes"), method("java.util.List", "size")),
        )
        return [
            ScannedFile(path, None if day == "null" else _EPOCH + timedelta(days=int(day)), *map(int, of_file))
            for path, day, *of_file in zip(self.paths, days, *numbers, strict=True)
        ]

    def of_spec(self, spec_id: int) -> ScanTasks:
        """Those of files that are partitioned in one way."""
        return ScanTasks(self._bulk, self._bulk.select(self.java, {str(spec_id)}, *self._path_to("specId")))

    def of_files(self, paths: Collection[str]) -> ScanTasks:
        """Those of some files."""
        return ScanTasks(self._bulk, self._bulk.select(self.java, paths, *self._path_to("location")))

    def remove_from(self, update: Any, kind: str) -> None:
        """Let a snapshot be without the files.

        :param update: Iceberg's update that makes it
        :param kind: the interface of that, such as ``RewriteFiles``
        """
        takes = "org.apache.iceberg.DataFile"
        delete = self._bulk.receiver(update, f"org.apache.iceberg.{kind}", "deleteFile", takes)
        self._bulk.give(self.java, delete, self._bulk.method(_TASK, "file"))

    def _path_to(self, name: str) -> tuple[Any, Any]:
        return self._bulk.method(_TASK, "file"), self._bulk.method(_FILE, name)


def java_list(jvm: Jvm, iterable: Any) -> Any:
    """The elements of a Java ``Iterable``, as a list of Java's."""
    return jvm.org.apache.iceberg.relocated.com.google.common.collect.Lists.newArrayList(iterable)

"""What the metadata of a cold table says that another system may have filled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from k2_offload.adapters.snapshot_chain import daily_specs, day_of, read_snapshot
from k2_offload.adapters.table_properties import missing
from k2_offload.core.adoption import Shape, has_windows
from k2_offload.core.maintenance import MAX_REF_AGE
from k2_offload.core.sql import spark_name
from k2_offload.core.tables import TableSpec

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyiceberg.table.sorting import SortField


class ForeignTable:
    """A table as it was when it was loaded.

    :param told: translates what the library raises
    """

    def __init__(self, table: Table, told: Callable[[], AbstractContextManager[None]]) -> None:
        self._table = table
        self._told = told

    @property
    def has_windows(self) -> bool:
        """See :func:`k2_offload.core.adoption.has_windows`."""
        with self._told():
            metadata = self._table.metadata
            return has_windows(map(read_snapshot, metadata.snapshots), metadata.refs)

    @property
    def last_commit(self) -> datetime | None:
        """When what readers see was committed, by the writer's clock."""
        with self._told():
            current = self._table.current_snapshot()
            return datetime.fromtimestamp(current.timestamp_ms / 1000, UTC) if current else None

    def property_of(self, name: str) -> str | None:
        """A property of the table."""
        return self._table.properties.get(name)

    def missing_properties(self, table: TableSpec) -> dict[str, str]:
        """The properties that it needs and does not have."""
        with self._told():
            return missing(table, self._table.schema(), self._table.properties)

    def shape(self, partition_column: str) -> Shape:
        """What it is like, from its list of files.

        :param partition_column: what the table file says
        """
        with self._told():
            days, undated, others = Counter[date](), 0, 0
            daily = daily_specs(self._table, partition_column)
            for task in self._table.scan().plan_files():
                file = task.file
                if file.spec_id not in daily:
                    others += 1
                elif file.partition[0] is None:
                    undated += file.record_count
                else:
                    days[day_of(file)] += file.record_count
            return Shape(
                ".".join((spark_name(self._table.catalog.name), *self._table.name())),
                self._table.location(),
                self._table.metadata.format_version,
                tuple(map(self._sorted_by, self._table.sort_order().fields)),
                days,
                undated,
                others,
                self.property_of(MAX_REF_AGE),
            )

    def _sorted_by(self, field: SortField) -> str:
        from pyiceberg.table.sorting import SortDirection  # noqa: PLC0415
        from pyiceberg.transforms import IdentityTransform  # noqa: PLC0415

        name = self._table.schema().find_column_name(field.source_id) or ""
        plain = field.transform == IdentityTransform() and field.direction == SortDirection.ASC
        return name if plain else f"{field.transform}({name}) {field.direction}"

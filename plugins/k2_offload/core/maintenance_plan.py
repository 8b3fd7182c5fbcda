"""The plan of one maintenance application: all it needs to know besides the tables themselves. It holds no secret."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from k2_offload.core.errors import ConfigurationError
from k2_offload.core.maintenance import Folder, Tidied
from k2_offload.core.windows import format_time, parse_time

_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class PlannedMaintenance:
    """How one cold table is to be tidied.

    :param table: its name in the table file
    :param target: ``namespace.table`` in the catalog
    :param table_uuid: of the cold table that was looked at
    :param partition_column: the time that its partitions are days of
    :param sort_columns: the order of rows within a rewritten file
    :param target_file_bytes: how large a file of a day with many rows should be
    :param closed_before: windows come to days from this time's on
    :param expire_before: older snapshots may go
    :param orphans_before: older files that no snapshot names may go
    """

    table: str
    target: str
    table_uuid: str
    partition_column: str
    sort_columns: tuple[str, ...]
    target_file_bytes: int
    closed_before: datetime
    expire_before: datetime
    orphans_before: datetime


@dataclass(frozen=True)
class MaintenancePlan:
    """What one application does.

    :param dry_run: only look, and say what would be done
    """

    tables: tuple[PlannedMaintenance, ...]
    dry_run: bool = False

    def to_json(self) -> str:
        """The form in which the plan travels."""
        return json.dumps({"version": _VERSION, **asdict(self)}, separators=(",", ":"), default=format_time)

    @staticmethod
    def from_json(text: str) -> MaintenancePlan:
        """The inverse of :meth:`to_json`.

        :raises ConfigurationError: if it is not a plan of this version
        """
        try:
            document: dict[str, Any] = json.loads(text)
            if document["version"] != _VERSION:
                raise ConfigurationError(f"the plan is of version {document['version']}, this job reads {_VERSION}")
            return MaintenancePlan(tuple(map(_planned, document["tables"])), document["dry_run"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"not a maintenance plan: {error!r}") from None


def _planned(entry: dict[str, Any]) -> PlannedMaintenance:
    times = {key: parse_time(entry[key]) for key in ("closed_before", "expire_before", "orphans_before")}
    return PlannedMaintenance(**entry | times | {"sort_columns": tuple(entry["sort_columns"])})


def report_to_json(report: Sequence[Tidied]) -> str:
    """What an application has done, as it tells whoever started it."""
    return json.dumps([asdict(each) for each in report])


def report_from_json(text: str) -> list[Tidied]:
    """The inverse of :func:`report_to_json`."""
    return [
        Tidied(**entry | {"before": Folder(**entry["before"]), "after": Folder(**entry["after"])})
        for entry in json.loads(text)
    ]

"""Reads what the page shows: all tables at a glance, and one table in detail.

A service that is down leaves its part unknown, with a sentence that says so; what the others know is still shown.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from k2_offload.adapters.dag_runs import DagState, read_dags, read_latest_runs
from k2_offload.adapters.ledger_records import RecordedDay, RecordedWindow, TableRecord
from k2_offload.adapters.snapshot_chain import SnapshotEntry
from k2_offload.core.diagnosis import judge_runs
from k2_offload.core.errors import OffloadError, UnsupportedType
from k2_offload.core.exactly_once import FIRST_WATERMARK
from k2_offload.core.gaps import Gap
from k2_offload.core.lag import USUAL_PAUSE
from k2_offload.core.needs import Finding
from k2_offload.core.observation import Records
from k2_offload.core.schema_change import ColdColumn, widens
from k2_offload.core.tables import TableSpec
from k2_offload.core.type_mapping import map_column
from k2_offload.work.records import AllRecords, read_records
from k2_offload.work.status import Below, Metadata, TableStatus, read_metadata, read_status
from k2_offload.work.tiers import Tiers

log = logging.getLogger(__name__)

Result = TypeVar("Result")

SHOWN_WINDOWS = 200
SHOWN_SNAPSHOTS = 20
SHOWN_DAYS = timedelta(days=84)


@dataclass(frozen=True)
class TableOverview:
    """One table at a glance.

    :param looked_at: whether the tiers were asked and have answered; otherwise only the ledger speaks
    :param warm_rows: where ClickHouse knows that without counting
    :param windows: of the last day, and back to the last one that was not given up; newest first
    :param records: of its days, seals, messages and gaps
    """

    status: TableStatus
    looked_at: bool
    warm_rows: int | None
    windows: Sequence[RecordedWindow]
    records: Records = field(default_factory=Records)


@dataclass(frozen=True)
class Overview:
    """All tables.

    :param dags: by layer; empty if Airflow's database does not answer
    :param ledger: whether the ledger could be read
    :param problems: of services, each a sentence
    :param upkeep: what is wrong with the runs of the DAGs that compare, heal and tidy
    :param pause: the longest one between the beginnings of two cycles
    """

    now: datetime
    tables: Sequence[TableOverview]
    dags: Mapping[str, DagState]
    ledger: bool
    problems: Sequence[str]
    upkeep: Sequence[Finding] = ()
    pause: timedelta = USUAL_PAUSE


@dataclass(frozen=True)
class ComparedColumn:
    """A column as both sides have it; ``None`` where one lacks it.

    :param clickhouse_type: ClickHouse's own name
    :param expected: the Iceberg type that it becomes; ``None`` if there is none
    """

    name: str
    clickhouse_type: str | None
    expected: str | None
    cold: ColdColumn | None

    @property
    def differs(self) -> bool:
        """Whether the two do not go together."""
        if self.cold is not None and self.cold.stopped:
            return False
        return self.cold is None or self.expected != self.cold.iceberg_type

    @property
    def note(self) -> str:
        """What is to be said of it, in a few words; empty if nothing is."""
        if self.cold is not None and self.cold.stopped:
            return "not filled any more"
        if not self.differs:
            return ""
        if self.expected is None:
            return "differs"
        if self.cold is None:
            return "to be added"
        return "to be widened" if widens(self.cold.iceberg_type, self.expected) else "differs"


@dataclass(frozen=True)
class TableDetail:
    """One table in detail.

    :param now: when it was looked at
    :param windows: newest first
    :param days: oldest first
    :param snapshots: newest first
    :param metadata: ``None`` while there is no cold table, or if it cannot be read
    :param location: URI of the cold table's folder
    """

    now: datetime
    windows: Sequence[RecordedWindow] = ()
    days: Sequence[RecordedDay] = ()
    snapshots: Sequence[SnapshotEntry] = ()
    metadata: Metadata | None = None
    location: str | None = None
    columns: Sequence[ComparedColumn] = ()
    problems: Sequence[str] = ()


@dataclass
class _Problems:
    """What went wrong; each sentence once."""

    found: list[str] = field(default_factory=list)

    def without(self, read: Callable[[], Result]) -> Result | None:
        """What was read; ``None`` if it could not be."""
        try:
            return read()
        except OffloadError as error:
            if str(error) not in self.found:
                self.found.append(str(error))
            return None
        except Exception:
            log.exception("unexpected")
            self.found.append("An unexpected error; the log of Airflow's API server has it. No row is affected.")
            return None

    def answers(self, ask: Callable[[], object]) -> bool:
        """Whether a service does."""
        return self.without(lambda: (ask(),)) is not None


@dataclass(frozen=True)
class _Ledger:
    records: Mapping[str, TableRecord] = field(default_factory=dict)
    gaps: Mapping[str, Sequence[Gap]] = field(default_factory=dict)
    windows: Mapping[str, Sequence[RecordedWindow]] = field(default_factory=dict)
    checked: AllRecords = field(default_factory=AllRecords)


def read_overview(tiers: Tiers, dag_ids: Mapping[str, str], upkeep: Sequence[str] = ()) -> Overview:
    """Look at all tables.

    :param dag_ids: the DAG of each layer
    :param upkeep: the DAGs that compare, heal and tidy
    """
    problems, now = _Problems(), tiers.now()
    tables = list(tiers.tables.by_name.values())
    known = problems.without(partial(_read_ledger, tiers, [table.name for table in tables], now))
    dags = problems.without(partial(read_dags, [*dag_ids.values(), *upkeep])) or {}
    runs = (problems.without(partial(read_latest_runs, each, tiers.tables.by_name)) for each in upkeep if each in dags)
    wrong = [each for run in runs if run for each in judge_runs(run, dags[run.dag_id].paused, now)]
    counts = problems.without(partial(tiers.clickhouse.known_counts, tables))
    ledger, up, shown = known or _Ledger(), counts is not None, []
    below: Below = {}
    for table in tables:
        record, gaps = ledger.records.get(table.name), ledger.gaps.get(table.name, ())
        look = partial(read_status, tiers, table, record, counts=False, gaps=gaps, below=below)
        status = problems.without(look) if up else None
        if up and status is None:  # a service that is down is waited for once, a table that is slow hides no other
            up = problems.answers(tiers.clickhouse.now) and problems.answers(tiers.catalog.ping)
        missed = status.gaps if status is not None and status.problem is None else None
        shown.append(
            TableOverview(
                status or TableStatus(table, record, _watermark(record), gaps=gaps),
                up and status is not None,
                (counts or {}).get(table.name),
                ledger.windows.get(table.name, ()),
                ledger.checked.of(table, now, missed) if known else Records(),
            )
        )
    by_layer = {layer: dags[dag_id] for layer, dag_id in dag_ids.items() if dag_id in dags}
    return Overview(now, shown, by_layer, known is not None, problems.found, wrong, tiers.pause)


def _watermark(record: TableRecord | None) -> datetime | None:
    """What the ledger says; nothing before the first window."""
    return None if record is None or record.watermark == FIRST_WATERMARK else record.watermark


def _read_ledger(tiers: Tiers, names: Sequence[str], now: datetime) -> _Ledger:
    ledger = tiers.ledger
    return _Ledger(
        ledger.read_tables(),
        ledger.read_gaps(),
        ledger.read_windows_since(names, now - timedelta(days=1)),
        read_records(ledger),
    )


def read_detail(tiers: Tiers, table: TableSpec) -> TableDetail:
    """Look at one table closely."""
    problems, now = _Problems(), tiers.now()
    names, since = [table.name], (now - SHOWN_DAYS).date()
    windows = problems.without(partial(tiers.ledger.read_windows, names, SHOWN_WINDOWS)) or {}
    days = problems.without(partial(tiers.ledger.read_compared_days, names, since)) or {}
    types = problems.without(partial(tiers.clickhouse.column_types, table))
    cold = problems.without(partial(tiers.catalog.load, table))
    history = problems.without(lambda: cold.chain.latest(SHOWN_SNAPSHOTS)) if cold else None
    metadata = problems.without(partial(read_metadata, cold, now)) if cold else None
    columns = problems.without(lambda: cold.columns) if cold else None
    return TableDetail(
        now,
        windows.get(table.name, ()),
        days.get(table.name, ()),
        history or (),
        metadata,
        cold.location if cold else None,
        compare_columns(table, types, columns) if types and columns else (),
        problems.found,
    )


def compare_columns(
    table: TableSpec, types: Mapping[str, str], cold: Sequence[ColdColumn]
) -> tuple[ComparedColumn, ...]:
    """Both sides of each column, in the source's order; those that only the cold table has come last.

    :param types: ClickHouse's, by column
    """
    in_cold = {column.name: column for column in cold}
    return tuple(
        ComparedColumn(name, types.get(name), _expected(table, name, types.get(name)), in_cold.get(name))
        for name in {**types, **in_cold}
    )


def _expected(table: TableSpec, name: str, clickhouse_type: str | None) -> str | None:
    if clickhouse_type is None:
        return None
    try:
        return map_column(table.name, name, clickhouse_type, binary=name in table.binary).iceberg_type
    except UnsupportedType:
        return None

"""Plans the maintenance of cold tables, and keeps what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from k2_offload.core.errors import OffloadError
from k2_offload.core.exactly_once import FIRST_WATERMARK, watermark_of
from k2_offload.core.maintenance import Tidied, begun
from k2_offload.core.maintenance_plan import MaintenancePlan, PlannedMaintenance
from k2_offload.core.tables import TableSpec
from k2_offload.work.tiers import Tiers


def plan_maintenance(tiers: Tiers, table: TableSpec) -> PlannedMaintenance | None:
    """What maintenance may do to a table now.

    :returns: ``None`` if nothing has been published yet
    :raises OffloadError: if the table cannot be looked at
    """
    cold = tiers.load_cold(table)
    if cold is None or cold.published is None:
        return None
    # The earlier of the two clocks: one that is ahead would take files for old that a job is writing.
    now = min(tiers.now(), tiers.clickhouse.now())
    return PlannedMaintenance(
        table=table.name,
        target=table.target,
        table_uuid=cold.uuid,
        partition_column=table.partition_column,
        sort_columns=table.sort_columns,
        target_file_bytes=table.target_file_bytes,
        closed_before=watermark_of(cold.published) - table.longest_interval,
        expire_before=now - timedelta(days=table.snapshot_retention_days),
        orphans_before=now - timedelta(days=table.orphan_retention_days),
    )


def plan_all(tiers: Tiers, tables: Sequence[TableSpec], *, dry_run: bool) -> tuple[MaintenancePlan, list[str]]:
    """The plan for some tables: the one that was last tried longest ago comes first.

    :returns: with the problems of tables that cannot be looked at
    """
    planned, problems = [], []
    tried = tiers.ledger.last_attempts()
    for table in sorted(tables, key=lambda table: tried.get(table.name, FIRST_WATERMARK)):
        if not table.maintenance:
            continue
        try:
            planned.append(plan_maintenance(tiers, table))
        except OffloadError as error:
            problems.append(str(error))
    return MaintenancePlan(tuple(filter(None, planned)), dry_run), problems


def begin(tiers: Tiers, plan: MaintenancePlan) -> None:
    """Have it on record that the first table is tried.

    The job's report says which table it was at, and that one comes last the next time. Where the report is lost, this
    one does: else, a table at which the worker dies would keep all after it from their turn, for good.
    """
    if plan.tables and not plan.dry_run:
        tiers.ledger.record_maintenance(begun(plan.tables[0].table), tiers.now(), dry_run=False)


def record(tiers: Tiers, report: Sequence[Tidied], *, dry_run: bool) -> Iterator[str]:
    """Keep what was done, and with which table it had begun; gives what went wrong."""
    for done in report:
        if done.came_back or not dry_run:
            tiers.ledger.record_maintenance(done, tiers.now(), dry_run=dry_run)
        yield from done.problems

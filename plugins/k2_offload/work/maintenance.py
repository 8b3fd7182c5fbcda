"""Plans the maintenance of cold tables, and keeps what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from k2_offload.core.errors import OffloadError
from k2_offload.core.exactly_once import FIRST_WATERMARK, watermark_of
from k2_offload.core.maintenance import Folder, Tidied
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
    """Have it on record that the first table is tried, and as yet with no more effect than a dry run.

    If the task ends without a word, that table comes last the next time; else, one at which nothing ends would keep all
    others from their turn, for good.
    """
    if plan.tables and not plan.dry_run:
        table = plan.tables[0].table
        problem = f"{table}: maintenance has begun with it, and has not come back. What was done stays done."
        nothing = Tidied(table, Folder(0, 0, 0, 0), Folder(0, 0, 0, 0), 0, 0, 0, 0, 0.0, [problem])
        tiers.ledger.record_maintenance(nothing, tiers.now(), dry_run=True)


def record(tiers: Tiers, report: Sequence[Tidied], *, dry_run: bool) -> Iterator[str]:
    """Keep what was done; gives what went wrong."""
    for done in report:
        tiers.ledger.record_maintenance(done, tiers.now(), dry_run=dry_run)
        yield from done.problems

"""The ``plan`` task: opens or resumes one window per table."""

from __future__ import annotations

import logging
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from k2_offload.adapters.ledger_records import TableRecord
from k2_offload.adapters.retry import with_retries
from k2_offload.airflow_tasks.params import chosen_tables
from k2_offload.airflow_tasks.tell import LayerOperator
from k2_offload.core.errors import OffloadError, Unreachable
from k2_offload.core.exactly_once import FIRST_WATERMARK, WindowId
from k2_offload.core.plan import PlannedWindow, RefusedTable, group_plans
from k2_offload.core.tables import TableSpec
from k2_offload.core.ttl import Urgency
from k2_offload.work.changes import Change, remember
from k2_offload.work.cycle import mark_failed, plan
from k2_offload.work.tiers import Tiers, open_tiers
from k2_offload.work.ttl import look_at_ttl

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


class PlanOffloadOperator(LayerOperator):
    """Opens one window per table in the ledger, or resumes the one that is open.

    Tables are isolated: one that cannot be planned is part of the plan as refused, and its ``offload`` task fails with
    the reason once the others have moved. So it does where the TTL is about to remove rows that this run does not move.

    :param layer: whose tables to plan; the run's parameter ``tables`` may choose some of them
    :returns: arguments of the mapped ``offload`` task, one per Spark application; no secrets
    """

    def execute(self, context: Context) -> list[dict[str, str]]:
        """Plan every table; a service that is down fails the task, which is then retried."""
        outcomes: list[tuple[str, PlannedWindow | RefusedTable]] = []
        with open_tiers() as tiers:
            tables = chosen_tables(tiers, context, self.layer)
            with_retries(tiers.ledger.migrate)
            records = with_retries(tiers.ledger.read_tables)
            upstream_watermarks: dict[str, datetime] = {}
            for table in tables:
                found: dict[int, Change] = {}
                window, reason = self._plan(tiers, table, context["run_id"], upstream_watermarks, found)
                if reason is None:  # otherwise the ledger does not know it yet
                    self.tell(context, found.values())
                if window is not None:
                    outcomes.append((table.job_group, window))
                if reason is not None:
                    outcomes.append((table.job_group, self._refuse(tiers, table, reason)))
                if danger := self._look_at_ttl(tiers, table, window, records.get(table.name)):
                    outcomes.append((table.job_group, RefusedTable(table.name, danger)))
        return [{"job_group": each.job_group, "plan": each.to_json()} for each in group_plans(outcomes)]

    def _plan(
        self,
        tiers: Tiers,
        table: TableSpec,
        run_id: str,
        upstream_watermarks: dict[str, datetime],
        found: dict[int, Change],
    ) -> tuple[PlannedWindow | None, str | None]:
        """A table's window, if there is anything to move, and why it is refused, if it is."""
        try:
            return with_retries(partial(plan, tiers, table, run_id, upstream_watermarks, remember(found, table))), None
        except Unreachable:
            raise
        except OffloadError as error:
            log.error("%s", error)
            return None, str(error)
        except Exception:  # one table's surprise must not stop the others
            log.exception("%s: unexpected", table.name)
            return None, (
                f"{table.name}: it could not be planned, for an unexpected reason that is in the log of task "
                "`plan`. Nothing was moved and no row is lost; the next run tries again."
            )

    def _look_at_ttl(
        self, tiers: Tiers, table: TableSpec, window: PlannedWindow | None, record: TableRecord | None
    ) -> str | None:
        """Warn where the TTL is near rows that this run does not move; returns what makes the run red.

        A window counts as moved, unless the run before has failed to move it.

        :param record: what the ledger said of the table before this run
        """
        watermark = (record and record.watermark) or FIRST_WATERMARK
        if window is not None and (planned := WindowId.parse(window.window_id)) is not None:
            failed = record is not None and record.status == "failed"
            watermark = planned.window.low if failed else planned.window.high
        if window is None and watermark == FIRST_WATERMARK:
            return None  # refused before its first window: it is red already
        now = tiers.now()
        try:
            expiry = with_retries(partial(look_at_ttl, tiers, table, watermark, now))
        except Exception:  # what only warns must not stop what moves
            log.exception("%s: how near the TTL is, is not known", table.name)
            return None
        if expiry is None or expiry.urgency(now) is Urgency.NONE:
            return None
        text = f"{table.name}: {expiry.describe(now)}"
        log.warning("%s", text)
        return text if expiry.urgency(now) is Urgency.URGENT else None

    def _refuse(self, tiers: Tiers, table: TableSpec, reason: str) -> RefusedTable:
        try:
            mark_failed(tiers, table, reason)
        except Unreachable:
            raise
        except OffloadError as error:  # whoever holds the row writes what became of the table
            log.warning("%s", error)
        return RefusedTable(table.name, reason)

"""The ``backfill`` task: brings what was skipped, one Spark application for some windows after the other."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from airflow.sdk import AssetAlias
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from k2_offload.adapters import spark_submit
from k2_offload.airflow_tasks.params import chosen_tables
from k2_offload.airflow_tasks.spark_application import SparkApplicationOperator
from k2_offload.airflow_tasks.tell import TellsChanges
from k2_offload.core.dag_ids import BACKFILL_DAG_ID
from k2_offload.core.errors import NotBegun, OffloadError, Unreachable
from k2_offload.core.limits import BACKFILL_SECONDS
from k2_offload.core.plan import PlannedBackfill, group_plans
from k2_offload.core.tables import TableSpec
from k2_offload.core.text import show_seconds
from k2_offload.core.windows import parse_instant
from k2_offload.work.backfill import (
    LeftOut,
    brought_since,
    check_all_came,
    find_left_out,
    plan_backfills,
    record_nulls,
)
from k2_offload.work.changes import Change, find_changes
from k2_offload.work.combined_view import renew_views
from k2_offload.work.tiers import open_tiers

log = logging.getLogger(__name__)

_WINDOWS = 8
"""Of one application: its start takes seconds, and what it was not told cannot fail with it. Each window makes some
versions of the metadata, of which Iceberg keeps 100."""


class BackfillOperator(TellsChanges, SparkApplicationOperator):
    """Submits ``include/spark_jobs/offload.py`` until nothing is left out any more of the range that was asked for.

    All it needs to know is in the cold tables: it may be killed at any time, cleared, and run again.
    """

    alias = AssetAlias(BACKFILL_DAG_ID)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(application=spark_submit.OFFLOAD, name="k2-backfill", outlets=[self.alias], **kwargs)

    def execute(self, context: Any) -> None:
        """Fill every chosen table, one after the other.

        :raises AirflowFailException: if a table cannot be filled, there was no time for all of it, or fewer rows came
            than were left out and nobody has accepted that
        :raises AirflowException: if a table's application has failed; another attempt is made
        """
        params = context["params"]
        low, high = (_time(params[key]) for key in ("from", "to"))
        started, problems, failures = datetime.now().astimezone(), [], []
        with open_tiers() as tiers:
            chosen = chosen_tables(tiers, context)
        for table in chosen:
            try:
                self._fill(context, table, low, high, started)
            except (Unreachable, AirflowFailException):
                raise
            except NotBegun as error:
                if table.name in params["tables"]:
                    log.error("%s", error)
                    problems.append(str(error))
                else:  # asked for with all others; there is nothing to bring
                    log.info("%s", error)
            except OffloadError as error:
                log.error("%s", error)  # here, too: what ends the attempt at a later table is raised alone
                problems.append(str(error))
            except Exception as error:
                if self.killed:
                    raise
                # The TTL takes the rows of the others, too, while this one is tried again.
                surprise = not isinstance(error, AirflowException)  # otherwise they are an application's words
                log.warning("%s has failed; the other tables have their turn: %s", table.name, error, exc_info=surprise)
                failures.append(f"{table.name}: {error}")
        if failures:
            raise AirflowException("\n".join([*failures, *problems]))
        if problems:
            raise AirflowFailException("\n".join(problems))

    def _fill(
        self, context: Any, table: TableSpec, low: datetime | None, high: datetime | None, started: datetime
    ) -> None:
        params, total = context["params"], None
        while True:
            with open_tiers() as tiers:
                found = find_left_out(tiers, table, low, high)
                if not found.ranges:
                    log.info("%s: nothing is left out in that range", table.name)
                    # What was short in an earlier run fails only who asks for this table; in an earlier attempt of this
                    # run, it fails this one, too.
                    asked = table.name in params["tables"] or total is not None
                    if not params["accept_fewer"] and (asked or brought_since(found, _began(context))):
                        check_all_came(found)
                    return
                windows = plan_backfills(
                    tiers,
                    found,
                    params["max_rows"] or None,
                    newest_first=params["newest_first"],
                    accept_fewer=params["accept_fewer"],
                    accept_null=params["accept_null"],
                )
                planned = list(islice(windows, _WINDOWS))
                if not params["dry_run"]:
                    record_nulls(tiers, found)
            total = self._tell(found, total, started)
            if params["dry_run"]:
                return
            if datetime.now().astimezone() - started > timedelta(seconds=BACKFILL_SECONDS / 2):
                raise OffloadError(
                    f"{table.name}: {found.rows} rows are still left out, and there was no time for them. Nothing is "
                    f"wrong, and no row is lost: `k2 backfill {table.name}` goes on where this run has ended."
                )
            [plan] = group_plans([(table.job_group, each) for each in planned])
            self.submit(context, plan.to_json(), ["--parallel-tables", "1"], short=False)
            self.tell(context, _filled(table, planned))
            with open_tiers() as tiers:  # before Iceberg removes the metadata file that the view names
                for problem in renew_views(tiers, [table]):
                    log.warning("%s", problem)

    def _tell(self, found: LeftOut, total: int | None, started: datetime) -> int:
        total = total if total is not None else found.rows
        done, took = total - found.rows, datetime.now().astimezone() - started
        left = show_seconds(took.total_seconds() * found.rows / done) if done > 0 else "?"
        log.info("%s: %d rows left out, %d brought, about %s s left", found.table.name, found.rows, done, left)
        if found.may_have_expired:
            log.warning(
                "%s: rows before %s may have expired in ClickHouse; how many, cannot be known",
                found.table.name, found.expired_before,
            )  # fmt: skip
        return total


def _filled(table: TableSpec, planned: Sequence[PlannedBackfill]) -> Iterator[Change]:
    with open_tiers() as tiers:
        yield from find_changes(tiers, table, {each.backfill_id for each in planned})


def _began(context: Any) -> datetime:
    """When the run began of which this is an attempt.

    An application takes seconds to start, so that clocks that differ by less do no harm. Airflow takes a run that has
    ended and is cleared for one that begins then; it was meant to at ``run_after``.
    """
    run = context["dag_run"]
    began: datetime = run.run_after if run.clear_number or run.start_date is None else run.start_date
    return began


def _time(text: str) -> datetime | None:
    try:
        return parse_instant(text) if text else None
    except ValueError as error:
        raise AirflowFailException(str(error)) from None

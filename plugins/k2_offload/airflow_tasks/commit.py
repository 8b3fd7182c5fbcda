"""The ``commit`` task: the watermarks follow what the cold tables hold."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from k2_offload.adapters.retry import with_retries
from k2_offload.airflow_tasks.tell import LayerOperator
from k2_offload.core.errors import OffloadError
from k2_offload.core.windows import format_time
from k2_offload.work.changes import Change, remember
from k2_offload.work.cycle import commit
from k2_offload.work.tiers import open_tiers

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


class CommitWatermarkOperator(LayerOperator):
    """Advances the watermarks to what the cold tables hold, and emits an asset event for each window it sees published.

    Runs whatever became of ``offload``: what was published counts, what was not stays open for the next attempt.

    :param layer: whose tables to commit
    """

    def execute(self, context: Context) -> dict[str, str]:
        """Commit every table of the layer.

        Airflow sends the events of a task that ends well, and only those; another attempt would find these windows
        known. So what was told stays told, and the next ``plan`` follows the tables that could not be read. The run's
        state does not depend on this task.

        :returns: table → its watermark
        :raises OffloadError: at the end, with the first table that could not be read, if nothing was told of others
        """
        watermarks: dict[str, str] = {}
        failures: list[OffloadError] = []
        told = 0
        with open_tiers() as tiers:
            with_retries(tiers.ledger.migrate)  # a run that an older version has planned
            for table in tiers.tables.in_layer(self.layer):
                found: dict[int, Change] = {}
                try:
                    watermark = with_retries(partial(commit, tiers, table, seen=remember(found, table)))
                except OffloadError as error:
                    log.error("%s", error)
                    failures.append(error)
                    continue
                except Exception:  # one table's surprise must not stop the others
                    log.exception("%s: unexpected", table.name)
                    failures.append(
                        OffloadError(
                            f"{table.name}: its watermark could not be recorded, for an unexpected reason that is in "
                            "this log. No row is lost: the next run reads it from the cold table."
                        )
                    )
                    continue
                if watermark is not None:
                    watermarks[table.name] = format_time(watermark)
                told += self.tell(context, found.values())
        if failures and not told:
            raise failures[0]
        return watermarks

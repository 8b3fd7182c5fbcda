"""The ``commit`` task: the watermarks follow what the cold tables hold."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias, BaseOperator

from k2_offload.adapters.retry import with_retries
from k2_offload.core.errors import OffloadError
from k2_offload.core.exactly_once import Published
from k2_offload.core.tables import TableSpec
from k2_offload.core.windows import format_time
from k2_offload.work.cycle import commit
from k2_offload.work.tiers import open_tiers

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


def table_asset(table: TableSpec) -> Asset:
    """The Airflow asset of a cold table."""
    return Asset(name=f"k2/{table.target}", uri=f"iceberg://{table.target.replace('.', '/')}")


class CommitWatermarkOperator(BaseOperator):
    """Advances the watermarks to what the cold tables hold, and emits an asset event for each window it sees published.

    Runs whatever became of ``offload``: what was published counts, what was not stays open for the next attempt.

    :param layer: whose tables to commit
    """

    def __init__(self, *, layer: str, **kwargs: Any) -> None:
        self.layer = layer
        self.alias = AssetAlias(f"k2_offload_{layer}")
        super().__init__(outlets=[self.alias], **kwargs)

    def execute(self, context: Context) -> dict[str, str]:
        """Commit every table of the layer.

        :returns: table → its watermark
        :raises OffloadError: at the end, with the first table that could not be read, after the others were committed
        """
        watermarks: dict[str, str] = {}
        failures: list[OffloadError] = []
        with open_tiers() as tiers:
            with_retries(tiers.ledger.migrate)  # a run that an older version has planned
            for table in tiers.tables.in_layer(self.layer):
                try:
                    committed, watermark = with_retries(partial(commit, tiers, table))
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
                if committed is not None:
                    self._emit(context, table, committed)
        if failures:
            raise failures[0]
        return watermarks

    def _emit(self, context: Context, table: TableSpec, published: Published) -> None:
        window = published.window_id.window
        context["outlet_events"][self.alias].add(
            table_asset(table),
            extra={
                "low": format_time(window.low),
                "high": format_time(window.high),
                "rows": published.snapshot.rows,
                "snapshot_id": str(published.snapshot.snapshot_id),
            },
        )

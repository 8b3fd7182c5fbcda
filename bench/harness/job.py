"""This project's job, for a benchmark's own tables of trades."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedded.spark import submit_command
from k2_offload.adapters import spark_submit
from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.plan import Plan, PlannedWindow
from k2_offload.core.tables import Tables, TableSpec
from k2_offload.work import cycle
from k2_offload.work.tiers import Tiers


def tables_of_trades(sources: Mapping[str, str], **options: object) -> Tables:
    """What :func:`table_file_of_trades` says."""
    return parse_tables(table_file_of_trades(sources, **options))


def table_file_of_trades(sources: Mapping[str, str], **options: object) -> str:
    """A table file.

    :param sources: cold table (``namespace.table``) → table of trades in ClickHouse's database ``k2``
    :param options: of every table
    """
    written = "".join(f"    {name}: {value}\n" for name, value in options.items())
    return "tables:\n" + "".join(
        f"  {target.partition('.')[2]}:\n    layer: bronze\n    source: k2.{source}\n    target: {target}\n"
        f"    timestamp_column: exchange_timestamp\n    sort_columns: [symbol, exchange_timestamp]\n{written}"
        for target, source in sources.items()
    )


def plan(tiers: Tiers, table: TableSpec) -> PlannedWindow:
    """The table's next window.

    :raises RuntimeError: if there is none
    """
    planned = cycle.plan(tiers, table, "bench")
    if planned is None:
        raise RuntimeError(f"{table.name}: nothing to move")
    return planned


def job_command(
    plan_file: Path, *planned: PlannedWindow, application: Path = spark_submit.OFFLOAD, **options: Any
) -> list[str]:
    """Write a plan and say how to submit it.

    :param application: the job, or one that wraps it
    :param options: as :func:`embedded.spark.submit_command` takes them
    """
    plan_file.write_text(Plan("bench", planned).to_json())
    return submit_command(application, str(plan_file), **options)

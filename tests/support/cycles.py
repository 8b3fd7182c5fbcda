"""Cycles over tables of a test's own."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.adapters.cold_catalog import ColdCatalog
from k2_offload.adapters.ledger import Ledger
from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.plan import PlannedWindow
from k2_offload.core.tables import Tables, TableSpec
from k2_offload.work import cycle
from k2_offload.work.tiers import Tiers, open_tiers


@dataclass(frozen=True)
class Cycle:
    """Plan and commit as the tasks of one run do them."""

    tiers: Tiers
    dag_run_id: str

    @property
    def tables(self) -> Tables:
        return self.tiers.tables

    @property
    def ledger(self) -> Ledger:
        return self.tiers.ledger

    @property
    def clickhouse(self) -> ClickHouse:
        return self.tiers.clickhouse

    @property
    def catalog(self) -> ColdCatalog:
        return self.tiers.catalog

    def plan(self, table: TableSpec, upstream_watermarks: dict[str, datetime] | None = None) -> PlannedWindow | None:
        return cycle.plan(self.tiers, table, self.dag_run_id, upstream_watermarks)

    def commit(self, table: TableSpec) -> datetime | None:
        return cycle.commit(self.tiers, table)

    def mark_failed(self, table: TableSpec, reason: str) -> None:
        cycle.mark_failed(self.tiers, table, reason)


def table_file(specs: Sequence[str]) -> str:
    """A table file with these entries."""
    return "tables:\n" + textwrap.indent("\n".join(specs), "  ")


def table_spec(**changes: Any) -> TableSpec:
    """The bronze table ``t`` whose windows and partitions are both cut on ``at``, but for some changes."""
    values: dict[str, Any] = {
        "name": "t", "layer": "bronze", "source": "k2.t", "target": "cold.t", "timestamp_column": "at",
        "partition_column": "at", "job_group": "bronze",
    }  # fmt: skip
    return TableSpec(**values | changes)


Clock = Callable[[], datetime]


def build_cycle(resources: ExitStack, now: datetime | Clock | None, tables: str, dag_run_id: str) -> Cycle:
    """A cycle over the tables of a table file, with the connections of this session's AIRFLOW_HOME.

    :param resources: closes the connections
    :param now: a clock, or the time at which it stands still, for both tiers; the real ones when left out
    """
    clock = now if callable(now) or now is None else lambda: now
    return Cycle(resources.enter_context(open_tiers(parse_tables(tables), clock)), dag_run_id)

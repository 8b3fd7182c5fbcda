"""What tests share beyond fixtures."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from clickhouse_driver import Client

from embedded.stack import Ports, StackSettings, airflow_services, clickhouse, postgres
from embedded.stack.ports import free_ports
from embedded.stack.processes import STACK_VARIABLE
from embedded.stack.secrets import Secrets
from embedded.stack.settings import HOST
from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.adapters.cold_catalog import ColdCatalog
from k2_offload.adapters.ledger import Ledger
from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.exactly_once import Published
from k2_offload.core.plan import PlannedWindow
from k2_offload.core.tables import Tables, TableSpec
from k2_offload.work import cycle
from k2_offload.work.tiers import Tiers, open_tiers


def free_stack_ports() -> Ports:
    """Ports for a stack of a test's own."""
    return Ports(*free_ports(4))


@dataclass(frozen=True)
class SharedStack:
    """The running stack that all tests below tests/stack share, unless they start one of their own.

    :param settings: folders and ports: ``settings.warehouse``, ``settings.log("clickhouse")``…
    :param secrets: passwords
    """

    settings: StackSettings
    secrets: Secrets

    def clickhouse_client(self, **options: Any) -> Client:
        """A new client on the native protocol, in database ``k2`` unless told otherwise. Close it, or use ``with``."""
        return Client(
            HOST, **{"port": self.settings.ports.clickhouse_native, "database": clickhouse.DATABASE, **options}
        )

    @property
    def clickhouse_http_url(self) -> str:
        """Where ClickHouse answers HTTP."""
        return f"http://{HOST}:{self.settings.ports.clickhouse_http}"

    @property
    def ledger_dsn(self) -> str:
        """For ``psycopg.connect``: Airflow's metadata database, which holds the ledger's schema."""
        return postgres.dsn(self.settings, self.secrets, postgres.AIRFLOW_DATABASE)

    @property
    def iceberg_dsn(self) -> str:
        """For ``psycopg.connect``: the Iceberg catalog's database."""
        return postgres.dsn(self.settings, self.secrets, postgres.ICEBERG_DATABASE)

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment for subprocesses: AIRFLOW_HOME and PATH of this stack.

        What they leave running is ended together with the stack.
        """
        return {
            **airflow_services.without_foreign_settings(os.environ),
            **airflow_services.own_variables(self.settings),
            STACK_VARIABLE: str(self.settings.state),
        }


def table_file(specs: Sequence[str]) -> str:
    """A table file with these entries."""
    return "tables:\n" + textwrap.indent("\n".join(specs), "  ")


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

    def plan(self, table: TableSpec) -> PlannedWindow | None:
        return cycle.plan(self.tiers, table, self.dag_run_id)

    def commit(self, table: TableSpec) -> tuple[Published | None, datetime | None]:
        return cycle.commit(self.tiers, table)

    def mark_failed(self, table: TableSpec) -> None:
        cycle.mark_failed(self.tiers, table)


def build_cycle(resources: ExitStack, now: datetime | None, tables: str, dag_run_id: str) -> Cycle:
    """A cycle over the tables of a table file, with the connections of this session's AIRFLOW_HOME.

    :param resources: closes the connections
    :param now: stands still when given
    """
    clock = (lambda: now) if now else (lambda: datetime.now(UTC))
    return Cycle(resources.enter_context(open_tiers(parse_tables(tables), clock)), dag_run_id)

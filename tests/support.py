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

from embedded.stack import Ports, StackSettings, airflow_services, clickhouse, ports, postgres
from embedded.stack.processes import STACK_VARIABLE
from embedded.stack.secrets import Secrets
from embedded.stack.settings import HOST
from k2_offload.core.tables import parse_tables
from k2_offload.cycle import Cycle
from k2_offload.session import open_cycle


def free_ports(count: int) -> list[int]:
    """Ports for servers of a test's own; no other worker is given them."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return ports.free_ports(count, ports.server_ports()[worker::workers])


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


def build_cycle(resources: ExitStack, now: datetime | None, tables: str, dag_run_id: str) -> Cycle:
    """A cycle over the tables of a table file, with the connections of this session's AIRFLOW_HOME.

    :param resources: closes the connections
    :param now: stands still when given
    """
    clock = (lambda: now) if now else (lambda: datetime.now(UTC))
    return resources.enter_context(open_cycle(dag_run_id, parse_tables(tables), clock))

"""Stacks for tests: the one they share, and ports for one of their own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clickhouse_driver import Client

from embedded.stack import Ports, StackSettings, airflow_services, clickhouse, ports, postgres
from embedded.stack.processes import STACK_VARIABLE
from embedded.stack.secrets import Secrets
from embedded.stack.settings import HOST


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

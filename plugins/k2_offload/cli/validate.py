"""``k2 validate`` checks that everything is in place for the next cycle."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import typer

from k2_offload.adapters import airflow_config
from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.adapters.iceberg import ColdCatalog
from k2_offload.adapters.java import check_java
from k2_offload.cli.console import FINDING, Json, command, print_json, progress, screen
from k2_offload.core.errors import ConfigurationError, OffloadError
from k2_offload.core.tables import TableSpec


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    :param detail: what was found, or what is wrong and what to do
    """

    subject: str
    passed: bool
    detail: str


@command
def validate(json: Json = False) -> None:
    """Check the table file, every connection, every source table, Java and Spark. Changes nothing.

    Example: [bold]k2 validate[/bold]
    """
    settings = airflow_config.load_settings()
    tables = airflow_config.load_tables(settings)
    checks = [Check("table file", True, f"{len(tables.by_name)} tables in {settings.tables_file}")]
    with progress("checking"):
        checks += [
            _check("Postgres (ledger)", lambda: airflow_config.load_ledger(settings).create_schema()),
            _check("Iceberg catalog", lambda: ColdCatalog(airflow_config.load_catalog(settings)).ping()),
            _check("Java", lambda: f"version {check_java()}"),
            _check("spark-submit", lambda: _spark_binary(settings.spark_binary)),
            _check("Spark jars", lambda: _spark_jars(settings.spark_jars)),
            _check("Spark connection", lambda: airflow_config.check_connection(settings.spark_conn_id)),
        ]
        checks += _check_sources(settings, list(tables.by_name.values()))
    if json:
        print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            mark = "[green]✓[/green]" if check.passed else "[red]✗[/red]"
            screen.print(f"{mark} {check.subject:<24} {check.detail}", soft_wrap=True)
    if not all(check.passed for check in checks):
        raise typer.Exit(FINDING)


def _check(subject: str, look: Callable[[], object]) -> Check:
    try:
        return Check(subject, True, str(look() or "ok"))
    except OffloadError as error:
        return Check(subject, False, str(error))


def _check_sources(settings: airflow_config.Settings, tables: list[TableSpec]) -> list[Check]:
    try:
        clickhouse = ClickHouse(airflow_config.load_clickhouse(settings))
        clickhouse.execute("SELECT 1")
    except OffloadError as error:
        return [Check("ClickHouse", False, str(error))]

    def describe(table: TableSpec) -> str:
        columns = clickhouse.columns(table)
        clickhouse.newest_row(table)
        return f"{len(columns)} columns of {table.source} → {table.target}"

    described = [_check(table.name, partial(describe, table)) for table in tables]
    clickhouse.close()
    return [Check("ClickHouse", True, "ok"), *described]


def _spark_binary(binary: str) -> str:
    found = shutil.which(binary)
    if found is None:
        raise ConfigurationError(f"'{binary}' is not there or cannot be run; correct [k2_offload] spark_binary")
    return found


def _spark_jars(jars: str) -> str:
    paths = [Path(jar) for jar in jars.split(",") if jar]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing or not paths:
        raise ConfigurationError(f"missing: {', '.join(missing) or 'all'}; correct [k2_offload] spark_jars")
    return f"{len(paths)} found"

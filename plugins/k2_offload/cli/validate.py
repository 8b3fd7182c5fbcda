"""``k2 validate`` checks that everything is in place for the next cycle."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import typer
from rich.markup import escape

from k2_offload.adapters import airflow_config
from k2_offload.adapters.airflow_config import Settings
from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.adapters.iceberg import ColdCatalog
from k2_offload.adapters.java import check_java
from k2_offload.cli.console import (
    FAILED,
    FINDING,
    PASSED,
    UNKNOWN,
    JsonOption,
    command,
    number_table,
    print_json,
    screen,
    show_error,
    show_number,
    show_table,
    with_progress,
)
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


@dataclass(frozen=True)
class SourceCheck:
    """One table of the table file, looked at in ClickHouse and, if it is there already, in the catalog.

    :param columns: how many would be moved; ``None`` if the source cannot be read
    :param problem: why the table would be refused
    """

    table: TableSpec
    columns: int | None
    problem: str | None


@command
def validate(as_json: JsonOption = False) -> None:
    """Check the table file, every connection, every source table, Java and Spark. Changes nothing.

    All checks are made, whatever the first ones find. Exit code 1 if one failed, 2 if the table file is wrong.

    Example: [bold]k2 validate[/bold]
    """
    settings = airflow_config.load_settings()
    tables = list(airflow_config.load_tables(settings).by_name.values())
    checks = [Check("table file", True, f"{len(tables)} tables in {settings.tables_file}"), *_check_services(settings)]
    sources = _check_sources(settings, tables) if _passed(checks, "ClickHouse", "Iceberg catalog") else []
    if as_json:
        print_json({"checks": [asdict(check) for check in checks], "tables": [_document(each) for each in sources]})
    else:
        _print(checks, sources)
    if not all(check.passed for check in checks) or any(source.problem for source in sources):
        raise typer.Exit(FINDING)


def _check_services(settings: Settings) -> Iterator[Check]:
    yield _check("Postgres (ledger)", lambda: airflow_config.load_ledger(settings).check())
    yield _check("ClickHouse", lambda: _clickhouse_version(settings))
    yield _check("Iceberg catalog", lambda: _catalog_location(settings))
    yield _check("Java", lambda: f"version {check_java()}")
    yield _check("spark-submit", lambda: _spark_binary(settings.spark_binary))
    yield _check("Spark's Python", lambda: _executable(settings.spark_python, "spark_python"))
    yield _check("Spark jars", lambda: _spark_jars(settings.spark_jars))
    yield _check("Class archive", lambda: _class_archive(settings))
    yield _check("Spark connection", lambda: _spark_master(settings))


def _check(subject: str, look: Callable[[], str | None]) -> Check:
    try:
        return Check(subject, True, look() or "answers")
    except OffloadError as error:
        return Check(subject, False, str(error))


def _passed(checks: list[Check], *subjects: str) -> bool:
    return all(check.passed for check in checks if check.subject in subjects)


def _clickhouse_version(settings: Settings) -> str:
    endpoint = airflow_config.load_clickhouse(settings)
    with closing(ClickHouse(endpoint)) as clickhouse:
        [(version,)] = clickhouse.execute("SELECT version()")
    return f"version {version} at {endpoint.host}:{endpoint.native_port}"


def _catalog_location(settings: Settings) -> str:
    described = airflow_config.load_catalog(settings)
    with closing(ColdCatalog(described)) as catalog:
        catalog.ping()
    return f"'{described.name}', warehouse {described.pyiceberg.get('warehouse', 'as the catalog says')}"


def _spark_binary(binary: str) -> str:
    return _executable(binary, "spark_binary")


def _executable(program: str, setting: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise ConfigurationError(f"'{program}' is not there or cannot be run; correct [k2_offload] {setting}")
    return found


def _spark_jars(jars: str) -> str:
    paths = [Path(jar) for jar in jars.split(",") if jar]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing or not paths:
        raise ConfigurationError(f"missing: {', '.join(missing) or 'all'}; correct [k2_offload] spark_jars")
    return f"{len(paths)} found"


def _class_archive(settings: Settings) -> str:
    file = Path(settings.spark_class_archive)
    if not settings.spark_class_archive:
        return "none; jobs start a second sooner with one (docs/configuration.md)"
    if not file.is_file():
        raise ConfigurationError(f"{file} is missing, so jobs start a second later; make it: `k2 class-archive`")
    made = file.stat().st_mtime
    newer = [jar for jar in settings.spark_jars.split(",") if Path(jar).is_file() and Path(jar).stat().st_mtime > made]
    if newer:
        raise ConfigurationError(f"{file} is older than {newer[0]} and not used; make it anew: `k2 class-archive`")
    return f"{file.stat().st_size / 2**20:.0f} MiB"


def _spark_master(settings: Settings) -> str:
    master = airflow_config.load_spark_master(settings)
    if "yarn" in master and not {"HADOOP_CONF_DIR", "YARN_CONF_DIR"} & os.environ.keys():
        raise ConfigurationError(
            f"connection '{settings.spark_conn_id}' means YARN, but neither HADOOP_CONF_DIR nor YARN_CONF_DIR says "
            "where that is; set one, or put another master into the connection's host (local[2], spark://…)"
        )
    return f"master {master}"


def _check_sources(settings: Settings, tables: list[TableSpec]) -> list[SourceCheck]:
    with (
        closing(ClickHouse(airflow_config.load_clickhouse(settings))) as clickhouse,
        closing(ColdCatalog(airflow_config.load_catalog(settings))) as catalog,
    ):
        return [_check_source(clickhouse, catalog, table) for table in with_progress("checking", tables)]


def _check_source(clickhouse: ClickHouse, catalog: ColdCatalog, table: TableSpec) -> SourceCheck:
    columns = None
    try:
        columns = clickhouse.columns(table)
        clickhouse.newest_row(table)
        if cold := catalog.load(table):
            cold.check_columns(columns)
    except OffloadError as error:
        return SourceCheck(table, len(columns) if columns else None, str(error))
    return SourceCheck(table, len(columns), None)


def _document(source: SourceCheck) -> dict[str, object]:
    return {
        "table": source.table.name,
        "source": source.table.source,
        "target": source.table.target,
        "columns": source.columns,
        "passed": source.problem is None,
        "problem": source.problem,
    }


def _print(checks: list[Check], sources: list[SourceCheck]) -> None:
    for check in checks:
        mark = PASSED if check.passed else FAILED
        screen.print(f"{mark} {check.subject:<18} {escape(check.detail)}", soft_wrap=True)
    screen.print()
    if not sources:
        show_error("The source tables could not be checked: that takes ClickHouse and the catalog.")
        return
    shown = number_table(["", "table", "source", "target"], ["columns"])
    for source in sources:
        mark = PASSED if source.problem is None else FAILED
        columns = UNKNOWN if source.columns is None else show_number(source.columns)
        shown.add_row(mark, source.table.name, source.table.source, source.table.target, columns)
    show_table(shown)
    for source in sources:
        if source.problem:
            show_error(source.problem)

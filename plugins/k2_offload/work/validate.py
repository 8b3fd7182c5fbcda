"""Checks that everything is in place for the next cycle. Changes nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.adapters.cold_catalog import ColdCatalog
from k2_offload.adapters.connections import catalog_settings, clickhouse_endpoint, spark_master
from k2_offload.adapters.java import check_java
from k2_offload.adapters.settings import Settings
from k2_offload.core.errors import ConfigurationError, OffloadError
from k2_offload.core.exactly_once import check_cut
from k2_offload.core.tables import TableSpec
from k2_offload.work.tiers import Tiers, open_ledger

CLICKHOUSE, CATALOG = "ClickHouse", "Iceberg catalog"
"""Subjects of the checks that must pass before tables can be looked at."""


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


def check_services(settings: Settings) -> Iterator[Check]:
    """Look at everything but the tables, one thing after the other, whatever the first ones find."""
    yield _check("Postgres (ledger)", lambda: open_ledger(settings).check())
    yield _check(CLICKHOUSE, lambda: _clickhouse_version(settings))
    yield _check(CATALOG, lambda: _catalog_location(settings))
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


def _clickhouse_version(settings: Settings) -> str:
    endpoint = clickhouse_endpoint(settings)
    with closing(ClickHouse(endpoint)) as clickhouse:
        [(version,)] = clickhouse.execute("SELECT version()")
    return f"version {version} at {endpoint.host}:{endpoint.native_port}"


def _catalog_location(settings: Settings) -> str:
    described = catalog_settings(settings)
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
    master = spark_master(settings)
    if "yarn" in master and not {"HADOOP_CONF_DIR", "YARN_CONF_DIR"} & os.environ.keys():
        raise ConfigurationError(
            f"connection '{settings.spark_conn_id}' means YARN, but neither HADOOP_CONF_DIR nor YARN_CONF_DIR says "
            "where that is; set one, or put another master into the connection's host (local[2], spark://…)"
        )
    return f"master {master}"


def check_source(tiers: Tiers, table: TableSpec) -> SourceCheck:
    """Look at one table's source, and at its cold table if that is there already."""
    columns = None
    try:
        columns = tiers.clickhouse.columns(table)
        tiers.clickhouse.newest_row(table)
        if cold := tiers.catalog.load(table):
            cold.check_source(columns, table.partition_column)
            check_cut(table.name, cold.published, table.timestamp_column)
    except OffloadError as error:
        return SourceCheck(table, len(columns) if columns else None, str(error))
    return SourceCheck(table, len(columns), None)

"""Checks that everything is in place for the next cycle. Leaves everything as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from k2_offload.adapters import webhook
from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.adapters.clickhouse_http import check_http_ports
from k2_offload.adapters.cold_catalog import ColdCatalog
from k2_offload.adapters.connections import catalog_settings, clickhouse_endpoint, spark_master
from k2_offload.adapters.java import check_java
from k2_offload.adapters.replicas import check_replicas
from k2_offload.adapters.schedule import longest_pause
from k2_offload.adapters.settings import Settings
from k2_offload.core.errors import ConfigurationError, OffloadError, StoreNotTrusted, Unreachable, WrittenElsewhere
from k2_offload.core.lake import parquet_file
from k2_offload.core.queries import PROBE_ROWS, probe
from k2_offload.core.runners import RUNNERS
from k2_offload.core.tables import TableSpec
from k2_offload.core.text import show_duration
from k2_offload.core.transports import TRANSPORTS
from k2_offload.core.ttl import is_kept_too_short
from k2_offload.core.windows import Window
from k2_offload.work.retention import check_retention
from k2_offload.work.schema import check_fits
from k2_offload.work.tiers import Tiers, open_ledger
from k2_offload.work.ttl import read_kept_for

CLICKHOUSE, CATALOG = "ClickHouse", "Iceberg catalog"
"""Subjects of the checks that must pass before the lake and the tables can be looked at."""

_S3_FILES, _S3_CLASS = "org.apache.iceberg.aws.s3.S3FileIO", "software/amazon/awssdk/services/s3/S3Client.class"
"""Iceberg's Java class for files on S3, which Iceberg's runtime has, and one that it needs, which that has not."""

_ICEBERG_CLASS = "org/apache/iceberg/spark/SparkCatalog.class"
_IMPORTS = "import clickhouse_driver, py4j, pyspark, tenacity; print(pyspark.__version__)"

_PAUSES_IN_RETENTION = 4

_PARQUET = b"PAR1"
"""How such a file begins."""

_NOT_CHECKED = (
    "not checked: the catalog only has a name for its warehouse, and no table yet whose folder could be tried; run "
    "this again after the first cycle"
)


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
    :param problem: why the table would be refused, or compared wrongly
    :param storage: the ClickHouse table that holds its rows; ``None`` if that, or its TTL, is not known
    :param kept_for: how long the TTL keeps a row; ``None`` with a storage: for ever
    """

    table: TableSpec
    columns: int | None
    problem: str | None
    storage: str | None = None
    kept_for: timedelta | None = None


def check_services(settings: Settings, tables: Iterable[TableSpec]) -> Iterator[Check]:
    """Look at everything that the next cycle needs, one thing after the other, whatever the first ones find.

    :param tables: whose transports say what is needed; they themselves are not looked at
    """
    yield _check("Postgres (ledger)", lambda: open_ledger(settings).check())
    yield _check(CLICKHOUSE, lambda: _clickhouse_version(settings))
    if any(TRANSPORTS[table.transport].reads_over_http for table in tables):
        yield _check("ClickHouse's HTTP", lambda: _clickhouse_http(settings))
    yield _check(CATALOG, lambda: _catalog_location(settings))
    try:
        checks = list(RUNNERS[settings.runner].load_checks()(settings))
    except ConfigurationError as error:
        yield Check("Runner", False, str(error))
    else:
        for subject, look in checks:
            yield _check(subject, look)
    if settings.notify_conn_id:
        yield _check("Webhook", lambda: _webhook(settings.notify_conn_id))


def _clickhouse_http(settings: Settings) -> str:
    try:
        catalog = catalog_settings(settings)
    except ConfigurationError:
        catalog = None  # its own check says what is wrong with it
    return check_http_ports(clickhouse_endpoint(settings), catalog)


def spark_checks(settings: Settings) -> Iterator[tuple[str, Callable[[], str]]]:
    """What a task needs that starts Spark beside itself: each with a function that says what it has found."""
    yield "Java", lambda: f"version {check_java()}"
    yield "spark-submit", lambda: _executable(settings.spark_binary, "spark_binary")
    yield "Spark's Python", lambda: check_python(settings.spark_python)
    yield "Spark jars", lambda: _spark_jars(settings)
    yield "Class archive", lambda: _class_archive(settings)
    yield "Spark connection", lambda: _spark_master(settings)


def check_schedule(settings: Settings, tables: Sequence[TableSpec]) -> Check:
    """Whether the longest pause between two cycles leaves time to move rows before they expire."""
    pause, shortest = longest_pause(settings.schedule), min(tables, key=lambda table: table.warm_retention)
    found = f"'{settings.schedule}': a cycle every {show_duration(pause)} at the longest"
    if pause <= shortest.warm_retention / _PAUSES_IN_RETENTION:
        return Check("Schedule", True, found)
    return Check(
        "Schedule",
        False,
        f"{found}, and ClickHouse keeps the rows of {shortest.name} for {shortest.warm_retention_text} "
        f"(warm_retention_days). The pause may be a quarter of that: a few cycles that fail must not cost rows. "
        "Correct [k2_offload] schedule, or make the TTL and warm_retention_days longer",
    )


def check_lake(tiers: Tiers) -> Iterator[Check]:
    """Write, read and remove a small file in each of the ways that a cycle writes.

    ClickHouse cannot remove a file: one that pyiceberg does not see stays, and the check names it.
    """
    yield _check("Warehouse", lambda: _written_by_pyiceberg(tiers))
    yield _check("ClickHouse's export", lambda: _written_by_clickhouse(tiers))


def check_other_servers(tiers: Tiers) -> Iterator[Check]:
    """Let each server that stands in for the first one show that it can: it writes into the lake, and has its rows."""
    with ExitStack() as opened:
        first, *others = (
            replace(tiers, clickhouse=opened.enter_context(closing(each))) for each in tiers.clickhouse.each()
        )
        for other in others:
            address = other.clickhouse.address
            yield _check(f"Export of {address}", partial(_written_by_clickhouse, other))
            problems = [_of_other(first, other, table) for table in tiers.tables.by_name.values()]
            wrong = [problem for problem in problems if problem]
            found = "\n".join(wrong) or f"{len(problems)} sources, with the rows of {first.clickhouse.address}"
            yield Check(f"Sources of {address}", not wrong, found)


def _of_other(first: Tiers, other: Tiers, table: TableSpec) -> str | None:
    try:
        return check_source(other, table).problem or _other_rows(first, other, table)
    except OffloadError as error:
        return str(error)


def _other_rows(first: Tiers, other: Tiers, table: TableSpec) -> str | None:
    """Whether two servers show different rows of an hour that is over."""
    end = (first.now() - table.buffer - timedelta(hours=1)).replace(minute=0, second=0, microsecond=0)
    hour = Window(end - timedelta(hours=1), end)
    here, there = (each.clickhouse.count_within(table, hour) for each in (first, other))
    if here == there:
        return None
    return (
        f"{table.name}: {first.clickhouse.address} shows {here} rows of {table.source} in {hour}, and "
        f"{other.clickhouse.address} shows {there}. They are no replicas of each other, or one is behind. Nothing was "
        "changed. Correct the host of the ClickHouse connection, or wait; then run `k2 validate`."
    )


def _check(subject: str, look: Callable[[], str | None]) -> Check:
    try:
        return Check(subject, True, look() or "answers")
    except OffloadError as error:
        return Check(subject, False, str(error))


def _clickhouse_version(settings: Settings) -> str:
    found = []
    for clickhouse in ClickHouse(clickhouse_endpoint(settings)).each():
        with closing(clickhouse):
            [(version,)] = clickhouse.execute("SELECT version()")
        found.append(f"version {version} at {clickhouse.address}")
    return ", ".join(found)


def _webhook(connection_id: str) -> str:
    webhook.check(connection_id)
    return f"connection '{connection_id}' has an address; nothing was sent there"


def _catalog_location(settings: Settings) -> str:
    described = catalog_settings(settings)
    with closing(ColdCatalog(described)) as catalog:
        catalog.ping()
    return f"'{described.name}', warehouse {described.pyiceberg.get('warehouse', 'as the catalog says')}"


def _executable(program: str, setting: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise ConfigurationError(f"'{program}' is not there or cannot be run; correct [k2_offload] {setting}")
    return found


def check_python(program: str) -> str:
    """Ask Spark's Python for the packages that a job imports.

    :returns: where it is, and which pyspark it has
    :raises ConfigurationError: if one is missing
    """
    python = _executable(program, "spark_python")
    try:
        asked = subprocess.run([python, "-c", _IMPORTS], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(f"'{python}' does not answer ({error}); correct [k2_offload] spark_python") from None
    if asked.returncode:
        last = (asked.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise ConfigurationError(
            f"'{python}' cannot run a job: {last}; install requirements/spark.txt for it, or correct [k2_offload] "
            "spark_python"
        )
    return f"{python}, pyspark {asked.stdout.strip()}"


def _written_by_pyiceberg(tiers: Tiers) -> str:
    storage = tiers.catalog.storage(tiers.tables.by_name.values())
    if storage is None:
        return _NOT_CHECKED
    file, content = storage.new_file(), b"written by k2 validate"
    storage.write(file, content)
    try:
        found = storage.read(file)
    finally:
        storage.remove(file)
    if found != content:
        raise ConfigurationError(f"{file} does not hold what was just written there")
    return f"a file was written, read and removed in {storage.location}"


def _written_by_clickhouse(tiers: Tiers) -> str:
    if not any(TRANSPORTS[table.transport].clickhouse_writes for table in tiers.tables.by_name.values()):
        return "not needed: no table has a transport with which ClickHouse writes files"
    storage = tiers.catalog.storage(tiers.tables.by_name.values())
    if storage is None:
        return _NOT_CHECKED
    uri = storage.new_file()
    rows = _write_by_clickhouse(tiers, uri)
    written = storage.read(uri)
    if written is None:
        raise WrittenElsewhere(uri)
    storage.remove(uri)
    if rows != PROBE_ROWS or not written.startswith(_PARQUET):
        raise ConfigurationError(
            f"ClickHouse wrote {uri} and reads {rows} there; Iceberg sees {len(written)} bytes that begin with "
            f"{written[:4]!r}. Both have to see the file that was written"
        )
    return f"ClickHouse wrote and read a file in {storage.location}, and Iceberg saw it"


def _write_by_clickhouse(tiers: Tiers, uri: str) -> list[tuple[Any, ...]]:
    """Write a file; returns what ClickHouse reads from it."""
    insert, select = probe(parquet_file(uri, tiers.lake_collection))
    try:
        tiers.clickhouse.execute(insert)
        return tiers.clickhouse.execute(select)
    except StoreNotTrusted as error:
        seen = tiers.catalog.store_certificate_seen()
        raise StoreNotTrusted(f"{error.reason} ({seen})" if seen else error.reason) from error
    except (ConfigurationError, Unreachable):
        raise
    except OffloadError as error:
        raise ConfigurationError(
            f"ClickHouse cannot write and read {uri}: {error} Correct the named collection '{tiers.lake_collection}' "
            "or what its user may do (docs/configuration.md); or use 'transport: jdbc'"
        ) from error


def _spark_jars(settings: Settings) -> str:
    jars = [Path(jar) for jar in settings.spark_jars.split(",") if jar]
    missing = [str(jar) for jar in jars if not jar.is_file()]
    if missing or not jars:
        raise ConfigurationError(f"missing: {', '.join(missing) or 'all'}; correct [k2_offload] spark_jars")
    try:
        java = catalog_settings(settings).java
    except ConfigurationError:  # told by the catalog's check
        java = {}
    return check_jars(jars, java)


def check_jars(jars: Sequence[Path], catalog: Mapping[str, str]) -> str:
    """Look into Spark's jars for what the catalog's storage needs beside Iceberg's runtime.

    :param catalog: what Iceberg's Java library is told of the catalog
    :returns: what was found
    :raises ConfigurationError: if something is missing
    """
    if not any(_holds(jar, _ICEBERG_CLASS) for jar in jars):
        raise ConfigurationError(
            "none of them has Iceberg's classes; add iceberg-spark-runtime to [k2_offload] spark_jars "
            "(requirements/jars.xml, of the wheel too, names its version)"
        )
    if catalog.get("io-impl") == _S3_FILES and not any(_holds(jar, _S3_CLASS) for jar in jars):
        raise ConfigurationError(
            "none of them has AWS's classes, which a warehouse on S3 needs; add iceberg-aws-bundle to [k2_offload] "
            "spark_jars (lake_jars.xml in docker, in the wheel in include/requirements, names its version)"
        )
    return ", ".join(jar.name for jar in jars)


def _holds(jar: Path, name: str) -> bool:
    try:
        with zipfile.ZipFile(jar) as archive:
            return name in archive.NameToInfo
    except (OSError, zipfile.BadZipFile):
        return False


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
        check_replicas(tiers.clickhouse, table)
        if cold := tiers.catalog.load(table):
            check_fits(table, cold, columns)
        storage, kept_for = read_kept_for(tiers, table)
        problem = check_retention(tiers, table)
    except OffloadError as error:
        return SourceCheck(table, len(columns) if columns else None, str(error))
    if problem is None and is_kept_too_short(table.warm_retention, kept_for):
        problem = (
            f"{table.name}: the table file says that rows are kept for {table.warm_retention_text} "
            f"(warm_retention_days), and the TTL of {storage} keeps some for {kept_for} only. Days of which rows are "
            "gone would count as whole when both tiers are compared and healed. Nothing was changed. Correct "
            "warm_retention_days, or the TTL (a column's own counts, too); then run `k2 validate`."
        )
    return SourceCheck(table, len(columns), problem, storage, kept_for)

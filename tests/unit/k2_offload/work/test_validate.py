"""What `k2 validate` finds in the lake, with ClickHouse and the catalog replaced and files that are real."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from pyiceberg.catalog.memory import InMemoryCatalog

from k2_offload.adapters.cold_catalog import ColdCatalog
from k2_offload.adapters.settings import Settings
from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.connections import CatalogSettings
from k2_offload.core.errors import ConfigurationError, OffloadError, StoreNotTrusted, StoreRefused
from k2_offload.work import validate
from k2_offload.work.tiers import Tiers, wall_clock
from k2_offload.work.validate import (
    SourceCheck,
    check_jars,
    check_lake,
    check_other_servers,
    check_python,
    check_schedule,
    check_services,
)

TABLE = "tables: {{trades: {{layer: bronze, source: k2.t, target: cold.t, timestamp_column: at, transport: {}}}}}"
S3_JAVA = {"io-impl": "org.apache.iceberg.aws.s3.S3FileIO"}


class WritingClickHouse:
    """Writes into a folder that it takes for the warehouse.

    :param refusal: raised in place of all that
    """

    def __init__(self, folder: Path, refusal: OffloadError | None = None) -> None:
        self.folder = folder
        self.refusal = refusal

    def execute(self, sql: str) -> list[tuple[str]]:
        if self.refusal:
            raise self.refusal
        [path] = re.findall(r"file\('([^']+)', 'Parquet'\)", sql)
        file = self.folder / Path(path).name
        if sql.startswith("INSERT"):
            file.write_bytes(b"PAR1 and rows")
            return []
        return [("k2 validate",)] if file.exists() else []


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    folder = tmp_path / "warehouse"
    folder.mkdir()
    return folder


@pytest.fixture
def open_catalog(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ColdCatalog]]:
    """Opens an empty catalog with a warehouse."""
    monkeypatch.setattr("pyiceberg.catalog.load_catalog", InMemoryCatalog)
    with ExitStack() as opened:

        def open_one(warehouse: str) -> ColdCatalog:
            properties = {"type": "rest", "warehouse": warehouse, "py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO"}
            return opened.enter_context(closing(ColdCatalog(CatalogSettings("k2_iceberg", "demo", properties, {}))))

        yield open_one


@pytest.fixture
def catalog(warehouse: Path, open_catalog: Callable[[str], ColdCatalog]) -> ColdCatalog:
    return open_catalog(warehouse.as_uri())


def check(catalog, clickhouse, transport="export"):
    tables = parse_tables(TABLE.format(transport))
    tiers = Tiers(tables, None, clickhouse, catalog, "k2_lake", wall_clock)
    return {check.subject: (check.passed, check.detail) for check in check_lake(tiers)}


def test_each_way_is_tried_and_leaves_nothing(warehouse, catalog):
    found = check(catalog, WritingClickHouse(warehouse))
    assert all(passed for passed, _ in found.values()), found
    assert list(warehouse.iterdir()) == []


class OneOfSome(WritingClickHouse):
    """A server of a list.

    :param rows: of an hour that is over
    """

    def __init__(self, folder, address, rows, others=()):
        super().__init__(folder)
        self.address, self.rows, self.others, self.closed = address, rows, others, False

    def each(self):
        return [self, *self.others]

    def count_within(self, *_):
        return self.rows

    def close(self):
        self.closed = True


def test_each_server_that_stands_in_has_to_write_and_to_show_the_same_rows(warehouse, catalog, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    replica, staging = OneOfSome(warehouse, "b:1", 7), OneOfSome(tmp_path / "elsewhere", "c:1", 5)
    first = OneOfSome(warehouse, "a:1", 7, [replica, staging])
    monkeypatch.setattr(validate, "check_source", lambda _, table: SourceCheck(table, 3, None))
    tiers = Tiers(parse_tables(TABLE.format("export")), None, first, catalog, "k2_lake", wall_clock)
    found = {each.subject: each for each in check_other_servers(tiers)}
    assert {name: each.passed for name, each in found.items()} == {
        "Export of b:1": True, "Sources of b:1": True, "Export of c:1": False, "Sources of c:1": False,
    }  # fmt: skip
    assert found["Sources of c:1"].detail.startswith("trades: a:1 shows 7 rows of k2.t in [")
    assert "c:1 shows 5. They are no replicas of each other, or one is behind" in found["Sources of c:1"].detail
    assert all(each.closed for each in (first, replica, staging))


def test_a_collection_of_another_bucket_is_found(catalog, tmp_path):
    elsewhere = tmp_path / "another bucket"
    elsewhere.mkdir()
    found = check(catalog, WritingClickHouse(elsewhere))
    passed, detail = found["ClickHouse's export"]
    assert not passed
    [left] = elsewhere.iterdir()
    assert detail.startswith("ClickHouse writes somewhere else than the catalog's warehouse is: it wrote ")
    assert left.name in detail
    assert found["Warehouse"][0]


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (StoreRefused("AccessDenied"), "refuses ClickHouse: AccessDenied"),
        (OffloadError("ClickHouse refused a query (code 669): no collection."), "named collection 'k2_lake'"),
    ],
)
def test_what_clickhouse_may_not_write_is_told(warehouse, catalog, refusal, words):
    passed, detail = check(catalog, WritingClickHouse(warehouse, refusal))["ClickHouse's export"]
    assert not passed
    assert words in detail


@pytest.mark.parametrize("seen", ["seen from here, it is accepted", ""])
def test_what_is_wrong_with_the_stores_certificate_is_said_where_clickhouse_does_not(
    warehouse, catalog, monkeypatch, seen
):
    monkeypatch.setattr(catalog, "store_certificate_seen", lambda: seen)
    refusal = StoreNotTrusted("certificate verify failed")
    passed, detail = check(catalog, WritingClickHouse(warehouse, refusal))["ClickHouse's export"]
    assert not passed
    assert f"object store: certificate verify failed{f' ({seen})' if seen else ''}. ClickHouse trusts" in detail


def test_a_warehouse_that_cannot_be_written_is_told_with_its_connection(open_catalog, tmp_path):
    (tmp_path / "file").write_text("no folder")
    passed, detail = check(open_catalog((tmp_path / "file").as_uri()), None, "jdbc")["Warehouse"]
    assert not passed
    assert "'k2_iceberg'" in detail


def test_clickhouse_is_not_needed_where_it_writes_nothing(catalog):
    passed, detail = check(catalog, None, "jdbc")["ClickHouse's export"]
    assert passed
    assert detail.startswith("not needed")


def test_a_warehouse_that_is_only_a_name_is_not_said_to_be_in_order(open_catalog):
    found = check(open_catalog("a name"), None)
    assert [detail.startswith("not checked") for _, detail in found.values()] == [True, True]


def test_a_warehouse_on_s3_needs_amazons_classes(tmp_path):
    jars = [tmp_path / "iceberg.jar", tmp_path / "aws.jar"]
    for jar, name in zip(
        jars, ("org/apache/iceberg/spark/SparkCatalog", "software/amazon/awssdk/services/s3/S3Client"), strict=True
    ):
        with zipfile.ZipFile(jar, "w") as archive:
            archive.writestr(f"{name}.class", b"")
    assert check_jars(jars, S3_JAVA) == ", ".join(jar.name for jar in jars)
    assert check_jars(jars[:1], {}) == jars[0].name
    with pytest.raises(ConfigurationError, match=r"add iceberg-aws-bundle .*\(lake_jars\.xml in docker, in the wheel"):
        check_jars(jars[:1], S3_JAVA)
    with pytest.raises(ConfigurationError, match=r"add iceberg-spark-runtime .*\(requirements/jars\.xml"):
        check_jars(jars[1:], {})


def test_a_python_that_lacks_what_a_job_imports_is_found(tmp_path):
    python = tmp_path / "python"
    with pytest.raises(ConfigurationError, match="is not there or cannot be run"):
        check_python(str(python))
    answers = {
        "echo 4.1.4": None,
        "echo \"No module named 'py4j'\" >&2; exit 1": "cannot run a job: No module named 'py4j'; install",
        "exit 3": "it says nothing",
    }
    for script, problem in answers.items():
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        if problem is None:
            assert check_python(str(python)) == f"{python}, pyspark 4.1.4"
        else:
            with pytest.raises(ConfigurationError, match=problem):
                check_python(str(python))


def test_a_pause_that_is_long_beside_the_retention_is_found():
    tables = list(parse_tables(TABLE.format("export, warm_retention_days: 1")).by_name.values())
    assert check_schedule(Settings(schedule="0 */6 * * *"), tables).passed
    found = check_schedule(Settings(schedule="0 */8 * * *"), tables)
    assert not found.passed
    assert "trades" in found.detail


@pytest.mark.parametrize("catalog", [CatalogSettings("k2_iceberg", "demo", {}, {}, "/ca.pem"), None])
def test_clickhouse_s_http_port_is_asked_as_the_job_would(monkeypatch, catalog):
    def refuse(*_):
        raise ConfigurationError("no such connection")

    for name in ("open_ledger", "ClickHouse"):
        monkeypatch.setattr(validate, name, refuse)
    monkeypatch.setattr(validate, "clickhouse_endpoint", lambda _: "endpoint")
    monkeypatch.setattr(validate, "catalog_settings", lambda _: catalog or refuse())
    monkeypatch.setattr(validate, "check_http_ports", lambda *asked: f"asked {asked}")
    checks = check_services(None, parse_tables(TABLE.format("jdbc")).by_name.values())
    [found] = [check for check, _ in zip(checks, range(3), strict=False) if check.subject == "ClickHouse's HTTP"]
    assert found.detail == f"asked {('endpoint', catalog)}"

"""What an operator gets wrong about the store is one line of `k2 validate`, and a cycle does not try it again."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.adapters.settings import load_settings
from k2_offload.adapters.table_file import parse_tables
from k2_offload.work.tiers import open_tiers
from k2_offload.work.validate import check_lake, check_services
from tests.support.cycles import table_file

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
WRONG_SECRET = {"s3.secret-access-key": "another"}
NO_BUCKET = {"warehouse": "s3://no-such-bucket/warehouse"}


@pytest.fixture
def looked(lake, workbench, monkeypatch):
    """Says what `k2 validate` finds of the lake; what the catalog's connection says otherwise comes in."""

    def look(**changes):
        monkeypatch.setenv("AIRFLOW_CONN_REAL_LAKE", json.dumps(lake.catalog_connection(**changes)))
        with open_tiers(parse_tables(table_file([workbench.spec("any")]))) as tiers:
            return {check.subject: check for check in check_lake(tiers)}

    return look


@pytest.fixture
def collection(lake):
    """Makes the named collection, and the right one in the end."""
    yield lake.make_collection
    lake.make_collection()


def is_one_line(check, *words):
    assert not check.passed
    assert "\n" not in check.detail
    for word in words:
        assert word in check.detail, check.detail


def test_validate_says_what_is_right(looked):
    assert all(check.passed for check in looked().values())


def test_validate_names_wrong_keys_of_the_catalogs_connection(looked):
    is_one_line(looked(**WRONG_SECRET)["Warehouse"], "refuses Airflow connection 'real_lake'")


def test_validate_names_a_bucket_that_is_not_there(looked, collection):
    collection(bucket="no-such-bucket")
    found = looked(**NO_BUCKET)
    is_one_line(found["Warehouse"], "refuses Airflow connection 'real_lake'", "no-such-bucket")
    is_one_line(found["ClickHouse's export"], "refuses ClickHouse", "lake_collection", "bucket does not exist")


def test_validate_names_wrong_keys_of_the_collection(looked, collection):
    collection(secret="another")
    found = looked()
    assert found["Warehouse"].passed
    is_one_line(found["ClickHouse's export"], "refuses ClickHouse", "lake_collection", "ACCESS_DENIED")


def test_validate_names_a_collection_of_another_bucket(lake, looked, collection):
    lake.store.make_bucket("another-lake")
    collection(bucket="another-lake")
    found = looked()
    assert found["Warehouse"].passed
    is_one_line(found["ClickHouse's export"], "ClickHouse writes somewhere else", "lake_collection")


def test_validate_names_a_jar_that_is_missing(lake, monkeypatch):
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__SPARK_JARS", lake.stack.settings.layout.spark_jars)
    [jars] = [check for check in check_services(load_settings(), []) if check.subject == "Spark jars"]
    is_one_line(jars, "iceberg-aws-bundle")


@pytest.mark.parametrize("wrong", ["collection", "jar"])
def test_a_cycle_is_refused_once(lake, workbench, collection, monkeypatch, wrong):
    table = workbench.create_trades()
    workbench.insert_trades(table, NOON, 20)
    cycle = workbench.cycle(workbench.spec(table), now=NOON + timedelta(hours=1))
    planned = cycle.plan(cycle.tables[table])
    with monkeypatch.context() as patch:
        if wrong == "collection":
            collection(secret="another")
        else:
            patch.setenv("AIRFLOW__K2_OFFLOAD__SPARK_JARS", lake.stack.settings.layout.spark_jars)
        code, output = workbench.run_job(planned)
    collection()
    errors = [line for line in output.splitlines() if "ERROR" in line]
    assert code == 1
    assert len(errors) == 1, output
    assert "Traceback" not in output
    assert re.search("no row is lost|none is lost", errors[0]), errors
    assert "not reachable" not in errors[0]
    code, output = workbench.run_job(planned)
    assert code == 0, output
    cycle.commit(cycle.tables[table])
    workbench.check(cycle, [table])

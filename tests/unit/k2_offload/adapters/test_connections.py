"""What Airflow's connections say; the reading of their fields has a test of its own in core."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from k2_offload.adapters.connections import job_connections, spark_master
from k2_offload.adapters.settings import Settings
from k2_offload.core.errors import ConfigurationError


def add(monkeypatch, connection_id, **fields):
    monkeypatch.setenv(f"AIRFLOW_CONN_{connection_id.upper()}", json.dumps(fields))


def test_the_job_gets_what_the_connections_hold(monkeypatch):
    add(monkeypatch, "here_ch", conn_type="clickhouse", host="ch", login="u", password="p", extra={"http_port": 81})
    add(monkeypatch, "here_lake", conn_type="iceberg", host="http://rest", extra={"warehouse": "s3://lake/w"})
    settings = replace(Settings(), clickhouse_conn_id="here_ch", catalog_conn_id="here_lake", lake_collection="lake")
    found = job_connections(settings)
    assert (found.clickhouse.host, found.clickhouse.http_port, found.clickhouse.password) == ("ch", 81, "p")
    assert found.catalog.java["warehouse"] == "s3://lake/w"
    assert found.lake_collection == "lake"


def test_spark_s_master_is_read_as_airflow_s_provider_reads_it(monkeypatch):
    add(monkeypatch, "here_spark", conn_type="spark", host="spark://master", port=7077)
    assert spark_master(replace(Settings(), spark_conn_id="here_spark")) == "spark://master:7077"


def test_a_connection_that_is_missing_is_named_with_the_command_that_adds_it():
    with pytest.raises(ConfigurationError, match=r"'not_there' does not exist.*airflow connections add not_there"):
        spark_master(replace(Settings(), spark_conn_id="not_there"))

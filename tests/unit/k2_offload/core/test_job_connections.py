"""What the job is told of the outside, and what everybody may see of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from k2_offload.core.connections import read_catalog, read_clickhouse
from k2_offload.core.errors import ConfigurationError
from k2_offload.core.job_connections import JobConnections
from tests.support.connections import fields


def test_what_the_job_needs_survives_its_environment():
    connections = JobConnections(read_clickhouse(fields()), read_catalog(fields(extra={"warehouse": "w"})), "k2_lake")
    assert JobConnections.from_json(connections.to_json()) == connections
    assert JobConnections.from_environment({JobConnections.VARIABLE: connections.to_json()}) == connections


def job(lake="k2_lake", clickhouse=None, catalog=None):
    in_postgres = {"login": "me", "password": "p", "extra": {"catalog_type": "sql", "warehouse": "s3://lake/w"}}
    return JobConnections(
        read_clickhouse(fields(**clickhouse or {})), read_catalog(fields(**in_postgres | (catalog or {}))), lake
    )


def given(connections, servers):
    return {JobConnections.VARIABLE: connections.to_json(), JobConnections.SERVERS_VARIABLE: servers}


@pytest.mark.parametrize(
    "other",
    [
        job("another_lake"),
        job(clickhouse={"host": "h2"}),
        job(clickhouse={"schema": "other"}),
        job(clickhouse={"login": "other"}),
        job(catalog={"host": "h2"}),
        job(catalog={"schema": "other"}),
        job(catalog={"login": "other"}),
        job(catalog={"extra": {"catalog_type": "sql", "warehouse": "s3://other/w"}}),
        job(catalog={"extra": {"catalog_type": "rest", "warehouse": "s3://lake/w"}}),
        job(catalog={"extra": {"catalog_type": "sql", "warehouse": "s3://lake/w", "s3.endpoint": "http://other"}}),
    ],
)
def test_connections_that_lead_elsewhere_are_refused(other):
    assert JobConnections.from_environment(given(job(), job().servers)) == job()
    with pytest.raises(ConfigurationError, match=r"leads to other servers.*Nothing was moved"):
        JobConnections.from_environment(given(other, job().servers))


def test_the_digest_of_servers_does_not_depend_on_passwords():
    changed = job(clickhouse={"password": "new"}, catalog={"password": "new"})
    assert changed != job()
    assert changed.servers == job().servers

    def rest(password):
        return job(
            catalog={"login": None, "password": None, "extra": {}, "host": f"https://me:{password}@rest/?t={password}"}
        )

    assert rest("old") != rest("new")
    assert rest("old").servers == rest("new").servers


def test_a_longer_limit_leads_to_no_other_server():
    longer = replace(job().clickhouse, query_seconds=7200, connection_id="other", ca_certs="/ca.pem")
    assert replace(job(), clickhouse=longer).servers == job().servers


def test_a_job_of_an_older_version_understands_connections_without_anything_new():
    assert "ca_certs" not in json.loads(job().to_json())["catalog"]
    with_authorities = replace(job(), catalog=replace(job().catalog, ca_certs="/ca.pem"))
    assert JobConnections.from_json(with_authorities.to_json()) == with_authorities

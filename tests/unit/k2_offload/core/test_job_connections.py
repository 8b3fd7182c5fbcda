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


def rest(login="alice", password="p", **extra):  # noqa: S107 - made up
    of_rest = {"warehouse": "s3://lake/w", "s3.access-key-id": "a", "s3.secret-access-key": "s", "prefix": "prod"}
    extra = of_rest | {"client.region": "eu-1", "header.Polaris-Realm": "prod"} | extra
    return job(catalog={"host": "https://rest", "login": login, "password": password, "extra": extra})


@pytest.mark.parametrize(
    "other",
    [
        rest(login="bob"),
        rest(prefix="test"),
        rest(**{"header.Polaris-Realm": "test"}),
        rest(**{"header.X-Tenant": "7"}),
        rest(**{"client.region": "eu-2"}),
        rest(**{"s3.access-key-id": "b"}),
        rest(login=None, password=None, credential="bob:p"),
    ],
)
def test_other_users_and_other_parts_of_a_rest_catalog_and_of_a_store_are_elsewhere(other):
    with pytest.raises(ConfigurationError, match=r"leads to other servers.*Nothing was moved"):
        JobConnections.from_environment(given(other, rest().servers))


def test_secrets_of_a_rest_catalog_and_of_a_store_are_not_in_the_digest():
    headers = {"header.Authorization": "Basic n", "header.X-Api-Key": "n"}
    secrets = {"s3.secret-access-key": "n", "s3.session-token": "n", "token": "n"} | headers
    assert rest(password="new", **secrets).servers == rest().servers
    assert rest(login=None, password=None, credential="n").servers == rest(login=None, password=None).servers


def test_the_digest_of_servers_does_not_depend_on_passwords():
    changed = job(clickhouse={"password": "new"}, catalog={"password": "new"})
    assert changed != job()
    assert changed.servers == job().servers

    def in_address(password):
        return job(
            catalog={"login": None, "password": None, "extra": {}, "host": f"https://me:{password}@rest/?t={password}"}
        )

    assert in_address("old") != in_address("new")
    assert in_address("old").servers == in_address("new").servers


def test_a_longer_limit_leads_to_no_other_server():
    longer = replace(job().clickhouse, query_seconds=7200, connection_id="other", ca_certs="/ca.pem")
    assert replace(job(), clickhouse=longer).servers == job().servers


def test_a_job_of_an_older_version_understands_connections_without_anything_new():
    assert "ca_certs" not in json.loads(job().to_json())["catalog"]
    with_authorities = replace(job(), catalog=replace(job().catalog, ca_certs="/ca.pem"))
    assert JobConnections.from_json(with_authorities.to_json()) == with_authorities

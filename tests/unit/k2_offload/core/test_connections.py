"""One Airflow connection serves every component."""

from __future__ import annotations

import re

import pytest

from k2_offload.core.connections import (
    is_cluster,
    read_catalog,
    read_clickhouse,
    read_docker,
    read_spark_master,
)
from k2_offload.core.errors import ConfigurationError
from k2_offload.core.job_connections import JobConnections
from tests.support.connections import fields


def test_a_catalog_in_postgres_is_described_to_both_libraries():
    settings = read_catalog(
        fields(port=5433, login="me", password="p@ss/word", schema="iceberg",
               extra={"catalog_type": "sql", "catalog_name": "demo", "warehouse": "file:///w"})
    )  # fmt: skip
    assert settings.name == "demo"
    assert settings.pyiceberg["uri"] == "postgresql+psycopg://me:p%40ss%2Fword@h:5433/iceberg"
    assert settings.java["uri"] == "jdbc:postgresql://h:5433/iceberg"
    assert settings.java["jdbc.password"] == "p@ss/word"
    assert settings.java["warehouse"] == settings.pyiceberg["warehouse"] == "file:///w"
    assert "io-impl" not in settings.java


def test_a_rest_catalog_on_an_object_store_passes_the_stores_settings_on():
    settings = read_catalog(
        fields(host="http://rest:8181", extra={"warehouse": "s3://lake/w", "s3.endpoint": "http://s3"})
    )
    for side in (settings.pyiceberg, settings.java):
        assert (side["type"], side["uri"], side["s3.endpoint"]) == ("rest", "http://rest:8181", "http://s3")
    assert settings.java["io-impl"] == "org.apache.iceberg.aws.s3.S3FileIO"


@pytest.mark.parametrize("warehouse", ["s3://lake/w", "s3a://lake/w", "s3n://lake/w"])
def test_a_store_s_files_are_accessed_as_the_connection_says_if_it_does(warehouse):
    extra = {"warehouse": warehouse, "io-impl": "org.apache.iceberg.hadoop.HadoopFileIO"}
    assert read_catalog(fields(extra=extra)).java["io-impl"] == extra["io-impl"]
    assert read_catalog(fields(extra={"warehouse": warehouse})).java["io-impl"].endswith("S3FileIO")


def test_a_rest_warehouse_s_name_says_nothing_of_its_files():
    assert "io-impl" not in read_catalog(fields(extra={"warehouse": "s3-lake"})).java


@pytest.mark.parametrize(
    ("build", "values", "message"),
    [
        (read_catalog, {"extra": {"catalog_type": "hadoop"}}, "'catalog_type' is 'hadoop'; expected 'rest' or 'sql'"),
        (read_catalog, {"extra": {"catalog_name": "prod.lake"}}, "'catalog_name' is 'prod.lake'.*without one"),
        (read_catalog, {"host": None}, "connection 'c' has no host"),
        (read_clickhouse, {"host": ""}, "connection 'c' has no host"),
        (read_clickhouse, {"extra": {"http_port": "x"}}, "'http_port' must be a number"),
        (read_clickhouse, {"extra": {"ca_certs": "/ca.pem"}}, "'ca_certs' is for TLS, and 'secure' is not true"),
        (read_clickhouse, {"extra": {"secure": None}}, "'secure' is None; expected true or false"),
        (read_clickhouse, {"extra": {"secure": "on"}}, "'secure' is 'on'; expected true or false"),
        (read_clickhouse, {"extra": {"Secure": True}}, "'Secure' is not known"),
        (read_catalog, {"extra": {"token": None}}, "'token' is neither a text nor a number"),
        (read_catalog, {"extra": {"catalog_type": "sql", "auth": {}}}, "'auth' is neither a text nor a number"),
        (read_catalog, {"extra": {"ca_certs": "/c", "s3.endpoint": "http://s3"}}, "'ca_certs' is for TLS, and nobody"),
        (read_catalog, {"extra": {"ca_certs": "/c", "warehouse": "/w"}}, "Use it with a host that is https://"),
        (read_catalog, {"extra": {"ca_certs": "/c", "catalog_type": "sql", "warehouse": "/w"}}, "'sslrootcert'"),
        (read_catalog, {"extra": {"ca_certs": "/c", "ssl": {"cabundle": "/d"}}}, "Take 'cabundle' out"),
        (read_catalog, {"extra": {"ca_certs": "/c", "py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO"}}, "not heed"),
        (read_catalog, {"extra": {"ca_certs": "/c", "s3.retry-strategy-impl": "a.B"}}, "would have no effect beside"),
        (read_catalog, {"login": "me"}, "has a login and no password"),
        (read_catalog, {"password": "p"}, "has a password and no login"),
        (read_catalog, {"port": 8181}, "belongs into its host"),
        (read_catalog, {"extra": {"catalog_type": "sql", "sslcrl": "/c"}}, "'sslcrl' would have no effect"),
        (read_catalog, {"extra": {"catalog_type": "sql", "channel_binding": "require"}}, "would have no effect"),
        (read_catalog, {"extra": {"catalog_type": "sql", "sslrootcert": "/c"}}, "nobody would check a certificate"),
    ],
)
def test_a_wrong_connection_is_named(build, values, message):
    with pytest.raises(ConfigurationError, match=message):
        build(fields(**values))


@pytest.mark.parametrize(("secure", "native", "http"), [(False, 9000, 8123), (True, 9440, 8443)])
def test_clickhouse_ports_default_to_the_servers_own(secure, native, http):
    endpoint = read_clickhouse(fields(extra={"secure": secure}))
    assert (endpoint.native_port, endpoint.http_port, endpoint.user) == (native, http, "default")


def test_authorities_of_ones_own_are_given_to_each_driver():
    assert read_clickhouse(fields(extra={"secure": True, "ca_certs": "/ca.pem"})).ca_certs == "/ca.pem"
    tls = {"catalog_type": "sql", "sslmode": "verify-full", "sslrootcert": "/our ca.pem"}
    catalog = read_catalog(fields(extra=tls))
    assert catalog.pyiceberg["uri"].endswith("?sslmode=verify-full&sslrootcert=%2Four+ca.pem")
    assert catalog.java | {"jdbc.sslmode": "verify-full", "jdbc.sslrootcert": "/our ca.pem"} == catalog.java
    assert not {"sslmode", "sslrootcert"} & {*catalog.pyiceberg, *catalog.java}


def test_authorities_are_checked_on_both_sides_in_mode_require():
    tls = {"catalog_type": "sql", "sslmode": "require", "sslrootcert": "/ca.pem"}
    catalog = read_catalog(fields(extra=tls))
    assert "sslmode=require" in catalog.pyiceberg["uri"]
    assert catalog.java["jdbc.sslmode"] == "verify-ca"


OUR_FILES = {
    "py-io-impl": "k2_offload.adapters.store_files.TrustingFiles",
    "k2-offload.ca-certs": "/ca.pem",
}


@pytest.mark.parametrize("given", [{}, {"py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO"}])
def test_one_file_of_authorities_is_for_a_rest_catalog_and_its_store(given):
    settings = read_catalog(fields(host="https://rest", extra={"ca_certs": "/ca.pem", "warehouse": "s3://l/w"} | given))
    assert settings.ca_certs == "/ca.pem"
    assert settings.pyiceberg | {"ssl": {"cabundle": "/ca.pem"}} | OUR_FILES == settings.pyiceberg
    assert "/ca.pem" not in settings.java.values()
    connections = JobConnections(read_clickhouse(fields()), settings, "k2_lake")
    assert JobConnections.from_json(connections.to_json()) == connections


def test_a_certificate_of_the_clients_stays_beside_it():
    client = {"cert": "/c.pem", "key": "/k.pem"}
    settings = read_catalog(fields(host="https://rest", extra={"ca_certs": "/ca.pem", "ssl": {"client": client}}))
    assert settings.pyiceberg["ssl"] == {"client": client, "cabundle": "/ca.pem"}


def test_files_in_a_folder_are_read_as_without_authorities():
    files = {"warehouse": "file:///w", "py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO"}
    settings = read_catalog(fields(host="https://rest", extra={"ca_certs": "/ca.pem"} | files))
    assert settings.pyiceberg["py-io-impl"] == files["py-io-impl"]


def test_a_catalog_in_postgres_has_authorities_for_its_store():
    extra = {"catalog_type": "sql", "warehouse": "s3://l/w", "s3.endpoint": "https://s3", "ca_certs": "/ca.pem"}
    settings = read_catalog(fields(extra=extra))
    assert settings.pyiceberg | OUR_FILES == settings.pyiceberg
    assert (settings.ca_certs, "ssl" in settings.pyiceberg) == ("/ca.pem", False)


def test_without_authorities_nothing_is_different():
    settings = read_catalog(fields(host="https://rest", extra={"warehouse": "s3://l/w"}))
    assert not {"ssl", *OUR_FILES} & {*settings.pyiceberg}
    assert settings.ca_certs == ""


def test_what_only_pyiceberg_understands_is_given_to_it_alone():
    settings = read_catalog(fields(host="https://rest", extra={"ssl": {"cabundle": "/ca.pem"}, "auth": {"type": "x"}}))
    assert (settings.pyiceberg["ssl"], settings.pyiceberg["auth"]) == ({"cabundle": "/ca.pem"}, {"type": "x"})
    assert not {"ssl", "auth"} & {*settings.java}


@pytest.mark.parametrize(("given", "secure"), [(True, True), ("true", True), ("False", False), (0, False)])
def test_tls_is_on_or_off(given, secure):
    assert read_clickhouse(fields(extra={"secure": given})).secure is secure


@pytest.mark.parametrize(
    ("kind", "host", "port", "master"),
    [
        ("spark", "local[2]", None, "local[2]"),
        ("spark", "spark://node", 7077, "spark://node:7077"),
        ("spark", "node", 7077, "spark://node:7077"),
        ("spark", "yarn", None, "yarn"),
    ],
)
def test_the_spark_master_is_the_one_that_the_provider_reads(kind, host, port, master):
    assert read_spark_master("c", kind, host, port) == master


@pytest.mark.parametrize(
    ("master", "cluster"),
    [("local", False), ("local[2]", False), ("local[*]", False), ("spark://node:7077", True), ("yarn", True)],
)
def test_a_cluster_is_what_has_executors_elsewhere(master, cluster):
    assert is_cluster(master) is cluster


@pytest.mark.parametrize(
    ("kind", "host", "deploy_mode", "message"),
    [
        ("k8s", "https://node", None, "means Kubernetes"),
        ("spark", "k8s://https://node:6443", "client", "means Kubernetes"),
        ("spark", "spark://spark.k8s.internal:7077", None, "a name without 'k8s'"),
        ("spark", "yarn", "cluster", "'deploy-mode' out of its extra"),
        ("spark", "spark://node:7077", "cluster", "deploy mode 'cluster'"),
    ],
)
def test_a_master_that_would_put_passwords_on_command_lines_is_refused(kind, host, deploy_mode, message):
    with pytest.raises(ConfigurationError, match=message) as refusal:
        read_spark_master("c", kind, host, None, deploy_mode)
    assert "connection 'c'" in str(refusal.value)
    assert "k2 validate" in str(refusal.value)


def test_a_spark_connection_without_a_master_is_refused():
    with pytest.raises(ConfigurationError, match="connection 'c' has no host"):
        read_spark_master("c", "spark", None, None)


TLS_FILES = {"ca_cert": "/c/ca.pem", "client_cert": "/c/cert.pem", "client_key": "/c/key.pem"}


def test_a_docker_connection_is_its_url_and_three_files_for_tls():
    plain = read_docker(fields(host="unix:///run/docker.sock", extra={}))
    assert (plain.url, plain.tls) == ("unix:///run/docker.sock", None)
    secure = read_docker(fields(host="tcp://docker.internal", port=2376, extra=TLS_FILES))
    assert (secure.url, secure.tls) == ("tcp://docker.internal:2376", ("/c/ca.pem", "/c/cert.pem", "/c/key.pem"))


@pytest.mark.parametrize("missing", TLS_FILES)
def test_tls_of_docker_is_never_left_out_because_a_file_is(missing):
    files = {key: file for key, file in TLS_FILES.items() if key != missing}
    with pytest.raises(ConfigurationError, match="only some of ca_cert, client_cert, client_key"):
        read_docker(fields(host="tcp://docker.internal:2376", extra=files))
    with pytest.raises(ConfigurationError, match="extra 'tls_ca_cert' is not known"):
        read_docker(fields(host="tcp://docker.internal:2376", extra=TLS_FILES | {"tls_ca_cert": "/c/ca.pem"}))


@pytest.mark.parametrize("host", ["docker.internal", "ssh://docker.internal", "http://docker.internal:2375"])
def test_an_address_that_is_none_of_a_docker_engine_is_refused(host):
    with pytest.raises(ConfigurationError, match=f"host is '{host}'"):
        read_docker(fields(host=host, extra={}))


@pytest.mark.parametrize(
    ("host", "port", "servers"),
    [
        ("ch1", None, [("ch1", 9000)]),
        ("ch1,ch2:9440", 9001, [("ch1", 9001), ("ch2", 9440)]),
        (" ch1 , 10.0.0.2 ,ch3", None, [("ch1", 9000), ("10.0.0.2", 9000), ("ch3", 9000)]),
        ("::1,ch2:1", None, [("::1", 9000), ("ch2", 1)]),
        ("[fd00::1]:9440,[fd00::2],fd00::3", 9001, [("fd00::1", 9440), ("fd00::2", 9001), ("fd00::3", 9001)]),
    ],
)
def test_a_clickhouse_connection_may_name_several_servers(host, port, servers):
    endpoint = read_clickhouse(fields(host=host, port=port))
    assert list(endpoint.servers) == servers
    both_ways = JobConnections(endpoint, read_catalog(fields(host="http://rest")), "k2_lake")
    assert JobConnections.from_json(both_ways.to_json()) == both_ways


@pytest.mark.parametrize(
    "host", ["ch1,", ",ch1", "ch1,,ch2", "ch1:", "ch1:many,ch2", "ch1,ch1:9000", "[fd00::1", "fd00::1]:9000", "[]:9000"]
)
def test_a_list_of_servers_with_a_hole_or_a_double_is_refused(host):
    with pytest.raises(ConfigurationError, match=f"connection 'c': host .*'{re.escape(host)}'"):
        read_clickhouse(fields(host=host))

"""Store and catalog behind TLS, with certificates of an authority that the tests have made; and certificates to refuse.

The store ends TLS itself. Iceberg's REST server cannot: there, a proxy of the tests' does it.
"""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from embedded.install.layout import ROOT
from embedded.spark_standalone import standalone_cluster
from k2_offload.adapters.settings import load_settings
from k2_offload.adapters.table_file import parse_tables
from k2_offload.work.tiers import open_tiers
from k2_offload.work.validate import check_lake, check_services
from tests.real.crash import restart_clickhouse
from tests.real.servers import TlsObjectStore
from tests.real.test_faults import is_one_line
from tests.support import free_ports
from tests.support.cycles import table_file
from tests.tls import Authority, TlsProxy, server_context

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
SERVICES = ("catalog", "store")
PROBLEMS = {
    "unknown": "its certificate is of an unknown authority",
    "expired": "its certificate has expired",
    "host": "its certificate is for another host",
}
SAFE = "no row is lost|none is lost"


def documented_configuration(authorities) -> str:
    """What docs/configuration.md says that ClickHouse needs."""
    page = (ROOT / "docs" / "configuration.md").read_text()
    [found] = re.findall(r"```xml\n(<clickhouse>.*?caConfig.*?</clickhouse>)\n```", page, re.DOTALL)
    return re.sub("(?<=<caConfig>).*?(?=</caConfig>)", str(authorities), found)


@pytest.fixture(scope="module")
def network(lake, tmp_path_factory):
    """Store and catalog at addresses with TLS alone; ClickHouse trusts the authority by its own configuration."""
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority.make(folder, "ours")
    theirs = Authority.make(folder, "theirs")
    right = authority.sign_file()
    wrong = {
        "unknown": theirs.sign_file(),
        "expired": authority.sign_file(left=-timedelta(days=1)),
        "host": authority.sign_file(host="elsewhere.example"),
    }
    settings = lake.stack.settings
    [port] = free_ports(1)
    store = TlsObjectStore(settings.layout, lake.store, port, right)
    with ExitStack() as resources:
        resources.callback(store.kill)
        store.start()
        catalog = resources.enter_context(TlsProxy(lake.to_catalog.port, authority.sign()))
        settings.clickhouse_config.write_text(documented_configuration(authority.file))
        restart_clickhouse(lake.stack)
        yield SimpleNamespace(
            authority=authority, others=theirs, right=right, wrong=wrong, store=store, catalog=catalog
        )
        settings.clickhouse_config.unlink()
    restart_clickhouse(lake.stack)


@pytest.fixture
def tls(lake, network, monkeypatch):
    """The connection names the addresses with TLS and the authority; ``present`` lets a service show a certificate."""
    trust = {"s3.endpoint": network.store.endpoint, "ca_certs": str(network.authority.file)}
    fields = lake.catalog_connection(**trust) | {"host": f"https://127.0.0.1:{network.catalog.port}"}

    def connect(**changes):
        extra = {key: value for key, value in (fields["extra"] | changes).items() if value is not None}
        monkeypatch.setenv("AIRFLOW_CONN_REAL_LAKE", json.dumps(fields | {"extra": extra}))

    def present(service, certificate):
        if service == "catalog":
            network.catalog.context = server_context(certificate)
        else:
            network.store.certificate = certificate
            network.store.restart()

    connect()
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # pyiceberg alone, with which tests read, prefers them
        monkeypatch.delenv(variable, raising=False)
    lake.make_collection(endpoint=network.store.endpoint)
    network.catalog.encrypted = 0
    yield SimpleNamespace(connect=connect, present=present, network=network)
    for service in SERVICES:
        present(service, network.right)
    lake.make_collection()


def planned_rows(workbench, transport="export"):
    table = workbench.create_trades(transport)
    workbench.insert_trades(table, NOON, 1200)
    cycle = workbench.cycle(workbench.spec(table, transport=transport), now=NOON + timedelta(hours=2))
    return cycle, table, cycle.plan(cycle.tables[table])


def looked_at(workbench):
    """What `k2 validate` finds of the lake."""
    found = {check.subject: check for check in check_services(load_settings(), [])}
    if found["Iceberg catalog"].passed:
        with open_tiers(parse_tables(table_file([workbench.spec("any")]))) as tiers:
            found |= {check.subject: check for check in check_lake(tiers)}
    return found


def test_validate_finds_everything_right(workbench, tls):
    found = looked_at(workbench)
    assert [check for check in found.values() if not check.passed] == []
    assert tls.network.catalog.encrypted


def test_no_variable_of_the_environment_takes_the_place_of_the_key(workbench, tls, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls.network.others.file))
    assert looked_at(workbench)["Iceberg catalog"].passed


@pytest.mark.usefixtures("tls")
def test_rows_move_by_both_transports(workbench):
    moved = [planned_rows(workbench, transport) for transport in ("export", "jdbc")]
    code, output = workbench.run_job(*(planned for _, _, planned in moved))
    assert code == 0, output
    for cycle, table, _ in moved:
        cycle.commit(cycle.tables[table])
        workbench.check(cycle, [table])


@pytest.mark.usefixtures("tls")
def test_executors_of_a_cluster_trust_it_without_a_file_of_their_own(lake, workbench, tmp_path):
    cycle, table, planned = planned_rows(workbench, "jdbc")
    with standalone_cluster(tmp_path, 1, lake.stack.environment) as cluster:
        jars = load_settings().spark_jars.replace(",", ":")
        conf = {**cluster.submit_options, "spark.executor.extraClassPath": jars}
        code, output = workbench.run_job(planned, master=cluster.master, conf=conf)
    assert code == 0, output
    cycle.commit(cycle.tables[table])
    workbench.check(cycle, [table])


@pytest.mark.parametrize("problem", PROBLEMS)
def test_validate_names_what_is_wrong_with_the_catalogs_certificate(workbench, tls, problem):
    tls.present("catalog", tls.network.wrong[problem])
    check = looked_at(workbench)["Iceberg catalog"]
    is_one_line(check, "refuses Airflow connection 'real_lake'", PROBLEMS[problem])


@pytest.mark.parametrize("problem", PROBLEMS)
def test_validate_names_what_is_wrong_with_the_stores_certificate(workbench, tls, problem):
    tls.present("store", tls.network.wrong[problem])
    found = looked_at(workbench)
    assert found["Iceberg catalog"].passed
    is_one_line(found["Warehouse"], "refuses Airflow connection 'real_lake'", PROBLEMS[problem])
    is_one_line(found["ClickHouse's export"], "does not accept the certificate", "caConfig", PROBLEMS[problem])


def test_validate_names_a_clickhouse_that_does_not_trust_the_authority(lake, workbench, tls):
    lake.stack.settings.clickhouse_config.rename(tls.network.right.with_name("kept.xml"))
    restart_clickhouse(lake.stack)
    try:
        found = looked_at(workbench)
    finally:
        tls.network.right.with_name("kept.xml").rename(lake.stack.settings.clickhouse_config)
        restart_clickhouse(lake.stack)
    assert found["Warehouse"].passed
    seen = re.escape(f"seen from here, the certificate of {tls.network.store.endpoint[8:]} is accepted")
    assert re.search(rf"does not accept the certificate.*{seen}.*caConfig", found["ClickHouse's export"].detail)


def test_without_the_key_nobody_trusts_the_authority(workbench, tls):
    tls.connect(ca_certs=None)
    is_one_line(looked_at(workbench)["Iceberg catalog"], PROBLEMS["unknown"])


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize(("service", "transport"), [("catalog", "export"), ("store", "jdbc")])
def test_java_refuses_a_wrong_certificate_once(workbench, tls, service, transport, problem):
    _, _, planned = planned_rows(workbench, transport)
    tls.present(service, tls.network.wrong[problem])
    error = fails_once(workbench, planned)
    assert re.search(rf"refuses Airflow connection 'real_lake': {PROBLEMS[problem]}.*({SAFE})", error), error


def test_clickhouse_refuses_a_wrong_certificate_once_and_the_window_moves_when_it_is_renewed(workbench, tls):
    cycle, table, planned = planned_rows(workbench)
    tls.present("store", tls.network.wrong["expired"])
    error = fails_once(workbench, planned)
    assert re.search(rf"ClickHouse does not accept the certificate of the lake's object store.*({SAFE})", error, re.I)
    tls.present("store", tls.network.right)
    code, output = workbench.run_job(planned)
    assert code == 0, output
    cycle.commit(cycle.tables[table])
    workbench.check(cycle, [table])


def fails_once(workbench, planned) -> str:
    """What the job says; Spark's own lines begin with a time."""
    code, output = workbench.run_job(planned)
    assert code == 1, output
    assert "Traceback" not in output
    assert "Trying again" not in output
    [error] = [line for line in output.splitlines() if line.startswith("ERROR")]
    return error


def test_a_file_that_is_not_there_is_named(workbench, tls, tmp_path):
    _, _, planned = planned_rows(workbench)
    tls.connect(ca_certs=str(tmp_path / "none.pem"))
    is_one_line(looked_at(workbench)["Iceberg catalog"], "'ca_certs' names", "none.pem")
    code, output = workbench.run_job(planned)
    assert code == 1
    assert re.search(rf"ERROR.*'ca_certs' names.*none\.pem.*({SAFE})", output), output

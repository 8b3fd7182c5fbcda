"""Every service behind TLS, with certificates of an authority that the tests have made; and certificates to refuse."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk import BaseHook

from k2_offload.adapters.settings import load_settings
from k2_offload.core.errors import Refused
from tests.tls import Authority, TlsProxy

NOW = datetime(2026, 3, 5, tzinfo=UTC)
SETTINGS = {"clickhouse": "clickhouse_conn_id", "ledger": "ledger_conn_id", "catalog": "catalog_conn_id"}


@pytest.fixture
def network(monkeypatch, tmp_path):
    """The workbench's services, reached with TLS alone; ``proxies`` by name."""
    authority = Authority.make(tmp_path, "ours")
    trust = str(authority.file)
    postgres = {"sslmode": "verify-full", "sslrootcert": trust}
    real = {name: BaseHook.get_connection(getattr(load_settings(), setting)) for name, setting in SETTINGS.items()}
    with ExitStack() as resources:

        def listen(port, *, is_postgres=False):
            return resources.enter_context(TlsProxy(port, authority.sign(), postgres=is_postgres))

        proxies = {name: listen(each.port, is_postgres=name != "clickhouse") for name, each in real.items()}
        proxies["http"] = listen(real["clickhouse"].extra_dejson["http_port"])
        extras = {
            "clickhouse": {"secure": True, "ca_certs": trust, "http_port": proxies["http"].port},
            "ledger": postgres,
            "catalog": postgres,
        }
        for name, each in real.items():
            fields = {key: getattr(each, key) for key in ("conn_type", "host", "login", "password", "schema")}
            fields |= {"port": proxies[name].port, "extra": each.extra_dejson | extras[name]}
            monkeypatch.setenv(f"AIRFLOW__K2_OFFLOAD__{SETTINGS[name].upper()}", f"tls_{name}")
            monkeypatch.setenv(f"AIRFLOW_CONN_TLS_{name.upper()}", json.dumps(fields))
        yield SimpleNamespace(authority=authority, proxies=proxies, folder=tmp_path)


def test_rows_move_by_both_transports(workbench, network):
    tables = [workbench.create_trades(transport) for transport in ("export", "jdbc")]
    for table in tables:
        workbench.insert_trades(table, NOW - timedelta(hours=2), 1200)
    specs = [workbench.spec(table, transport=table.rpartition("_")[2]) for table in tables]
    cycle = workbench.cycle(*specs, now=NOW)
    code, output = workbench.run_job(*(cycle.plan(cycle.tables[table]) for table in tables))
    assert code == 0, output
    for table in tables:
        cycle.commit(cycle.tables[table])
    workbench.check(cycle, tables)
    assert all(proxy.encrypted for proxy in network.proxies.values())


@pytest.mark.parametrize("service", SETTINGS)
def test_a_wrong_certificate_is_refused_at_once(workbench, network, service):
    table = workbench.create_trades()
    workbench.insert_trades(table, NOW - timedelta(hours=2), 10)
    cycle = workbench.cycle(workbench.spec(table), now=NOW)
    right = network.proxies[service].context
    for wrong in (
        Authority.make(network.folder, "theirs").sign(),
        network.authority.sign(left=-timedelta(days=1)),
        network.authority.sign(host="elsewhere.example"),
    ):
        network.proxies[service].context = wrong
        with pytest.raises(Refused, match=rf"'tls_{service}'.*certificate.*for TLS: host and authorities"):
            workbench.cycle(workbench.spec(table), now=NOW).plan(cycle.tables[table])
    network.proxies[service].context = right
    workbench.move(workbench.cycle(workbench.spec(table), now=NOW), table)
    assert workbench.cold_rows(table) == workbench.warm_rows(table)


def test_a_wrong_certificate_is_refused_by_java_too(workbench, network):
    table = workbench.create_trades()
    workbench.insert_trades(table, NOW - timedelta(hours=2), 10)
    cycle = workbench.cycle(workbench.spec(table, transport="jdbc"), now=NOW)
    network.proxies["http"].context = network.authority.sign(host="elsewhere.example")
    code, output = workbench.run_job(cycle.plan(cycle.tables[table]))
    assert code != 0
    assert "ClickHouse refuses Airflow connection 'tls_clickhouse': the certificate of its HTTP port" in output


def test_a_catalogs_wrong_certificate_is_refused_by_java_too(workbench, network):
    table = workbench.create_trades()
    workbench.insert_trades(table, NOW - timedelta(hours=2), 10)
    cycle = workbench.cycle(workbench.spec(table), now=NOW)
    planned = cycle.plan(cycle.tables[table])
    network.proxies["catalog"].context = Authority.make(network.folder, "theirs").sign()
    code, output = workbench.run_job(planned)
    assert code != 0
    assert "refuses Airflow connection 'tls_catalog'" in output

"""A failed run is told to a webhook: once, in one paragraph, without a secret; and telling fails nobody."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from k2_offload.adapters.settings import Settings, load_settings
from k2_offload.adapters.table_file import load_tables
from k2_offload.airflow_tasks import notify
from k2_offload.airflow_tasks.dags import build_dags
from k2_offload.core.errors import Unreachable
from k2_offload.work.validate import check_services
from tests.support.collector import Collector

REASON = "silver_trades [a, b): column 'x' is UInt256; nothing was moved. Run `k2 validate`."
CONTEXT = {"dag": SimpleNamespace(dag_id="k2_offload_silver"), "run_id": "scheduled__1", "reason": "task_failure"}
SECRET = "t0p-secret-path"


@pytest.fixture
def ledger(monkeypatch):
    """What the ledger says of each table."""
    records = {
        "silver_trades": SimpleNamespace(status="failed", reason=REASON),
        "bronze_trades_kraken": SimpleNamespace(status="failed", reason="of another layer"),
    }
    monkeypatch.setattr(notify, "open_ledger", lambda _: SimpleNamespace(read_tables=lambda: records))
    return records


def to_webhook(monkeypatch, **fields):
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__NOTIFY_CONN_ID", "unit_webhook")
    monkeypatch.setenv("AIRFLOW_CONN_UNIT_WEBHOOK", json.dumps({"conn_type": "http", **fields}))


def test_nobody_is_told_unless_a_connection_is_named(monkeypatch):
    assert {dag.on_failure_callback for dag in build_dags(Settings().tables_file).values()} == {None}
    to_webhook(monkeypatch, host="http://hook")
    assert {dag.on_failure_callback for dag in build_dags(Settings().tables_file).values()} == {notify.notify}
    tables = load_tables(Settings().tables_file)
    assert len(build_dags(Settings().tables_file)) == 4 + len({table.layer for table in tables.by_name.values()})


@pytest.mark.usefixtures("ledger")
def test_one_paragraph_says_which_run_why_and_what_to_read(monkeypatch):
    with Collector() as webhook:
        to_webhook(monkeypatch, host=f"{webhook.url}/services", password=SECRET, extra={"headers": {"X-Team": "k2"}})
        notify.notify(CONTEXT)
    [(path, headers, body)] = webhook.posted
    assert (path, headers["X-Team"], "Authorization" in headers) == (f"/services/{SECRET}", "k2", False)
    assert body == {
        "text": f"k2_offload_silver has failed (task_failure), run scheduled__1. {REASON} "
        "What to do: docs/runbooks/offload-failure.md"
    }


@pytest.mark.usefixtures("ledger")
def test_a_login_is_basic_authentication_and_not_in_the_address(monkeypatch):
    with Collector() as webhook:
        to_webhook(monkeypatch, host="127.0.0.1", schema="http", port=webhook.port, login="k2", password=SECRET)
        notify.notify(CONTEXT)
    [(path, headers, _)] = webhook.posted
    assert (path, headers["Authorization"].partition(" ")[0]) == ("/", "Basic")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"host": "http://127.0.0.1:9"}, "did not take it: URLError"),
        ({"host": f"http://127.0.0.1:9/{SECRET} x"}, "did not take it: InvalidURL"),
        ({"host": "file:///etc/passwd"}, "has no host that HTTP could be spoken to"),
        ({}, "has no host that HTTP could be spoken to"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("ledger")
def test_what_does_not_take_it_is_named_without_its_address(monkeypatch, caplog, fields, said):
    to_webhook(monkeypatch, password=SECRET, **fields)
    notify.notify(CONTEXT)
    assert said in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.usefixtures("ledger")
def test_an_answer_that_is_an_error_is_told_with_its_status(monkeypatch, caplog):
    with Collector(status=403) as webhook:
        to_webhook(monkeypatch, host=webhook.url, password=SECRET)
        notify.notify(CONTEXT)
    assert "connection 'unit_webhook' did not take it: HTTPError 403" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.usefixtures("ledger")
def test_who_sends_elsewhere_has_not_taken_it(monkeypatch, caplog, status):
    with Collector() as elsewhere, Collector(status, location=f"{elsewhere.url}/login") as webhook:
        to_webhook(monkeypatch, host=webhook.url, login="k2", password=SECRET)
        notify.notify(CONTEXT)
    assert f"connection 'unit_webhook' did not take it: HTTPError {status}" in caplog.text
    assert len(webhook.posted) == 1
    assert elsewhere.posted == elsewhere.fetched == [], "its password is for nobody else"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"host": "https://hook", "password": SECRET}, (True, "'unit_webhook' has an address; nothing was sent")),
        ({"password": SECRET}, (False, "'unit_webhook' has no host that HTTP could be spoken to")),
        (None, (False, "'unit_webhook' does not exist")),
    ],
    ids=["address", "no address", "no connection"],
)
def test_validate_looks_for_the_webhook_s_address(monkeypatch, fields, told):
    if fields is None:
        monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__NOTIFY_CONN_ID", "unit_webhook")
    else:
        to_webhook(monkeypatch, **fields)
    [check] = [each for each in check_services(load_settings(), []) if each.subject == "Webhook"]
    assert (check.passed, told[1] in check.detail, SECRET in check.detail) == (told[0], True, False)


def test_a_ledger_that_is_away_hides_no_failure(monkeypatch):
    def away(_):
        raise Unreachable("Postgres", "k2_ledger", "timeout")

    monkeypatch.setattr(notify, "open_ledger", away)
    with Collector() as webhook:
        to_webhook(monkeypatch, host=webhook.url)
        notify.notify(CONTEXT)
    assert "The ledger does not say why: it cannot be read." in webhook.posted[0][2]["text"]


def test_a_long_message_is_cut_and_keeps_what_to_do():
    text = notify.message("k2_maintenance", "r", None, ["x" * 5000])
    assert len(text) == 3000
    assert text.startswith("k2_maintenance has failed (failed), run r. xxx")
    assert text.endswith("x… What to do: docs/runbooks/maintenance.md")

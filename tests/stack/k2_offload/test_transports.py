"""A transport is one module and one line: here is one that the product does not know."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.sdk import BaseHook

from k2_offload.adapters.settings import load_settings
from k2_offload.core.errors import InvalidTablesFile
from k2_offload.core.transports import TRANSPORTS
from tests.stack.k2_offload import copied_transport

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=20)


@pytest.fixture
def copied(workbench, monkeypatch):
    monkeypatch.setitem(TRANSPORTS, "copied", copied_transport.TRANSPORT)
    table = workbench.create_trades()
    workbench.insert_trades(table, NOON + timedelta(hours=11, minutes=50), 1000)  # across midnight
    cycle = workbench.cycle(workbench.spec(table, transport="copied"), now=LATER)
    return table, cycle, cycle.plan(cycle.tables[table])


def test_its_rows_arrive_once_in_files_as_small_as_it_wants_them(workbench, copied):
    table, cycle, planned = copied
    assert planned.max_file_rows == 300
    for _ in range(2):  # a retry finds the window published
        code, output = workbench.run_job(planned, application=Path(copied_transport.__file__))
        assert code == 0, output
    cycle.commit(cycle.tables[table])
    workbench.check(cycle, [table])
    assert "already published" in output


def test_a_table_that_lacks_what_it_needs_is_refused(workbench, copied):
    table, _, planned = copied
    with workbench.cold_table(table).transaction() as transaction:
        transaction.remove_properties("k2.test.copied")
    code, output = workbench.run_job(planned, application=Path(copied_transport.__file__))
    assert code == 1
    assert f"ALTER TABLE cold.{table} SET TBLPROPERTIES ('k2.test.copied' = 'yes')" in output
    assert not workbench.cold_rows(table)


def test_nobody_else_knows_it(workbench):
    with pytest.raises(InvalidTablesFile, match=r"'transport': expected one of export, jdbc$"):
        workbench.cycle(workbench.spec("any", transport="copied"))


def test_jdbc_writes_into_a_catalog_whose_name_has_a_hyphen(workbench, monkeypatch):
    real = BaseHook.get_connection(load_settings().catalog_conn_id)
    fields = {key: getattr(real, key) for key in ("conn_type", "host", "port", "login", "password", "schema")}
    extra = real.extra_dejson | {"catalog_name": "k2-lake"}
    monkeypatch.setenv("AIRFLOW_CONN_WITH_A_HYPHEN", json.dumps(fields | {"extra": extra}))
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__CATALOG_CONN_ID", "with_a_hyphen")
    table = workbench.create_trades()
    workbench.insert_trades(table, NOON, 100)
    cycle = workbench.cycle(workbench.spec(table, transport="jdbc"), now=LATER)
    code, output = workbench.run_job(cycle.plan(cycle.tables[table]))
    assert code == 0, output
    cycle.commit(cycle.tables[table])
    workbench.check(cycle, [table])
    assert cycle.catalog.load(cycle.tables[table]).rollback_statement(7).startswith("CALL `k2-lake`.system.")

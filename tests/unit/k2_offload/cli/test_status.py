"""What ``k2 status`` says of a table beside its numbers."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from k2_offload.adapters.ledger_records import TableRecord
from k2_offload.adapters.table_file import parse_tables
from k2_offload.cli import status
from k2_offload.cli.main import app
from k2_offload.work.status import TableStatus

TABLES = parse_tables("tables: {t: {layer: bronze, source: k2.t, target: cold.t, timestamp_column: at}}")


@pytest.fixture
def limited(monkeypatch, on_record):  # noqa: ARG001 - the ledger holds nothing
    """A table whose windows have been made smaller."""
    record = TableRecord("t", None, "failed", *[None] * 8, row_limit=1234)

    @contextmanager
    def open_tiers():
        ledger = SimpleNamespace(
            migrate=lambda: None, read_tables=lambda: {"t": record}, read_gaps=dict, read_comparisons=dict
        )
        yield SimpleNamespace(tables=TABLES, ledger=ledger, now=lambda: datetime(2026, 3, 4, tzinfo=UTC))

    monkeypatch.setattr(status, "open_tiers", open_tiers)
    monkeypatch.setattr(status, "read_active_runs", lambda _: [])
    monkeypatch.setattr(status, "read_status", lambda _, table, *__, **___: TableStatus(table, record))


@pytest.mark.usefixtures("limited")
def test_a_table_whose_windows_have_been_made_smaller_says_so():
    shown = CliRunner().invoke(app, ["status"])
    assert shown.exit_code == 0
    assert "its windows have been made smaller, since a larger one has failed twice: about 1,234 rows" in shown.output
    [document] = json.loads(CliRunner().invoke(app, ["status", "--json"]).output)
    assert document["row_limit"] == 1234


@pytest.mark.usefixtures("limited")
def test_what_tables_are_made_from_is_read_once_for_all_of_them(monkeypatch):
    names = ("t", "u")
    entries = (f"{name}: {{layer: bronze, source: k2.t, target: cold.{name}, timestamp_column: at}}" for name in names)
    monkeypatch.setattr(
        "tests.unit.k2_offload.cli.test_status.TABLES", parse_tables(f"tables: {{{', '.join(entries)}}}")
    )
    shared = []

    def read_status(_, table, *__, below):
        shared.append(below)
        return TableStatus(table, None)

    monkeypatch.setattr(status, "read_status", read_status)
    assert CliRunner().invoke(app, ["status"]).exit_code == 0
    first, second = shared
    assert first is second

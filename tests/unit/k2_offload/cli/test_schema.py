"""``k2 schema`` without an option is a look."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from k2_offload.adapters.ledger import Ledger
from k2_offload.cli import schema
from k2_offload.cli.main import app
from k2_offload.core.exactly_once import LedgerEntry
from k2_offload.work import schema as work
from tests.model.world import TABLES


@pytest.fixture
def migrated(monkeypatch):
    """How often the ledger was migrated."""
    calls = []
    cold = SimpleNamespace(uuid="u", published=None, columns=())

    @contextmanager
    def open_tiers():
        clickhouse = SimpleNamespace(columns=lambda _: ())
        ledger = SimpleNamespace(migrate=lambda: calls.append(1), read_entry=lambda _: LedgerEntry(None, None, None))
        yield SimpleNamespace(tables=TABLES, ledger=ledger, clickhouse=clickhouse, load_cold=lambda _: cold)

    monkeypatch.setattr(schema, "open_tiers", open_tiers)
    monkeypatch.setattr(schema, "apply", lambda *_: [])
    monkeypatch.setattr(work, "pair_columns", lambda *_: ())
    return calls


def test_a_look_leaves_the_ledger_as_it_is(migrated):
    assert CliRunner().invoke(app, ["schema"]).exit_code == 0
    assert migrated == []
    assert CliRunner().invoke(app, ["schema", "bronze_a", "--apply"]).exit_code == 0
    assert migrated == [1]


def test_a_look_at_an_entry_locks_nothing(monkeypatch):
    asked = []
    monkeypatch.setattr(Ledger, "_look", lambda _, statement, *__: asked.append(statement) or [])
    assert Ledger(None, "k2_ledger").read_entry("t") == LedgerEntry(None, None, None)
    assert asked == ["look_at_table", "open_window_of"]

"""``k2 register`` is green only if each table has an entry, or gets one."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from k2_offload.cli import register
from k2_offload.cli.main import app
from k2_offload.core.registration import TableState
from k2_offload.work.registration import Look
from tests.model.world import TABLES

STATE = TableState("s3://lake/1.metadata.json", "uuid", "s3://lake", 1, datetime(2026, 3, 4, tzinfo=UTC), 5, None)
NAMES = ["k2_seals", "bronze_a", "bronze_b"]


def found(name, current=None, chosen=None, finding=None):
    return Look(name, f"cold.{name}", current, None, chosen, (), finding, ())


@pytest.fixture
def looks(monkeypatch):
    """What is found of each table; all are in the catalog until a test says otherwise."""
    made = {name: found(name, STATE) for name in NAMES}

    @contextmanager
    def open_tiers():
        yield SimpleNamespace(tables=TABLES, ledger=SimpleNamespace(migrate=lambda: None))

    monkeypatch.setattr(register, "open_tiers", open_tiers)
    monkeypatch.setattr(register, "targets", lambda _: made)
    monkeypatch.setattr(register, "look", lambda _, name, __: made[name])
    monkeypatch.setattr(register, "let_catalog_name", lambda *_: None)
    return made


def k2(*arguments):
    return CliRunner().invoke(app, ["register", *arguments])


def test_a_whole_catalog_is_green(looks):
    shown = k2()
    assert (shown.exit_code, "There is nothing to change" in " ".join(shown.stdout.split())) == (0, True)
    looks["bronze_a"] = found("bronze_a", chosen=STATE)
    assert k2("--yes").exit_code == 0
    assert {line["problem"] for line in json.loads(k2("--json", "--yes").stdout)} == {None}


@pytest.mark.parametrize("name", NAMES)
def test_a_table_that_is_nowhere_is_red_though_others_are_there_and_are_registered(looks, name):
    other = next(each for each in NAMES if each != name)
    looks |= {name: found(name), other: found(other, chosen=STATE)}
    shown = k2("--yes")
    assert shown.exit_code == 1
    assert f"{name}: it was found neither in the catalog nor in its folder" in shown.stderr
    assert f"{other}: registered" in shown.stdout
    documents = {line["table"]: line for line in json.loads(k2("--yes", "--json").stdout)}
    assert "neither in the catalog" in documents[name]["problem"]
    assert (documents[other]["problem"], documents[other]["registered"]) == (None, True)


def test_what_else_was_found_of_it_is_said_alone(looks):
    looks["bronze_a"] = found("bronze_a", finding="bronze_a: two are tied")
    shown = k2("--dry-run")
    assert (shown.exit_code, shown.stderr.splitlines()) == (1, ["✗ bronze_a: two are tied"])

"""What `k2 register` proposes, with the real catalog of pyiceberg and files in a folder; the ledger is played."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from types import SimpleNamespace

import pytest
from pyiceberg.serializers import ToOutputFile

from k2_offload.adapters.registration import Registration
from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.errors import StaleWindow
from k2_offload.work import registration
from k2_offload.work.registration import look, register, targets
from tests.unit.k2_offload.adapters.conftest import catalog, lake  # noqa: F401
from tests.unit.k2_offload.adapters.test_cold_catalog import COLUMNS, NOON, fill

ENTRY = "{layer: bronze, source: k2.%s, target: cold.%s, timestamp_column: at}"
TABLES = parse_tables(
    "tables: {" + ", ".join(f"{name}: {ENTRY % (name, name)}" for name in ("trades", "candles")) + "}"
)


@pytest.fixture
def tiers(catalog, monkeypatch):  # noqa: F811
    """Of two tables, of which `trades` has three commits; the ledger is new."""
    recorded, seals = {}, []
    ledger = SimpleNamespace(read_tables=lambda: recorded, locked=lambda _: nullcontext(), recorded=recorded)
    monkeypatch.setattr(registration, "LedgerSeals", lambda _: SimpleNamespace(read=lambda _: seals))
    catalog.create(TABLES["trades"], COLUMNS)
    return SimpleNamespace(tables=TABLES, catalog=catalog, ledger=ledger, seals=seals)


def append(lake):  # noqa: F811
    """One row; returns the metadata file that has it."""
    fill(lake, NOON)
    return lake.load_table("cold.trades").metadata_location


def leave(lake, monkeypatch):  # noqa: F811
    """A commit that writes its metadata file, and whose connection breaks before the catalog names it."""
    files = []

    def lose(metadata, io, metadata_path):
        ToOutputFile.table_metadata(metadata, io.new_output(metadata_path))
        files.append(metadata_path)
        raise ConnectionError("connection reset by peer")

    with monkeypatch.context() as patch:
        patch.setattr(lake, "_write_metadata", lose)
        with suppress(ConnectionError):
            fill(lake, NOON, NOON, NOON)
    return files[0]


def test_a_whole_catalog_keeps_its_entry_whatever_failed_commits_have_left(tiers, lake, monkeypatch):  # noqa: F811
    append(lake)
    leave(lake, monkeypatch)
    append(lake)
    append(lake)
    found = look(tiers, "trades")
    assert (found.current.rows, found.chosen, found.finding) == (3, None, None)


def test_of_a_lost_catalog_the_line_that_went_on_is_proposed(tiers, lake, monkeypatch):  # noqa: F811
    append(lake)
    leave(lake, monkeypatch)
    append(lake)
    newest = append(lake)
    lake.drop_table("cold.trades")
    assert look(tiers, "trades").chosen.metadata_file == newest


def test_a_state_beside_the_newest_one_is_left_to_a_person(tiers, lake, monkeypatch):  # noqa: F811
    append(lake)
    left = leave(lake, monkeypatch)
    newest = append(lake)
    assert look(tiers, "trades").chosen is None
    lake.drop_table("cold.trades")
    found = look(tiers, "trades")
    assert found.chosen is None
    assert left in found.finding
    assert newest in found.finding
    register(tiers, look(tiers, "trades", newest))
    assert look(tiers, "trades").current.rows == 2


def test_another_line_that_has_come_further_is_told(tiers, lake):  # noqa: F811
    older = append(lake)
    for _ in range(3):
        given_up = append(lake)
    register(tiers, look(tiers, "trades", older))
    append(lake)
    found = look(tiers, "trades")
    assert (found.chosen, found.finding) == (None, None)
    [note] = found.notes
    assert f"{given_up} (4 rows) has come further and is of another line" in note


def test_a_commit_at_the_moment_of_the_registration_is_told_and_found(tiers, lake, monkeypatch):  # noqa: F811
    older, newest = append(lake), append(lake)
    register(tiers, look(tiers, "trades", older))
    found = look(tiers, "trades")
    assert found.chosen.metadata_file == newest

    def race(each, file):
        append(lake)
        replaces(each, file)

    replaces = Registration.replace
    monkeypatch.setattr(Registration, "replace", race)
    with pytest.raises(StaleWindow, match=r"committed to it at the same moment.*`k2 register trades` again"):
        register(tiers, found)


def test_a_commit_right_before_the_registration_looks_is_not_written_over(tiers, lake, monkeypatch):  # noqa: F811
    older = append(lake)
    append(lake)
    found = look(tiers, "trades", older)
    finds, made = Registration.find, []

    def race(each, place):
        made.append(append(lake))
        return finds(each, place)

    monkeypatch.setattr(Registration, "find", race)
    with pytest.raises(StaleWindow, match="Nothing was changed"):
        register(tiers, found)
    assert [lake.load_table("cold.trades").metadata_location] == made


def test_a_commit_after_the_look_is_not_written_over(tiers, lake):  # noqa: F811
    older = append(lake)
    append(lake)
    found = look(tiers, "trades", older)
    newest = append(lake)
    with pytest.raises(StaleWindow, match="Nothing was changed"):
        register(tiers, found)
    assert lake.load_table("cold.trades").metadata_location == newest


@pytest.mark.parametrize("known_by", ["catalog", "ledger", "folder"])
def test_a_file_of_another_table_is_refused(tiers, lake, known_by):  # noqa: F811
    file = append(lake)
    if known_by == "ledger":
        uuid = str(lake.load_table("cold.trades").metadata.table_uuid)
        tiers.ledger.recorded["trades"] = SimpleNamespace(table_uuid=uuid)
    if known_by != "catalog":
        lake.drop_table("cold.trades")
    found = look(tiers, "candles", file)
    assert found.chosen is None
    assert f"{file} is of trades" in found.finding
    assert look(tiers, "trades", file).finding is None


def test_a_table_of_another_namespace_may_have_the_same_name(tiers, lake):  # noqa: F811
    """The seals of each namespace do."""
    file = append(lake)
    two = "tables: {trades: {layer: bronze, source: k2.t, target: cold.trades, timestamp_column: at}, "
    two += "others: {layer: bronze, source: k2.o, target: other.trades, timestamp_column: at}}"
    tiers.tables = parse_tables(two)
    lake.drop_table("cold.trades")
    assert list(targets(tiers)) == ["cold.k2_seals", "other.k2_seals", "trades", "others"]
    assert look(tiers, "trades", file).finding is None
    assert look(tiers, "others", file).finding is not None
    uuid = look(tiers, "trades", file).chosen.table_uuid
    tiers.ledger.recorded["others"] = SimpleNamespace(table_uuid=uuid)
    assert look(tiers, "others", file).finding is None, "the ledger knows it under that name"


def test_nothing_found_is_said_and_of_seals_that_the_ledger_has_it_is_a_finding(tiers):
    found = look(tiers, "candles")
    assert (found.chosen, found.finding) == (None, None)
    assert "The catalog does not have it" in found.notes[0]
    assert look(tiers, "k2_seals").finding is None
    tiers.seals.append("a seal")
    assert "the ledger has seals" in look(tiers, "k2_seals").finding


def test_seals_come_first(tiers):
    assert list(targets(tiers)) == ["k2_seals", "trades", "candles"]

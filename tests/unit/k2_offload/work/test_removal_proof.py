"""What has to be shown of a partition before it goes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from types import SimpleNamespace

import pytest

from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.holding import Partition
from k2_offload.core.plan import PlannedColumn
from k2_offload.core.retention import Reader
from k2_offload.core.seals import Seal
from k2_offload.core.type_mapping import map_column, no_value
from k2_offload.work import removal_proof
from k2_offload.work.removal_proof import Proof

TABLES = parse_tables(
    "tables: {trades: {layer: bronze, source: k2.trades, target: cold.trades, timestamp_column: at, retention: proven}}"
)
DAY, NOW = date(2026, 3, 4), datetime(2026, 3, 30, 12, tzinfo=UTC)
PARTITION = Partition("20260304", ("a",), 10, {"at": (DAY, DAY)})
COLUMNS = (PlannedColumn("at", "timestamptz"), PlannedColumn("venue", "int"))
SEAL = Seal("trades", "uuid", DAY, "at", 10, 7, COLUMNS, None, 1, NOW)
READER = Reader(TABLES["trades"], NOW.date(), {DAY: SEAL}, {}, {DAY: 10}, frozenset(("at", "venue")))


class FakeClickHouse:
    """One partition of ten rows."""

    def __init__(self):
        self.readable = 10
        self.parts = [("20260304", ["a"], 10)]
        self.unmasked = 7

    def columns(self, table):  # noqa: ARG002
        return ()

    def execute(self, statement):
        if "system.parts" in statement:
            return self.parts
        if "sum(" not in statement:
            return [(self.readable,)]
        return [(10, 7 if "NULL, `venue`" in statement else self.unmasked)]


@pytest.fixture
def clickhouse():
    return FakeClickHouse()


@pytest.fixture
def why(monkeypatch, clickhouse):
    since = datetime(2026, 3, 10, tzinfo=UTC)
    columns = {"at": map_column("trades", "at", "DateTime"), "venue": map_column("trades", "venue", "UInt8")}
    columns["venue"] = replace(columns["venue"], compared_from=since)
    monkeypatch.setattr(removal_proof, "settle", lambda *_: tuple(columns.values()))
    monkeypatch.setattr(removal_proof, "verify_seal", lambda *_: SimpleNamespace(problem=None, healed=False))
    tiers = SimpleNamespace(clickhouse=clickhouse, load_cold=lambda _: SimpleNamespace(columns=()))
    proof = Proof(tiers, "k2.trades", [TABLES["trades"]], NOW, lambda: None)

    def why(stopped=()):
        columns.update({name: no_value(name, "int") for name in stopped})
        return proof.prove(PARTITION, [READER])[1]

    return why


def test_all_that_its_files_hold_can_be_read(why, clickhouse):
    assert why() is None
    clickhouse.readable = 9
    assert "its parts have 10 rows, and 9 can be read" in why()
    clickhouse.readable = 10
    clickhouse.parts.append(("patch-0123-20260304", ["p"], 1))
    assert "patch parts" in why()


def test_values_that_came_later_are_not_taken_for_none(why, clickhouse):
    clickhouse.unmasked = 8
    assert "a column that came later" in why()
    clickhouse.unmasked = 7
    assert "values of column venue of trades are not moved any more" in why(["venue"])

"""Which replicas are looked at, by answers as ClickHouse gives them: the embedded engine has no Keeper."""

from __future__ import annotations

from dataclasses import replace

import pytest

from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.adapters.replicas import read_replicas
from k2_offload.adapters.table_file import parse_tables
from k2_offload.core import queries
from k2_offload.core.connections import ClickHouseEndpoint
from k2_offload.core.replicas import Replica

ENDPOINT = ClickHouseEndpoint("clickhouse", "h", 9000, 8123, "u", "p", "k2", secure=False)
TABLE = parse_tables("tables: {t: {layer: bronze, source: k2.t, target: cold.t, timestamp_column: at}}")["t"]
VIEW = replace(TABLE, source="k2.v")
STORED = "ReplicatedAggregatingMergeTree('/tables/k2/stored', 'r1') PARTITION BY toYYYYMM(at) ORDER BY at"


class FakeClickHouse(ClickHouse):
    """Answers in place of the driver."""

    def __init__(self, engines, plan=(), states=()):
        super().__init__(ENDPOINT)
        self.engines, self.plan, self.states, self.asked = engines, plan, states, []

    def execute(self, sql):
        self.asked.append(sql)
        if sql.startswith("SELECT engine_full"):
            return [(engine,) for name, engine in self.engines.items() if sql == queries.engine(name)]
        if sql.startswith("EXPLAIN QUERY TREE"):
            return [("QUERY id: 0",), ("    TABLE id: 3, alias: __table1, table_name: k2.stored",)]
        if sql.startswith("EXPLAIN"):
            return [(line,) for line in self.plan]
        if "FROM system.tables" in sql:
            return [("ReplicatedAggregatingMergeTree", "")]
        return [state for state in self.states if f"'{state[0]}'" in sql]


def test_a_replicated_source_tells_its_own_state_without_a_plan():
    clickhouse = FakeClickHouse({"k2.t": "ReplicatedMergeTree('/k2/t', 'r1')"}, states=[("k2.t", 1, 7200)])
    assert read_replicas(clickhouse, TABLE) == [Replica("k2.t", True, 7200)]
    assert not [sql for sql in clickhouse.asked if sql.startswith("EXPLAIN")]


@pytest.mark.parametrize("engine", ["MergeTree ORDER BY at", "SharedMergeTree", "AggregatingMergeTree ORDER BY at"])
def test_a_table_that_is_not_replicated_costs_one_query(engine):
    clickhouse = FakeClickHouse({"k2.t": engine})
    assert read_replicas(clickhouse, TABLE) == []
    assert len(clickhouse.asked) == 1
    assert "system.replicas" not in clickhouse.asked[0], "which not every user may read"


@pytest.mark.parametrize("name", ["k2..inner_id.94f3f1c2-0c1a", "k2.t-raw", "k2.table (old)"])
def test_a_storage_of_any_name_is_looked_at(name):
    plan = ["Union", f"  ReadFromMergeTree ({name})"]
    clickhouse = FakeClickHouse({"k2.v": "MaterializedView", name: STORED}, plan, [(name, 1, 7200)])
    assert read_replicas(clickhouse, VIEW) == [Replica(name, True, 7200)]


def test_a_view_s_storages_are_looked_at_if_they_are_replicated():
    plan = ["Union", "  ReadFromMergeTree (k2.stored)", "  ReadFromMergeTree (k2.plain)"]
    engines = {"k2.v": "View", "k2.stored": STORED, "k2.plain": "MergeTree ORDER BY at"}
    states = [("k2.stored", 0, 5), ("k2.plain", 0, 9)]
    assert read_replicas(FakeClickHouse(engines, plan, states), VIEW) == [Replica("k2.stored", False, 5)]


def test_a_view_of_an_empty_replica_is_looked_at_all_the_same():
    engines = {"k2.v": "View", "k2.stored": STORED}
    clickhouse = FakeClickHouse(engines, ["ReadNothing (Read from NullSource)"], [("k2.stored", 0, 86_400)])
    assert read_replicas(clickhouse, VIEW) == [Replica("k2.stored", False, 86_400)]


def test_a_source_of_other_servers_has_no_replica_here():
    engines = {"k2.v": "Distributed('c', 'k2', 'stored')", "k2.stored": STORED}
    assert read_replicas(FakeClickHouse(engines, ["ReadFromRemote (Read from remote replica)"]), VIEW) == []


def test_a_replica_without_a_state_is_not_trusted():
    [found] = read_replicas(FakeClickHouse({"k2.t": STORED}), TABLE)
    assert found.cut_off

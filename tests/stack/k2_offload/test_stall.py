"""A feed that stalls and then delivers its backlog with old timestamps: nothing is missing, or it is counted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.work.status import read_status

START = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=4)
STALL, RETURN = timedelta(minutes=10), timedelta(minutes=30)


@dataclass
class Market:
    """Two exchanges; silver is their trades together, gold a candle a minute of silver, both as ClickHouse has them."""

    workbench: object
    suffix: str

    def __post_init__(self):
        self.bronze = [self.workbench.create_trades(f"{self.suffix}_{exchange}") for exchange in ("binance", "kraken")]
        self.silver, self.gold = (f"{self.workbench.name}_{self.suffix}_{layer}" for layer in ("silver", "gold"))
        self.workbench.sql(
            f"CREATE VIEW {self.silver} AS SELECT * FROM {' UNION ALL SELECT * FROM '.join(self.bronze)}"
        )
        self.workbench.sql(
            f"CREATE VIEW {self.gold} AS SELECT symbol, "
            "toDateTime64(toStartOfMinute(source.at) + INTERVAL 1 MINUTE, 6, 'UTC') AS at, count() AS trades, "
            f"max(price) AS high FROM {self.silver} AS source GROUP BY symbol, at"
        )

    @property
    def layers(self):
        return [self.bronze, [self.silver], [self.gold]]

    @property
    def specs(self):
        return [
            *(self.workbench.spec(table) for table in self.bronze),
            self.workbench.spec(self.silver, layer="silver", upstream=f"[{', '.join(self.bronze)}]"),
            self.workbench.spec(self.gold, layer="gold", upstream=f"[{self.silver}]", sequence_column=None),
        ]

    def trade(self, exchange, begin, end):
        """A trade a second, from ``begin`` to before ``end`` after the start."""
        table = self.bronze[exchange]
        [(sequence,)] = self.workbench.sql(f"SELECT count() FROM {table}")
        self.workbench.insert_trades(table, START + begin, int((end - begin).total_seconds()), start_sequence=sequence)


def run_cycle(workbench, now, *markets):
    """One cycle of all layers over all markets, and where it leaves each table."""
    cycle = workbench.cycle(*(spec for market in markets for spec in market.specs), now=START + now)
    for layer in zip(*(market.layers for market in markets), strict=True):
        workbench.move(cycle, *(table for tables in layer for table in tables))
    tables = [table for market in markets for layer in market.layers for table in layer]
    return {table: read_status(cycle.tiers, cycle.tables[table], None, counts=True) for table in tables}


@pytest.fixture
def markets(workbench):
    """All exchanges trade until they stall."""
    both, one = Market(workbench, "both_stop"), Market(workbench, "one_goes_on")
    for market in (both, one):
        market.trade(0, timedelta(0), STALL)
        market.trade(1, timedelta(0), STALL)
    return both, one


def test_after_a_stall_of_twenty_minutes_nothing_is_missing_in_any_layer(workbench, markets):
    both, one = markets
    one.trade(1, STALL, RETURN)
    during = run_cycle(workbench, RETURN - timedelta(minutes=1), both, one)
    last_row = START + STALL - timedelta(seconds=2)
    assert during[one.bronze[1]].watermark > last_row + timedelta(minutes=10)
    assert during[one.silver].watermark == during[one.bronze[0]].watermark < last_row

    end = timedelta(minutes=45)
    for market in (both, one):  # first what had piled up, from right after the last row on, then what is new
        market.trade(0, STALL, end)
        market.trade(1, RETURN if market is one else STALL, end)
    after = run_cycle(workbench, end + timedelta(hours=1), both, one)
    for market in (both, one):
        for table in (*market.bronze, market.silver, market.gold):
            assert sum(workbench.warm_rows(table).values()) > 0
            assert workbench.cold_rows(table) == workbench.warm_rows(table), table
            assert (after[table].late_rows, after[table].cold_rows) == (0, after[table].warm_rows)


def test_what_comes_after_the_layers_above_have_stopped_waiting_is_counted_as_late(workbench, markets):
    _, market = markets
    too_long = timedelta(minutes=50)
    market.trade(1, STALL, too_long)
    during = run_cycle(workbench, too_long, market)
    assert during[market.silver].watermark == during[market.bronze[1]].watermark
    assert [status.late_rows for status in during.values()] == [0, 0, 0, 0]

    market.trade(0, STALL, STALL + timedelta(minutes=5))
    after = run_cycle(workbench, too_long + timedelta(minutes=1), market)
    for table in market.bronze:
        assert workbench.cold_rows(table) == workbench.warm_rows(table, until=after[table].watermark)
        assert after[table].late_rows == 0
    assert after[market.silver].late_rows == 5 * 60
    missing = workbench.warm_rows(market.silver, until=after[market.silver].watermark) - workbench.cold_rows(
        market.silver
    )
    assert sum(missing.values()) == 5 * 60

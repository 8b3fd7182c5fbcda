"""Columns may have any name that ClickHouse allows: it is the same in the cold table, and nothing but a name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.core.sql import quote

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
NAMES = ["a`b", "c'; DROP TABLE x; --", "d\\e", "f g", "h.i", "Größe", "{try}", '"j"', "k%s"]


@pytest.mark.parametrize("transport", ["export", "jdbc"])
def test_columns_of_odd_names_are_moved_under_them(workbench, transport):
    table = workbench.create_trades(extra="".join(f", {quote(name)} Nullable(String)" for name in NAMES))
    columns = ", ".join(quote(name) for name in NAMES)
    values = ", ".join(f"'{number}'" for number in range(len(NAMES)))
    workbench.sql(
        f"INSERT INTO {table} (at, sequence, symbol, price, {columns}) "
        f"SELECT '{NOON:%Y-%m-%d %H:%M:%S}', 1, 's', 1, {values}"
    )
    cycle = workbench.cycle(workbench.spec(table, transport=transport), now=NOON + timedelta(hours=20))
    workbench.move(cycle, table)
    assert workbench.cold_rows(table) == workbench.warm_rows(table)
    assert [field.name for field in workbench.cold_table(table).schema().fields][-len(NAMES) :] == NAMES

"""Both tiers, row by row: the warm one read from ClickHouse, the cold one by pyiceberg, which wrote none of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pyiceberg.expressions import And, GreaterThanOrEqual, LessThan

from tests.support.cold import cold_catalog


@dataclass
class Difference:
    """What became of the rows that were compared."""

    rows: int = 0
    lost: int = 0
    doubled: int = 0
    foreign: int = 0

    def add(self, warm: Counter, cold: Counter) -> None:
        self.rows += warm.total()
        self.lost += (warm - cold).total()
        for row, extra in (cold - warm).items():
            if row in warm:
                self.doubled += extra
            else:
                self.foreign += extra


def compare_days(client, table, first, end, difference):
    """Compare all rows of one table whose partition day lies in ``[first, end)``."""
    column = table.partition_column
    bounds = {"first": first, "end": end}
    condition = f"{column} >= %(first)s AND {column} < %(end)s"
    warm = Counter(client.execute(f"SELECT * FROM {table.source} WHERE {condition}", bounds))
    with cold_catalog() as catalog:
        row_filter = And(GreaterThanOrEqual(column, first.isoformat()), LessThan(column, end.isoformat()))
        rows = catalog.load_table(table.target).scan(row_filter=row_filter).to_arrow()
    difference.add(warm, Counter(zip(*(rows[name].to_pylist() for name in rows.column_names), strict=True)))

"""Both tiers, row by row: the warm one read from ClickHouse, the cold one by pyiceberg, which wrote none of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pyiceberg.expressions import And, GreaterThanOrEqual, LessThan

from tests.support.cold import cold_catalog


@dataclass
class Difference:
    """What became of the rows that were compared.

    :param on_record: rows that could not be moved, and lie in a gap that the ledger has on record, by table
    """

    rows: int = 0
    lost: int = 0
    doubled: int = 0
    foreign: int = 0
    on_record: Counter = field(default_factory=Counter)

    def add(self, table, warm: Counter, cold: Counter, missed) -> None:
        self.rows += warm.total()
        for row, count in (warm - cold).items():
            if missed(row):
                self.on_record[table] += count
            else:
                self.lost += count
        for row, extra in (cold - warm).items():
            if row in warm:
                self.doubled += extra
            else:
                self.foreign += extra


def compare_days(client, table, first, end, expired, gaps, difference):
    """Compare all rows of one table whose partition day lies in ``[first, end)``.

    :param expired: what the warm tier has had and has no more, as :class:`tests.soak.warm_tier.Rows`
    :param gaps: what is on record as missed
    """
    column = table.partition_column
    bounds = {"first": first, "end": end}
    condition = f"{column} >= %(first)s AND {column} < %(end)s"
    rows, columns = client.execute(f"SELECT * FROM {table.source} WHERE {condition}", bounds, with_column_types=True)
    names = [name for name, _ in columns]
    day, time = names.index(column), names.index(table.timestamp_column)
    warm = Counter(rows)
    for each in expired:
        assert list(each.names) == names
        warm.update({row: count for row, count in each.rows.items() if first <= row[day] < end})
    found = read_cold(table, first, end)
    missed = lambda row: any(gap.window.low <= row[time] < gap.window.high for gap in gaps)  # noqa: E731
    difference.add(table.name, warm, found, missed)


def read_cold(table, first, end):
    """The rows of one table's partition days in ``[first, end)`` as readers of the cold tier see them now, counted."""
    column = table.partition_column
    with cold_catalog() as catalog:
        row_filter = And(GreaterThanOrEqual(column, first.isoformat()), LessThan(column, end.isoformat()))
        cold = catalog.load_table(table.target).scan(row_filter=row_filter).to_arrow()
    return Counter(zip(*(cold[name].to_pylist() for name in cold.column_names), strict=True))

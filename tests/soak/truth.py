"""Every row that was ever inserted, kept beside the tables, and what became of each of them.

Copies that ClickHouse fills with each insert: moving and dropping partitions does not change them. What is compared
with them is read without the project's code: the source together with its holding table, and the cold table by
pyiceberg.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from decimal import localcontext

from tests.soak.comparison import read_cold
from tests.soak.warm_tier import SOURCES, TRADES

_HOLDING = "_k2_holding"
_DIGITS = 80  # more than a sum of Decimal(38, 18) has


@dataclass
class Outcome:
    """What became of rows.

    :param rows: that were inserted
    :param dropped: that ClickHouse holds no more, neither in the source nor held
    :param left_behind: that came after their day was dropped: they are in ClickHouse, and not in the cold tier
    :param lost: that are in neither tier
    :param doubled: that are there more often than they were inserted, or that nobody has inserted
    :param not_cold: of days that ClickHouse holds as a whole, that readers of the cold tier do not see (yet)
    :param examples: of what is wrong, by table and day
    """

    rows: int = 0
    dropped: int = 0
    left_behind: int = 0
    lost: int = 0
    doubled: int = 0
    not_cold: int = 0
    examples: dict[tuple, list] = field(default_factory=dict)

    def wrong(self, where, lost, doubled):
        self.lost += lost.total()
        self.doubled += doubled.total()
        if lost or doubled:
            self.examples[where] = [list(lost.items())[:3], list(doubled.items())[:3]]

    def add(self, other):
        for name in ("rows", "dropped", "left_behind", "lost", "doubled", "not_cold"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.examples |= other.examples


class Truth:
    """Made before the first row is inserted.

    :param client: of ClickHouse, with the tables' database as its own
    """

    def __init__(self, client):
        self._client = client
        for database in ("truth", "warm"):
            client.execute(f"CREATE DATABASE {database}")
        for source in SOURCES:
            client.execute(f"CREATE TABLE truth.{source} AS k2.{source}")
            client.execute(f"CREATE MATERIALIZED VIEW truth.{source}_mv TO truth.{source} AS SELECT * FROM k2.{source}")
            client.execute(f"CREATE VIEW warm.{source} AS SELECT * FROM merge('k2', '^{source}({_HOLDING})?$')")
        views = client.execute(
            "SELECT create_table_query FROM system.tables WHERE database = 'k2' AND startsWith(name, 'ohlcv') "
            "ORDER BY length(name)"
        )
        for (view,) in views:
            for database in ("truth", "warm"):
                client.execute(view.replace("k2.", f"{database}."))

    def correct(self, statement, source):
        """A person changes rows on purpose.

        :param statement: with the place for the table
        """
        self._client.execute(statement.format(f"truth.{source}") + " SETTINGS mutations_sync = 2")

    def compare(self, table, first, end):
        """What became of the rows of one table's days in ``[first, end)``."""
        found = Outcome()
        inserted = self._by_day(table, self._read("truth", table, first, end))
        warm = self._by_day(table, self._read("warm", table, first, end))
        cold = self._by_day(table, read_cold(table, first, end))
        for day in {*inserted, *warm, *cold}:
            how = compare_trades if table.name in TRADES else compare_candles
            found.add(how((table.name, str(day)), inserted[day], warm[day], cold[day]))
        return found

    def _read(self, database, table, first, end):
        column = table.partition_column
        name = table.source.replace("k2.", f"{database}.")
        rows, columns = self._client.execute(
            f"SELECT * FROM {name} WHERE {column} >= %(first)s AND {column} < %(end)s",
            {"first": first, "end": end},
            with_column_types=True,
        )
        assert table.partition_column in [column for column, _ in columns]
        self._names = [column for column, _ in columns]
        return Counter(rows)

    def _by_day(self, table, rows):
        place = self._names.index(table.partition_column)
        days = defaultdict(Counter)
        for row, count in rows.items():
            days[row[place].date()][row] += count
        return days


def compare_trades(where, inserted, warm, cold):
    """What became of one day's trades, each counted.

    :param where: table and day
    """
    gone = inserted - warm
    found = Outcome(inserted.total(), gone.total())
    if gone:
        found.left_behind = warm.total()
        found.wrong(where, inserted - warm - cold, warm + cold - inserted)
    else:
        found.not_cold = (inserted - cold).total()
        found.wrong(where, Counter(), (warm - inserted) + (cold - inserted))
    return found


def compare_candles(where, inserted, warm, cold):
    """The same of candles: after a drop, their late trades are in ClickHouse, and the others in the cold tier.

    :param where: table and day
    """
    found = Outcome(inserted.total())
    if warm == inserted:
        found.not_cold = (inserted - cold).total()
        too_many = Counter(key for key in map(_key, cold.elements()))
        found.wrong(where, Counter(), Counter({key: count - 1 for key, count in too_many.items() if count > 1}))
        return found
    both = defaultdict(list)
    for row in (*cold.elements(), *warm.elements()):
        both[_key(row)].append(row)
    in_warm = {_key(row) for row in warm}
    lost, doubled = Counter(), Counter()
    for row in inserted:
        parts = both.pop(_key(row), [])
        if not parts or _merged(parts)[-1] < row[-1]:
            lost[row] += 1
        elif not _is_made_of(row, parts):
            doubled[row] += 1
        elif _key(row) in in_warm:
            found.left_behind += 1
        else:
            found.dropped += 1
    doubled.update(part for parts in both.values() for part in parts)
    found.wrong(where, lost, doubled)
    return found


def _key(row):
    return row[:4]


def _merged(parts):
    """High, low, volume, quote volume and number of trades of a candle whose trades are in these."""
    with localcontext(prec=_DIGITS):
        return (
            max(part[5] for part in parts),
            min(part[6] for part in parts),
            *(sum(part[place] for part in parts) for place in (8, 9, 10)),
        )


def _is_made_of(row, parts):
    """Whether a candle is what these are together: the very same, or one of a day that is gone and its late trades."""
    if len(parts) == 1:
        return row == parts[0]
    ends = {part[4] for part in parts}, {part[7] for part in parts}
    return len(parts) == 2 and _merged([row]) == _merged(parts) and row[4] in ends[0] and row[7] in ends[1]

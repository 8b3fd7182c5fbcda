"""Which days are compared if nobody names any."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.day_comparison import DayComparison, DayScope
from k2_offload.core.errors import ReplicaBehind
from k2_offload.core.holding import Kept
from k2_offload.work import compare as module
from k2_offload.work.compare import TableDays, compare, count_days

TABLE = parse_tables(
    "tables: {t: {layer: bronze, source: k2.t, target: cold.t, timestamp_column: at, warm_retention_days: 7}}"
)["t"]
NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
OLD, HELD, YOUNG = date(2026, 3, 2), date(2026, 3, 3), date(2026, 3, 15)
COUNTS = {OLD: 10, HELD: 10, YOUNG: 10}


def counted(kept, below=NOW):
    return TableDays(TABLE, None, (), below, (), NOW, COUNTS, COUNTS, False, kept)


@pytest.fixture
def compared(monkeypatch):
    def of(days, *chosen):
        monkeypatch.setattr(module, "count_days", lambda *_: days)
        monkeypatch.setattr(
            module,
            "compare_day",
            lambda _, days, day: DayComparison("t", DayScope(day, days.below), 1, days.is_whole(day), 10, 7, 10),
        )
        found = compare(None, TABLE, *chosen)
        return found.window and found.window.low.date(), [each.scope.day for each in found.days]

    return of


def test_a_server_that_lags_behind_is_not_believed(monkeypatch):
    def behind(clickhouse, table):
        raise ReplicaBehind(f"{table.name}: on server {clickhouse.host}, the replica is behind.")

    monkeypatch.setattr(module, "check_replicas", behind)
    monkeypatch.setattr(module, "check_cut", lambda *_: None)
    cold = SimpleNamespace(published="a window")
    tiers = SimpleNamespace(load_cold=lambda _: cold, clickhouse=SimpleNamespace(host="one"))
    with pytest.raises(ReplicaBehind):
        count_days(tiers, TABLE)
    assert "on server one" in compare(tiers, TABLE).problem


def test_old_days_are_compared_as_long_as_they_are_whole(compared):
    assert compared(counted(Kept())) == (date(2026, 3, 14), [YOUNG])
    kept = Kept(date(2026, 3, 1), ((HELD, HELD),))
    assert compared(counted(kept)) == (date(2026, 3, 1), [OLD, YOUNG])
    assert compared(counted(kept), HELD) == (HELD, [HELD, YOUNG]), "a person has named it"
    behind = counted(kept, NOW - timedelta(days=10))
    assert compared(behind)[0] == date(2026, 3, 1), "an outage does not let all look equal"

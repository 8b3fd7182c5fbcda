"""A view over both tiers is not made while days that it reads from ClickHouse are moved away."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, date, datetime
from types import SimpleNamespace

import pytest

from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.combined_view import ViewState
from k2_offload.core.errors import OtherRun, StaleWindow
from k2_offload.core.holding import Kept
from k2_offload.core.ttl import Storage
from k2_offload.work import combined_view
from k2_offload.work.combined_view import PlannedView, apply_view

ENTRY = """
tables:
  t:
    layer: bronze
    source: k2.t
    target: cold.t
    timestamp_column: at
    retention: {retention}
"""
DAY = date(2026, 3, 4)
STATE = ViewState("t", "u", "at", datetime(2026, 3, 4, tzinfo=UTC), 1, "file:///m", datetime(2026, 3, 10, tzinfo=UTC))


class FakeLedger:
    """Somebody else moves partitions, or nobody."""

    busy = False

    def __init__(self, _):
        pass

    @contextmanager
    def alone(self, storage):
        assert storage == "k2.t"
        if self.busy:
            raise OtherRun("another run is moving its partitions")
        yield lambda: None


@pytest.mark.parametrize(
    ("retention", "busy", "gone", "is_made"),
    [
        ("proven", False, date(2026, 3, 3), True),
        ("proven", False, DAY, False),
        ("proven", True, None, False),
        ("ttl", True, None, True),
    ],
)
def test_a_view_is_made_while_no_day_goes_that_it_reads(monkeypatch, retention, busy, gone, is_made):
    made = []
    monkeypatch.setattr(combined_view, "LedgerRetention", FakeLedger)
    monkeypatch.setattr(FakeLedger, "busy", busy)
    monkeypatch.setattr(combined_view, "read_kept", lambda *_: Kept(DAY, ((gone, gone),) if gone else ()))
    clickhouse = SimpleNamespace(execute=made.append, storage=lambda _: Storage("k2.t"))
    tiers, table = (
        SimpleNamespace(ledger=None, clickhouse=clickhouse),
        parse_tables(ENTRY.format(retention=retention))["t"],
    )
    planned = PlannedView(None, STATE, "", "CREATE VIEW")
    if is_made:
        apply_view(tiers, table, planned)
    else:
        with pytest.raises(StaleWindow):
            apply_view(tiers, table, planned)
    assert bool(made) == is_made

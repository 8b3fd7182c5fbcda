"""What a table may not skip, and where it may not go back to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.errors import ReplicaBehind
from k2_offload.work import watermarks
from k2_offload.work.watermarks import find_skip

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
NOW = NOON + timedelta(hours=3)
TABLE = parse_tables("tables: {t: {layer: bronze, source: k2.t, target: cold.t, timestamp_column: at}}")["t"]


def tiers_with(cold):
    return SimpleNamespace(
        clickhouse=SimpleNamespace(columns=lambda _: (), now=lambda: NOW, count_within=lambda *_: 10),
        catalog=SimpleNamespace(load=lambda _: cold),
        ledger=SimpleNamespace(read_tables=dict),
    )


def test_a_replica_that_lags_says_nothing_of_what_is_skipped(monkeypatch):
    def check(_, table, again):
        raise ReplicaBehind(f"{table.name} is behind. Then: `{again}`")

    monkeypatch.setattr(watermarks, "check_replicas", check)
    with pytest.raises(ReplicaBehind, match=r"`k2 watermark set t 2026-03-04T12:00:00[^`]*`"):
        find_skip(tiers_with(None), TABLE, NOON)

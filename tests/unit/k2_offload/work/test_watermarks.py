"""What a table may not skip, and where it may not go back to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.errors import OffloadError, ReplicaBehind
from k2_offload.core.exactly_once import FIRST_WATERMARK, Published, Snapshot, WindowId
from k2_offload.core.schema_change import ColdColumn, Mark
from k2_offload.core.windows import TICK, Window
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


def test_before_the_first_watermark_there_is_nothing_to_begin_at(monkeypatch):
    monkeypatch.setattr(watermarks, "check_replicas", lambda *_: None)
    with pytest.raises(OffloadError, match=r"1999-12-31T23:59:59\.999999Z is before 2000-01-01.*Nothing was changed"):
        find_skip(tiers_with(None), TABLE, FIRST_WATERMARK - TICK)
    assert find_skip(tiers_with(None), TABLE, FIRST_WATERMARK).window is None


@pytest.mark.parametrize(
    ("mark", "offered"),
    [
        pytest.param(None, True, id="filled"),
        pytest.param(Mark(NOON + timedelta(hours=1)), True, id="new"),
        pytest.param(Mark(NOON - timedelta(hours=1), stopped=True), True, id="stopped before"),
        pytest.param(Mark(NOON + timedelta(hours=1), stopped=True), False, id="stopped since"),
    ],
)
def test_a_rollback_that_would_lose_values_of_a_column_is_not_offered(monkeypatch, mark, offered):
    monkeypatch.setattr(watermarks, "check_replicas", lambda *_: None)
    first, last = (
        WindowId("uuid", Window(NOON - timedelta(days=1), NOON + timedelta(hours=hours))) for hours in (0, 2)
    )
    cold = SimpleNamespace(
        uuid="uuid",
        published=Published(Snapshot(2, 1, 2, last, 0, 0), last),
        published_until=lambda _: Published(Snapshot(1, None, 1, first, 0, 0), first),
        columns=(ColdColumn("note", "string", True, mark),),
        rollback_statement=lambda snapshot_id: f"CALL rollback({snapshot_id})",
    )
    words = r"What is safe .*CALL rollback\(1\)" if offered else r"does not fill note any more .*Going back would lose"
    with pytest.raises(OffloadError, match=words) as refused:
        find_skip(tiers_with(cold), TABLE, NOON)
    assert ("CALL" in str(refused.value)) == offered

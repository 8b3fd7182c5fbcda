"""A changed day is compared before it is accepted, wherever ClickHouse still holds it as a whole."""

from __future__ import annotations

from datetime import UTC, date, datetime
from types import SimpleNamespace

import pytest

from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.plan import PlannedColumn
from k2_offload.core.seals import Seal
from k2_offload.work import accept_seal

TABLE = parse_tables("tables: {t: {layer: bronze, source: k2.t, target: cold.t, timestamp_column: at}}")["t"]
DAY, NOW = date(2026, 3, 4), datetime(2026, 3, 30, tzinfo=UTC)
SEAL = Seal("t", "uuid", DAY, "at", 10, 7, (PlannedColumn("at", "timestamptz"),), None, 1, NOW)


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_day_is_compared_if_it_is_whole_however_old(monkeypatch, is_whole):
    compared = []
    cold = SimpleNamespace(uuid="uuid", snapshot_id=2)
    whole_from = date.max if is_whole else date.min
    days = SimpleNamespace(cold_table=cold, is_whole=lambda _: is_whole, whole_from=whole_from)
    for name, value in {
        "share_seals": [],
        "newest_of": ({DAY: SimpleNamespace(seal=SEAL)}, {}),
        "LedgerSeals": SimpleNamespace(read=lambda _: []),
        "count_days": days,
        "verify_seal": SimpleNamespace(healed=False, problem="it has changed"),
        "read_content": (11, 8),
        "check_acceptance": None,
    }.items():
        monkeypatch.setattr(accept_seal, name, lambda *_, value=value: value)
    monkeypatch.setattr(accept_seal, "compare_day", lambda *each: compared.append(each[-1]))
    tiers = SimpleNamespace(
        catalog=SimpleNamespace(seals=lambda _: None), ledger=None, load_cold=lambda _: cold, now=lambda: NOW
    )
    assert accept_seal.find_changed_day(tiers, TABLE, DAY).successor.rows == 11
    assert compared == ([DAY] if is_whole else [])

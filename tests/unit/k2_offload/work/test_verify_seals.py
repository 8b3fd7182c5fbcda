"""Which sealed days are verified in one run, where there are more than one run verifies."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from k2_offload.adapters.ledger_seals import RecordedSeal
from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.plan import PlannedColumn
from k2_offload.core.seals import VERIFIED_DAYS, Seal
from k2_offload.work import verify_seals
from k2_offload.work.verify_seals import Verified, verify_due

ENTRY = "tables: {trades: {layer: bronze, source: k2.t, target: cold.t, timestamp_column: at}}"
TABLE = parse_tables(ENTRY)["trades"]
NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)


class Days:
    """Sealed days, of which some do not hold any more what was sealed.

    :param broken: how many, from the first one on
    """

    def __init__(self, count, broken):
        days = [date(2020, 1, 1) + timedelta(days=number) for number in range(count)]
        seals = [Seal("trades", "u", day, "at", 1, 1, (PlannedColumn("at", "date"),), None, 1, NOW) for day in days]
        self.recorded = {seal.day: RecordedSeal(seal, None, None, None) for seal in seals}
        self.broken = set(days[:broken])
        self.looked_at = Counter()
        self.now = NOW

    def read(self, _):
        return list(self.recorded.values())

    def verify(self, tiers, cold, seal):  # noqa: ARG002
        self.looked_at[seal.day] += 1
        return Verified(1, f"{seal.day} is broken" if seal.day in self.broken else None)

    def record_verification(self, seal, snapshot_id, problem, now):
        found = self.recorded[seal.day]
        self.recorded[seal.day] = replace(found, verified_at=now, verified_snapshot=snapshot_id, problem=problem)

    def run(self):
        self.now += timedelta(days=1)
        tiers = SimpleNamespace(
            catalog=SimpleNamespace(seals=lambda _: None),
            load_cold=lambda _: SimpleNamespace(uuid="u"),
            ledger=None,
            now=lambda: self.now,
        )
        return verify_due(tiers, [TABLE])


@pytest.fixture
def days(monkeypatch):
    def make(count, broken):
        made = Days(count, broken)
        monkeypatch.setattr(verify_seals, "share_seals", lambda *_: [])
        monkeypatch.setattr(verify_seals, "LedgerSeals", lambda _: made)
        monkeypatch.setattr(verify_seals, "verify_seal", made.verify)
        return made

    return make


def test_a_day_that_was_repaired_is_whole_after_the_next_run(days):
    of = days(VERIFIED_DAYS * 5, broken=1)
    assert len(of.run()) == 1
    of.broken.clear()
    assert of.run() == []


def test_many_broken_days_keep_no_other_from_being_verified(days):
    count, broken = VERIFIED_DAYS * 5, VERIFIED_DAYS * 2
    of = days(count, broken)
    for _ in range(2 * count // VERIFIED_DAYS):
        of.run()
    assert len(of.looked_at) == count
    assert len(of.run()) == broken

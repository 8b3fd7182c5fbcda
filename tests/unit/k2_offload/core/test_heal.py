"""Whether a heal may be put on top of a snapshot, and whether its files hold what was compared."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_offload.core.errors import StaleWindow
from k2_offload.core.exactly_once import HEAL_PROPERTY, WINDOW_PROPERTY, Snapshot, WindowId, adopted
from k2_offload.core.heal import HealId, HealStamp, audit_heal, check_swap
from k2_offload.core.skips import Skips
from k2_offload.core.windows import Window

UUID = "0b5e"
DAY = date(2026, 3, 4)
HEAL = HealId(UUID, DAY, 2)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def snapshot(snapshot_id, parent_id, *, window=False, cut_on=None, heal=None):
    window_id = WindowId(UUID, Window(NOON, NOON + timedelta(hours=1))) if window else None
    return Snapshot(snapshot_id, parent_id, snapshot_id, window_id, 0, 0, cut_on=cut_on, heal=heal and str(heal))


CHAIN = {
    1: snapshot(1, None, window=True, cut_on="at"),
    2: snapshot(2, 1, window=True, cut_on="at"),
    3: snapshot(3, 2),
    4: snapshot(4, 3, window=True, cut_on="at"),
    5: snapshot(5, 1, window=True, cut_on="at"),  # of another branch
    6: snapshot(6, 4, window=True, cut_on="other"),
    7: snapshot(7, 4, heal=HealId(UUID, DAY, 4)),
    8: snapshot(8, 4, heal=HealId(UUID, DAY + timedelta(days=1), 4)),
    9: Snapshot(9, 4, 9, adopted(UUID, NOON), 0, 0, cut_on="at"),
}


def check(parent, *, files=("a", "b"), parent_files=("a", "b", "c"), table_uuid=UUID, chain=CHAIN):
    check_swap(
        "t", HEAL, "at", files, table_uuid=table_uuid, parent=parent, parent_files=parent_files, snapshot_of=chain.get
    )


@given(st.integers(0, 2**63 - 1), st.dates())
def test_an_identity_survives_text_and_is_no_windows(snapshot_id, day):
    heal_id = HealId(UUID, day, snapshot_id)
    assert HealId.parse(str(heal_id)) == heal_id
    assert WindowId.parse(str(heal_id)) is None
    assert HealId.parse(str(WindowId(UUID, Window(NOON, NOON + timedelta(hours=1))))) is None


def test_a_heals_snapshot_is_no_window():
    follows = WindowId(UUID, Window(NOON, NOON + timedelta(hours=1)))
    stamp = HealStamp(HEAL, follows, "attempt", Skips(), "mine")
    assert stamp.summary[HEAL_PROPERTY] == str(HEAL)
    assert WINDOW_PROPERTY not in stamp.summary
    read = Snapshot.read(9, 8, 9, stamp.summary)
    assert (read.window_id, read.follows, read.ledger_id) == (None, follows, "mine")


@pytest.mark.parametrize("parent", [2, 3, 4, 8])
def test_a_heal_may_follow_the_snapshot_it_was_compared_with_and_later_windows(parent):
    check(parent)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"parent": 5}, "no ancestor"),
        ({"parent": 1}, "no ancestor"),
        ({"parent": None}, "no ancestor"),
        ({"parent": 4, "chain": {4: CHAIN[4]}}, "no ancestor"),
        ({"parent": 9, "chain": {9: replace(CHAIN[9], parent_id=None)}}, "no ancestor"),
        ({"parent": 6}, "cut on 'other'"),
        ({"parent": 9}, "taken the table as it is"),
        ({"parent": 7}, "was healed meanwhile"),
        ({"parent": 7, "files": (), "parent_files": ()}, "was healed meanwhile"),
        ({"parent": 4, "parent_files": ("a", "c")}, "replaced meanwhile"),
        ({"parent": 4, "table_uuid": "another"}, "dropped and recreated"),
    ],
)
def test_a_heal_that_would_double_or_lose_rows_is_refused(changes, reason):
    with pytest.raises(StaleWindow, match=f"t 2026-03-04: .*{reason}.*no row is lost"):
        check(**changes)


@pytest.mark.parametrize(("rows", "content"), [(9, 7), (11, 7), (10, 8)])
def test_files_that_hold_anything_else_fail_the_audit(rows, content):
    audit_heal("t", HEAL, staged_rows=10, staged_hash=7, planned_rows=10, planned_hash=7)
    with pytest.raises(StaleWindow, match="Nothing was changed and no row is lost"):
        audit_heal("t", HEAL, staged_rows=rows, staged_hash=content, planned_rows=10, planned_hash=7)

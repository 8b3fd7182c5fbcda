"""Whether a skipped range may be brought, and what a chain that expiry has cut still says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_offload.core.backfill import (
    BackfillId,
    BackfillStamp,
    audit_backfill,
    decide_backfill,
    find_remembered,
    find_skips,
    keep_left_out,
)
from k2_offload.core.errors import AuditFailed, StaleWindow
from k2_offload.core.exactly_once import (
    HEALED_BRANCH,
    PUBLISHED_BRANCH,
    WINDOW_PROPERTY,
    PublishDecision,
    Published,
    Snapshot,
    WindowId,
)
from k2_offload.core.skips import Skips
from k2_offload.core.windows import Window

UUID = "0b5e"
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SKIPPED = Window(NOON, NOON + 4 * HOUR)
RANGE = Window(NOON + HOUR, NOON + 2 * HOUR)
BACKFILL = BackfillId(UUID, RANGE)
WINDOW = WindowId(UUID, SKIPPED)
PUBLISHED = Published(Snapshot(1, None, 1, WINDOW, 0, 0, cut_on="at", skips=Skips((SKIPPED,))), WINDOW)


def decide(skips, backfill_id=BACKFILL, cut_on="at", published=PUBLISHED):
    return decide_backfill("trades", backfill_id, cut_on, UUID, published, skips)


def test_what_is_left_out_may_be_brought_once():
    left_out = Skips((SKIPPED,))
    assert decide(left_out) is PublishDecision.PUBLISH
    assert decide(left_out.filling(RANGE, 7)) is PublishDecision.ALREADY_PUBLISHED
    assert decide(left_out.filling(SKIPPED, 9)) is PublishDecision.ALREADY_PUBLISHED


@pytest.mark.parametrize(
    "skips",
    [
        Skips(),
        Skips((Window(NOON, NOON + 1.5 * HOUR),)),
        Skips((SKIPPED,)).filling(Window(NOON, NOON + 1.5 * HOUR), 7),
    ],
    ids=["nothing left out", "a part left out", "a part filled"],
)
def test_what_is_not_wholly_left_out_is_planned_anew(skips):
    with pytest.raises(StaleWindow, match=r"not all of it is left out .* `k2 backfill trades` plans anew"):
        decide(skips)


def test_another_table_or_another_column_is_planned_anew():
    left_out = Skips((SKIPPED,))
    with pytest.raises(StaleWindow, match="dropped and recreated"):
        decide(left_out, replace(BACKFILL, table_uuid="other"))
    with pytest.raises(StaleWindow, match="cut on 'at' by now"):
        decide(left_out, cut_on="received_at")


def test_the_audit_refuses_any_difference():
    audit_backfill("trades", RANGE, staged_rows=5, source_rows=5, planned_rows=4)
    with pytest.raises(AuditFailed, match=r"shows 4 rows .* showed 5 .*`k2 backfill trades` counts it anew"):
        audit_backfill("trades", RANGE, staged_rows=4, source_rows=4, planned_rows=5)
    with pytest.raises(AuditFailed, match="4 rows of this skipped range were staged"):
        audit_backfill("trades", RANGE, staged_rows=4, source_rows=5, planned_rows=5)


def test_its_summary_names_no_window():
    skips = Skips((SKIPPED,)).filling(RANGE, 7)
    stamp = BackfillStamp(BACKFILL, WINDOW, skips, "attempt", "mine")
    assert WINDOW_PROPERTY not in stamp.summary
    assert WindowId.parse(stamp.wap_id) is None
    assert BackfillId.parse(str(BACKFILL)) == BACKFILL
    assert BackfillId.parse(str(WINDOW)) is None
    read = Snapshot.read(1, None, 1, stamp.summary)
    assert (read.backfill, read.follows, read.skips, read.window_id) == (str(BACKFILL), WINDOW, skips, None)
    assert read.ledger_id == "mine"


@given(
    kinds=st.lists(st.sampled_from(["window", "fill", "other"]), max_size=8),
    kept=st.integers(0, 9),
    cleared=st.booleans(),
)
def test_a_chain_that_is_cut_says_what_the_whole_chain_says(kinds, kept, cleared):
    """Expired: all but the newest ones, and what the branches of the last window and of the last backfill are at."""
    skips, published, healed = PUBLISHED.snapshot.skips, PUBLISHED, None
    chain = [PUBLISHED.snapshot]
    for number, kind in enumerate(kinds, start=2):
        before = chain[-1].rows_after
        made = Snapshot(number, number - 1, number, None, 0, 0, rows_before=before, rows_after=before)
        if kind == "window":
            low = published.window_id.window.high
            window_id = WindowId(UUID, Window(low, low + HOUR))
            made = replace(made, window_id=window_id, rows_after=before + 1, skips=skips)
            published, healed = Published(made, window_id), None
        elif kind == "fill" and number < 6:
            filled = Window(NOON + (number - 2) * HOUR, NOON + (number - 1) * HOUR)
            skips = skips.filling(filled, 1)
            made = replace(made, follows=published.window_id, rows_after=before + 1, skips=skips)
            healed = made
        chain.append(made)
    left = {each.snapshot_id: each for each in chain[max(0, len(chain) - 1 - kept) :]}
    if cleared:
        oldest = min(left)
        left[oldest] = replace(left[oldest], parent_id=None)
    held = left | {
        each.snapshot_id: each for each in (published.snapshot, healed) if each and each.snapshot_id not in left
    }
    branches = {HEALED_BRANCH: healed.snapshot_id} if healed else {}
    assert find_skips(chain[-1].snapshot_id, published, branches, held.get) == skips


def test_a_backfill_that_was_rolled_back_does_not_count():
    """Main is before it, the rest has expired, and the branch is still at it."""
    filled = Skips((SKIPPED,)).filling(RANGE, 7)
    gone = Snapshot(3, 2, 3, None, 9, 0, rows_before=0, rows_after=9, follows=WINDOW, skips=filled)
    compaction = Snapshot(2, 1, 2, None, 0, 0)
    held = {1: PUBLISHED.snapshot, 2: replace(compaction, parent_id=99), 3: gone}
    assert find_skips(2, PUBLISHED, {HEALED_BRANCH: 3}, held.get) == PUBLISHED.snapshot.skips


def test_a_table_of_versions_before_has_nothing_to_bring():
    old = Published(replace(PUBLISHED.snapshot, skips=None, skipped_rows=7), WINDOW)
    assert find_skips(1, old, {}, {1: old.snapshot}.get) == Skips()


@pytest.mark.parametrize(
    ("branches", "remembered"),
    [
        pytest.param({}, [7, 6], id="no branch"),
        pytest.param({PUBLISHED_BRANCH: 3, HEALED_BRANCH: 4}, [7, 6, 4, 3], id="both"),
        pytest.param({PUBLISHED_BRANCH: 4, HEALED_BRANCH: 3}, [7, 6, 4, 3], id="in the other order"),
        pytest.param({PUBLISHED_BRANCH: 3, HEALED_BRANCH: 9}, [7, 6, 3], id="one has expired"),
        pytest.param({PUBLISHED_BRANCH: 3, HEALED_BRANCH: 8}, [7, 6, 3], id="one came after the oldest that is left"),
        pytest.param({PUBLISHED_BRANCH: 7, HEALED_BRANCH: 6}, [7, 6], id="both are in the chain"),
    ],
)
def test_branches_tell_what_an_expired_chain_does_not(branches, remembered):
    """Rewrites 6 and 7 are left; 8 was rolled back."""
    parents = {3: 2, 4: 3, 6: 5, 7: 6, 8: 6}
    chain = {each: Snapshot(each, parent, each, None, 0, 0) for each, parent in parents.items()}
    assert [each.snapshot_id for each in find_remembered(7, branches, chain.get)] == remembered
    assert find_remembered(None, branches, chain.get) == []


def test_what_is_left_out_is_passed_on_where_the_table_holds_no_row_of_it():
    first, second = Window(NOON, NOON + HOUR), Window(NOON + 2 * HOUR, NOON + 4 * HOUR)
    told = Skips((first, second)).filling(Window(NOON + 2 * HOUR, NOON + 3 * HOUR), 7)
    whole = Window(NOON - HOUR, NOON + 9 * HOUR)
    held = {Window(*bounds): 7 for bounds in [(each.low, each.high) for each in told.filled]}

    def count(window, more=()):
        return (held | dict(more)).get(Window(window.low, window.high), 0)

    assert keep_left_out(told, whole, count) == told
    assert keep_left_out(told, whole, partial(count, more={first: 3})) == Skips(told.left_out[1:], told.filled)
    below = Window(NOON - HOUR, NOON + HOUR / 2)
    assert keep_left_out(told, below, count).left_out == (Window(NOON, NOON + HOUR / 2),)


def test_what_was_brought_and_rolled_back_is_left_out_again_where_only_a_branch_tells_it():
    whole, window = Window(NOON - HOUR, NOON + 9 * HOUR), Window(NOON, NOON + 4 * HOUR)
    told = Skips((window,)).filling(Window(NOON + HOUR, NOON + 2 * HOUR), 7)
    assert keep_left_out(told, whole, lambda _: 0) == Skips((window,))

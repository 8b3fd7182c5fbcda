from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_offload.core.errors import AuditFailed, DamagedTable, StaleWindow
from k2_offload.core.exactly_once import PUBLISHED_BRANCH, Published, Snapshot, WindowId
from k2_offload.core.maintenance import (
    MAX_METADATA_BYTES,
    MAX_SNAPSHOTS,
    TOGETHER_BYTES,
    TOGETHER_FILES,
    DayFiles,
    FoundMetadata,
    RewriteStamp,
    audit_rewrite,
    check_alone,
    check_rewrite,
    expire_before,
    files_wanted,
    is_overdue,
    rewritten_days,
    together,
)
from k2_offload.core.windows import Window

START = datetime(2026, 3, 4, tzinfo=UTC)
DAY = date(2026, 3, 4)
HOUR = timedelta(hours=1)
MIB = 2**20


@pytest.mark.parametrize(
    ("sizes", "closed", "wanted"),
    [
        ([MIB] * 4, True, None),
        ([MIB] * 5, True, 1),
        ([MIB] * 32, False, None),
        ([MIB] * 33, False, 1),
        ([100 * MIB] * 10, True, None),  # large enough for as many as there are
        ([200 * MIB] * 15, True, None),
        ([1], True, None),
    ],
)
def test_a_day_of_more_files_than_its_size_asks_for_is_rewritten(sizes, closed, wanted):
    assert files_wanted(sizes, 100 * MIB, closed=closed) == wanted


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=300), st.floats(0.5, 1.5), st.booleans())
def test_what_was_rewritten_is_not_rewritten_again(sizes, factor, closed):
    target = 64 * MIB
    wanted = files_wanted(sizes, target, closed=closed)
    if wanted is not None:
        after = [max(1, int(sum(sizes) * factor / wanted))] * wanted
        assert files_wanted(after, target, closed=closed) is None


def day_files(number, files=96, size_bytes=MIB, into=1, closed=True):
    return DayFiles(DAY + timedelta(days=number), files, size_bytes, into, closed)


def test_small_days_that_are_over_are_rewritten_together():
    days = [day_files(0), day_files(1), day_files(2, into=2), day_files(3), day_files(4, closed=False)]
    assert list(together(days)) == [days[:2], [days[2]], [days[3]], [days[4]]]
    assert list(together([])) == []


def test_a_table_of_many_tiny_days_is_few_snapshots_and_one_of_large_days_is_many():
    tiny = [day_files(number, size_bytes=4_000) for number in range(90)]
    assert max(sum(day.files for day in group) for group in together(tiny)) <= TOGETHER_FILES
    assert len(list(together(tiny))) == 5
    large = [day_files(number, size_bytes=TOGETHER_BYTES + 1) for number in range(3)]
    assert list(together(large)) == [[day] for day in large]


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(1, 2), st.booleans()), max_size=20),
    st.integers(1, 60),
)
def test_days_together_are_bounded_and_every_day_is_once_and_in_order(sizes, most):
    days = [day_files(number, *each) for number, each in enumerate(sizes)]
    groups = list(together(days, most, most))
    assert [day for group in groups for day in group] == days
    for group in groups:
        assert len(group) == 1 or all(day.closed and day.into == 1 for day in group)
        assert len(group) == 1 or max(sum(d.files for d in group), sum(d.size_bytes for d in group)) <= most


@pytest.mark.parametrize("days", [(DAY,), (DAY, DAY + timedelta(days=2))])
def test_a_snapshot_says_which_days_it_rewrote(days):
    assert rewritten_days(RewriteStamp(days, "a").summary) == days
    assert rewritten_days({}) == ()


def test_files_that_were_replaced_stop_a_rewrite():
    check_rewrite("trades", [DAY], {"a", "b"}, ["a", "b", "new"])
    with pytest.raises(StaleWindow, match="trades 2026-03-04: 1 of its files were replaced"):
        check_rewrite("trades", [DAY], {"a", "b"}, ["b", "new"])
    with pytest.raises(StaleWindow, match="trades 2026-03-04 to 2026-03-06: 2 of its files were replaced"):
        check_rewrite("trades", [DAY, DAY + timedelta(days=2)], {"a", "b"}, ["new"])


@pytest.mark.parametrize(
    ("rows_in_metadata", "after", "said"),
    [
        (9, (10, 7), "hold 10 rows, and the table says 9"),
        (10, (9, 7), "hold 9 rows and the old ones 10"),
        (10, (10, 8), "with another content"),
        (10, (11, 7), "hold 11 rows and the old ones 10"),
    ],
)
def test_a_rewrite_with_other_rows_is_refused(rows_in_metadata, after, said):
    audit_rewrite("trades", DAY, rows_in_metadata=10, before=(10, 7), after=(10, 7))
    with pytest.raises(AuditFailed, match=said):
        audit_rewrite("trades", DAY, rows_in_metadata=rows_in_metadata, before=(10, 7), after=after)


def chain(length, published_at):
    """Snapshots 0, 1, … an hour apart; the published one, and what is needed to look at them."""
    window_id = WindowId("uuid", Window(START, START + HOUR))
    shots = {
        position: Snapshot(position, position - 1 if position else None, position + 1, window_id, 1, 1)
        for position in range(length)
    }
    return shots, Published(shots[published_at], window_id)


def expiring(shots, published, wanted, branches=None, head=None):
    return expire_before(
        "trades",
        max(shots) if head is None else head,
        published,
        {PUBLISHED_BRANCH: published.snapshot.snapshot_id} if branches is None else branches,
        shots.get,
        lambda snapshot_id: START + snapshot_id * HOUR,
        wanted,
    )


@given(st.integers(1, 12), st.data())
def test_nothing_from_the_last_window_to_main_expires(length, data):
    published_at = data.draw(st.integers(0, length - 1))
    wanted = START + data.draw(st.integers(-5, 20)) * HOUR
    shots, published = chain(length, published_at)
    before, kept = expiring(shots, published, wanted)
    left = {position for position in shots if START + position * HOUR >= before}
    assert kept <= left
    assert set(range(published_at, length)) <= left
    assert before <= wanted


def test_what_readers_saw_at_that_time_stays_however_old_it_is():
    shots, published = chain(4, 3)
    times = {0: START, 1: START + HOUR, 2: START + 2 * HOUR, 3: START + 99 * HOUR}
    before, kept = expire_before(
        "trades", 3, published, {PUBLISHED_BRANCH: 3}, shots.get, times.__getitem__, START + 50 * HOUR
    )
    assert (before, kept) == (START + 2 * HOUR, {2, 3})


def test_what_is_left_of_a_chain_that_others_have_cut_is_kept():
    shots, published = chain(8, 2)
    del shots[4]
    assert expiring(shots, published, START + 20 * HOUR) == (START + 5 * HOUR, {5, 6, 7})


def test_a_clock_that_was_set_back_on_the_way_takes_nothing_away():
    shots, published = chain(4, 1)
    times = {0: START, 1: START + HOUR, 2: START - HOUR, 3: START + 2 * HOUR}
    before, _ = expire_before(
        "trades", 3, published, {PUBLISHED_BRANCH: 1}, shots.get, times.__getitem__, START + 9 * HOUR
    )
    assert before == START - HOUR


def test_nothing_expires_where_the_last_windows_branch_is_no_ancestor():
    shots, published = chain(6, 2)
    with pytest.raises(DamagedTable, match=r"rolled back since the last window\. No snapshot was expired"):
        expiring(shots, published, START, branches={PUBLISHED_BRANCH: 5}, head=2)


def test_a_folder_with_another_table_or_a_later_state_of_this_one_is_left_alone():
    older, same = FoundMetadata("v1", "uuid", 3), FoundMetadata("v2", "uuid", 7)
    check_alone("trades", "uuid", 7, [older, same])
    with pytest.raises(DamagedTable, match="metadata of another table, other: v3"):
        check_alone("trades", "uuid", 7, [older, FoundMetadata("v3", "other", 1)])
    with pytest.raises(DamagedTable, match="a later state of the table than the catalog knows: v4"):
        check_alone("trades", "uuid", 7, [older, FoundMetadata("v4", "uuid", 8)])


def test_when_maintenance_is_overdue():
    assert not is_overdue(MAX_SNAPSHOTS, MAX_METADATA_BYTES)
    assert is_overdue(MAX_SNAPSHOTS + 1, 0)
    assert is_overdue(0, MAX_METADATA_BYTES + 1)

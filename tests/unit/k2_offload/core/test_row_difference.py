from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from k2_offload.core.row_difference import HashedRow, Surplus, count_shrunk, pick, surpluses

rows = st.lists(st.builds(HashedRow, st.integers(0, 5), st.just(0), st.integers(0, 2), st.integers(0, 3)))


def replaced(row, version):
    return HashedRow(row.content + 10 * (version - (row.version or 0)), row.micros, row.key, version)


@given(rows, rows)
def test_surpluses_are_the_difference_of_two_multisets(warm, cold):
    counts = Counter(row.content for row in warm)
    counts.subtract(row.content for row in cold)
    found = {each.row.content: each.times for each in surpluses(warm, cold)}
    assert found == {content: times for content, times in counts.items() if times}


@given(rows)
def test_nothing_shrinks_where_each_key_stands_once_and_grows(cold):
    cold = list({row.key: row for row in cold}.values())
    newer, older = ([replaced(row, row.version + change) for row in cold] for change in (1, -1))
    assert count_shrunk(newer, cold) == 0
    assert count_shrunk(older, cold) == len(cold)
    assert count_shrunk([], cold) == len(cold)
    assert count_shrunk(cold * 2, cold) == len(cold)
    assert count_shrunk(cold, []) == 0
    assert count_shrunk(cold, cold) == 0
    other_values = [HashedRow(row.content + 1, row.micros, row.key, row.version) for row in cold]
    assert count_shrunk(other_values, cold) == len(cold), "as many trades, and other values"


def test_rows_are_picked_in_the_order_of_their_times_and_versions_of_one_row_are_told():
    def surplus(content, micros, key, times):
        return Surplus(HashedRow(content, micros, key), times)

    late, old, new, cut = surplus(1, 9, 1, 1), surplus(2, 5, 2, -1), surplus(3, 6, 2, 1), surplus(4, 10, 3, 1)
    assert list(pick([late, old, new, cut], 2)) == [(old, True), (new, True), (late, False)]

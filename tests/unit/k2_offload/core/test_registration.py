from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from k2_offload.core.registration import TableState, choose, last_of_each_line

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def state(number, *, table_uuid="a", hours=0, rows=10, earlier=()):
    watermark = None if hours is None else NOON + timedelta(hours=hours)
    return TableState(str(number), table_uuid, "s3://x", number, NOON, rows, watermark, frozenset(map(str, earlier)))


EMPTY = state(1, table_uuid="new", hours=None, rows=0)


@st.composite
def histories(draw):
    """A table whose catalog has gone back now and then: each file knows those of its own line before it."""
    states = []
    for number in range(draw(st.integers(1, 12))):
        before = draw(st.sampled_from([None, *states])) if number else None
        states.append(state(number, earlier=() if before is None else [*before.earlier, before.metadata_file]))
    return {each.metadata_file: each for each in states}


@given(histories())
def test_the_last_state_of_each_line_is_found_whatever_went_back(history):
    followed = {file for each in history.values() for file in each.earlier}
    found = last_of_each_line(sorted(history, key=int, reverse=True), history.__getitem__)
    assert {each.metadata_file for each in found} == history.keys() - followed


def test_files_that_another_one_names_are_not_read():
    read = []
    last_of_each_line("321", lambda file: read.append(file) or state(int(file), earlier=range(int(file))))
    assert read == ["3"]


def test_the_state_with_the_latest_window_is_chosen_not_the_one_of_the_highest_number():
    given_up, later = state(9, hours=1), state(5, hours=2)
    assert choose(None, [given_up, later], None) == later
    assert choose(given_up, [given_up, later], "a") == later
    assert choose(None, [state(3, hours=2), later], "a") == later, "of two with the same window the last commit"


def test_what_the_catalog_has_stays_unless_the_same_table_has_come_further():
    current = state(5, hours=2)
    assert choose(current, [current], "a") is None
    assert choose(current, [state(4, hours=1), current], None) is None
    assert choose(current, [state(9, hours=1)], "a") is None
    assert choose(current, [state(9, table_uuid="b", hours=9)], None) is None, "another table's"


def test_the_table_that_the_ledger_has_followed_comes_back():
    full, other = state(5), state(9, table_uuid="b", hours=9)
    assert choose(EMPTY, [EMPTY, full, other], "a") == full
    assert choose(other, [other, full], "a") == full
    assert choose(None, [other], "a") is None
    assert choose(None, [replace(full, rows=0, watermark=None)], "a"), "even if nothing was in it yet"


def test_a_table_that_nobody_knows_takes_the_place_of_an_empty_one_only():
    full = state(5, hours=None)
    assert choose(EMPTY, [EMPTY, full], None) == full
    assert choose(EMPTY, [EMPTY], None) is None
    assert choose(EMPTY, [EMPTY, full], "new") is None, "a person has accepted the empty one"
    assert choose(None, [EMPTY], None) is None

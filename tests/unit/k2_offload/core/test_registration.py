from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_offload.core.registration import Choice, TableState, choose, last_of_each_line, version_of

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def state(number, *, table_uuid="a", hours=0, rows=10, earlier=()):
    watermark = None if hours is None else NOON + timedelta(hours=hours)
    return TableState(str(number), table_uuid, "s3://x", number, NOON, rows, watermark, frozenset(map(str, earlier)))


EMPTY = state(1, table_uuid="new", hours=None, rows=0)


@st.composite
def histories(draw):
    """A table whose catalog has gone back now and then: each file knows the last three of its own line before it."""
    states, lines = [], {}
    for number in range(draw(st.integers(1, 12))):
        before = draw(st.sampled_from([None, *states])) if number else None
        name = str(number)
        lines[name] = [] if before is None else [*lines[before.file_name], before.file_name]
        states.append(state(number, earlier=lines[name][-3:]))
    return {each.metadata_file: each for each in states}, lines


@given(histories())
def test_the_last_state_of_each_line_is_found_with_all_before_it_whatever_went_back(history):
    states, lines = history
    found = last_of_each_line(sorted(states, key=int, reverse=True), states.__getitem__)
    followed = {file for earlier in lines.values() for file in earlier}
    assert {each.metadata_file: each.earlier for each in found} == {
        name: frozenset(earlier) for name, earlier in lines.items() if name not in followed
    }


@given(histories(), st.data())
def test_what_cannot_be_read_counts_as_if_it_were_not_there(history, data):
    """Half of a file, or the state of a commit that was refused."""
    states, lines = history
    broken = data.draw(st.sets(st.sampled_from(sorted(states))))
    refused = data.draw(st.sets(st.sampled_from(sorted(states))))
    found = last_of_each_line(
        sorted(states, key=int, reverse=True),
        lambda file: None if file in broken else states[file],
        lambda state: state.metadata_file not in refused,
    )
    heads = {each.metadata_file for each in found}
    assert not heads & (broken | refused)
    for name in states.keys() - broken - refused - heads:
        assert any(name in lines[head] for head in heads), "it is before one that was found"


def test_files_that_another_one_names_are_not_read_but_for_the_oldest():
    read = []
    last_of_each_line("54321", lambda file: read.append(file) or state(int(file), earlier=range(int(file))))
    assert read == ["5", "1"]


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("00012-ab.metadata.json", 12),
        ("v12.metadata.json", 12),
        ("v3.gz.metadata.json", 3),
        ("ab-1.metadata.json", -1),
        ("12345678-9abc.metadata.json", -1),
    ],
)
def test_the_number_of_commits_is_in_the_name(name, version):
    assert version_of(name) == version


def named(number, commits, **values):
    return replace(state(number, **values), metadata_file=f"s3://x/{commits:05}-{number}.metadata.json")


def test_of_a_catalog_that_is_lost_the_line_with_the_most_commits_is_chosen_not_the_latest_watermark():
    """A commit whose connection broke has left a state that nobody saw: of `k2 watermark set`, a day ahead, say."""
    left, table = named(4, 5, hours=24), named(9, 12, hours=2)
    assert choose(None, [left, table], "a") == Choice(table, later=(left,))
    assert choose(None, [left, table], None) == Choice(table, later=(left,))


def test_two_tables_in_one_folder_are_left_to_a_person_where_nobody_knows_which_one_it_was():
    before, current = named(4, 500, table_uuid="b"), named(9, 100, hours=2)
    assert choose(None, [before, current], None) == Choice(tied=(before, current))
    assert choose(None, [before, current], "a") == Choice(current)


def test_two_states_of_equally_many_commits_are_left_to_a_person():
    refused, committed = named(4, 5), named(4, 5, hours=1)
    refused = replace(refused, metadata_file="s3://x/00005-other.metadata.json")
    assert choose(None, [refused, committed], "a") == Choice(tied=(refused, committed))
    staged = replace(refused, sequence_number=5)
    assert choose(None, [staged, committed], "a") == Choice(tied=(staged, committed)), (
        "who publishes makes no new number"
    )


def test_names_that_do_not_count_upwards_make_no_lines():
    states = {f"{name}.metadata.json": state(n, earlier=()) for n, name in enumerate("abcd")}
    names = list(states)
    for n, name in enumerate(names):
        states[name] = replace(states[name], metadata_file=name, earlier=frozenset(names[:n]))
    assert [each.metadata_file for each in last_of_each_line(names, states.__getitem__)] == names[-1:]


def test_what_the_catalog_names_gives_way_only_to_what_follows_it():
    current = state(5, hours=2)
    following, other = state(9, hours=3, earlier=[4, 5]), state(8, hours=9)
    assert choose(current, [current], "a") == Choice()
    assert choose(current, [state(4, hours=1), current], None) == Choice()
    assert choose(current, [following], "a") == Choice(following)
    assert choose(current, [other], "a") == Choice(later=(other,)), "of a commit that failed, or of a line given up"
    assert choose(current, [following, other], "a") == Choice(following, later=(other,))
    assert choose(current, [state(9, table_uuid="b", hours=9, earlier=[5])], None) == Choice(), "another table's"


def test_the_table_that_the_ledger_has_followed_comes_back():
    full, other = state(5), state(9, table_uuid="b", hours=9)
    assert choose(EMPTY, [EMPTY, full, other], "a").state == full
    assert choose(other, [other, full], "a").state == full
    assert choose(None, [other], "a") == Choice()
    assert choose(None, [replace(full, rows=0, watermark=None)], "a").state, "even if nothing was in it yet"


def test_a_table_that_nobody_knows_takes_the_place_of_an_empty_one_only():
    full = state(5, hours=None)
    assert choose(EMPTY, [EMPTY, full], None).state == full
    assert choose(EMPTY, [EMPTY], None) == Choice()
    assert choose(EMPTY, [EMPTY, full], "new") == Choice(), "a person has accepted the empty one"
    assert choose(None, [EMPTY], None) == Choice()

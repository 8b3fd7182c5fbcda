"""Which changes of a source's columns are followed, and that following loses nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from k2_offload.core.errors import InvalidSource
from k2_offload.core.schema_change import (
    ColdColumn,
    Mark,
    accept_nulls,
    changed,
    check_stop,
    describe,
    find_nulls,
    pair_columns,
    plan_changes,
    read_marks,
    settle,
    stopped,
    widens,
    write_marks,
)
from k2_offload.core.tables import TableSpec
from k2_offload.core.type_mapping import map_column, no_value
from k2_offload.core.windows import Window

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
TABLE = TableSpec(
    name="trades", layer="bronze", source="k2.trades", target="cold.trades", timestamp_column="at",
    partition_column="at", sort_columns=("symbol",), job_group="x",
)  # fmt: skip
TYPES = [
    "Int8", "Int32", "Int64", "UInt32", "UInt64", "Float32", "Float64", "String", "Nullable(String)", "Nullable(Int64)",
    "Decimal(9, 2)", "Decimal(20, 2)",
    "Nullable(Decimal(20, 2))", "Decimal(20, 3)", "Bool", "DateTime", "FixedString(3)",
]  # fmt: skip

FOLLOWED = [(kind, kind) for kind in TYPES] + [
    ("Int8", "Int64"), ("UInt32", "Int64"), ("Int32", "Nullable(Int64)"), ("Float32", "Float64"),
    ("Decimal(9, 2)", "Nullable(Decimal(20, 2))"), ("String", "Nullable(String)"),
]  # fmt: skip

names = st.sampled_from("abcdef")
sources = st.dictionaries(names, st.sampled_from(TYPES), max_size=6).map(
    lambda types: tuple(map_column("trades", name, kind) for name, kind in types.items())
)


def made_from(source):
    return tuple(ColdColumn(column.name, column.iceberg_type, column.nullable) for column in source)


@given(before=sources, after=sources, unfilled=st.none() | names)
def test_what_is_refused_stops_the_plan(before, after, unfilled):
    cold = stopped(made_from(before), unfilled, NOON)
    assume(any(pair.refusal for pair in pair_columns(TABLE, after, cold)))
    with pytest.raises(InvalidSource, match=r"Nothing was moved and no row is lost.*`k2 validate`"):
        plan_changes(TABLE, after, cold)


@given(kept=st.dictionaries(names, st.sampled_from(FOLLOWED), max_size=6), new=sources, unfilled=st.none() | names)
def test_a_plan_is_accepted_afterwards_and_never_drops_or_narrows(kept, new, unfilled):
    before = tuple(map_column("trades", name, old) for name, (old, _) in kept.items())
    after = (
        *(map_column("trades", name, later) for name, (_, later) in kept.items()),
        *(each for each in new if each.name not in kept),
    )
    cold = stopped(made_from(before), unfilled, NOON)
    changes = plan_changes(TABLE, after, cold)
    later = changed(cold, changes, NOON)
    assert plan_changes(TABLE, after, later) == (), "twice is nothing"
    assert changed(later, (), NOON) == later
    there = {column.name: column for column in later}
    for column in cold:
        now = there[column.name]
        assert now.iceberg_type == column.iceberg_type or widens(column.iceberg_type, now.iceberg_type)
        assert now.nullable or not column.nullable
    assert all(there[column.name].nullable for column in later if column.name not in {c.name for c in cold})
    settled = settle(after, later)
    assert {column.name: column.iceberg_type for column in settled} == {
        name: c.iceberg_type for name, c in there.items()
    }
    assert all(there[column.name].nullable or not column.nullable for column in settled)


@given(before=sources, after=sources)
def test_a_pending_change_leaves_new_columns_out(before, after):
    cold = made_from(before)
    assert {column.name for column in settle(after, cold)} <= {column.name for column in cold}


@pytest.mark.parametrize(
    ("before", "after", "wide"),
    [
        ("int", "long", True),
        ("long", "int", False),
        ("float", "double", True),
        ("double", "float", False),
        ("decimal(9, 2)", "decimal(20, 2)", True),
        ("decimal(20, 2)", "decimal(9, 2)", False),
        ("decimal(9, 2)", "decimal(20, 3)", False),
        ("long", "decimal(20, 0)", False),
        ("int", "double", False),
        ("int", "string", False),
        ("int", "int", False),
    ],
)
def test_types_widen_as_iceberg_has_it(before, after, wide):
    assert widens(before, after) is wide


def test_a_source_that_is_stricter_than_the_cold_table_changes_nothing():
    cold = (ColdColumn("a", "int", True),)
    assert plan_changes(TABLE, (map_column("trades", "a", "Int32"),), cold) == ()


def test_a_column_that_is_gone_names_those_that_are_new():
    cold = (ColdColumn("price", "double", False),)
    with pytest.raises(InvalidSource, match=r"selects cost AS price; or .*`k2 schema trades --stop-filling price`"):
        plan_changes(TABLE, (map_column("trades", "cost", "Float64"),), cold)


def test_a_column_that_is_not_filled_any_more_stays_null_whatever_the_source_has():
    cold = stopped((ColdColumn("a", "decimal(9, 2)", False),), "a", NOON)
    for source in ((), (map_column("trades", "a", "String"),)):
        assert plan_changes(TABLE, source, cold) == ()
        [column] = settle(source, cold)
        assert (column.expression, column.nullable) == ("CAST(NULL, 'Nullable(Decimal(9, 2))')", True)
        assert (column.source_type, column.compared_from) == (None, NOON)
    [pair] = pair_columns(TABLE, (), cold)
    assert describe(pair) == "not filled since 2026-03-04T12:00:00.000000Z"


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("LowCardinality(String)", "String"),
        ("DateTime", r"DateTime64(6, \'UTC\')"),
        ("FixedString(3)", "FixedString(3)"),
        ("UInt64", "Decimal(20, 0)"),
        ("Date", "Date32"),
        ("Bool", "Bool"),
        ("Int8", "Int32"),
    ],
)
def test_no_value_has_the_type_of_the_file(kind, target):
    assert no_value("c", map_column("t", "c", kind).iceberg_type).expression == f"CAST(NULL, 'Nullable({target})')"


@pytest.mark.parametrize(
    ("column", "words"), [("at", "timestamp_column"), ("symbol", "sort_columns"), ("x", "no column")]
)
def test_what_the_table_file_needs_is_not_left_unfilled(column, words):
    cold = (ColdColumn("at", "timestamptz", False), ColdColumn("symbol", "string", False))
    with pytest.raises(InvalidSource, match=words):
        check_stop(replace(TABLE), column, cold)


def test_what_is_remembered_survives_as_a_property():
    nulls = (Window(NOON - timedelta(days=2), NOON - timedelta(days=1)), Window(NOON - timedelta(microseconds=3), NOON))
    marks = {"a": Mark(NOON), 'ä"': Mark(NOON + timedelta(microseconds=1), stopped=True, nulls=nulls)}
    cold = [ColdColumn(name, "int", True, mark) for name, mark in marks.items()] + [ColdColumn("b", "int", True)]
    assert read_marks(write_marks(cold)) == marks
    assert read_marks(None) == {}
    assert read_marks('{"a": {"since": "2026-03-04T12:00:00+00:00", "stopped": true}}') == {
        "a": Mark(NOON, stopped=True)
    }
    nulls_of_no_range = '{"a": {"since": "2026-03-04", "stopped": true, "nulls": [["2026-03-04"]]}}'
    for damaged in (
        "{", '{"a": 1}', '{"a": {"since": 1, "stopped": 1}}', "[]", '{"a": {"stopped": true}}', nulls_of_no_range
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"damaged|delimiter|quotes"):
            read_marks(damaged)


hours = st.tuples(st.integers(0, 20), st.integers(1, 5)).map(
    lambda low: Window(NOON + timedelta(hours=low[0]), NOON + timedelta(hours=low[0] + low[1]))
)


@given(ranges=st.lists(hours, max_size=3), since=st.integers(0, 24), accepted=st.lists(hours, max_size=2))
def test_history_without_a_column_is_accepted_once_and_only_below_the_time_from_which_it_is_not_filled(
    ranges, since, accepted
):
    mark = Mark(NOON + timedelta(hours=since), stopped=True)
    cold = (ColdColumn("a", "int", True, mark), ColdColumn("b", "int", True), ColdColumn("c", "int", True, Mark(NOON)))
    found = find_nulls(cold, ranges)
    assert set(found) <= {"a"}
    starts = {each.low + timedelta(hours=hour) for each in ranges for hour in range(5)}
    below = {time for time in starts if time < mark.since and any(each.low <= time < each.high for each in ranges)}
    assert {time for time in starts if any(each.low <= time < each.high for each in found.get("a", ()))} == below
    later = accept_nulls(accept_nulls(cold, accepted), ranges)
    assert find_nulls(later, [*ranges, *accepted]) == {}
    assert (later[1:], later[0].mark.since) == (cold[1:], mark.since)
    assert all(each.high <= mark.since for each in later[0].mark.nulls)
    assert read_marks(write_marks(later))["a"] == later[0].mark


def test_what_was_accepted_is_shown():
    mark = Mark(NOON, stopped=True, nulls=(Window(NOON - timedelta(hours=2), NOON - timedelta(hours=1)),))
    [pair] = pair_columns(TABLE, (), [ColdColumn("a", "int", True, mark)])
    assert describe(pair).startswith("not filled since 2026-03-04T12:00:00")
    assert "NULL in [2026-03-04T10:00:00" in describe(pair)

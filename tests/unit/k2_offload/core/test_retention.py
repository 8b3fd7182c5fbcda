"""What may go from ClickHouse, and how a run goes on with what the one before it has left."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.errors import InvalidTablesFile
from k2_offload.core.holding import NO_PARTS, Holding, Kept, Partition, Parts, Record, Step, days_of, merge_days
from k2_offload.core.plan import PlannedColumn
from k2_offload.core.retention import (
    Coverage,
    Next,
    Reader,
    StoredColumn,
    coverage,
    find_shared_day,
    hides_rows,
    is_all,
    is_doubled,
    is_due,
    next_step,
    obstacle,
    seals_obstacle,
    shows_all,
)
from k2_offload.core.seals import Seal

ENTRY = """
  {name}:
    layer: bronze
    source: k2.trades
    target: cold.{name}
    timestamp_column: at
    retention: proven
"""
TABLES = parse_tables("tables:" + ENTRY.format(name="trades") + ENTRY.format(name="others"))
SPEC = TABLES["trades"]
FIRST = date(2026, 3, 1)
NOW = datetime(2026, 3, 20, tzinfo=UTC)


def day(number):
    return FIRST + timedelta(days=number)


def seal(number, table="trades", rows=10):
    columns = (PlannedColumn("at", "timestamptz"), PlannedColumn("price", "long"))
    return Seal(table, "uuid", day(number), "at", rows, 7, columns, None, 1, NOW)


def reader(sealed, shown=(), broken=(), table="trades", young=12, columns=("at", "price"), warm_from=None):
    return Reader(
        TABLES[table],
        day(young),
        {day(number): seal(number, table) for number in sealed},
        {day(number): "its seal is broken" for number in broken},
        {day(number): 10 for number in (*sealed, *shown)},
        frozenset(columns),
        None if warm_from is None else day(warm_from),
    )


def partition(name, first, last=None):
    return Partition(name, (f"part of {name}",), 10, {"at": (day(first), day(first if last is None else last))})


NOTHING = Holding("k2.trades", FIRST)
RECORD = Record("p", Step.HELD, ("a", "b"), 10, {"at": (day(1), day(2))}, {"trades": {day(1): seal(1).seal_id}}, NOW)


def test_a_partition_goes_when_all_its_days_are_old_and_sealed():
    assert obstacle(partition("p", 1), [partition("p", 1)], [reader([1])], NOTHING) is None
    assert obstacle(partition("p", 1, 3), [], [reader([1, 3])], NOTHING) is None, "nothing is shown of the second"


@pytest.mark.parametrize(
    ("chosen", "others", "readers", "holding", "reason"),
    [
        (partition("p", 1), [], [reader([])], NOTHING, None),
        (partition("p", 1), [], [], NOTHING, "no table of the table file reads it"),
        (partition("p", 12), [], [reader([12])], NOTHING, "is not older than warm_retention_days of trades (7)"),
        (partition("p", 11, 12), [], [reader([11, 12])], NOTHING, "2026-03-13 is not older"),
        (partition("p", 1), [], [reader([], [1])], NOTHING, "2026-03-02 is not sealed in trades"),
        (partition("p", 1, 3), [], [reader([1, 3], [2])], NOTHING, "2026-03-03 is not sealed in trades"),
        (partition("p", 1), [], [reader([1], broken=[1])], NOTHING, "its seal is broken"),
        (partition("p", 1), [], [reader([1]), reader([], [1], table="others")], NOTHING, "not sealed in others"),
        (partition("p", 1), [partition("q", 0, 1)], [reader([1])], NOTHING, "2026-03-02 are in partition q, too"),
        (partition("p", 1), [], [reader([1], columns=("at", "price", "venue"))], NOTHING, "nothing of column venue"),
        (partition("p", 1), [], [reader([1])], NOTHING.with_gone(RECORD), "came after that day was removed"),
        (partition("p", 1), [], [reader([1], warm_from=1)], NOTHING, "reads days from 2026-03-02 on from ClickHouse"),
        (partition("p", 0, 1), [], [reader([0, 1], warm_from=1)], NOTHING, "`k2 view trades --apply` renews it"),
        (partition("p", 1), [], [reader([1], warm_from=2)], NOTHING, None),
    ],
)
def test_why_a_partition_may_not_go(chosen, others, readers, holding, reason):
    found = obstacle(chosen, [chosen, *others], readers, holding)
    assert found is None if reason is None else reason in found


@pytest.mark.parametrize(
    ("spans", "shared"),
    [
        ([(1, 1), (2, 2), (3, 5)], None),
        ([], None),
        ([(2, 3), (1, 1), (3, 4)], (3, "p0", "p2")),
        ([(0, 9), (1, 1)], (1, "p0", "p1")),
        ([(0, 9), (10, 10), (11, 11)], None),
        ([(0, 1), (2, 2), (2, 2)], (2, "p1", "p2")),
    ],
)
def test_a_day_that_lies_in_several_partitions_is_found(spans, shared):
    found = find_shared_day(SPEC, "k2.trades", [partition(f"p{number}", *span) for number, span in enumerate(spans)])
    if shared is None:
        assert found is None
    else:
        number, one, other = shared
        assert f"trades: rows of {day(number)} lie in partitions {one} and {other} of k2.trades" in found
        assert "PARTITION BY toDate(at, 'UTC')" in found


DAYS = st.integers(0, 15)


@given(
    st.lists(st.tuples(DAYS, DAYS).map(sorted), min_size=1, max_size=4),
    st.lists(st.tuples(st.sets(DAYS), st.sets(DAYS), st.sets(DAYS)), min_size=1, max_size=2),
    st.lists(st.tuples(DAYS, DAYS).map(sorted), max_size=2),
)
def test_no_day_goes_that_is_not_proven_in_every_table(spans, known, gone):
    partitions = [partition(f"p{number}", first, last) for number, (first, last) in enumerate(spans)]
    readers = [
        reader(sealed, shown, broken, name)
        for name, (sealed, shown, broken) in zip(TABLES.by_name, known, strict=False)
    ]
    holding = replace(NOTHING, gone={"at": merge_days((day(first), day(last)) for first, last in gone)})
    for chosen in partitions:
        if obstacle(chosen, partitions, readers, holding) is not None:
            continue
        for each in days_of(chosen.days["at"]):
            assert each < day(12)
            assert not holding.kept("at").is_gone(each)
            assert sum(low <= each <= high for low, high in (other.days["at"] for other in partitions)) == 1
            for one in readers:
                assert each not in one.broken
                assert each in one.seals or each not in one.rows


@pytest.mark.parametrize(
    ("step", "held", "in_source", "shown", "expected"),
    [
        (Step.MOVING, "", "ab", 10, Next.FORGET),
        (Step.MOVING, "", "abc", 11, Next.FORGET),
        (Step.MOVING, "", "", 0, Next.LOST),
        (Step.MOVING, "ab", "", 0, Next.COMPARE),
        (Step.MOVING, "ab", "c", 1, Next.RESTORE),
        (Step.MOVING, "ab", "", 1, Next.RESTORE),
        (Step.MOVING, "ab", "c", 0, Next.RESTORE),
        (Step.MOVING, "abc", "", 0, Next.RESTORE),
        (Step.MOVING, "a", "", 0, Next.RESTORE),
        (Step.HELD, "ab", "", 0, Next.KEEP),
        (Step.HELD, "ab", "c", 1, Next.RESTORE),
        (Step.HELD, "abc", "", 0, Next.DECIDE),
        (Step.HELD, "a", "", 0, Next.DECIDE),
        (Step.HELD, "", "ab", 10, Next.FORGET),
        (Step.HELD, "", "c", 1, Next.DECIDE),
        (Step.HELD, "", "c", 10, Next.DECIDE),
        (Step.HELD, "", "abc", 7, Next.FORGET),
        (Step.HELD, "", "", 0, Next.LOST),
        (Step.DROPPING, "ab", "", 0, Next.DROP),
        (Step.DROPPING, "a", "", 0, Next.DROP),
        (Step.DROPPING, "aa", "", 0, Next.DECIDE),
        (Step.DROPPING, "abc", "", 0, Next.DECIDE),
        (Step.DROPPING, "a", "c", 1, Next.DECIDE),
        (Step.DROPPING, "a", "", 1, Next.DECIDE),
        (Step.DROPPING, "ab", "c", 1, Next.RESTORE),
        (Step.DROPPING, "", "", 0, Next.GONE),
        (Step.DROPPING, "", "c", 1, Next.DECIDE),
        (Step.DROPPING, "", "c", 10, Next.DECIDE),
        (Step.DROPPING, "", "abc", 11, Next.FORGET),
        (Step.MOVING, "", "c", 9, Next.DECIDE),
        (Step.MOVING, "", "c", 10, Next.FORGET),
        (Step.RESTORING, "", "c", 10, Next.FORGET),
        (Step.RESTORING, "ab", "", 0, Next.RESTORE),
        (Step.RESTORING, "ab", "c", 1, Next.RESTORE),
        (Step.RESTORING, "", "abc", 11, Next.FORGET),
        (Step.RESTORING, "", "", 0, Next.LOST),
    ],
)
def test_how_a_run_goes_on(step, held, in_source, shown, expected):
    found = next_step(
        replace(RECORD, step=step), Parts(tuple(held), 10), Parts(tuple(in_source), shown), {"trades": shown}
    )
    assert found is expected


@pytest.mark.parametrize("step", [Step.MOVING, Step.RESTORING])
def test_what_was_merged_where_it_was_is_known_by_what_is_shown(step):
    record = replace(RECORD, step=step, rows=44, shown={"trades": 30, "others": 7})
    merged = Parts(("c",), 37)
    assert next_step(record, NO_PARTS, merged, {"trades": 30, "others": 7}) is Next.FORGET
    assert next_step(record, NO_PARTS, merged, {"trades": 33, "others": 7}) is Next.FORGET, "and late rows"
    assert next_step(record, NO_PARTS, merged, {"trades": 33, "others": 6}) is Next.DECIDE
    assert next_step(record, NO_PARTS, Parts(("c",), 44), {"trades": 44}) is Next.DECIDE, "of others, nothing"
    assert next_step(replace(record, step=Step.HELD), NO_PARTS, merged, {"trades": 30, "others": 7}) is Next.DECIDE


def test_two_equal_parts_are_not_back_when_one_is():
    record = replace(RECORD, step=Step.DROPPING, parts=("a", "a"))
    assert next_step(record, NO_PARTS, Parts(("a",), 10), {"trades": 10}) is Next.DECIDE
    assert next_step(record, NO_PARTS, Parts(("a", "a"), 10), {"trades": 10}) is Next.FORGET
    assert next_step(record, Parts(("a",), 5), NO_PARTS, {}) is Next.DROP


DIGESTS = st.text("abc", max_size=3).map(sorted).map("".join)
"""Of parts, sorted as they always are."""


@given(st.sampled_from(Step), DIGESTS, DIGESTS, st.integers(0, 2))
def test_nothing_is_dropped_but_what_was_compared(step, held, in_source, shown):
    found = next_step(
        replace(RECORD, step=step), Parts(tuple(held), 10), Parts(tuple(in_source), shown), {"trades": shown}
    )
    if found in (Next.DROP, Next.KEEP, Next.COMPARE):
        assert (in_source, shown) == ("", 0)
        assert tuple(held) == RECORD.parts or (step is Step.DROPPING and held in ("a", "b"))
    if found in (Next.FORGET, Next.GONE, Next.LOST):
        assert not held
        assert (found is not Next.FORGET) == (not in_source)
        assert (found is Next.GONE) == (step is Step.DROPPING and not in_source)


@pytest.mark.parametrize(
    ("step", "held", "in_source", "rows", "expected"),
    [
        (Step.DROPPING, "ab", "", 10, True),
        (Step.DROPPING, "a", "", 5, False),
        (Step.DROPPING, "a", "c", 50, False),
        (Step.HELD, "a", "", 5, False),
        (Step.HELD, "abc", "", 12, True),
        (Step.MOVING, "a", "b", 10, True),
        (Step.RESTORING, "a", "merged", 10, True),
        (Step.RESTORING, "a", "", 5, False),
    ],
)
def test_what_comes_back_is_all_or_counts_as_gone(step, held, in_source, rows, expected):
    record = replace(RECORD, step=step)
    assert is_all(record, Parts(tuple(held), rows), Parts((in_source,) if in_source else (), 0)) is expected


@pytest.mark.parametrize(
    ("step", "held", "expected"),
    [
        (Step.MOVING, "ab", True),
        (Step.MOVING, "c", None),
        (Step.RESTORING, "c", None),
        (Step.HELD, "a", False),
        (Step.HELD, "c", False),
        (Step.DROPPING, "c", False),
    ],
)
def test_what_may_have_been_merged_is_all_if_all_is_shown_of_it(step, held, expected):
    record = replace(RECORD, step=step, shown={"trades": 10})
    assert is_all(record, Parts(tuple(held), 7), NO_PARTS) is expected
    back = Parts(tuple(held), 7)
    assert shows_all(record, back, {"trades": 10})
    assert not shows_all(record, back, {"trades": 9})
    assert not shows_all(record, back, {}), "it reads the storage no more, or by other days"


def test_rows_that_came_later_do_not_stand_for_those_that_are_held_no_more():
    """Otherwise a heal would take the rest out of the cold table: nobody else has it."""
    late = Parts(("c",), 50)
    assert is_all(replace(RECORD, step=Step.HELD), Parts(("a",), 5), late) is False
    assert is_all(replace(RECORD, step=Step.HELD, shown={"trades": 10}), Parts(("a",), 5), late) is False
    assert is_all(replace(RECORD, step=Step.HELD), Parts(("a",), 5), Parts(("b",), 5)) is True, "back by hand"


@pytest.mark.parametrize(
    ("held", "expected"), [("ab", False), ("aab", True), ("aabb", True), ("abcc", False), ("a", False)]
)
def test_parts_that_are_held_twice_are_seen(held, expected):
    assert is_doubled(RECORD, tuple(held)) is expected


def test_the_seals_must_be_those_that_it_was_compared_with():
    assert seals_obstacle(RECORD, [reader([1])]) is None
    assert "reads it now" in seals_obstacle(RECORD, [reader([1]), reader([1], table="others")])
    assert "trades read it when it was moved" in seals_obstacle(RECORD, [reader([1], table="others")])
    assert "is not sealed any more" in seals_obstacle(RECORD, [reader([2])])
    assert "its seal is broken" in seals_obstacle(RECORD, [reader([1], broken=[1])])
    other = replace(reader([1]), seals={day(1): seal(1, rows=11)})
    assert "has another seal" in seals_obstacle(RECORD, [other])
    shown = [reader([1], columns=("at", "price", "venue"))]
    assert "says nothing of column venue" in seals_obstacle(RECORD, shown)
    assert seals_obstacle(RECORD, shown, ["venue"]) is None, "what is held has not got it"


SUM = "SimpleAggregateFunction(sum, UInt64)"


def views(*tables, columns=("at", "until", "trades"), version="trades"):
    return [
        replace(
            reader([]),
            table=replace(
                SPEC, name=name, source=f"k2.{name}", version_column=version, key_columns=("at",) if version else ()
            ),
            columns=frozenset(columns),
        )
        for name in tables
    ]


def test_how_it_is_shown_that_views_show_all_rows():
    key = [StoredColumn(name, "DateTime", is_in_sorting_key=True) for name in ("seconds", "at", "until")]
    stored = [*key, StoredColumn("trades", SUM, is_in_sorting_key=False)]
    assert coverage(stored, views("a", "b")) == Coverage(("at", "until"), "trades")
    assert "two tables read k2.a" in coverage(stored, views("a", "b", "a"))
    assert "needs one version_column for all" in coverage(stored, views("a", version="until"))
    assert "needs one version_column for all" in coverage(stored, [*views("a"), *views("b", version=None)])
    assert "not all of them show column seconds" in coverage(stored, views("a", version=None))
    shown = ("seconds", "at", "until", "trades")
    assert coverage(stored, views("a", columns=shown, version=None)) == Coverage(shown)


def test_all_rows_of_a_partition_must_be_shown():
    assert hides_rows((10, 7, 1, 0), [(4, 2**64 - 1), (6, 8), (0, None)]) is None
    assert "do not show all" in hides_rows((10, 7, 1, 0), [(4, 1), (5, 6)])
    assert "do not show all" in hides_rows((10, 7, 1, 0), [(4, 1), (6, 7)]), "as many, and others"
    assert "look alike" in hides_rows((10, 7, 2, 0), [(10, 7)])
    assert "zero in 3 rows" in hides_rows((10, 7, 1, 3), [(10, 7)])


def test_a_day_is_brought_back_by_the_partition_column_of_the_table_that_is_named():
    record = replace(RECORD, days={"at": (day(4), day(4)), "taken_at": (day(1), day(2))})
    by = {column: replace(SPEC, partition_column=column) for column in ("at", "taken_at", "new")}
    told = {column: record.how_to_restore(table) for column, table in by.items()}
    assert told == {
        "at": f"`k2 retention trades --restore {day(4)}`",
        "taken_at": f"`k2 retention trades --restore {day(1)}`",
        "new": f"`k2 retention trades --restore {day(1)}`",
    }
    covered = {column: [each for each in range(6) if record.covers(column, day(each))] for column in by}
    assert covered == {"at": [4], "taken_at": [1, 2], "new": [1, 2, 4]}, "one that was none then: all days count"


def test_a_partition_is_held_for_days():
    assert not is_due(RECORD, NOW + timedelta(days=3, microseconds=-1), 3)
    assert is_due(RECORD, NOW + timedelta(days=3), 3)


def test_what_is_on_record_is_read_as_it_was_written():
    holding = NOTHING.with_gone(replace(RECORD, days={"at": (day(4), day(5))})).with_record(RECORD)
    assert Holding.read(holding.text) == holding
    shown = NOTHING.with_record(replace(RECORD, shown={"trades": 10}))
    assert Holding.read(shown.text) == shown
    assert Holding.read(shown.text.replace(',"shown":{"trades":10}', "")) == NOTHING.with_record(RECORD)
    assert Holding.read(Holding("k2.trades", None).text) == Holding("k2.trades", None)
    for text in ("", "{}", "[]", '{"k2_holding": 2}', "of somebody else"):
        with pytest.raises(ValueError):  # noqa: PT011 - any
            Holding.read(text)


def test_old_days_are_whole_unless_they_were_removed():
    holding = NOTHING.with_gone(RECORD).with_record(replace(RECORD, days={"at": (day(4), day(4))}))
    kept = holding.kept("at")
    assert [number for number in range(-1, 7) if kept.holds(day(number), day(5))] == [0, 3, 5, 6]
    assert [number for number in range(-1, 7) if replace(kept, whole_since=None).holds(day(number), day(3))] == [
        3,
        5,
        6,
    ]
    assert Kept().holds(day(5), day(5))
    assert not Kept().holds(day(4), day(5))
    assert holding.kept("until").gone == kept.gone, "it was no partition column then"
    later = holding.with_gone(replace(RECORD, partition_id="q", days={"until": (day(6), day(6))}))
    assert later.kept("until").gone == later.kept("at").gone == ((day(1), day(2)), (day(4), day(4)), (day(6), day(6)))
    assert merge_days([(day(3), day(4)), (day(1), day(2)), (day(9), day(9))]) == ((day(1), day(4)), (day(9), day(9)))


@pytest.mark.parametrize("key", ["final: true", "reconcile: false"])
def test_proven_needs_seals_and_rows_that_stay(key):
    with pytest.raises(InvalidTablesFile, match="'retention: proven' needs 'reconcile'"):
        parse_tables("tables:" + ENTRY.format(name="trades") + f"    {key}\n")

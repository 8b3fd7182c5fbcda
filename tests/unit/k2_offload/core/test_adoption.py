"""What may be taken over, what is named first, and the statement that removes what is there twice."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.adoption import (
    DayRows,
    Shape,
    deduplication,
    describe_surplus,
    find_notes,
    find_problems,
    find_row_problems,
    find_surplus,
    has_windows,
    healed_from,
    read_kept_duplicates,
    write_record,
)
from k2_offload.core.day_comparison import DayComparison, DayScope
from k2_offload.core.exactly_once import HEALED_BRANCH, PUBLISHED_BRANCH, Snapshot, adopted
from k2_offload.core.schema_change import ColdColumn, pair_columns
from k2_offload.core.skips import Skips
from k2_offload.core.type_mapping import map_column

TABLE = parse_tables(
    "tables: {trades: {layer: bronze, source: k2.trades, target: cold.trades, timestamp_column: at, "
    "sort_columns: [symbol, at]}}"
)["trades"]
CANDLES = replace(TABLE, key_columns=("symbol", "at"), version_column="trades")
SHAPE = Shape("lake.cold.trades", "s3://lake/cold/trades", 2)
SOURCE = tuple(
    map_column("trades", name, kind)
    for name, kind in {"at": "DateTime64(6, 'UTC')", "symbol": "String", "trades": "Int64"}.items()
)
COLD = (
    ColdColumn("trades", "int", True),
    ColdColumn("at", "timestamptz", False),
    ColdColumn("symbol", "string", False),
)
DAY = date(2026, 3, 4)


def problems(*changed: ColdColumn, **shape):
    columns = pair_columns(TABLE, SOURCE, (*COLD, *changed))
    return find_problems(TABLE, replace(SHAPE, **shape), columns)


def test_another_order_and_what_the_table_can_follow_are_no_problem():
    assert problems() == []
    assert problems(ColdColumn("extra", "string", True), sort_order=("symbol", "at")) == []
    columns = pair_columns(TABLE, (*SOURCE, map_column("trades", "note", "String")), (*COLD, COLD[2], COLD[2]))
    [note] = find_notes(TABLE, columns)
    assert "trades to long, add note (string)" in note
    [extra, _] = find_notes(TABLE, pair_columns(TABLE, SOURCE, (*COLD, ColdColumn("extra", "string", True))))
    assert "`k2 schema trades --stop-filling extra`" in extra


@pytest.mark.parametrize(
    ("problem", "found"),
    [
        ("UNSET TBLPROPERTIES ('history.expire.max-ref-age-ms')", problems(max_ref_age="86400000")),
        ("format 1", problems(format_version=1)),
        ("is sorted by at", problems(sort_order=("at",))),
        ("3 files of the cold table are not partitioned by day", problems(other_files=3)),
        ("2 rows of the cold table have NULL in 'at'", problems(undated_rows=2)),
        ("cannot export to hdfs://", problems(location="hdfs://lake/cold/trades")),
        ("'tags' is list<string>", problems(ColdColumn("tags", "list<string>", True))),
        ("'seen' is timestamp ", problems(ColdColumn("seen", "timestamp", True))),
        ("column 'symbol' is string in the source and long", problems(ColdColumn("symbol", "long", False))),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(problem, found):
    [refusal] = found
    assert problem in refusal
    assert "Nothing was" in refusal


def test_rows_that_were_not_found_where_the_metadata_says_are_a_problem():
    shape = replace(SHAPE, rows_of_days={DAY: 5})
    assert find_row_problems(TABLE, shape, [DayRows(DAY, 5)], delete_files=0) == []
    assert find_row_problems(TABLE, shape, [DayRows(DAY, 4)], delete_files=1) == []
    [elsewhere] = find_row_problems(TABLE, shape, [DayRows(DAY, 4)], delete_files=0)
    assert "hold 5 rows by its metadata, and 4 rows are of these days" in elsewhere
    [undated] = find_row_problems(TABLE, shape, [DayRows(DAY, 5, undated=2)], delete_files=0)
    assert "2 rows of the cold table have NULL in 'at'" in undated


def snapshot(**summary):
    return Snapshot.read(1, None, 1, {"total-records": "5", **summary})


def test_a_table_with_anything_of_this_project_in_its_history_is_its_own():
    assert not has_windows([snapshot(), snapshot(**{"wap.id": "another writer's"})], ["main", "audit"])
    assert has_windows([snapshot()], ["main", PUBLISHED_BRANCH])
    assert has_windows([snapshot()], ["main", HEALED_BRANCH])
    window_id = str(adopted("a-uuid", datetime(2026, 3, 4, tzinfo=UTC)))
    for own in ({"wap.id": window_id}, {"k2.heal": "k2-heal/a"}, {"k2.backfill": "k2-backfill/a"}, Skips().summary):
        assert has_windows([snapshot(), snapshot(**own)], ["main"])


def compared(day, **found):
    scope = DayScope(date(2026, 3, day), datetime(2026, 3, 9, tzinfo=UTC))
    return DayComparison("trades", scope, 1, True, 9, 0, 9, **found)


def test_rows_too_many_are_decided_about_unless_clickhouse_has_just_the_same():
    days = [DayRows(date(2026, 3, day), 9, duplicates=day - 1, equal_keys=day - 1) for day in (1, 2, 3, 4)]
    found = find_surplus(days, [compared(3, gone_rows=4), compared(4)])
    assert [day.day.day for day in found] == [2, 3], "also of a day that ClickHouse holds as a whole"
    refusal = describe_surplus("trades", found)
    assert "6 rows of the cold table are there more than once: 2026-03-02 (2), 2026-03-03 (4)." in refusal
    assert [day.day.day for day in find_surplus(days, [compared(4, other_rows=1)])] == [2, 3, 4]
    window_id = adopted("a-uuid", datetime(2026, 3, 4, tzinfo=UTC))
    record = write_record(window_id, 36, found)
    assert read_kept_duplicates(record) == {date(2026, 3, 2): 2, date(2026, 3, 3): 4}
    assert json.loads(record) == {
        "watermark": "2026-03-04T00:00:00.000001Z",
        "rows": 36,
        "duplicates_kept": {"2026-03-02": 2, "2026-03-03": 4},
    }


def test_what_was_kept_twice_is_read_as_it_was_written_or_not_at_all():
    assert read_kept_duplicates(None) == {}
    assert read_kept_duplicates('{"duplicates_kept": {}}') == {}
    for damaged in ("", "1", "{}", '{"duplicates_kept": [1]}', '{"duplicates_kept": {"monday": 1}}'):
        with pytest.raises(ValueError, match=r"."):
            read_kept_duplicates(damaged)


def test_no_heal_takes_the_values_of_a_column_that_only_cold_has():
    assert healed_from(pair_columns(TABLE, SOURCE, COLD), DAY) == DAY
    extra = pair_columns(TABLE, SOURCE, (*COLD, ColdColumn("extra", "string", True)))
    assert healed_from(extra, DAY) == date.max


def test_the_statement_names_the_day_in_utc_and_can_hit_no_other():
    of_day = "`at` >= TIMESTAMP '2026-03-04 00:00:00Z' AND `at` < TIMESTAMP '2026-03-05 00:00:00Z'"
    rows = f"FROM lake.cold.trades WHERE {of_day}"
    replacing = f"INSERT INTO lake.cold.trades REPLACE WHERE {of_day} "
    assert deduplication(TABLE, SHAPE, ["at", "symbol"], DAY) == f"{replacing}SELECT DISTINCT * {rows}"
    newest = deduplication(CANDLES, SHAPE, ["at", "a`b"], DAY).removeprefix(replacing)
    assert newest == (
        "SELECT `at`, `a``b` FROM (SELECT *, row_number() OVER (PARTITION BY `symbol`, `at` ORDER BY `trades` DESC) "
        f"AS k2_number {rows}) WHERE k2_number = 1"
    )


def test_of_rows_that_differ_only_in_cold_columns_the_statement_leaves_one():
    columns = ["at", "seen", "symbol"]
    assert "(PARTITION BY `at`, `symbol` ORDER BY `seen` NULLS LAST)" in deduplication(
        TABLE, SHAPE, columns, DAY, ["seen"]
    )
    assert "(PARTITION BY `symbol`, `at` ORDER BY `trades` DESC, `seen` NULLS LAST)" in deduplication(
        CANDLES, SHAPE, columns, DAY, ["seen"]
    )

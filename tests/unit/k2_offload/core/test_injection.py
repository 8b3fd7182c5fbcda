"""No name of a table file or of a source's column becomes anything but a name in a query, or it is refused."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from k2_offload.core import day_queries, queries
from k2_offload.core.day_comparison import DayScope
from k2_offload.core.lake import iceberg_table, parquet_file
from k2_offload.core.plan import PlannedColumn
from k2_offload.core.splits import Split
from k2_offload.core.tables import TableSpec
from k2_offload.core.ttl import Removal, Storage
from k2_offload.core.type_mapping import map_column
from k2_offload.core.windows import Window

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
WINDOW = Window(NOON, NOON + timedelta(hours=1))
SPLIT = Split(NOON, WINDOW.high, 1)
SCOPE = DayScope(NOON.date(), NOON, (WINDOW,))
TYPES = ("DateTime64(6, 'UTC')", "String", "UInt64", "Nullable(String)", "LowCardinality(String)", "Enum8('a' = 1)")
NASTY = ["`", "a`; DROP TABLE x; --", "' OR 1 = 1 --", "\\", "a\\`b", "a\\'b", "\n", "/*", "--", "{try}", "$$", "a.b"]

names = st.one_of(st.text(min_size=1), st.sampled_from(NASTY), st.text("`'\\\"-/*;.{}$ \n", min_size=1))
identifiers = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True)


def table_of(time: str, sequence: str, version: str, source: str, name: str) -> TableSpec:
    return TableSpec(
        name=name,
        layer="gold",
        source=source,
        target="cold.t",
        timestamp_column=time,
        sequence_column=sequence,
        partition_column=time,
        sort_columns=(sequence, time),
        key_columns=(sequence,),
        version_column=version,
        job_group="gold",
        final=True,
    )


STORAGE = Storage("k2.t", (Removal("now()", "1"),))


def statements(table: TableSpec, column_names: list[str], uri: str) -> list[str]:
    """All SQL that is made of a table's names."""
    columns = [
        map_column(table.name, name, kind)
        for name, kind in zip([table.timestamp_column, *column_names], TYPES, strict=True)
    ]
    planned = [PlannedColumn(column.name, column.iceberg_type) for column in columns]
    cold = iceberg_table(uri, f"{uri}/metadata/v1.metadata.json", "k2_lake")
    split = queries.select_split(table, columns, queries.within(table, WINDOW))
    sides = day_queries.warm_day(table, columns, SCOPE), day_queries.cold_day(table, columns, SCOPE, cold)
    return [
        queries.newest_row(table, 0, 1),
        queries.oldest_row(table, 0, 1),
        queries.count_outside(table, 0, 1),
        queries.count_left_out(table, column_names[0], 0, [WINDOW], 1),
        queries.count(table),
        queries.select_all(table),
        queries.first_expiry(table, STORAGE, 0),
        queries.expiry_of(table, STORAGE, 0),
        queries.rows_per_step(table, WINDOW, timedelta(hours=1)),
        queries.rows_per_day(table, queries.within(table, WINDOW)),
        queries.rows_per_slot(table, queries.within(table, WINDOW)),
        split,
        queries.ask_whether_text(split, SPLIT, table.timestamp_column),
        *queries.probe(parquet_file(uri, "k2_lake")),
        day_queries.far_rows(table, NOON.date(), NOON.date()),
        day_queries.unmoved_days(table, NOON, [WINDOW]),
        day_queries.warm_rows_per_day(table, date(2026, 3, 4), NOON, [WINDOW]),
        day_queries.count_out_of_scope(table, SCOPE, cold),
        day_queries.minute_hashes(table, columns, sides[0]),
        day_queries.differing_rows(table, columns, *sides, [1, 2]),
        day_queries.shrunk_rows(table, columns, *sides, [1, 2]),
        day_queries.pick_differing(table, columns, *sides, WINDOW, 3),
        day_queries.print_rows(table, columns, sides[0], WINDOW, [1]),
        day_queries.hash_of_files(planned, [uri], "k2_lake"),
    ]


def skeleton(statement: str) -> str:
    """What is left when each name and each text, read as ClickHouse reads them, is taken out."""
    return re.sub(r"`(?:\\.|[^`\\])*`|'(?:\\.|[^'\\])*'", lambda found: found[0][0], statement, flags=re.DOTALL)


OTHERS = ["b", "c", "d", "e", "f"]
HARMLESS = [
    skeleton(each) for each in statements(table_of("at", "id", "version", "k2.t", "t"), OTHERS, "s3://lake/cold/t")
]


@given(st.lists(names, min_size=5, max_size=5), names)
@example(NASTY[:5], NASTY[5])
@example(NASTY[5:10], NASTY[1])
@example(NASTY[7:], NASTY[2])
def test_column_names_and_folders_change_nothing_but_themselves(column_names, folder):
    table = table_of("at", "id", "version", "k2.t", "t")
    path = re.sub(r"[/?#;%\s]|[^\x20-\x7e]", "_", folder)  # what a URI may hold
    made = statements(table, column_names, f"s3://lake/{path}/t")
    assert [skeleton(each) for each in made] == HARMLESS


@given(st.lists(identifiers, min_size=4, max_size=4, unique=True), st.tuples(identifiers, identifiers))
def test_names_that_a_table_file_may_have_change_nothing_but_themselves(own, source):
    assume(not {*own} & {*OTHERS})  # one column in two roles is one column less in each query
    time, sequence, version, name = own
    made = statements(table_of(time, sequence, version, ".".join(source), name), OTHERS, "s3://lake/cold/t")
    assert [skeleton(each) for each in made] == HARMLESS


@pytest.mark.parametrize("nasty", NASTY)
@pytest.mark.parametrize("key", range(5))
def test_a_nasty_name_of_a_table_file_is_refused(nasty, key):
    values = ["at", "id", "version", "k2.t", "t"]
    values[key] = f"k2.{nasty}" if key == 3 else nasty
    with pytest.raises(ValueError, match="is not"):
        table_of(*values)

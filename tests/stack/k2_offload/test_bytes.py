"""Bytes that are no text: a FixedString keeps each of them, a String either is valid UTF-8 or is told to be binary."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.core.errors import InvalidSource, InvalidTablesFile, UnsupportedType
from k2_offload.work.compare import compare

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=20)
SPEC = {"sequence_column": None, "sort_columns": "[at]"}


def create(workbench, column, rows=()):
    """A source table of a time and one more column."""
    table = f"{workbench.name}_{uuid.uuid4().hex[:8]}"
    workbench.sql(f"CREATE TABLE {table} (at DateTime64(6, 'UTC'), {column}) ENGINE = MergeTree ORDER BY at")
    add(workbench, table, *rows)
    return table


def add(workbench, table, *rows, first=NOON):
    """A row a second; each value is ClickHouse SQL."""
    values = ", ".join(
        f"('{first + timedelta(seconds=number):%Y-%m-%d %H:%M:%S}', {value})" for number, value in enumerate(rows)
    )
    if values:
        workbench.sql(f"INSERT INTO {table} VALUES {values}")


def cold_values(workbench, table, column):
    return [row[column] for row in workbench.cold_table(table).scan().to_arrow().sort_by("at").to_pylist()]


@pytest.mark.parametrize(
    ("kind", "transport"),
    [
        ("String", "export"),
        ("String", "jdbc"),
        ("Nullable(String)", "export"),
        ("LowCardinality(String)", "export"),
        ("LowCardinality(Nullable(String))", "jdbc"),
        ("Enum8('ok' = 0, '\\xff' = 1)", "export"),
        ("SimpleAggregateFunction(anyLast, String)", "export"),
    ],
)
def test_text_that_is_not_valid_utf_8_is_refused_by_its_column_and_nothing_is_published(workbench, kind, transport):
    table = create(workbench, f"good String DEFAULT 'é', x {kind}")
    workbench.sql(
        f"INSERT INTO {table} (at, x) SELECT toDateTime64('{NOON:%F %T}', 6, 'UTC') + number, 'ok' FROM numbers(9)"
    )
    workbench.sql(f"INSERT INTO {table} (at, x) VALUES ('{NOON + timedelta(seconds=9):%F %T}', '\\xff')")
    workbench.sql(f"INSERT INTO {table} (at, x) VALUES ('{LATER + timedelta(days=1):%F %T}', '\\xff')")
    cycle = workbench.cycle(workbench.spec(table, **SPEC, transport=transport), now=LATER)
    planned = cycle.plan(cycle.tables[table])
    done, output = workbench.try_to_publish(planned)
    assert not done
    assert f"ERROR {table} [2000-01-01T00:00:00.000000Z, 2026-03-04T12:00:09.000001Z): column 'x' holds text" in output
    assert "Traceback" not in output
    assert workbench.cold_table(table).metadata.current_snapshot_id is None

    workbench.sql(f"ALTER TABLE {table} UPDATE x = 'ok' WHERE at < '{LATER:%F %T}' SETTINGS mutations_sync = 2")
    done, output = workbench.try_to_publish(planned)
    assert done, output
    assert cold_values(workbench, table, "x") == ["ok"] * 10, "rows that are in no window disturb nobody"


def test_text_that_spoils_late_in_a_long_answer_is_found_too(workbench):
    """The answer of HTTP has begun as if all were well."""
    table = create(workbench, "x String")
    workbench.sql(
        f"INSERT INTO {table} SELECT toDateTime64('{NOON:%F %T}', 6, 'UTC') + number / 100, "
        "if(number = 399999, '\\xff', repeat('x', 50)) FROM numbers(400000)"
    )
    cycle = workbench.cycle(workbench.spec(table, **SPEC, transport="jdbc"), now=LATER)
    done, output = workbench.try_to_publish(cycle.plan(cycle.tables[table]))
    assert not done
    assert "column 'x' holds text that is not valid UTF-8" in output
    assert workbench.cold_table(table).metadata.current_snapshot_id is None


@pytest.mark.parametrize("transport", ["export", "jdbc"])
def test_a_fixed_string_keeps_every_byte(workbench, transport):
    table = create(workbench, "code FixedString(8)", ["'AB\\0CDEF'", "unhex('00ff')", "''"])
    cycle = workbench.cycle(workbench.spec(table, **SPEC, transport=transport), now=LATER)
    done, output = workbench.try_to_publish(cycle.plan(cycle.tables[table]))
    assert done, output
    assert cold_values(workbench, table, "code") == [b"AB\0CDEF\0", b"\0\xff".ljust(8, b"\0"), bytes(8)]
    cycle.commit(cycle.tables[table])
    assert compare(cycle.tiers, cycle.tables[table]).equal


def test_a_cold_table_that_cut_its_fixed_strings_goes_on_so_by_a_view_alone(workbench):
    table = create(workbench, "code String", ["'AB'"])  # what 0.1.0 has made of it
    cycle = workbench.cycle(workbench.spec(table, **SPEC), now=LATER)
    workbench.move(cycle, table)
    workbench.sql(f"ALTER TABLE {table} MODIFY COLUMN code FixedString(8) SETTINGS mutations_sync = 2")
    add(workbench, table, "'CD\\0EF'", first=NOON + timedelta(hours=1))
    with pytest.raises(
        InvalidSource, match=r"fixed\[8\] in the source and string in the .*toStringCutToZero\(code\) AS code"
    ):
        cycle.plan(cycle.tables[table])
    workbench.sql(f"CREATE VIEW {table}_cut AS SELECT at, toStringCutToZero(code) AS code FROM {table}")
    cut = workbench.cycle(workbench.spec(table, **SPEC, source=f"k2.{table}_cut"), now=LATER)
    workbench.move(cut, table)
    assert cold_values(workbench, table, "code") == ["AB", "CD"]


def test_a_string_that_is_told_to_be_binary_keeps_every_byte_and_stays_so(workbench):
    table = create(workbench, "raw String, more Nullable(String)", ["unhex('ff00'), NULL", "'', unhex('fe')"])
    as_bytes = SPEC | {"transport": "jdbc", "binary": "[raw, more]"}
    cycle = workbench.cycle(workbench.spec(table, **as_bytes), now=LATER)
    planned = cycle.plan(cycle.tables[table])
    edited = workbench.cycle(workbench.spec(table, **as_bytes | {"binary": "[more]"}), now=LATER)
    with pytest.raises(InvalidSource, match=r"'raw' is string in the source and binary .* Put 'raw' back into the"):
        edited.plan(edited.tables[table])  # while the window is open
    done, output = workbench.try_to_publish(planned)
    assert done, output
    cycle.commit(cycle.tables[table])
    assert cold_values(workbench, table, "raw") == [b"\xff\0", b""]
    assert cold_values(workbench, table, "more") == [None, b"\xfe"]
    assert compare(cycle.tiers, cycle.tables[table]).equal
    with pytest.raises(InvalidSource, match="Put 'raw' back into the table file's list 'binary'"):
        edited.plan(edited.tables[table])


def test_text_that_is_told_to_be_binary_later_is_refused(workbench):
    table = create(workbench, "raw String, n UInt8", ["'a', 1"])
    cycle = workbench.cycle(workbench.spec(table, **SPEC, transport="jdbc"), now=LATER)
    planned = cycle.plan(cycle.tables[table])
    later = workbench.cycle(workbench.spec(table, **SPEC, transport="jdbc", binary="[raw]"), now=LATER)
    with pytest.raises(InvalidSource, match="Take 'raw' out of the table file's list 'binary'"):
        later.plan(later.tables[table])
    assert workbench.try_to_publish(planned)[0]
    number = workbench.cycle(workbench.spec(table, **SPEC, transport="jdbc", binary="[n]"), now=LATER)
    with pytest.raises(UnsupportedType, match="'binary' names column 'n', which is UInt8"):
        number.plan(number.tables[table])
    missing = workbench.cycle(workbench.spec(table, **SPEC, transport="jdbc", binary="[none]"), now=LATER)
    with pytest.raises(InvalidSource, match="has no column 'none'"):
        missing.plan(missing.tables[table])
    with pytest.raises(InvalidTablesFile, match="'binary': transport export cannot write bytes; set 'transport: jdbc'"):
        workbench.cycle(workbench.spec(table, **SPEC, binary="[raw]"))

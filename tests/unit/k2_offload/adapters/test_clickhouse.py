"""What of a source is refused; ClickHouse's answers are tested on the real engine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.errors import InvalidSource

TABLE = parse_tables("tables: {t: {layer: bronze, source: k2.t, target: cold.t, timestamp_column: at}}")["t"]


@pytest.mark.parametrize("kind", ["String", "Float64", "Date", "UUID", "Nullable(String)"])
def test_a_sequence_column_that_is_no_number_is_refused(answering, kind):
    clickhouse = answering([("at", "DateTime64(6, 'UTC')"), ("number", kind)])
    with pytest.raises(InvalidSource, match=rf"t: sequence_column 'number' is {kind.partition('(')[0]}.*not a number"):
        clickhouse.columns(replace(TABLE, sequence_column="number"))


@pytest.mark.parametrize("kind", ["UInt64", "Int32", "Nullable(UInt8)", "Decimal(20, 0)"])
def test_a_sequence_column_may_be_any_number(answering, kind):
    clickhouse = answering([("at", "DateTime64(6, 'UTC')"), ("number", kind)])
    assert len(clickhouse.columns(replace(TABLE, sequence_column="number"))) == 2


PLAN = [("Union",), ("├──ReadFromMergeTree (k2.t)",), ("│     Read type: Default",), ("│     Output: ReadAt",)]


@pytest.mark.parametrize(
    "read", ["└──ReadFromPreparedSource (Read from buffers of Buffer table)", "  ReadFromMerge", "  ReadFromRemote (x)"]
)
def test_a_source_that_is_not_read_from_tables_of_this_server_alone_has_no_known_storage(answering, read):
    view = replace(TABLE, source="k2.v")
    assert answering(PLAN).read_by(view) == {"k2.t"}
    for plan in ([*PLAN, (read,)], [], [("ReadNothing (Read from NullSource)",)]):
        with pytest.raises(InvalidSource, match=r"k2\.v is read by"):
            answering(plan).read_by(view)

from __future__ import annotations

import socket
from decimal import Decimal
from io import BytesIO
from typing import Any

import pytest
from clickhouse_driver import Client  # type: ignore[import-untyped]
from clickhouse_driver.bufferedwriter import BufferedSocketWriter  # type: ignore[import-untyped]
from clickhouse_driver.columns.service import write_column  # type: ignore[import-untyped]
from clickhouse_driver.varint import write_varint  # type: ignore[import-untyped]
from clickhouse_driver.writer import write_binary_str  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from embedded.gateway.errors import GatewayError
from embedded.gateway.native_columns import RecordingReader, check_type, read_blocks, skip_column

CONTEXT = Client("never connected").connection.context

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "UInt8": st.integers(0, 255),
    "Int256": st.integers(-(2**255), 2**255 - 1),
    "String": st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    "FixedString(7)": st.text("abc", min_size=7, max_size=7),
    "Decimal(38, 18)": st.integers(-(10**19), 10**19).map(Decimal),
    "Decimal(9, 2)": st.integers(-(10**6), 10**6).map(Decimal),
    "Nullable(String)": st.none() | st.text("ab"),
    "LowCardinality(String)": st.text("abcdef"),
    "LowCardinality(Nullable(String))": st.none() | st.text("abcdef", min_size=1),
    "Array(Nullable(UInt32))": st.lists(st.none() | st.integers(0, 9)),
    "Array(Array(String))": st.lists(st.lists(st.text("ab"))),
    "Array(LowCardinality(String))": st.lists(st.text("abcdef"), min_size=1),
    "Map(String, UInt64)": st.dictionaries(st.text("abc"), st.integers(0, 9)),
    "Tuple(a UInt8, `b c` Array(String))": st.tuples(st.integers(0, 255), st.lists(st.text("ab"))),
}


class _Memory(BytesIO):
    """Memory that clickhouse-driver's writer takes for a socket."""

    sendall = BytesIO.write


def _block(type_name: str, values: list[Any]) -> bytes:
    memory = _Memory()
    buffer = BufferedSocketWriter(memory, 1 << 16)
    write_varint(1, buffer)
    write_varint(len(values), buffer)
    write_binary_str("the column", buffer)
    write_binary_str(type_name, buffer)
    if values:
        write_column(CONTEXT, "the column", type_name, values, buffer)
    buffer.flush()
    return memory.getvalue()


@given(st.sampled_from(sorted(VALUES)).flatmap(lambda name: st.tuples(st.just(name), st.lists(VALUES[name]))))
def test_a_block_ends_where_clickhouse_driver_ended_it(column: tuple[str, list[Any]]) -> None:
    type_name, values = column
    block = _block(type_name, values)
    assert list(read_blocks(block + block)) == [([("the column", type_name)], block)] * 2


@pytest.mark.parametrize("buffer_bytes", [16, 1 << 16])
def test_recording_copies_exactly_what_was_read_in_between(buffer_bytes: int) -> None:
    values = ["x" * length for length in range(100)]
    column = _block("String", values)[len(b"\x01\x64\x0athe column\x06String") :]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"before" + column + b"after")
        reader, sink = RecordingReader(ours, buffer_bytes), BytesIO()
        assert reader.read(6) == b"before"
        reader.start_recording(sink)
        skip_column(reader, "String", len(values))
        reader.stop_recording()
        assert reader.read(5) == b"after"
    assert sink.getvalue() == column


@pytest.mark.parametrize("type_name", ["JSON", "Variant(String, UInt8)", "AggregateFunction(count)", "Array(Dynamic)"])
def test_a_type_of_unknown_extent_is_refused_by_name(type_name: str) -> None:
    with pytest.raises(GatewayError, match=r"cannot be inserted over the native protocol.*HTTP") as raised:
        check_type(type_name)
    assert raised.value.code == 48


@pytest.mark.parametrize(
    "type_name",
    [
        "DateTime64(6, 'UTC')",
        "Enum8('a,(' = 1, 'b' = 2)",
        "SimpleAggregateFunction(sum, Decimal(38, 18))",
        "Nested(a UInt8, b Array(String))",
        "IntervalDay",
        "MultiPolygon",
    ],
)
def test_types_that_contain_others_are_known(type_name: str) -> None:
    check_type(type_name)


def test_a_block_cut_short_is_an_error() -> None:
    with pytest.raises(EOFError):
        list(read_blocks(_block("String", ["some", "values"])[:-1]))

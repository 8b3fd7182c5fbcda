"""Copying columns of the Native format without looking at their values: enough of each type to know where it ends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

from clickhouse_driver.bufferedreader import BufferedReader, BufferedSocketReader
from clickhouse_driver.reader import read_binary_str, read_binary_uint64
from clickhouse_driver.varint import read_varint

from embedded.gateway.errors import NOT_IMPLEMENTED, gateway_error
from embedded.gateway.sql import tokens

_SLICE_BYTES = 1 << 20
_SLICE_ROWS = 1 << 16

_FIXED_BYTES = {
    **dict.fromkeys(["Int8", "UInt8", "Bool", "Enum8", "Nothing"], 1),
    **dict.fromkeys(["Int16", "UInt16", "Enum16", "Date", "BFloat16"], 2),
    **dict.fromkeys(["Int32", "UInt32", "Float32", "Date32", "DateTime", "DateTime32", "Decimal32", "IPv4", "Time"], 4),
    **dict.fromkeys(["Int64", "UInt64", "Float64", "DateTime64", "Decimal64", "Time64"], 8),
    **dict.fromkeys(["Int128", "UInt128", "Decimal128", "UUID", "IPv6"], 16),
    **dict.fromkeys(["Int256", "UInt256", "Decimal256"], 32),
}
_DECIMAL_BYTES_BY_PRECISION = ((9, 4), (18, 8), (38, 16), (76, 32))
_ALIASES = {
    "Point": "Tuple(Float64, Float64)",
    "Ring": "Array(Point)",
    "LineString": "Array(Point)",
    "MultiLineString": "Array(LineString)",
    "Polygon": "Array(Ring)",
    "MultiPolygon": "Array(Polygon)",
}


class Sink(Protocol):
    """Where copied bytes go."""

    def write(self, data: bytes, /) -> int:
        """Take all of ``data``."""


class RecordingReader(BufferedSocketReader):  # type: ignore[misc]
    """clickhouse-driver's reader of a socket, which can also copy every byte it passes to a sink."""

    _sink: Sink | None = None
    _copied_to = 0

    def start_recording(self, sink: Sink) -> None:
        """From the next byte read on, copy to ``sink``."""
        self._sink, self._copied_to = sink, self.position

    def stop_recording(self) -> None:
        """Copy what has been read up to here, and no more."""
        self._copy(self.position)
        self._sink = None

    def read_into_buffer(self) -> None:
        """Refill the buffer; called when all of it has been read (``position`` may lag behind just then)."""
        self._copy(self.current_buffer_size)
        self._copied_to = 0
        super().read_into_buffer()

    def _copy(self, end: int) -> None:
        if self._sink is not None:
            self._sink.write(bytes(memoryview(self.buffer)[self._copied_to : end]))
            self._copied_to = end


class _BytesReader(BufferedReader):  # type: ignore[misc]
    """clickhouse-driver's reader of bytes that are all there."""

    def __init__(self, data: bytes) -> None:
        super().__init__(len(data))
        self.buffer[:] = data
        self.current_buffer_size = len(data)

    def read_into_buffer(self) -> None:
        raise EOFError("the block is shorter than it says")


def read_blocks(data: bytes) -> Iterator[tuple[list[tuple[str, str]], bytes]]:
    """The blocks that ``FORMAT Native`` wrote one after the other: each with its columns' names and types.

    :raises GatewayError: as :func:`skip_column`.
    """
    reader = _BytesReader(data)
    while (start := reader.position) < len(data):
        column_count, row_count = read_varint(reader), read_varint(reader)
        columns = []
        for _ in range(column_count):
            columns.append((read_binary_str(reader), read_binary_str(reader)))
            skip_column(reader, columns[-1][1], row_count)
        yield columns, data[start : reader.position]


def skip_column(reader: BufferedReader, type_name: str, row_count: int) -> None:
    """Read past ``row_count`` values of a column, its state prefix included.

    :raises GatewayError: code 48 for a type whose extent is not known here (JSON, Variant, aggregate states …).
    """
    if row_count:
        _skip_prefix(reader, type_name)
        _skip_values(reader, type_name, row_count)


def check_type(type_name: str) -> None:
    """Whether :func:`skip_column` knows the type.

    :raises GatewayError: code 48 when it does not.
    """
    name, arguments = _split_type(type_name)
    if name in ("Array", "Nullable", "LowCardinality", "Map", "Tuple"):
        for argument in arguments:
            check_type(argument)
    elif name not in ("String", "FixedString", "Decimal") and name not in _FIXED_BYTES:
        raise gateway_error(
            NOT_IMPLEMENTED, f"Type {type_name} cannot be inserted over the native protocol here; insert it over HTTP."
        )


def _skip_prefix(reader: BufferedReader, type_name: str) -> None:
    name, arguments = _split_type(type_name)
    if name == "LowCardinality":
        reader.read(8)  # version of the dictionary's serialization
    elif name in ("Array", "Nullable", "Map", "Tuple"):
        for argument in arguments:
            _skip_prefix(reader, argument)


def _skip_values(reader: BufferedReader, type_name: str, row_count: int) -> None:
    if row_count == 0:
        return
    name, arguments = _split_type(type_name)
    if name == "String":
        for start in range(0, row_count, _SLICE_ROWS):
            reader.read_strings(min(_SLICE_ROWS, row_count - start))
    elif name == "Nullable":
        _skip_bytes(reader, row_count)
        _skip_values(reader, arguments[0], row_count)
    elif name in ("Array", "Map"):
        _skip_bytes(reader, 8 * (row_count - 1))
        element_count = read_binary_uint64(reader)  # the last row's end, in elements
        for argument in arguments:
            _skip_values(reader, argument, element_count)
    elif name == "Tuple":
        for argument in arguments:
            _skip_values(reader, argument, row_count)
    elif name == "LowCardinality":
        _skip_dictionary_encoded(reader, arguments[0])
    else:
        _skip_bytes(reader, _fixed_bytes(type_name, name, arguments) * row_count)


def _skip_dictionary_encoded(reader: BufferedReader, type_name: str) -> None:
    index_width_bytes = 1 << (read_binary_uint64(reader) & 0xF)
    name, arguments = _split_type(type_name)
    # A dictionary holds plain values; null is its first entry.
    _skip_values(reader, arguments[0] if name == "Nullable" else type_name, read_binary_uint64(reader))
    _skip_bytes(reader, index_width_bytes * read_binary_uint64(reader))


def _skip_bytes(reader: BufferedReader, byte_count: int) -> None:
    for start in range(0, byte_count, _SLICE_BYTES):
        reader.read(min(_SLICE_BYTES, byte_count - start))


def _fixed_bytes(type_name: str, name: str, arguments: list[str]) -> int:
    if name == "FixedString":
        return int(arguments[0])
    if name == "Decimal":
        precision = int(arguments[0])
        return next(width for limit, width in _DECIMAL_BYTES_BY_PRECISION if precision <= limit)
    check_type(type_name)
    return _FIXED_BYTES[name]


def _split_type(type_name: str) -> tuple[str, list[str]]:
    """A type's name and the types (or numbers) it is made of, names of tuple elements left out."""
    type_name = _ALIASES.get(type_name, type_name)
    name, bracket, rest = type_name.partition("(")
    if not bracket:
        return ("Int64" if name.startswith("Interval") else name), []
    inner = rest.removesuffix(")")
    commas = [token.start for token in tokens(inner) if token.text == "," and token.depth == 0]
    parts = [inner[start + 1 : end].strip() for start, end in zip([-1, *commas], [*commas, len(inner)], strict=True)]
    if name == "SimpleAggregateFunction":
        return _split_type(parts[1])
    if name == "Nested":
        return "Array", [f"Tuple({inner})"]
    if name == "Tuple":
        parts = [_without_element_name(part) for part in parts if part]
    return name, parts


def _without_element_name(part: str) -> str:
    match = re.match(r"(?:`(?:[^`\\]|\\.)*`|\w+)\s+(?=[A-Z])", part)
    return part[match.end() :] if match else part

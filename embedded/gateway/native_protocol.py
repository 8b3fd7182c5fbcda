"""Packets of ClickHouse's native protocol, as a server reads and writes them (revision 54429, uncompressed).

Revision 54429 is the first to send settings as text, and the last whose blocks are those of ``FORMAT Native``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from clickhouse_driver.block import BlockInfo
from clickhouse_driver.protocol import ClientPacketTypes, ServerPacketTypes
from clickhouse_driver.reader import read_binary_bytes_fixed_len, read_binary_uint8
from clickhouse_driver.settings.writer import SettingsFlags
from clickhouse_driver.varint import read_varint, write_varint
from clickhouse_driver.writer import (
    write_binary_int32,
    write_binary_str,
    write_binary_uint8,
)

from embedded.gateway.errors import GatewayError
from embedded.gateway.native_columns import RecordingReader, Sink, skip_column

REVISION = 54429
_MAX_STRING_BYTES = 256 << 20
_MAX_SETTINGS = 10_000
_MAX_COLUMNS = 100_000

HELLO, QUERY, DATA, CANCEL, PING, TABLES_STATUS = (
    ClientPacketTypes.HELLO,
    ClientPacketTypes.QUERY,
    ClientPacketTypes.DATA,
    ClientPacketTypes.CANCEL,
    ClientPacketTypes.PING,
    ClientPacketTypes.TABLES_STATUS_REQUEST,
)


class ProtocolError(Exception):
    """The client sent bytes that are no packet of this protocol; its connection cannot be used any more."""


@dataclass(frozen=True)
class Hello:
    """A client's greeting."""

    revision: int
    database: str
    user: str
    password: str


@dataclass(frozen=True)
class Setting:
    """A setting as sent: an unknown one is an error if ``important``, and left out otherwise."""

    value: str
    important: bool


@dataclass(frozen=True)
class QueryPacket:
    """A query as sent, its data still to come."""

    query_id: str
    settings: dict[str, Setting]
    compressed: bool
    sql: str


@dataclass(frozen=True)
class BlockShape:
    """What is known of a block that was read past."""

    column_count: int
    row_count: int

    @property
    def ends_the_data(self) -> bool:
        """An empty block says that no more follow."""
        return self.column_count == 0 and self.row_count == 0


def read_packet_type(reader: RecordingReader) -> int:
    """The type of the next packet; :class:`EOFError` when the client has closed the connection."""
    return int(read_varint(reader))


def read_hello(reader: RecordingReader) -> Hello:
    """The rest of a Hello packet."""
    _read_string(reader), read_varint(reader), read_varint(reader)  # the client's name and version
    return Hello(read_varint(reader), _read_string(reader), _read_string(reader), _read_string(reader))


def read_query(reader: RecordingReader) -> QueryPacket:
    """The rest of a Query packet."""
    query_id = _read_string(reader)
    _skip_client_info(reader)
    settings = _read_settings(reader)
    read_varint(reader)  # stage: always complete
    compressed = bool(read_varint(reader))
    return QueryPacket(query_id, settings, compressed, _read_string(reader))


def _skip_client_info(reader: RecordingReader) -> None:
    query_kind = read_binary_uint8(reader)
    if query_kind == 0:
        return
    for _ in ("initial user", "initial query id", "initial address"):
        _read_string(reader)
    interface = read_binary_uint8(reader)
    if interface != 1:
        raise ProtocolError(f"client info of interface {interface}, expected 1 (TCP)")
    for _ in ("system user", "host", "client name"):
        _read_string(reader)
    for _ in ("major version", "minor version", "revision"):
        read_varint(reader)
    _read_string(reader)  # quota key
    read_varint(reader)  # patch version


def _read_settings(reader: RecordingReader) -> dict[str, Setting]:
    settings: dict[str, Setting] = {}
    while name := _read_string(reader):
        flags = read_varint(reader)
        settings[name] = Setting(_read_string(reader), bool(flags & SettingsFlags.IMPORTANT))
        if len(settings) > _MAX_SETTINGS:
            raise ProtocolError(f"more than {_MAX_SETTINGS} settings")
    return settings


def read_data_packet(reader: RecordingReader, sink: Sink) -> BlockShape:
    """A whole Data packet, its block copied to ``sink`` as ``FORMAT Native`` has it; nothing if it has no rows.

    :raises ProtocolError: for any other packet, a client's Cancel included.
    """
    packet_type = read_packet_type(reader)
    if packet_type != DATA:
        raise ProtocolError(f"packet {packet_type} where Data was expected")
    _read_string(reader)  # the name of a table; the query says which
    BlockInfo().read(reader)
    shape = BytesIO()
    reader.start_recording(shape)
    column_count, row_count = read_varint(reader), read_varint(reader)
    reader.stop_recording()
    if column_count > _MAX_COLUMNS:
        raise ProtocolError(f"a block of {column_count} columns")
    if row_count:
        sink.write(shape.getvalue())
    reader.start_recording(sink if row_count else BytesIO())
    for _ in range(column_count):
        _read_string(reader)
        skip_column(reader, _read_string(reader), row_count)
    reader.stop_recording()
    return BlockShape(column_count, row_count)


def _read_string(reader: RecordingReader) -> str:
    length = read_varint(reader)
    if length > _MAX_STRING_BYTES:
        raise ProtocolError(f"a string of {length} bytes")
    try:
        return str(read_binary_bytes_fixed_len(reader, length).decode())
    except UnicodeDecodeError as error:
        raise ProtocolError("a string that is not UTF-8") from error


def hello_packet(version: str, timezone: str, display_name: str) -> bytes:
    """The server's answer to Hello."""
    major, minor, patch = (int(part) for part in version.split(".")[:3])
    buffer = _packet(ServerPacketTypes.HELLO)
    write_binary_str("ClickHouse", buffer)
    for number in (major, minor, REVISION):
        write_varint(number, buffer)
    write_binary_str(timezone, buffer)
    write_binary_str(display_name, buffer)
    write_varint(patch, buffer)
    return buffer.getvalue()


def data_packet(block: bytes) -> bytes:
    """One block, given as ``FORMAT Native`` writes it."""
    buffer = _packet(ServerPacketTypes.DATA)
    write_binary_str("", buffer)  # no temporary table
    BlockInfo().write(buffer)
    return bytes(buffer.getvalue() + block)


def header_block(columns: Sequence[tuple[str, str]]) -> bytes:
    """A block of no rows that tells names and types of columns."""
    buffer = BytesIO()
    write_varint(len(columns), buffer)
    write_varint(0, buffer)
    for name, type_name in columns:
        write_binary_str(name, buffer)
        write_binary_str(type_name, buffer)
    return buffer.getvalue()


def progress_packet(rows: int, data_bytes: int) -> bytes:
    """Rows and bytes delivered since the last progress packet."""
    buffer = _packet(ServerPacketTypes.PROGRESS)
    for number in (rows, data_bytes, 0, 0, 0):  # then: total rows, written rows, written bytes (not known)
        write_varint(number, buffer)
    return buffer.getvalue()


def exception_packet(error: GatewayError) -> bytes:
    """A failed query; the connection stays usable."""
    buffer = _packet(ServerPacketTypes.EXCEPTION)
    write_binary_int32(error.code, buffer)
    write_binary_str("DB::Exception", buffer)
    write_binary_str(error.message, buffer)
    write_binary_str("", buffer)  # no stack trace
    write_binary_uint8(0, buffer)  # no nested exception
    return buffer.getvalue()


def pong_packet() -> bytes:
    """The answer to Ping."""
    return _packet(ServerPacketTypes.PONG).getvalue()


def end_of_stream_packet() -> bytes:
    """The end of a successful query."""
    return _packet(ServerPacketTypes.END_OF_STREAM).getvalue()


def _packet(packet_type: int) -> BytesIO:
    buffer = BytesIO()
    write_varint(packet_type, buffer)
    return buffer

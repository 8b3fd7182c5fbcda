"""Every type, moved by a real cycle, read by programs that nobody here wrote: whole rows compared with ClickHouse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.core.transports import TRANSPORTS
from k2_offload.work.compare import compare
from tests.support import Cycle
from tests.support.pages import DOCS, table_of
from tests.support.readers import READERS, Reader, Rows, clickhouse_rows
from tests.support.workbench import Workbench

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=20)

TEXTS = ["''", "'plain'", "'\\0zero\\0\\0'", "'é 漢字 😀'", "'\\\\x41 \\N'", "' '"]


@dataclass(frozen=True)
class Kind:
    """One supported type.

    :param values: its edges among them, as ClickHouse SQL
    :param binary: whether it is in the table file's list of that name
    """

    type: str
    values: Sequence[str]
    binary: bool = False

    @property
    def called(self) -> str:
        """What the page calls it."""
        name = self.type.removeprefix("Nullable(").partition("(")[0].rstrip(")")
        return f"{name} in `binary`" if self.binary else name

    @property
    def is_bytes(self) -> bool:
        return self.binary or "FixedString" in self.type

    @property
    def or_null(self) -> Kind:
        return Kind(f"Nullable({self.type})", ["NULL", *self.values], self.binary)


Columns = dict[str, Kind]


def integers(bits: int, *, signed: bool) -> Kind:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return Kind(f"{'' if signed else 'U'}Int{bits}", [str(low), str(high), "0", "1"])


def floats(bits: int) -> Kind:
    most, least = ("3.4028234e38", "1e-45") if bits == 32 else ("1.7976931348623157e308", "5e-324")
    values = ("nan", "-0.0", "0.0", "inf", "-inf", most, f"-{most}", least, "0.1")
    return Kind(f"Float{bits}", [f"'{value}'" for value in values])


def decimals(precision: int, scale: int) -> Kind:
    digits = "9" * precision
    most = digits if not scale else f"{digits[:-scale] or 0}.{digits[-scale:]}"
    least = f"0.{'1'.zfill(scale)}" if scale else "1"
    return Kind(
        f"Decimal({precision}, {scale})", [f"'{value}'" for value in (most, f"-{most}", "0", least, f"-{least}")]
    )


def times(scale: int, zone: str) -> Kind:
    fraction = f".{'9' * scale}" if scale else ""
    texts = [f"1900-01-01 12:00:00{fraction}", f"1969-12-31 23:59:59{fraction}", "1970-01-01 00:00:00"]
    texts += [f"2299-12-31 12:00:00{fraction}", f"2026-10-25 00:30:00{fraction}", f"2026-10-25 01:30:00{fraction}"]
    return Kind(f"DateTime64({scale}, '{zone}')", [f"toDateTime64('{text}', {scale}, 'UTC')" for text in texts])


SECONDS = [
    f"toDateTime('{text}', 'UTC')" for text in ("1970-01-01 00:00:00", "2106-02-07 06:28:15", "2026-10-25 00:30:00")
]
KINDS = [
    Kind("Bool", ["true", "false"]),
    *(integers(bits, signed=signed) for signed in (True, False) for bits in (8, 16, 32, 64)),
    *map(floats, (32, 64)),
    *(decimals(precision, scale) for precision in (1, 9, 10, 18, 19) for scale in (0, precision)),
    *(decimals(38, scale) for scale in range(39)),
    Kind("Date", ["'1970-01-01'", "'2149-06-06'", "'2026-03-04'"]),
    Kind("Date32", ["'1900-01-01'", "'2299-12-31'", "'1969-12-31'"]),
    Kind("DateTime", SECONDS),
    Kind("DateTime('Europe/Berlin')", SECONDS),
    *(times(scale, zone) for scale in range(7) for zone in ("UTC", "America/New_York")),
    Kind("String", TEXTS),
    Kind("FixedString(1)", ["'\\0'", "'a'", "unhex('ff')"]),
    Kind("FixedString(8)", ["''", "'AB\\0CDEF'", "unhex('ff00fe0000000000')", "'12345678'"]),
    Kind("Enum8('' = -128, 'sell' = 0, 'ü' = 127)", ["''", "'sell'", "'ü'"]),
    Kind("Enum16('buy' = -32768, 'ü' = 32767)", ["'buy'", "'ü'"]),
    Kind("UUID", ["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-fffffffffffe'"]),
    Kind("IPv4", ["'0.0.0.0'", "'255.255.255.255'"]),
    Kind("IPv6", ["'::'", "'2001:db8::1'", "'::ffff:1.2.3.4'"]),
    Kind("LowCardinality(String)", TEXTS),
    Kind("LowCardinality(Nullable(String))", [*TEXTS, "NULL"]),
    Kind("LowCardinality(FixedString(3))", ["'a'", "'\\0\\0c'"]),
    Kind("SimpleAggregateFunction(max, UInt64)", ["18446744073709551615", "0"]),
    Kind("SimpleAggregateFunction(anyLast, Nullable(String))", [*TEXTS, "NULL"]),
]
ALWAYS_PLAIN = {"LowCardinality", "SimpleAggregateFunction"}
"""These hold a Nullable, and never the other way round."""
BINARY_KIND = Kind("String", ["''", "unhex('ff00fe')", "'text'", "'\\\\x41'", "'\\0'"], binary=True)


def columns_of(transport: str) -> Columns:
    """A column for each type, and one that may be NULL for the first of each name."""
    kinds = [*KINDS, BINARY_KIND] if TRANSPORTS[transport].writes_binary else KINDS
    found = {f"c{number}": kind for number, kind in enumerate(kinds)}
    first = {kind.called: (f"n{name}", kind.or_null) for name, kind in reversed(found.items())}
    return found | {name: kind for called, (name, kind) in first.items() if called not in ALWAYS_PLAIN}


def create_and_move(workbench, transport: str, found: Columns) -> tuple[str, Cycle]:
    table = f"{workbench.name}_types"
    declared = ", ".join(f"{name} {kind.type}" for name, kind in found.items())
    workbench.sql(
        f"CREATE TABLE {table} (at DateTime64(6, 'UTC'), id Int32, {declared}) ENGINE = MergeTree ORDER BY id"
    )
    rows = (
        ", ".join(
            [
                "toDateTime64('2026-03-04 12:00:00', 6, 'UTC')",
                str(row),
                *(value_of(kind, row) for kind in found.values()),
            ]
        )
        for row in range(max(len(kind.values) for kind in found.values()))
    )
    workbench.sql(f"INSERT INTO {table} SELECT {' UNION ALL SELECT '.join(rows)}")
    binary = ", ".join(name for name, kind in found.items() if kind.binary)
    options = {"transport": transport, "sequence_column": "id", "sort_columns": "[id]", "binary": f"[{binary}]"}
    cycle = workbench.cycle(workbench.spec(table, **options), now=LATER)
    workbench.publish(cycle.plan(cycle.tables[table]))
    cycle.commit(cycle.tables[table])
    return table, cycle


def value_of(kind: Kind, row: int) -> str:
    return f"CAST({kind.values[row % len(kind.values)]}, '{kind.type.replace(chr(39), chr(92) + chr(39))}')"


def plain(value: object, *, is_bytes: bool) -> object:
    """A value in a form in which what is equal, and only that, compares equal."""
    if isinstance(value, bytes | bytearray):
        return bytes(value) if is_bytes else bytes(value).decode()
    if isinstance(value, float):
        return repr(value)  # NaN, and the sign of zero
    if isinstance(value, datetime):
        return (value.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return value


def as_plain(rows: Rows, found: Columns) -> Rows:
    return [
        {name: plain(value, is_bytes=name in found and found[name].is_bytes) for name, value in row.items()}
        for row in sorted(rows, key=lambda row: row["id"])
    ]


def warm_rows(workbench: Workbench, table: str, found: Columns) -> Rows:
    """Times as microseconds and addresses as ClickHouse spells them: drivers have ways of their own."""
    micros = "toUnixTimestamp64Micro(CAST({}, 'Nullable(DateTime64(6, \\'UTC\\'))'))"
    selected = {name: name for name in found}
    for name, kind in found.items():
        if "DateTime" in kind.type:
            selected[name] = micros.format(name)
        elif kind.called in ("UUID", "IPv4", "IPv6"):
            selected[name] = f"toString({name})"
    return as_plain(clickhouse_rows(workbench, f"k2.{table}", {"id": "id", **selected}), found)


def wrong_columns(workbench: Workbench, table: str, reader: Reader, found: Columns, wanted: Rows) -> set[str]:
    """The columns that a reader does not show as ClickHouse does; whole rows are asked for first."""
    try:
        return differing(as_plain(reader(workbench, table, ["id", *found]), found), wanted)
    except Exception as refusal:  # noqa: BLE001 - a refusal is a result
        print(f"{table}: {reader.__name__} reads no whole rows: {refusal}")
    wrong = set()
    for name in found:
        try:
            rows = as_plain(reader(workbench, table, ["id", name]), found)
            wrong |= differing(rows, [{"id": row["id"], name: row[name]} for row in wanted])
        except Exception as refusal:  # noqa: BLE001 - a refusal is a result
            print(f"{table}: {reader.__name__} does not read {found[name].type}: {refusal}")
            wrong.add(name)
    return wrong


def differing(rows: Rows, wanted: Rows) -> set[str]:
    assert len(rows) == len(wanted)
    pairs = [(row, right) for row, right in zip(rows, wanted, strict=True) if row != right]
    for row, right in pairs:
        print([(name, row[name], right[name]) for name in right if row[name] != right[name]])
    return {name for row, right in pairs for name in right if row[name] != right[name]}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_each_reader_shows_of_each_type_what_the_page_says(workbench, transport):
    found = columns_of(transport)
    table, cycle = create_and_move(workbench, transport, found)
    wanted = warm_rows(workbench, table, found)
    read = {
        name: {found[column].called for column in wrong_columns(workbench, table, reader, found, wanted)}
        for name, reader in READERS.items()
    }
    types = {kind.called: None for kind in found.values()}
    assert compare(cycle.tiers, cycle.tables[table]).equal == (not read["ClickHouse"])
    read[f"ClickHouse {workbench.stack.settings.clickhouse_version}"] = read.pop("ClickHouse")
    shown = {called: {name: "✗" if called in wrong else "✓" for name, wrong in read.items()} for called in types}
    page = table_of((DOCS / "compatibility.md").read_text(), "Readers")
    assert set(page) - set(types) <= {BINARY_KIND.called}
    assert shown == {
        called: {name: cell for name, cell in row.items() if name in read or "ClickHouse" not in name}
        for called, row in page.items()
        if called in types
    }

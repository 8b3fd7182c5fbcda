"""Which Iceberg type a ClickHouse column becomes, and how its values are cast on the way.

Casting happens once, in ClickHouse's SELECT. What has no faithful Iceberg type is refused, with the column's name
and a way out, rather than rounded or wrapped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from k2_offload.core.errors import UnsupportedType
from k2_offload.core.sql import literal, source_column

_TIMESTAMP = "DateTime64(6, 'UTC')"

# ClickHouse type → (Iceberg type, ClickHouse type whose Parquet form is that Iceberg type)
_SIMPLE = {
    "Bool": ("boolean", "Bool"),
    "Int8": ("int", "Int32"),
    "Int16": ("int", "Int32"),
    "Int32": ("int", "Int32"),
    "Int64": ("long", "Int64"),
    "UInt8": ("int", "Int32"),
    "UInt16": ("int", "Int32"),
    "UInt32": ("long", "Int64"),
    "UInt64": ("decimal(20, 0)", "Decimal(20, 0)"),
    "Float32": ("float", "Float32"),
    "Float64": ("double", "Float64"),
    "String": ("string", "String"),
    "UUID": ("string", "String"),
    "IPv4": ("string", "String"),
    "IPv6": ("string", "String"),
    "Date": ("date", "Date32"),
    "Date32": ("date", "Date32"),
}
_WRAPPER = re.compile(r"^(LowCardinality|Nullable)\((.*)\)$")
_SIMPLE_AGGREGATE = re.compile(r"^SimpleAggregateFunction\([^,]+, (.*)\)$")
_DECIMAL = re.compile(r"^Decimal\((\d+), (\d+)\)$")
_FIXED_STRING = re.compile(r"^FixedString\((\d+)\)$")
_INTEGER = re.compile(r"^U?Int\d+$")
_DATETIME = re.compile(r"^DateTime(?:\('[^']*'\))?$")
_DATETIME64 = re.compile(r"^DateTime64\((\d)(?:, '[^']*')?\)$")
_MAX_DECIMAL_PRECISION = 38
_QUOTED = re.compile(r"'(?:\\.|[^'\\])*'")
MAX_TIME_PRECISION = 6
"""Digits of a second that Iceberg keeps."""


@dataclass(frozen=True)
class Column:
    """A column on its way from ClickHouse to Iceberg.

    :param name: the same on both sides
    :param iceberg_type: in the Iceberg spec's spelling, e.g. ``decimal(38, 18)``
    :param nullable: whether the source allows NULL (kept)
    :param expression: ClickHouse SQL that yields the value in ``iceberg_type``'s Parquet form
    :param text: ClickHouse SQL of what has to be valid UTF-8; ``None`` where nothing else is possible
    :param source_type: ClickHouse's own name of the type that ``expression`` was made for; ``None`` if it reads nothing
    :param compared_from: rows of earlier times are not compared in this column
    """

    name: str
    iceberg_type: str
    nullable: bool
    expression: str
    text: str | None = None
    source_type: str | None = None
    compared_from: datetime | None = None


def map_column(table: str, name: str, clickhouse_type: str, *, binary: bool = False) -> Column:
    """Map one column.

    :param clickhouse_type: as ``system.columns`` spells it
    :param binary: whether the table file says that its values are bytes, not text
    :raises UnsupportedType: if Iceberg has no type that keeps every value, or for ``binary`` values that are no String
    """
    bare, nullable = _unwrap(clickhouse_type)
    reference = source_column(name)
    iceberg_type, target = _target(table, name, clickhouse_type, bare)
    if binary:
        if bare != "String":
            raise UnsupportedType(
                f"{table}: 'binary' names column '{name}', which is {clickhouse_type}; only a String can hold bytes "
                "instead of text. Nothing was moved. Take it out of the list; then run `k2 validate`."
            )
        iceberg_type = "binary"
    if nullable:
        target = f"Nullable({target})"
    expression = reference if clickhouse_type == target else f"CAST({reference}, {literal(target)})"
    text = None
    if iceberg_type == "string" and bare == "String":
        text = reference  # of LowCardinality, each value once
    elif iceberg_type == "string" and bare.startswith("Enum"):
        text = expression
    return Column(name, iceberg_type, nullable, expression, text, clickhouse_type)


def no_value(name: str, iceberg_type: str) -> Column:
    """A column that is NULL in every row.

    :param iceberg_type: one that :func:`map_column` gives
    """
    kept = dict(_SIMPLE.values()) | {"binary": "String"}
    if iceberg_type == "timestamptz":
        target = _TIMESTAMP
    elif iceberg_type.startswith("fixed"):
        target = f"FixedString({iceberg_type[6:-1]})"
    else:
        target = kept.get(iceberg_type, iceberg_type.replace("decimal", "Decimal"))
    return Column(name, iceberg_type, True, f"CAST(NULL, {literal(f'Nullable({target})')})")


def is_time(clickhouse_type: str) -> bool:
    """Whether windows can be cut on a column of this type."""
    bare, _ = _unwrap(clickhouse_type)
    return bool(_DATETIME.match(bare) or _DATETIME64.match(bare))


def is_number(clickhouse_type: str) -> bool:
    """Whether a column of this type can be a sequence: a whole number, or a decimal."""
    bare, _ = _unwrap(clickhouse_type)
    return bool(_INTEGER.match(bare) or _DECIMAL.match(bare))


def narrowed(clickhouse_type: str, value: str) -> tuple[str, str] | None:
    """A value of a column's Iceberg form as its ClickHouse type has it; ``None`` if that has them all.

    The column may have had another type of the same form before: ``Int32`` and ``UInt16`` are both an ``int``.

    :param value: SQL of the value as ClickHouse reads it from Iceberg
    :returns: SQL of what is to be cast to the type, and of whether it is another value; NULL is none
    """
    bare, _ = _unwrap(clickhouse_type)
    if bare.startswith(("Enum8(", "Enum16(")):
        return value, f"isNotNull({value}) AND {value} NOT IN ({', '.join(_QUOTED.findall(bare))})"
    if bare == "UInt64":  # whose cast fails without a word of what to do
        return value, f"{value} < 0 OR {value} > {2**64 - 1}"
    if bare in ("UUID", "IPv4", "IPv6"):
        parsed = f"accurateCastOrNull({value}, {literal(bare)})"
        return parsed, f"isNotNull({value}) AND isNull({parsed})"
    of_time = _DATETIME64.match(bare)
    is_coarse = _DATETIME.match(bare) or (of_time and int(of_time[1]) < MAX_TIME_PRECISION)
    if is_coarse or (bare in _SIMPLE and _SIMPLE[bare][1] not in (bare, "String")):
        cast = f"CAST({value}, {literal(f'Nullable({bare})')})"
        return cast, f"{cast} != {value}"
    return None


def _unwrap(clickhouse_type: str) -> tuple[str, bool]:
    bare, nullable = clickhouse_type, False
    while True:
        if match := _SIMPLE_AGGREGATE.match(bare):
            bare = match[1]
        elif match := _WRAPPER.match(bare):
            nullable = nullable or match[1] == "Nullable"
            bare = match[2]
        else:
            return bare, nullable


def _target(table: str, name: str, clickhouse_type: str, bare: str) -> tuple[str, str]:
    if bare in _SIMPLE:
        return _SIMPLE[bare]
    if bare.startswith(("Enum8(", "Enum16(")):
        return "string", "String"
    if _DATETIME.match(bare):
        return "timestamptz", _TIMESTAMP
    if match := _DATETIME64.match(bare):
        if int(match[1]) <= MAX_TIME_PRECISION:
            return "timestamptz", _TIMESTAMP
        raise _refusal(table, name, clickhouse_type, "Iceberg keeps microseconds", "toDateTime64(…, 6, 'UTC')")
    if match := _FIXED_STRING.match(bare):
        return f"fixed[{match[1]}]", bare
    if match := _DECIMAL.match(bare):
        if int(match[1]) <= _MAX_DECIMAL_PRECISION:
            return f"decimal({match[1]}, {match[2]})", bare
        raise _refusal(table, name, clickhouse_type, "Iceberg keeps 38 digits", "toDecimal128(…, scale) or toString(…)")
    raise _refusal(table, name, clickhouse_type, "Iceberg has no type that keeps its values", "toString(…)")


def _refusal(table: str, name: str, clickhouse_type: str, reason: str, cure: str) -> UnsupportedType:
    return UnsupportedType(
        f"{table}: column '{name}' is {clickhouse_type}; {reason}. Nothing was moved. Point the table's 'source' at a "
        f"view that selects {cure} AS {name}, or leaves the column out; then run `k2 validate`."
    )

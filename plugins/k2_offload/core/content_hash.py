"""The content hash of rows: its canonical form, and that form as ClickHouse SQL.

:mod:`k2_offload.adapters.row_hashes` computes the same without ClickHouse.

Two multisets of whole rows are taken for equal if their numbers of rows and the sums of their rows' hashes (modulo
2**64) are. A row's hash is folded from its columns in the table's order, starting at :data:`SEED`::

    state = mix(state XOR word)          for each 64-bit word of each column

``mix`` is ClickHouse's ``intHash64``: XOR with 0x4CF2D2BAAE6DA887, then MurmurHash3's 64-bit finalizer. A column's
words, by its Iceberg type:

=================================  =====================================================================
boolean, int, long, date           one: the value, the date as days since 1970, in two's complement
timestamptz                        one: microseconds since 1970 UTC, in two's complement
decimal(p, s)                      two: low and high half of the unscaled 128-bit two's complement
float, double                      one: the IEEE 754 bits (so 0.0 differs from -0.0); every NaN is the same
string, binary, fixed              one: xxHash64 of the bytes, with seed 0
any, NULL                          as many as the type has, each :data:`NULL_WORD`
=================================  =====================================================================

Nothing of it depends on the Parquet files, on their number, or on who wrote them: what was hashed once can be checked
years later, by anything that has these functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from k2_offload.core.sql import quote

SEED = 0x6B325F6F66666C64
NULL_WORD = 0x9E3779B97F4A7C15
NAN_WORD = 0x7FF8000000000000

_NESTED = 200
"""So many words are folded one in the other, which is fastest; ClickHouse refuses about 250."""


class TypedColumn(Protocol):
    """A column's name and its Iceberg type."""

    @property
    def name(self) -> str:
        """The same on both sides."""

    @property
    def iceberg_type(self) -> str:
        """As the Iceberg spec spells it."""


def row_hash(columns: Sequence[TypedColumn], values: Mapping[str, str] = MappingProxyType({})) -> str:
    """A ClickHouse expression for the hash of one row.

    :param columns: in the table's order; their values as ClickHouse casts them for Iceberg, or reads them from it
    :param values: ClickHouse SQL that stands for a column's value, by the column's name
    """
    words = [
        f"ifNull({word}, toUInt64({NULL_WORD}))"
        for column in columns
        for word in _words(values.get(column.name, quote(column.name)), column.iceberg_type)
    ]
    state = f"toUInt64({SEED})"
    for word in words[:_NESTED]:
        state = f"intHash64(bitXor({state}, {word}))"
    if rest := words[_NESTED:]:
        return f"arrayFold((k2_state, k2_word) -> intHash64(bitXor(k2_state, k2_word)), [{', '.join(rest)}], {state})"
    return state


def content_hash(columns: Sequence[TypedColumn], rows: str) -> str:
    """One row ``(rows, hash)``: how many rows there are, and the sum of their hashes modulo 2**64.

    :param rows: what follows ``FROM``
    """
    return f"SELECT count(), sum({row_hash(columns)}) FROM {rows}"


def _words(value: str, iceberg_type: str) -> list[str]:
    if iceberg_type in ("boolean", "int", "long"):
        return [f"reinterpretAsUInt64(toInt64({value}))"]
    if iceberg_type == "date":
        return [f"reinterpretAsUInt64(toInt64(toInt32({value})))"]
    if iceberg_type == "timestamptz":
        return [f"reinterpretAsUInt64(toUnixTimestamp64Micro(CAST({value}, 'Nullable(DateTime64(6, \\'UTC\\'))')))"]
    if iceberg_type in ("float", "double"):
        bits = f"reinterpretAsUInt64(toFloat64({value}))"
        return [f"if(isNaN({value}), toUInt64({NAN_WORD}), {bits})"]
    if iceberg_type.startswith("decimal"):
        scale = int(iceberg_type.rstrip(")").split(",")[1])
        wide = f"toDecimal128({value}, {scale})"
        return [f"reinterpretAsUInt64({wide})", f"toUInt64(bitShiftRight(reinterpretAsUInt128({wide}), 64))"]
    return [f"xxHash64({value})"]

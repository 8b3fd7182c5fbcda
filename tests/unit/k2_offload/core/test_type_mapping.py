"""Which types are carried over, and which are refused."""

from __future__ import annotations

import pytest

from k2_offload.core.errors import UnsupportedType
from k2_offload.core.sql import quote
from k2_offload.core.type_mapping import is_time, map_column, narrowed


@pytest.mark.parametrize(
    ("clickhouse_type", "iceberg_type", "nullable", "expression"),
    [
        ("String", "string", False, "k2_source.`c`"),
        ("Nullable(String)", "string", True, "k2_source.`c`"),
        ("LowCardinality(String)", "string", False, "CAST(k2_source.`c`, 'String')"),
        ("LowCardinality(Nullable(String))", "string", True, "CAST(k2_source.`c`, 'Nullable(String)')"),
        ("FixedString(8)", "fixed[8]", False, "k2_source.`c`"),
        (
            "LowCardinality(Nullable(FixedString(3)))",
            "fixed[3]",
            True,
            "CAST(k2_source.`c`, 'Nullable(FixedString(3))')",
        ),
        ("Enum8('buy' = 1, 'sell' = 2)", "string", False, "CAST(k2_source.`c`, 'String')"),
        ("UUID", "string", False, "CAST(k2_source.`c`, 'String')"),
        ("IPv6", "string", False, "CAST(k2_source.`c`, 'String')"),
        ("UInt64", "decimal(20, 0)", False, "CAST(k2_source.`c`, 'Decimal(20, 0)')"),
        ("SimpleAggregateFunction(sum, UInt64)", "decimal(20, 0)", False, "CAST(k2_source.`c`, 'Decimal(20, 0)')"),
        ("UInt32", "long", False, "CAST(k2_source.`c`, 'Int64')"),
        ("Int16", "int", False, "CAST(k2_source.`c`, 'Int32')"),
        ("Decimal(38, 18)", "decimal(38, 18)", False, "k2_source.`c`"),
        ("DateTime", "timestamptz", False, r"CAST(k2_source.`c`, 'DateTime64(6, \'UTC\')')"),
        ("DateTime64(3, 'Europe/Berlin')", "timestamptz", False, r"CAST(k2_source.`c`, 'DateTime64(6, \'UTC\')')"),
        ("DateTime64(6, 'UTC')", "timestamptz", False, "k2_source.`c`"),
        ("Date", "date", False, "CAST(k2_source.`c`, 'Date32')"),
        ("Bool", "boolean", False, "k2_source.`c`"),
        ("Float64", "double", False, "k2_source.`c`"),
    ],
)
def test_a_faithful_type_is_mapped(clickhouse_type, iceberg_type, nullable, expression):
    column = map_column("t", "c", clickhouse_type)
    assert (column.iceberg_type, column.nullable, column.expression) == (iceberg_type, nullable, expression)


def test_a_string_may_be_bytes_and_nothing_else_may():
    column = map_column("t", "c", "LowCardinality(Nullable(String))", binary=True)
    assert (column.iceberg_type, column.nullable, column.text) == ("binary", True, None)
    with pytest.raises(UnsupportedType, match=r"'binary' names column 'c', which is FixedString\(3\).*k2 validate"):
        map_column("t", "c", "FixedString(3)", binary=True)


@pytest.mark.parametrize(
    "clickhouse_type",
    [
        "Int128",
        "UInt256",
        "Decimal(50, 10)",
        "DateTime64(9)",
        "Array(String)",
        "Map(String, String)",
        "JSON",
        "Tuple(a Int8)",
    ],
)
def test_what_has_no_faithful_type_is_refused_with_a_way_out(clickhouse_type):
    with pytest.raises(UnsupportedType, match=r"^t: column 'c' is .*Nothing was moved.*view.*k2 validate"):
        map_column("t", "c", clickhouse_type)


@pytest.mark.parametrize(
    ("clickhouse_type", "expected"),
    [("DateTime", True), ("Nullable(DateTime64(3))", True), ("Date", False), ("UInt64", False), ("String", False)],
)
def test_windows_are_cut_on_times_only(clickhouse_type, expected):
    assert is_time(clickhouse_type) is expected


@pytest.mark.parametrize(
    ("clickhouse_type", "condition"),
    [
        ("UInt16", "CAST(v, 'Nullable(UInt16)') != v"),
        ("LowCardinality(Nullable(Int8))", "CAST(v, 'Nullable(Int8)') != v"),
        ("UInt32", "CAST(v, 'Nullable(UInt32)') != v"),
        ("SimpleAggregateFunction(sum, UInt64)", "v < 0 OR v > 18446744073709551615"),
        ("Date", "CAST(v, 'Nullable(Date)') != v"),
        ("DateTime", "CAST(v, 'Nullable(DateTime)') != v"),
        ("DateTime64(3, 'Europe/Berlin')", r"CAST(v, 'Nullable(DateTime64(3, \'Europe/Berlin\'))') != v"),
        (r"Enum8('x\'y' = 1, '' = -2)", r"isNotNull(v) AND v NOT IN ('x\'y', '')"),
        ("IPv4", "isNotNull(v) AND isNull(accurateCastOrNull(v, 'IPv4'))"),
        ("Nullable(UUID)", "isNotNull(v) AND isNull(accurateCastOrNull(v, 'UUID'))"),
    ],
)
def test_a_type_that_lacks_values_of_its_iceberg_form_says_which(clickhouse_type, condition):
    fitting, is_other = narrowed(clickhouse_type, "v")
    assert is_other == condition
    assert fitting in condition


@pytest.mark.parametrize(
    "clickhouse_type",
    [
        "Bool", "Int32", "Int64", "Float32", "Float64", "Decimal(9, 2)", "Date32", "DateTime64(6)",
        "DateTime64(6, 'Asia/Tokyo')", "String", "LowCardinality(Nullable(String))", "FixedString(3)",
    ],
)  # fmt: skip
def test_a_type_that_has_all_values_of_its_iceberg_form_says_so(clickhouse_type):
    assert narrowed(clickhouse_type, "v") is None


def test_quoted_names_cannot_break_out():
    assert quote("a`b\\") == "`a\\`b\\\\`"

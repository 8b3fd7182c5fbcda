from __future__ import annotations

import pytest

from k2_offload.core.view_queries import view_type


@pytest.mark.parametrize(
    ("source", "shown", "or_null"),
    [
        ("UInt64", "UInt64", "Nullable(UInt64)"),
        ("Nullable(String)", "Nullable(String)", "Nullable(String)"),
        ("LowCardinality(String)", "LowCardinality(String)", "LowCardinality(Nullable(String))"),
        ("LowCardinality(Nullable(String))",) * 3,
        ("SimpleAggregateFunction(max, UInt64)", "SimpleAggregateFunction(max, UInt64)", "Nullable(UInt64)"),
        ("DateTime", "DateTime('UTC')", "Nullable(DateTime('UTC'))"),
        ("DateTime64(3)", "DateTime64(3, 'UTC')", "Nullable(DateTime64(3, 'UTC'))"),
        ("Nullable(DateTime64(6))", "Nullable(DateTime64(6, 'UTC'))", "Nullable(DateTime64(6, 'UTC'))"),
        ("DateTime('Europe/Berlin')", "DateTime('Europe/Berlin')", "Nullable(DateTime('Europe/Berlin'))"),
        ("Enum8('DateTime' = 1)", "Enum8('DateTime' = 1)", "Nullable(Enum8('DateTime' = 1))"),
    ],
)  # fmt: skip
def test_a_column_has_its_sources_type_and_a_time_a_zone(source, shown, or_null):
    assert (view_type(source, nullable=False), view_type(source, nullable=True)) == (shown, or_null)

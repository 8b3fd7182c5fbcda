from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from k2_offload.core.combined_view import ViewState
from k2_offload.core.tables import TableSpec
from k2_offload.core.type_mapping import map_column
from k2_offload.core.view_queries import create_view, view_type


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


@pytest.mark.parametrize(
    ("source", "finest"),
    [
        ("DateTime", "DateTime64(6, 'UTC')"),
        ("DateTime64(3)", "DateTime64(6, 'UTC')"),
        ("DateTime64(6, 'UTC')", "DateTime64(6, 'UTC')"),
        ("DateTime('Europe/Berlin')", "DateTime64(6, 'Europe/Berlin')"),
        ("SimpleAggregateFunction(max, DateTime64(0, 'UTC'))", "SimpleAggregateFunction(max, DateTime64(6, 'UTC'))"),
    ],
)
def test_a_time_may_have_icebergs_precision(source, finest):
    assert view_type(source, nullable=False, finest=True) == finest


SPEC = TableSpec(
    name="t", layer="bronze", source="k2.t", target="cold.t", timestamp_column="ends", partition_column="starts",
    job_group="bronze", view="k2.t_all",
)  # fmt: skip
STATE = ViewState("t", "u", "starts", datetime(2026, 3, 1, tzinfo=UTC), 1, "m", datetime(2026, 4, 1, tzinfo=UTC))


def shown_cold(**types):
    """What the view selects from the cold table, by column."""
    statement = create_view(SPEC, [map_column("t", *each) for each in types.items()], (), STATE, "lake()")
    columns = statement.partition(" AS SELECT ")[2].partition(" FROM lake()")[0]
    return {name: expression for expression, name in re.findall(r"(.+?) AS `(\w+)`(?:, |$)", columns)}


def test_a_value_that_the_type_of_its_source_does_not_have_is_an_error_that_says_what_to_do():
    shown = shown_cold(a="UInt16", b="LowCardinality(Nullable(String))", c="Int32", d="DateTime64(3)")
    assert "throwIf" not in shown["b"] + shown["c"]
    for name, kind in (("a", "UInt16"), ("d", "DateTime64(3)")):
        assert f"column {name} of cold.t has values that its type in k2.t, {kind}, does not have" in shown[name]
        assert "no row is lost" in shown[name]
        assert "run: k2 view t --apply" in shown[name]
        assert shown[name].startswith("CAST(if(throwIf(")


def test_an_enum_of_many_elements_is_not_told_as_a_whole():
    elements = ", ".join(f"'element{number}' = {number}" for number in range(100))
    text = shown_cold(a=f"Enum8({elements})")["a"].partition("'k2: ")[2].partition("--apply")[0]
    assert len(text) < 400
    assert "element0" in text


def test_nothing_hides_from_clickhouse_what_a_time_is():
    """A condition on a time prunes files and parts: so the times have all values of their Iceberg form instead."""
    shown = shown_cold(starts="DateTime", ends="DateTime64(3, 'Asia/Tokyo')")
    assert shown == {
        "starts": r"CAST(k2_cold.`starts`, 'DateTime64(6, \'UTC\')')",
        "ends": r"CAST(k2_cold.`ends`, 'DateTime64(6, \'Asia/Tokyo\')')",
    }

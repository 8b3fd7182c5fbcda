"""The table file: what it derives, and what it refuses in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from k2_offload.adapters.table_file import load_tables, parse_tables
from k2_offload.core.errors import InvalidTablesFile

PROJECT = Path(__file__).parents[4]
BRONZE = "{layer: bronze, source: k2.b, target: cold.b, timestamp_column: t}"
SILVER = "{layer: silver, source: k2.s, target: cold.s, timestamp_column: t}"


def test_the_projects_own_file_holds_the_nine_tables():
    tables = parse_tables((PROJECT / "include" / "tables.yaml").read_text())
    assert [len(tables.in_layer(layer)) for layer in ("bronze", "silver", "gold")] == [2, 1, 6]
    assert tables["silver_trades"].upstream == ("bronze_trades_binance", "bronze_trades_kraken")
    assert tables["ohlcv_1d"].upstream == ("silver_trades",)
    assert tables["ohlcv_1d"].partition_column == "window_start"


def test_a_layer_is_made_of_all_of_the_layer_below_unless_it_says_otherwise():
    tables = parse_tables(f"tables: {{b: {BRONZE}, s: {SILVER}}}")
    assert tables["s"].upstream == ("b",)
    assert tables["s"].job_group == "silver"
    alone = SILVER.replace("}", ", upstream: []}")
    assert parse_tables(f"tables: {{b: {BRONZE}, s: {alone}}}")["s"].upstream == ()


def test_defaults_apply_to_all_and_a_table_overrides_them():
    own = BRONZE.replace("}", ", buffer_seconds: 7}")
    tables = parse_tables(f"defaults: {{buffer_seconds: 9}}\ntables: {{b: {own}, s: {SILVER}}}")
    assert (tables["b"].buffer_seconds, tables["s"].buffer_seconds) == (7, 9)
    assert parse_tables(f"defaults:\ntables: {{b: {own}}}")["b"].buffer_seconds == 7, "there are none"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("[]", "expected a mapping 'tables:'"),
        ("tables: {}", "at least one table"),
        (f"tables:\n  b: {BRONZE}\n  b: {BRONZE}", "line 3: 'b' stands twice"),
        ("tables: {b: {layer: bronze, layer: gold}}", "'layer' stands twice"),
        (f"extra: 1\ntables: {{b: {BRONZE}}}", "unknown key 'extra'"),
        (f"defaults: {{buffer: 1}}\ntables: {{b: {BRONZE}}}", "defaults: unknown key 'buffer'"),
        *(
            (f"defaults: {text}\ntables: {{b: {BRONZE}}}", "defaults: expected a mapping of settings")
            for text in ("[buffer_seconds]", "[]", "buffer_seconds", "9")
        ),
        ("tables: {b: 1}", "table 'b': expected a mapping"),
        (f"tables: {{b: {BRONZE.replace('}', ', colour: red}')}}}", "table 'b': unknown key 'colour'"),
        ("tables: {b: {layer: bronze, source: k2.b, target: cold.b}}", "table 'b': 'timestamp_column': Field required"),
        (f"tables: {{b: {BRONZE.replace('bronze', 'tin')}}}", "table 'b': 'layer'"),
        (f"tables: {{b: {BRONZE.replace('k2.b', 'b')}}}", "table 'b': 'source'"),
        (f"tables: {{b: {BRONZE.replace('}', ', buffer_seconds: -1}')}}}", "table 'b': 'buffer_seconds'"),
        (f"tables: {{b: {BRONZE.replace('}', ', buffer_seconds: yes}')}}}", "'buffer_seconds': expected a number"),
        (f"defaults: {{max_window_rows: true}}\ntables: {{b: {BRONZE}}}", "defaults: 'max_window_rows': expected a"),
        (f"tables: {{b: {BRONZE.replace('k2.b', '2026-13-45')}}}", "not valid YAML: month must be in 1..12"),
        ("? [a]\n: 1", "a key has to be a name"),
        (f"tables: {{b: {BRONZE}, c: {BRONZE}}}", "tables 'b' and 'c' share the target cold.b"),
        (f"tables: {{b: {BRONZE.replace('}', ', upstream: [x]}')}}}", "upstream 'x' is not in the file"),
        (f"tables: {{b: {BRONZE.replace('}', ', upstream: [b]}')}}}", "must be of a lower layer"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(text, message):
    with pytest.raises(InvalidTablesFile) as refusal:
        parse_tables(text)
    assert message in str(refusal.value)


def test_a_file_in_another_encoding_is_refused(tmp_path):
    file = tmp_path / "tables.yaml"
    file.write_bytes("# Zürich".encode("latin-1"))
    with pytest.raises(InvalidTablesFile, match=r"tables\.yaml: it is not UTF-8"):
        load_tables(file)


def test_selecting_tables_names_what_is_wrong():
    tables = parse_tables(f"tables: {{b: {BRONZE}, s: {SILVER}}}")
    assert [table.name for table in tables.select([], "bronze")] == ["b"]
    with pytest.raises(InvalidTablesFile, match="no table 'x'; there are: b, s"):
        tables.select(["x"])
    with pytest.raises(InvalidTablesFile, match="table 's' is of layer silver, not bronze"):
        tables.select(["s"], "bronze")
    with pytest.raises(InvalidTablesFile, match="no table chosen: none is of layer gold"):
        tables.select([], "gold")

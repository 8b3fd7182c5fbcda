"""The content hash of ClickHouse, and the one that is computed here, over every type."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.work.compare import compare
from k2_offload.work.tiers import WORKER

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=20)

VALUES = {
    "Bool": ("true", "false"),
    "Int8": ("-128", "127", "0"),
    "Int32": ("-2147483648", "2147483647"),
    "Int64": ("-9223372036854775808", "9223372036854775807", "-1"),
    "UInt32": ("4294967295", "0"),
    "UInt64": ("18446744073709551615", "0"),
    "Float32": ("nan", "0.0", "-0.0", "inf", "-inf", "1.1"),
    "Float64": ("nan", "-nan", "0.0", "-0.0", "inf", "1e-308", "0.1"),
    "String": ("''", "'\\\\N'", "'é€😀'", "repeat('long', 100)"),
    "UUID": ("'61f0c404-5cb3-11e7-907b-a6006ad3dba0'",),
    "IPv6": ("'::1'",),
    "Date": ("'1970-01-01'", "'2149-06-06'"),
    "Date32": ("'1900-01-01'", "'2299-12-31'"),
    "DateTime": ("'1970-01-01 00:00:00'", "'2106-02-07 06:28:15'"),
    "DateTime64(3)": ("'1900-01-01 00:00:00.001'", "'2026-03-04 12:00:00.999'"),
    "DateTime64(6, 'America/New_York')": ("'2026-11-01 01:30:00.000001'",),
    "Decimal(9, 2)": ("'-1234567.89'", "0", "'0.01'"),
    "Decimal(18, 18)": ("'-0.999999999999999999'",),
    "Decimal(38, 18)": ("'-99999999999999999999.999999999999999999'", "'0.000000000000000001'", "1"),
    "FixedString(3)": ("'a'", "unhex('00ff00')"),
    "Enum8('a' = -1, 'b' = 1)": ("'a'", "'b'"),
    "LowCardinality(String)": ("''", "'x'"),
}


@pytest.mark.parametrize("transport", ["export", "jdbc"])
def test_both_compute_the_same_over_every_type(workbench, transport):
    columns = {f"c{number}_{suffix}": kind for number, kind in enumerate(VALUES) for suffix in ("r", "n")}
    declared = ", ".join(f"{name} {_nullable(kind)}" for name, kind in columns.items())
    table = workbench.name
    workbench.sql(
        f"CREATE TABLE {table} (at DateTime64(6, 'UTC'), {declared}, bytes String) ENGINE = MergeTree ORDER BY at "
        "SETTINGS allow_suspicious_low_cardinality_types = 1"
    )
    rows = max(map(len, VALUES.values()))
    content = "unhex('00ff')" if transport == "jdbc" else "'text'"
    for row in range(rows):
        given = [f"'{NOON + timedelta(minutes=row):%F %T}'"]
        for kind in columns.values():
            value = VALUES[kind][row % len(VALUES[kind])]
            given.append("NULL" if row == len(VALUES[kind]) else value)
        workbench.sql(f"INSERT INTO {table} VALUES ({', '.join(given)}, {content})")
    binary = "[bytes]" if transport == "jdbc" else "[]"
    spec = workbench.spec(table, sequence_column=None, sort_columns="[at]", binary=binary, transport=transport)
    cycle = workbench.cycle(spec, now=LATER)
    workbench.move(cycle, table)

    here = replace(cycle.tiers, cold_reader=WORKER)
    by_clickhouse, by_worker = (compare(tiers, cycle.tables[table]) for tiers in (cycle.tiers, here))
    assert by_worker == by_clickhouse
    assert by_worker.equal
    assert by_worker.cold_rows == rows


def _nullable(kind):
    inner = kind.removeprefix("LowCardinality(").removesuffix(")")
    return f"LowCardinality(Nullable({inner}))" if kind.startswith("Low") else f"Nullable({kind})"

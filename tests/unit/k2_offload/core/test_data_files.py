"""What of a data file is not as its metadata says, and how that is told."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from k2_offload.core.data_files import FileContent, RegisteredFile, describe_fault, describe_twice, find_faults
from k2_offload.core.windows import to_micros

DAY = date(2026, 3, 4)
NOON = to_micros(datetime(2026, 3, 4, 12, tzinfo=UTC))
HOUR = timedelta(hours=1) // timedelta(microseconds=1)
FILE = RegisteredFile("s3://lake/t/1.parquet", "PARQUET", 3, 100, DAY, {"at": (NOON, NOON + HOUR)})


def faults(rows=3, low=NOON, high=NOON + HOUR, file=FILE):
    return list(find_faults(file, FileContent(rows, {"at": (low, high)}), "at"))


def test_a_file_that_is_as_it_was_registered_has_no_fault():
    assert faults() == []
    assert list(find_faults(FILE, FileContent(3, {}), "at")) == []
    assert faults(low=NOON - 20 * HOUR, file=replace(FILE, day=None, bounds={})) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": 2}, "holds 2 rows, and is registered with 3"),
        ({"high": NOON + HOUR + 1}, "on 'at', and is registered with .*so that readers leave some of them out"),
        ({"low": NOON - 1}, "so that readers leave some of them out"),
        ({"high": NOON + 12 * HOUR}, "registered in the partition 2026-03-04"),
        ({"low": NOON - 12 * HOUR - 1}, "registered in the partition 2026-03-04"),
    ],
)
def test_each_fault_is_named(changes, words):
    [fault] = faults(**changes)
    assert re.search(words, fault)


def test_the_last_microsecond_of_a_day_is_of_it():
    file = replace(FILE, bounds={})
    assert faults(low=NOON - 12 * HOUR, high=NOON + 12 * HOUR - 1, file=file) == []


def test_a_finding_names_table_and_file_and_what_to_run():
    missing = describe_fault("silver", FILE, "is missing")
    assert missing.startswith("silver: data file s3://lake/t/1.parquet is missing. Nothing was changed.")
    assert "`k2 heal silver --day 2026-03-04 --allow-shrink`" in missing
    assert "k2 heal" not in describe_fault("silver", replace(FILE, day=None), "is missing")
    assert "readers see its 3 rows 2 times" in describe_twice("silver", FILE, 2)

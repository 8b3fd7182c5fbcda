"""What a cold table's data files must hold, as its metadata says, and the sentences where they do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from k2_offload.core.day_comparison import day_window
from k2_offload.core.windows import TICK, Window, format_time, from_micros

Range = tuple[int, int]
"""The least and the greatest time of a column, both inclusive, in microseconds since 1970 UTC."""


@dataclass(frozen=True, slots=True)
class RegisteredFile:
    """A data file as the current snapshot knows it.

    :param path: as the metadata spells it
    :param day: the partition that it is registered in; ``None`` if that is no day of the partition column
    :param bounds: of columns of times; readers skip the file where they look for others
    :param has_deletes: whether delete files take rows out of it
    """

    path: str
    file_format: str
    rows: int
    size_bytes: int
    day: date | None
    bounds: Mapping[str, Range]
    has_deletes: bool = False

    def __str__(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class FileContent:
    """What was read from a data file.

    :param rows: all that could be read
    :param ranges: of columns of times that have values
    """

    rows: int
    ranges: Mapping[str, Range]


def find_faults(file: RegisteredFile, content: FileContent, partition_column: str) -> Iterator[str]:
    """What of a file that can be read is not as its metadata says."""
    if content.rows != file.rows:
        yield f"holds {content.rows:,} rows, and is registered with {file.rows:,}"
    for column, (low, high) in content.ranges.items():
        day = day_window(file.day) if file.day is not None and column == partition_column else None
        if day is not None and not (day.low <= from_micros(low) and from_micros(high) < day.high):
            yield f"holds rows of {_times(low, high)} on '{column}', and is registered in the partition {file.day}"
        elif column in file.bounds and not (file.bounds[column][0] <= low and high <= file.bounds[column][1]):
            yield (
                f"holds rows of {_times(low, high)} on '{column}', and is registered with "
                f"{_times(*file.bounds[column])}, so that readers leave some of them out"
            )


def _times(low: int, high: int) -> str:
    return str(Window(from_micros(low), from_micros(high) + TICK)) if low < high else format_time(from_micros(low))


def describe_fault(table: str, file: RegisteredFile, fault: str) -> str:
    """A sentence on a file: what is wrong with it, and what to run next."""
    cure = "Put it back from the storage's versions, or from a backup"
    if file.day is not None:
        cure += (
            f"; or, if ClickHouse holds the day as a whole, replace the day: `k2 heal {table} --day {file.day} "
            "--allow-shrink`, which shows what would go and asks"
        )
    return f"{table}: data file {file.path} {fault}. Nothing was changed. {cure}."


def describe_twice(table: str, file: RegisteredFile, times: int) -> str:
    """A sentence on a file that one snapshot holds more than once."""
    return _of_doubles(
        table,
        file.day,
        f"data file {file.path} is registered {times} times, so that readers see its {file.rows:,} rows {times} times",
    )


def describe_equal_keys(table: str, day: date, columns: Sequence[str], keys: int, example: str) -> str:
    """A sentence on keys of which a day has more than one row.

    :param keys: how many there are
    :param example: one of them
    """
    named = ", ".join(columns)
    return _of_doubles(table, day, f"{keys:,} keys ({named}) have more than one row in {day}, such as {example}")


def _of_doubles(table: str, day: date | None, what: str) -> str:
    cure = "take out with Spark what is too much"
    if day is not None:
        cure = (
            f"if ClickHouse holds the day as a whole, replace the day: `k2 heal {table} --day {day} --allow-shrink`, "
            "which shows what would go and asks"
        )
    return f"{table}: {what}. Nothing was changed. To cure it, {cure}."

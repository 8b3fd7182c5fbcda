"""Checks a cold table alone: its files against its metadata. Neither ClickHouse nor the ledger is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from operator import attrgetter

from k2_offload.adapters.cold_table import ColdTable
from k2_offload.adapters.data_files import FaultyFile, equal_keys, read_file
from k2_offload.core.data_files import (
    RegisteredFile,
    describe_equal_keys,
    describe_fault,
    describe_twice,
    find_faults,
)
from k2_offload.core.errors import OffloadError, Unreachable
from k2_offload.core.tables import TableSpec
from k2_offload.work.tiers import Tiers

FilesProgress = Callable[[Sequence[RegisteredFile]], Iterable[RegisteredFile]]
"""Passes files on one by one, and shows how far it is."""


@dataclass
class ColdCheck:
    """What was found in one cold table.

    :param exists: whether there is one
    :param files: how many were read
    :param rows: how many they hold
    :param findings: a sentence for each thing that is wrong; nothing was changed
    :param notes: what was not checked, and why
    """

    table: str
    exists: bool = False
    files: int = 0
    size_bytes: int = 0
    rows: int = 0
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_cold(
    tiers: Tiers,
    table: TableSpec,
    first: date | None = None,
    last: date | None = None,
    progress: FilesProgress = lambda files: files,
) -> ColdCheck:
    """Read every data file of a table's current snapshot, one after the other.

    What is kept in memory is a part of one file, and the key columns of one day.

    :param first: the first partition day
    :param last: the last one, inclusive; with either, files of no single day are read all the same
    :raises Unreachable: if the catalog or its storage is down
    """
    found = ColdCheck(table.name)
    try:
        cold = tiers.catalog.load(table)
        if cold is None:
            found.findings.append(
                f"{table.name}: the catalog knows no cold table {table.target}. Either nothing was ever offloaded, or "
                "the catalog has lost it (docs/disaster.md)."
            )
        else:
            found.exists = True
            _check(cold, table, (first or date.min, last or date.max), progress, found)
            if not found.files and not found.findings:
                found.notes.append(f"{table.name}: there are no files to be read.")
    except Unreachable:
        raise
    except OffloadError as error:
        found.findings.append(str(error))
    return found


def _check(
    cold: ColdTable, table: TableSpec, days: tuple[date, date], progress: FilesProgress, found: ColdCheck
) -> None:
    times = list(dict.fromkeys((table.timestamp_column, table.partition_column)))
    registered = cold.registered_files(times, table.partition_column)
    chosen = [file for file in registered if file.day is None or days[0] <= file.day <= days[1]]
    registrations = Counter(file.path for file in chosen)
    files = list({file.path: file for file in chosen}.values())
    found.findings += [
        describe_twice(table.name, file, registrations[file.path]) for file in files if registrations[file.path] > 1
    ]
    for day, of_day in groupby(progress(files), key=attrgetter("day")):
        key_columns = table.key_columns if day is not None else ()
        kept, has_deletes = [], False
        for file in of_day:
            try:
                content, keys = read_file(cold, file, times, key_columns)
            except FaultyFile as error:
                found.findings.append(describe_fault(table.name, file, str(error)))
                continue
            faults = find_faults(file, content, table.partition_column)
            found.findings += [describe_fault(table.name, file, fault) for fault in faults]
            found.files, found.rows = found.files + 1, found.rows + content.rows
            found.size_bytes += file.size_bytes
            has_deletes = has_deletes or file.has_deletes
            kept += [keys] if keys is not None else []
        if day is None or has_deletes:
            which = "files that are of no single day" if day is None else f"{day}, which has delete files,"
            found.notes += [f"{table.name}: {which} cannot be looked at for equal keys."] if table.key_columns else []
        elif kept:
            doubled, example = equal_keys(kept)
            if example is not None:
                found.findings.append(describe_equal_keys(table.name, day, key_columns, doubled, example))

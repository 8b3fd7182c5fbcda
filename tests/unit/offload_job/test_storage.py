"""Files that no snapshot names, in a folder that others write to meanwhile."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from k2_offload.core.errors import DamagedTable
from offload_job.maintenance import storage
from offload_job.maintenance.storage import Storage

ORPHAN = "f/data/orphan.parquet"


def metadata(number):
    return SimpleNamespace(
        lastSequenceNumber=lambda: number,
        metadataFileLocation=lambda: f"f/metadata/{number:05}.metadata.json",
        previousFiles=lambda: [SimpleNamespace(file=metadata(each).metadataFileLocation) for each in range(number)],
        uuid=lambda: "uuid",
    )


class Busy(Storage):
    """A table of seven commits, as Iceberg has it: what is current is what the last refresh has read.

    :param named: how many commits the catalog names
    :param written: how many metadata files are in the folder
    :param commits: whether another writer commits while the folder is listed
    """

    def __init__(self):
        self.named = self.written = 7
        self.commits = False
        self.current = metadata(7)
        java = SimpleNamespace(refresh=self.refresh, operations=lambda: SimpleNamespace(current=lambda: self.current))
        super().__init__(None, SimpleNamespace(java=java, uuid="uuid", connection_id="c"), "trades", "k2.cold.trades")

    def refresh(self):
        self.current = metadata(self.named)

    def _find_orphans(self, *_):
        return {ORPHAN}

    def _list(self):
        if self.commits:
            self.named = self.written = self.written + 1
        return {ORPHAN: 5} | {metadata(each).metadataFileLocation(): 1 for each in range(self.written + 1)}

    def _read_metadata(self, file):
        return metadata(int(file[-19:-14]))


def orphans(table):
    return table.orphans(None, datetime.now(UTC))


@pytest.fixture
def table(monkeypatch):
    monkeypatch.setattr(storage, "failures_translated", lambda _: nullcontext())  # py4j comes with Spark
    monkeypatch.setattr("time.sleep", lambda _: None)
    return Busy()


def test_what_is_committed_while_the_folder_is_listed_is_the_tables_own(table, monkeypatch):
    table.commits = True
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("there is nothing to wait for"))
    assert orphans(table) == {ORPHAN: 5}


def test_a_commit_whose_metadata_file_is_written_and_not_named_yet_is_waited_for(table, monkeypatch):
    table.written += 1
    monkeypatch.setattr("time.sleep", lambda _: setattr(table, "named", table.written))
    assert orphans(table) == {ORPHAN: 5}


def test_a_later_state_that_the_catalog_never_names_is_told(table):
    table.written += 1
    with pytest.raises(DamagedTable, match=r"later state of the table .*00008.metadata.json"):
        orphans(table)

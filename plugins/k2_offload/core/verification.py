"""What is compared when the warm and the cold tier are verified."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from posixpath import relpath
from urllib.parse import unquote, urlparse

from k2_offload.core.errors import ConfigurationError
from k2_offload.core.queries import literal
from k2_offload.core.windows import Window

TTL_MARGIN = timedelta(hours=1)
"""Rows so close to their end are not compared: clocks differ, and a comparison takes time."""


@dataclass(frozen=True)
class Comparison:
    """Rows and content hash of one table, warm against cold, in one window.

    :param window: what was compared; ``None`` if there is nothing that both tiers must hold
    :param problem: why the two could not be compared; they count as unequal then
    """

    table: str
    window: Window | None
    warm_rows: int = 0
    cold_rows: int = 0
    warm_hash: int = 0
    cold_hash: int = 0
    problem: str | None = None

    @property
    def equal(self) -> bool:
        """Whether both tiers hold the same multiset of whole rows."""
        return self.problem is None and (self.warm_rows, self.warm_hash) == (self.cold_rows, self.cold_hash)


def window_to_verify(watermark: datetime, retention: timedelta, now: datetime) -> Window | None:
    """What both tiers must hold: from where the warm tier's TTL has surely removed nothing up to the watermark.

    The lower bound is the first midnight (UTC) at which a row is still at least :data:`TTL_MARGIN` away from its end;
    older rows may have gone from the warm tier, which is no fault of the cold one. The TTL is taken to count from the
    timestamp column, as a candle's does from the end of its window, even if the partitions follow another column;
    where it counts from an earlier time, shorten ``warm_retention_days``.

    :returns: ``None`` if nothing lies between
    """
    oldest = now - retention + TTL_MARGIN
    midnight = oldest.replace(hour=0, minute=0, second=0, microsecond=0)
    low = midnight if midnight == oldest else midnight + timedelta(days=1)
    return Window(low, watermark) if low < watermark else None


def cold_table_function(location: str, metadata_location: str, lake_collection: str) -> str:
    """A ClickHouse table function that reads an Iceberg table as one metadata file describes it.

    :param location: URI of the table's folder
    :param metadata_location: URI of the metadata file the catalog calls current, below that folder; without it
        ClickHouse would take the newest file, also one whose commit the catalog refused
    :param lake_collection: named collection for object stores
    :raises ConfigurationError: for a storage that ClickHouse cannot read
    """
    table, metadata = urlparse(location), urlparse(metadata_location)
    pinned = literal(relpath(unquote(metadata.path), unquote(table.path)))
    settings = f"SETTINGS iceberg_metadata_file_path = {pinned}"
    if table.scheme in ("", "file"):
        return f"icebergLocal({literal(unquote(table.path))}, {settings})"
    if table.scheme in ("s3", "s3a"):
        return f"icebergS3({lake_collection}, filename = {literal(unquote(table.path).lstrip('/'))}, {settings})"
    raise ConfigurationError(f"ClickHouse cannot read {table.scheme}://, so the cold tier cannot be verified there")

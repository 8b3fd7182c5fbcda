"""When the metadata of a cold table has grown so much that it costs time.

Two commits a cycle are 192 a day. Every one writes the whole metadata file, and every plan, commit and query reads it:
a year of them is 30 MB, and a second and a half.
"""

from __future__ import annotations

MAX_SNAPSHOTS = 5_000
"""About seven weeks without any expiry."""

MAX_METADATA_BYTES = 8 * 2**20
"""A load takes a third of a second from there on."""


def is_overdue(snapshots: int, metadata_bytes: int) -> bool:
    """Whether old snapshots should have been expired by now.

    :param metadata_bytes: size of the current metadata file
    """
    return snapshots > MAX_SNAPSHOTS or metadata_bytes > MAX_METADATA_BYTES

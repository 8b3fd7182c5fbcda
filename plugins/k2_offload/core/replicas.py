"""Whether what a server shows of a replicated table can be taken for all that there is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from k2_offload.core.errors import ReplicaBehind
from k2_offload.core.limits import LONGEST_REPLICA_DELAY_SECONDS
from k2_offload.core.tables import TableSpec

_NEVER_SECONDS = 10 * 365 * 86_400
"""ClickHouse gives the seconds since 1970 for a replica that has not read its log since the server started."""


@dataclass(frozen=True)
class Replica:
    """One replicated table of a server.

    :param storage: ``database.table``
    :param cut_off: read-only, or without a session with Keeper
    :param delay_seconds: how old the oldest insert is that it has not fetched, or its last look at the log
    """

    storage: str
    cut_off: bool
    delay_seconds: int


def longest_delay_seconds(table: TableSpec) -> int:
    """How far behind a replica may be: windows end so long before now."""
    return max(table.buffer_seconds, LONGEST_REPLICA_DELAY_SECONDS)


def refuse_behind(
    table: str, limit_seconds: int, host: str, replicas: Iterable[Replica], again: str | None = None
) -> None:
    """Do not take rows that a replica has not fetched for rows that are not there: they would expire unseen.

    :param limit_seconds: how far behind it may be, see :func:`longest_delay_seconds`
    :param again: the command to run again, where no next run tries by itself
    :raises ReplicaBehind: if one of the tables that the source is read from is too far behind
    """
    then = f"The next run tries again; `k2 run {table}` does so at once." if again is None else f"Then: `{again}`."
    for replica in replicas:
        if not replica.cut_off and replica.delay_seconds <= limit_seconds:
            continue
        if replica.delay_seconds > _NEVER_SECONDS:
            how = "has not read the log of what was inserted since the server started"
        elif replica.delay_seconds > limit_seconds:
            how = f"is {replica.delay_seconds:,} s behind, and {limit_seconds:,} s are the most (buffer_seconds)"
        else:
            how = "is read-only: it has no session with Keeper"
        raise ReplicaBehind(
            f"{table}: on server {host}, the replica of {replica.storage} {how}. Rows that it lacks would pass "
            "for rows that are not there. Nothing was moved and no row is lost. Look at system.replicas there "
            "(docs/runbooks/watermark.md#a-replica-is-behind), or put a server that is up to date first in the "
            f"connection's host. {then}"
        )

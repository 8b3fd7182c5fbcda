"""The ledger's part in removing proven partitions: one run at a time, and what was done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from k2_offload.adapters.ledger import Ledger
from k2_offload.adapters.ledger_sql import statements
from k2_offload.core.errors import OtherRun
from k2_offload.core.holding import Record


class LedgerRetention:
    """What became of partitions is a record of it only; nothing is decided by it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @contextmanager
    def alone(self, storage: str, wait_seconds: int = 0) -> Iterator[Callable[[], None]]:
        """No other run moves partitions of this storage meanwhile.

        :param wait_seconds: for how long it may wait for another one
        :returns: fails if the lock was lost
        :raises OtherRun: if another run does
        """
        with self._ledger.transaction() as cursor:
            for left in reversed(range(wait_seconds + 1)):
                cursor.execute(statements()["lock_retention"], {"storage": storage})
                if cursor.fetchone()[0]:
                    break
                if not left:
                    raise OtherRun(
                        f"{storage}: another run is moving its partitions. Nothing was changed and no row is lost."
                    )
                time.sleep(1)
            yield lambda: cursor.execute("SELECT 1")

    def record(self, storage: str, record: Record, step: str, reason: str, now: datetime) -> None:
        """Keep that a step was taken.

        :param reason: empty where it needs none
        """
        values = {"storage": storage, "partition_id": record.partition_id, "days": record.text, "rows": record.rows}
        with self._ledger.transaction() as cursor:
            cursor.execute(statements()["record_retention_step"], {**values, "step": step, "at": now, "reason": reason})

"""One table's row in the ledger, locked: what plans, follows and commits its windows."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from k2_offload.adapters.ledger_sql import statements
from k2_offload.core.errors import OffloadError
from k2_offload.core.exactly_once import LedgerEntry, Published, WindowId, watermark_of
from k2_offload.core.gaps import Gap, Looked

_MAX_REASON_CHARACTERS = 1000


def ledger_entry(
    table_uuid: str | None, watermark: datetime | None, opened: tuple[Any, ...] | None, looked: Looked,
    row_limit: int | None, ledger_id: str | None,
) -> LedgerEntry:  # fmt: skip
    """A table's entry, of what its row says and of its open window.

    :param opened: as of statement ``open_window_of``; ``None`` if there is no such window
    """
    window_id, rows, failures, planned_at = opened or (None, 0, 0, None)
    opened_id = WindowId.parse(window_id)
    return LedgerEntry(table_uuid, watermark, opened_id, rows, failures, planned_at, looked, row_limit, ledger_id)


class LockedTable:
    """One table's entry, locked until the transaction ends.

    What is read elsewhere while the lock is held cannot be older than what the ledger says.

    :ivar looked: what is known of rows that may have expired
    :ivar row_limit: how many rows the next windows may have, since a larger one has failed
    :ivar ledger_id: which ledger this is; ``None`` if somebody has deleted that
    """

    def __init__(self, cursor: Any, table: str) -> None:
        self._cursor = cursor
        self._table = table
        self._run("add_table")
        self._run("lock_table")
        row = cursor.fetchone()
        if row is None:
            raise OffloadError(
                f"{table}: its row was deleted from the ledger just now. Nothing was recorded and no row is lost; the "
                "next attempt adds it again."
            )
        self._watermark, self._table_uuid, *looked, self.row_limit, self.ledger_id = row
        self.looked = Looked(*looked)

    def _run(self, query: str, **values: object) -> None:
        self._cursor.execute(statements()[query], {"table": self._table, **values})

    def entry(self) -> LedgerEntry:
        """What the ledger believes of the table."""
        self._run("open_window_of")
        opened, limit = self._cursor.fetchone(), self.row_limit
        return ledger_entry(self._table_uuid, self._watermark, opened, self.looked, limit, self.ledger_id)

    def open(
        self,
        window_id: WindowId,
        *,
        dag_run_id: str,
        rows: int,
        max_sequence: int | None,
        first_row: datetime | None,
        now: datetime,
        failures: int = 0,
    ) -> None:
        """Record a new window as planned.

        :param rows: how many the source holds in it now
        :param first_row: the oldest timestamp of those
        :param failures: 1 if it takes the place of a larger one that has failed
        """
        window = window_id.window
        self._run(
            "open_window", window_id=str(window_id), low=window.low, high=window.high, dag_run_id=dag_run_id,
            rows=rows, max_sequence=max_sequence, first_row=first_row, now=now, failures=failures,
        )  # fmt: skip
        self.set_status("running")

    def resume(self, window_id: WindowId, dag_run_id: str) -> None:
        """Record one more attempt at an open window."""
        self._run("resume_window", window_id=str(window_id), dag_run_id=dag_run_id)
        self.set_status("running")

    def fail(self, window_id: WindowId, reason: str) -> None:
        """Record that an attempt at an open window has ended without publishing it.

        :param reason: shown unless a better one is known
        """
        self._run("fail_window", window_id=str(window_id))
        self.set_failed(reason, keep=True)

    def limit_rows(self, rows: int | None) -> None:
        """Let the table's next windows have so many rows at most; ``None``: as many as the table file says."""
        self._run("limit_rows", rows=rows)
        self.row_limit = rows

    def abandon(self, window_id: WindowId) -> None:
        """Close a window that the cold table has passed by."""
        self._run("abandon_window", window_id=str(window_id))

    def commit(self, published: Published, now: datetime) -> None:
        """Record that the cold table holds the window."""
        window_id, snapshot = str(published.window_id), published.snapshot
        self._run(
            "commit_window", window_id=window_id, rows=snapshot.rows, size_bytes=snapshot.size_bytes,
            snapshot_id=snapshot.snapshot_id, now=now,
        )  # fmt: skip
        self._run("record_success", window_id=window_id)

    def follow(self, table_uuid: str, published: Published | None) -> None:
        """Set the watermark to what the cold table holds."""
        snapshot_id = published.snapshot.snapshot_id if published else None
        self._run("set_watermark", watermark=watermark_of(published), table_uuid=table_uuid, snapshot_id=snapshot_id)

    def set_looked(self, looked: Looked) -> None:
        """Note what is known of rows that may have expired."""
        self._run("set_looked", looked_at=looked.looked_at, cleared_until=looked.cleared_until)
        self.looked = looked

    def accept_rows(self, window_id: WindowId, rows: int) -> None:
        """Let an open window have fewer rows than were planned; its failures so far were because of that."""
        self._run("accept_rows", window_id=str(window_id), rows=rows)

    def record_gap(self, gap: Gap) -> None:
        """Keep on record, for ever, what the table has missed; the same gap once, however often it is recorded."""
        self._run(
            "record_gap",
            low=gap.window.low,
            high=gap.window.high,
            kind=str(gap.kind),
            rows=gap.rows,
            now=gap.accepted_at,
        )

    def forget_cold_table(self) -> None:
        """Accept whatever cold table is there at the next plan, even another incarnation."""
        self._run("forget_cold_table")

    def set_status(self, status: str) -> None:
        """``initialized``, ``running`` or ``success``; a failure has a reason, see :meth:`set_failed`."""
        self._run("set_status", status=status)

    def set_failed(self, reason: str, *, keep: bool = False) -> None:
        """Show that the table did not move.

        :param reason: what a person should know, without secrets; only its beginning is kept
        :param keep: leave a reason that stands there already, which knows more
        """
        self._run("set_failed", reason=reason[:_MAX_REASON_CHARACTERS], keep=keep)

"""The ledger in Postgres: watermarks and windows, one locked row per table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import Any

from k2_offload.adapters.ledger_records import MaintenanceRecord, RecordedDay, RecordedWindow, TableRecord
from k2_offload.adapters.ledger_sql import migrations, statements
from k2_offload.adapters.locked_table import LockedTable, ledger_entry
from k2_offload.adapters.postgres import Connect, is_refusal
from k2_offload.core.day_comparison import DayComparison, LastComparison, Verdict
from k2_offload.core.errors import Busy, ConfigurationError, OffloadError, OldLedger, Refused, Unreachable
from k2_offload.core.exactly_once import FIRST_WATERMARK, LedgerEntry
from k2_offload.core.gaps import Gap, GapKind, Looked
from k2_offload.core.maintenance import Tidied
from k2_offload.core.observation import Comparisons, UnequalDay, WindowTotals
from k2_offload.core.report import DayBounds, LedgerWindow
from k2_offload.core.windows import Window

_MAX_PROBLEM_CHARACTERS = 1000
_LOCK_NOT_AVAILABLE = "55P03"
_UNKNOWN_NAMES = ("3F000", "42P01", "42703")
"""SQLSTATEs: no such schema, table or column."""


def _sqlstate(error: BaseException | None) -> str | None:
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)


class Ledger:
    """The ledger's schema in Airflow's metadata Postgres.

    :param connect: opens a connection; each transaction has its own
    :param connection_id: the Airflow connection behind it, named in errors
    """

    def __init__(self, connect: Connect, connection_id: str) -> None:
        self._connect = connect
        self._connection_id = connection_id

    def migrate(self) -> None:
        """Bring the schema to this version's, or make it; safe at every start, also by several processes at once."""
        with self.transaction() as cursor:
            if self._missing_versions(cursor):
                # Two sessions that create the same thing at the same moment collide, IF NOT EXISTS or not.
                cursor.execute(statements()["lock_schema"])
                cursor.execute(statements()["create_schema"])
                for version in self._missing_versions(cursor):
                    cursor.execute(migrations()[version])
                    cursor.execute(statements()["record_version"], {"version": version})

    @staticmethod
    def _missing_versions(cursor: Any) -> list[int]:
        cursor.execute(statements()["has_schema_versions"])
        if not cursor.fetchone()[0]:
            return list(migrations())
        cursor.execute(statements()["applied_versions"])
        return sorted(migrations().keys() - {version for (version,) in cursor.fetchall()})

    def _look(self, statement: str, values: Mapping[str, object] | None = None) -> list[Any]:
        """What a statement reads, with the schema left as it is; there are no rows where no schema is.

        :raises OldLedger: if the schema lacks something, because an older version has made it
        """
        try:
            with self.transaction() as cursor:
                cursor.execute(statements()[statement], values)
                return list(cursor.fetchall())
        except OffloadError as error:
            if _sqlstate(error.__cause__) not in _UNKNOWN_NAMES:
                raise
            with self.transaction() as cursor:
                missing = self._missing_versions(cursor)
                cursor.execute(statements()["has_tables"])
                if not cursor.fetchone()[0]:
                    return []
            raise OldLedger(missing[0]) if missing else error from None

    def read_if(
        self, has_table: str, statement: str, values: Mapping[str, object] | None = None
    ) -> list[dict[str, Any]]:
        """What a statement reads, by column, of a table that the schema may not have yet; then there are no rows.

        :param has_table: name of the statement that says whether there is the table
        :param statement: name of the one that reads it
        """
        with self.transaction() as cursor:
            cursor.execute(statements()[has_table])
            if not cursor.fetchone()[0]:
                return []
            cursor.execute(statements()[statement], values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def check(self) -> None:
        """Make sure that Postgres answers and the schema is there or may be created. Changes nothing.

        :raises ConfigurationError: if it may not
        """
        with self.transaction() as cursor:
            cursor.execute(statements()["may_keep_ledger"])
            if not cursor.fetchone()[0]:
                raise ConfigurationError(
                    f"Airflow connection '{self._connection_id}': the user may not create the schema k2_offload. "
                    "Grant CREATE on the database, then run `k2 validate`."
                )

    @contextmanager
    def locked(self, table: str) -> Iterator[LockedTable]:
        """One transaction that holds the table's row lock; rolled back on an exception."""
        with self.transaction() as cursor:
            yield LockedTable(cursor, table)

    def read_tables(self) -> dict[str, TableRecord]:
        """Every table the ledger knows, by name."""
        return {row[0]: TableRecord(*row) for row in self._look("read_tables")}

    def read_entry(self, table: str) -> LedgerEntry:
        """What the ledger believes of a table, for who only looks."""
        values = {"table": table}
        [known] = self._look("look_at_table", values) or [(None,) * 6]
        [opened] = self._look("open_window_of", values) or [None]
        watermark, table_uuid, looked_at, cleared_until, row_limit, ledger_id = known
        return ledger_entry(table_uuid, watermark, opened, Looked(looked_at, cleared_until), row_limit, ledger_id)

    def read_gaps(self) -> dict[str, list[Gap]]:
        """What each table has missed, by name; tables without gaps are missing."""
        gaps: dict[str, list[Gap]] = {}
        for table, low, high, kind, rows, accepted_at in self._look("read_gaps"):
            gaps.setdefault(table, []).append(Gap(Window(low, high), GapKind(kind), rows, accepted_at))
        return gaps

    def read_windows(self, tables: Sequence[str], limit: int) -> dict[str, list[RecordedWindow]]:
        """The windows of some tables that were planned last, newest first.

        :param limit: how many of each table, at most
        """
        return self._windows("last_windows", tables, limit=limit)

    def read_windows_since(self, tables: Sequence[str], since: datetime) -> dict[str, list[RecordedWindow]]:
        """The windows of some tables that were planned since a time, newest first.

        Back to the last one that was not given up, where that is older.
        """
        return self._windows("windows_since", tables, since=since)

    def _windows(self, statement: str, tables: Sequence[str], **values: object) -> dict[str, list[RecordedWindow]]:
        windows: dict[str, list[RecordedWindow]] = {table: [] for table in tables}
        for table, *row in self._look(statement, {"tables": list(tables), **values}):
            windows[table].append(RecordedWindow(*row))
        return windows

    def read_compared_days(self, tables: Sequence[str], since: date) -> dict[str, list[RecordedDay]]:
        """What is known of the partition days of some tables, oldest first.

        :param since: the first day
        """
        days: dict[str, list[RecordedDay]] = {table: [] for table in tables}
        for table, day, verdict, *others in self._look("compared_days", {"tables": list(tables), "since": since}):
            days[table].append(RecordedDay(day, Verdict(verdict), *others))
        return days

    def record_day(self, found: DayComparison, problem: str | None, now: datetime) -> datetime | None:
        """Keep what a comparison of one day has found, in place of the one before.

        Late rows of a day that is not whole any more stay on record when the TTL has taken them as well.

        :param problem: why the day cannot be read, or was not healed
        :returns: since when it has been unequal; ``None`` if it is not
        """
        differing = found.differing
        values = {
            "table": found.table, "day": found.scope.day, "verdict": str(found.verdict), "now": now,
            "snapshot_id": found.snapshot_id, "below": found.scope.below, "differs": found.differs,
            "warm_rows": found.warm_rows,
            "cold_rows": found.cold_rows, "late_rows": found.late_rows, "gone_rows": found.gone_rows,
            "differs_from": differing.low if differing else None,
            "differs_until": differing.high if differing else None, "problem": problem,
            "whole": found.whole,
        }  # fmt: skip
        since: datetime | None
        with self.transaction() as cursor:
            if not found.whole:
                cursor.execute(statements()["keep_late_rows"], values)
                if (kept := cursor.fetchone()) is not None:
                    [since] = kept
                    return since
            cursor.execute(statements()["record_day"], values)
            [since] = cursor.fetchone()
            return since

    def read_days(self, table: str) -> dict[date, LastComparison]:
        """What the last comparison of each day of a table has found."""
        return {
            day: LastComparison(Verdict(verdict), at) for day, verdict, at in self._look("days_of", {"table": table})
        }

    def record_maintenance(self, done: Tidied, now: datetime, *, dry_run: bool) -> None:
        """Keep what maintenance did to a table."""
        with self.transaction() as cursor:
            cursor.execute(
                statements()["record_maintenance"],
                {
                    "table": done.table, "now": now, "dry_run": dry_run,
                    "files_before": done.before.files, "files_after": done.after.files,
                    "bytes_before": done.before.size_bytes, "bytes_after": done.after.size_bytes,
                    "rewritten_days": done.rewritten_days, "expired_snapshots": done.expired_snapshots,
                    "snapshots_after": done.after.snapshots, "orphans": done.orphans,
                    "orphan_bytes": done.orphan_bytes, "seconds": done.seconds,
                    "problem": "\n".join(done.problems)[:_MAX_PROBLEM_CHARACTERS] or None,
                },
            )  # fmt: skip

    def read_maintenance(self, since: datetime) -> list[MaintenanceRecord]:
        """What the last run of maintenance since a time did to each table, dry runs included.

        One that has begun with a table and not come back is none.
        """
        return [MaintenanceRecord(*row) for row in self._look("maintenance_since", {"since": since})]

    def read_day(self, bounds: DayBounds) -> tuple[dict[str, list[LedgerWindow]], list[MaintenanceRecord]]:
        """Windows planned or published on a day, or waiting all of it, by table; and what maintenance did then.

        Dry runs are left out.
        """
        windows, during = defaultdict(list), {"start": bounds.start, "end": bounds.end}
        for table, window_id, low, high, *others in self._look("windows_of_day", during):
            windows[table].append(LedgerWindow(window_id, Window(low, high), *others))
        return windows, [MaintenanceRecord(*row) for row in self._look("maintenance_of_day", during)]

    def last_maintained(self) -> dict[str, datetime]:
        """When maintenance last went well, by table."""
        return dict(self._look("last_maintained"))

    def last_attempts(self) -> dict[str, datetime]:
        """When maintenance last looked at each table, or began with it, by name, also to no effect."""
        return dict(self._look("last_attempts"))

    def read_totals(self, now: datetime) -> dict[str, WindowTotals]:
        """What all windows of each table add up to, by name; tables without windows are missing.

        :param now: the last day before it is the one that lags are of
        """
        return {
            row[0]: WindowTotals(*row[1:])
            for row in self._look("window_totals", {"first": FIRST_WATERMARK, "since": now - timedelta(days=1)})
        }

    def read_comparisons(self) -> dict[str, Comparisons]:
        """What the last comparisons of each table have found, by name; tables that were never compared are missing."""
        unequal: dict[str, list[UnequalDay]] = defaultdict(list)
        for table, *day in self._look("unequal_days"):
            unequal[table].append(UnequalDay(*day))
        return {table: Comparisons(last, tuple(unequal[table])) for table, last in self._look("last_comparisons")}

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """A cursor whose statements take effect together at the end, or not at all."""
        try:
            connection = self._connect()
        except Exception as error:
            raise self._translated(error, lost=True) from error
        try:
            with connection.cursor() as cursor:
                yield cursor
            connection.commit()
        except connection.Error as error:
            # DB-API does not define it, the drivers have it.
            raise self._translated(error, lost=bool(getattr(connection, "closed", False))) from error
        finally:
            connection.close()  # rolls back what was not committed, and works on a broken connection too

    def _translated(self, error: Exception, *, lost: bool) -> OffloadError:
        """Say what an error of the driver means.

        :param lost: there is no connection, or not any more
        """
        service, reason = "Postgres (the ledger)", str(error).strip()
        sqlstate = _sqlstate(error)
        if is_refusal(sqlstate, reason):
            return Refused(service, self._connection_id, reason)
        if sqlstate == _LOCK_NOT_AVAILABLE:
            return Busy(self._connection_id)
        if lost:
            return Unreachable(service, self._connection_id, reason)
        return OffloadError(
            f"Postgres (the ledger, Airflow connection '{self._connection_id}') refused a statement: "
            f"{reason} Nothing was recorded and no row is lost. Run `k2 validate`."
        )

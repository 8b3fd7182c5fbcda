"""A Postgres that understands the ledger's statements: row locks, transactions, and one open window per table."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cache
from types import MappingProxyType
from typing import Any

from k2_offload.adapters.ledger_sql import statements
from k2_offload.core.gaps import GapKind
from tests.model.actors import Blocked, current_actor, perform

_VERIFICATION = ("verified_at", "verified_snapshot", "problem")


class PostgresError(Exception):
    pass


@dataclass(frozen=True)
class WindowRow:
    low: datetime
    high: datetime
    state: str
    rows: int = 0
    failures: int = 0
    planned_at: datetime | None = None


@dataclass(frozen=True)
class TableRow:
    """:param damaged: somebody edited it, and no cycle has been by since"""

    watermark: datetime | None = None
    table_uuid: str | None = None
    status: str = "initialized"
    damaged: bool = False
    looked_at: datetime | None = None
    cleared_until: datetime | None = None
    row_limit: int | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Entry:
    """All the ledger knows of one table; a transaction works on a copy of its own."""

    row: TableRow = TableRow()
    windows: Mapping[str, WindowRow] = field(default_factory=dict)
    gaps: tuple[tuple[Any, ...], ...] = ()
    days: Mapping[date, tuple[str, datetime]] = field(default_factory=dict)

    @property
    def open_windows(self):
        return [window_id for window_id, window in self.windows.items() if window.state == "open"]


Seals = Mapping[str, Mapping[str, Any]]
"""Rows of the table of seals, by id."""


class Postgres:
    """What is committed, and who holds which row.

    :param ledger_id: made once, and the same in every backup
    :param seals: replaced as a whole by each transaction that changes it
    """

    def __init__(self, ledger_id: str = "ours"):
        self.ledger_id = ledger_id
        self.entries: dict[str, Entry] = {}
        self.seals: Seals = {}
        self.locks: dict[str, Connection] = {}
        self.connections: list[Connection] = []

    def connect(self) -> Connection:
        return perform("connect", lambda: Connection(self), lambda: PostgresError("the reply was lost"))

    def copy(self) -> tuple[dict[str, Entry], Seals]:
        return copy.copy(self.entries), self.seals

    def restore(self, backup: tuple[Mapping[str, Entry], Seals]):
        """From a backup: every connection breaks."""
        for connection in list(self.connections):
            connection.drop()
        entries, self.seals = backup
        self.entries = dict(entries)

    def in_use(self, table: str) -> bool:
        return any(table in connection.touched for connection in self.connections)


class Connection:
    """The part of a DB-API connection that the adapter uses."""

    Error = PostgresError

    def __init__(self, server: Postgres):
        self._server = server
        self._work: dict[str, Entry] = {}
        self._seals: dict[str, Mapping[str, Any]] = {}
        self.description: list[tuple[str]] = []
        self._result: list[tuple[Any, ...]] = []
        self.closed = False
        self.touched: set[str] = set()
        server.connections.append(self)
        if actor := current_actor():
            actor.on_crash.append(self.drop)

    def cursor(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def fetchall(self):
        return self._result

    def execute(self, sql: str, values: Mapping[str, Any] = MappingProxyType({})):
        name = _names()[sql]
        try:
            perform(f"ledger {name}", lambda: self._execute(name, values), self._lost)
        except PostgresError:
            self.drop()
            raise

    def fetchone(self):
        return self._result[0] if self._result else None

    def commit(self):
        perform("ledger commit", self._commit, self._lost)

    def rollback(self):
        self._work.clear()
        self._seals.clear()
        self._free()

    def close(self):
        self.drop()

    def drop(self):
        """The connection breaks: the transaction is rolled back."""
        self.closed = True
        self.rollback()
        if self in self._server.connections:
            self._server.connections.remove(self)

    def _lost(self) -> PostgresError:
        return PostgresError("the reply was lost")

    def _free(self):
        self._server.locks = {table: owner for table, owner in self._server.locks.items() if owner is not self}
        self.touched.clear()

    def _commit(self):
        if self.closed:
            raise PostgresError("the connection is gone")
        self._server.entries.update(self._work)
        self._work.clear()
        if self._seals:
            self._server.seals = {**self._server.seals, **self._seals}
            self._seals.clear()
        self._free()

    def _execute(self, name: str, values: Mapping[str, Any]):
        if self.closed:
            raise PostgresError("the connection is gone")
        self._result = []
        if name in ("read_gaps", "read_tables", "look_at_table"):
            self._look(name, values)
            return
        if name in ("has_seals", "read_seals", "record_seal", "record_verification"):
            self._execute_on_seals(name, values)
            return
        table = values["table"]
        self.touched.add(table)
        if name in ("days_of", "record_day", "keep_late_rows"):
            entry = self._server.entries.get(table, Entry())
            if name == "days_of":
                self._result = [(day, *found) for day, found in entry.days.items()]
            elif name == "record_day":
                days = {**entry.days, values["day"]: (values["verdict"], values["now"])}
                self._server.entries[table] = replace(entry, days=days)
                self._result = [(None,)]
            return
        if name in ("add_table", "lock_table"):
            if name == "lock_table" or table not in self._server.entries:
                self._lock(table)
            if name == "lock_table":
                self._result = [(*_known(self._work[table].row), self._server.ledger_id)]
            return
        looks = name == "open_window_of" and table not in self._work  # every other statement follows lock_table
        entry = self._server.entries.get(table, Entry()) if looks else self._work[table]
        if name == "open_window_of":
            opened = [(window_id, entry.windows[window_id]) for window_id in entry.open_windows]
            self._result = [(window_id, each.rows, each.failures, each.planned_at) for window_id, each in opened]
        else:
            self._work[table] = _STATEMENTS[name](entry, values)

    def _look(self, name: str, values: Mapping[str, Any]):
        if name == "read_gaps":
            self._result = [(table, *gap) for table, entry in self._server.entries.items() for gap in entry.gaps]
        elif name == "read_tables":
            self._result = [
                (table, entry.row.watermark, entry.row.status, *[None] * 7, entry.row.table_uuid)
                for table, entry in self._server.entries.items()
            ]
        else:
            entries = filter(None, [self._server.entries.get(values["table"])])
            self._result = [(*_known(entry.row), self._server.ledger_id) for entry in entries]

    def _execute_on_seals(self, name: str, values: Mapping[str, Any]):
        if name == "has_seals":
            self._result = [(True,)]
        elif name == "read_seals":
            rows = [row for row in self._server.seals.values() if row["table_name"] in values["tables"]]
            rows.sort(key=lambda row: (row["table_name"], row["day"], row["sealed_at"]))
            columns = list(rows[0]) if rows else []
            self.description = [(column,) for column in columns]
            self._result = [tuple(row[column] for column in columns) for row in rows]
        elif name == "record_seal":
            known = self._server.seals.get(values["seal_id"], dict.fromkeys(_VERIFICATION))
            self._seals[values["seal_id"]] = {**known, **values}
        elif values["seal_id"] in self._server.seals:
            row = self._server.seals[values["seal_id"]]
            snapshot = row["verified_snapshot"] if values["problem"] is not None else values["snapshot_id"]
            found = {"verified_at": values["now"], "verified_snapshot": snapshot, "problem": values["problem"]}
            self._seals[values["seal_id"]] = {**row, **found}

    def _lock(self, table: str):
        if self._server.locks.setdefault(table, self) is not self:
            raise Blocked
        if table not in self._work:
            self._work[table] = self._server.entries.get(table, Entry())


def _known(row: TableRow) -> tuple[Any, ...]:
    return row.watermark, row.table_uuid, row.looked_at, row.cleared_until, row.row_limit


def _open(entry: Entry, values: Mapping[str, Any]) -> Entry:
    if any(window_id != values["window_id"] for window_id in entry.open_windows):
        raise PostgresError("duplicate key value violates unique constraint offload_windows_one_open")
    window = WindowRow(
        values["low"], values["high"], "open", values["rows"], values["failures"], planned_at=values["now"]
    )
    return _with_window(entry, values["window_id"], window)


def _with_window(entry: Entry, window_id: str, window: WindowRow) -> Entry:
    return replace(entry, windows={**entry.windows, window_id: window})


def _with_state(state: str):
    def change(entry: Entry, values: Mapping[str, Any]) -> Entry:
        window = entry.windows.get(values["window_id"])
        return _with_window(entry, values["window_id"], replace(window, state=state)) if window else entry

    return change


def _fail(entry: Entry, values: Mapping[str, Any]) -> Entry:
    window = entry.windows[values["window_id"]]
    if entry.row.status != "running":
        return entry
    return _with_window(entry, values["window_id"], replace(window, failures=window.failures + 1))


def _limit_rows(entry: Entry, values: Mapping[str, Any]) -> Entry:
    return replace(entry, row=replace(entry.row, row_limit=values["rows"]))


def _set_watermark(entry: Entry, values: Mapping[str, Any]) -> Entry:
    row = replace(entry.row, watermark=values["watermark"], table_uuid=values["table_uuid"], damaged=False)
    return replace(entry, row=row)


def _forget_cold_table(entry: Entry, _: Mapping[str, Any]) -> Entry:
    return replace(entry, row=replace(entry.row, table_uuid=None, looked_at=None, cleared_until=None))


def _set_looked(entry: Entry, values: Mapping[str, Any]) -> Entry:
    row = replace(entry.row, looked_at=values["looked_at"], cleared_until=values["cleared_until"])
    return replace(entry, row=row)


def _accept_rows(entry: Entry, values: Mapping[str, Any]) -> Entry:
    window = replace(entry.windows[values["window_id"]], rows=values["rows"], failures=0)
    return _with_window(entry, values["window_id"], window)


def _record_gap(entry: Entry, values: Mapping[str, Any]) -> Entry:
    gap = tuple(values[name] for name in ("low", "high", "kind", "rows", "now"))
    known = [each[:4] for each in entry.gaps if each[2] != GapKind.FEWER_ROWS]
    return entry if gap[:4] in known else replace(entry, gaps=(*entry.gaps, gap))


def _set_status(status: str | None):
    def change(entry: Entry, values: Mapping[str, Any]) -> Entry:
        return replace(entry, row=replace(entry.row, status=status or values["status"], reason=None))

    return change


def _set_failed(entry: Entry, values: Mapping[str, Any]) -> Entry:
    reason = (values["keep"] and entry.row.reason) or values["reason"]
    return replace(entry, row=replace(entry.row, status="failed", reason=reason))


_STATEMENTS = {
    "open_window": _open,
    "resume_window": lambda entry, _: entry,
    "fail_window": _fail,
    "limit_rows": _limit_rows,
    "abandon_window": _with_state("abandoned"),
    "commit_window": _with_state("committed"),
    "record_success": _set_status("success"),
    "set_watermark": _set_watermark,
    "set_status": _set_status(None),
    "set_failed": _set_failed,
    "forget_cold_table": _forget_cold_table,
    "set_looked": _set_looked,
    "accept_rows": _accept_rows,
    "record_gap": _record_gap,
}


@cache
def _names() -> Mapping[str, str]:
    return {sql: name for name, sql in statements().items()}

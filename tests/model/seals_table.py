"""The lake's table of seals as pyiceberg shows it, as far as the adapter uses it.

Its rules: a commit is atomic, and takes effect although its reply is lost; it is refused if the table is not as it was
loaded, unless the library may try again: then it goes on top of whatever is there; the table is created once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any

from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, TableAlreadyExistsError

from k2_offload.core.tables import SEALS_TABLE
from tests.model.actors import perform

NAME = f"cold.{SEALS_TABLE}"

StoredSeal = Mapping[str, Any]

EMPTY_STORAGE = SimpleNamespace(get_fs=lambda _: SimpleNamespace(invalidate_cache=lambda: None, ls=lambda *_, **__: []))
"""Holds nothing of another table."""


class Version:
    """One version of the table. Commits replace it as a whole.

    :param rows: ``None`` until there is a snapshot
    """

    def __init__(self, schema: Any, rows: Iterable[StoredSeal] | None = None):
        self.schema = schema
        self.has_snapshot = rows is not None
        self.rows = tuple(rows or ())


class _Schema:
    """pyiceberg's, which makes columns for pyarrow only once."""

    def __init__(self, schema: Any):
        self.fields = schema.fields
        self.column_names = schema.column_names
        self.as_arrow = cache(schema.as_arrow)


class SealsTable:
    """:param current: ``None`` while there is no table"""

    def __init__(self) -> None:
        self.current: Version | None = None

    @property
    def rows(self) -> tuple[StoredSeal, ...]:
        return self.current.rows if self.current else ()

    def lose(self, is_lost: Callable[[StoredSeal], bool]) -> None:
        """Another writer removes rows."""
        if self.current is not None:
            self.current = Version(self.current.schema, [row for row in self.rows if not is_lost(row)])

    def load(self) -> LoadedSeals:
        current = perform("load seals", lambda: self.current, _lost)
        if current is None:
            raise NoSuchTableError(NAME)
        return LoadedSeals(self, current)

    def create(self, schema: Any) -> LoadedSeals:
        return LoadedSeals(self, perform("create seals", lambda: self._create(schema), _lost))

    def _create(self, schema: Any) -> Version:
        if self.current is not None:
            raise TableAlreadyExistsError(NAME)
        self.current = Version(_Schema(schema))
        return self.current

    def append(self, base: Version, added: Iterable[StoredSeal], *, may_retry: bool) -> Version:
        if self.current is not base and not may_retry:
            raise CommitFailedException("the table was changed")
        self.current = Version(base.schema, (*self.rows, *added))
        return self.current


class LoadedSeals:
    """The table as it was loaded, or as this writer has left it."""

    def __init__(self, table: SealsTable, version: Version):
        self._table = table
        self._version = version
        self.metadata = SimpleNamespace(properties={}, snapshots=[], table_uuid="uuid-of-seals")

    io = EMPTY_STORAGE

    def location(self):
        return f"/lake/{NAME}"

    def schema(self):
        return self._version.schema

    def scan(self):
        rows = self._version.rows
        return SimpleNamespace(to_arrow=lambda: SimpleNamespace(to_pylist=lambda: [dict(row) for row in rows]))

    def current_snapshot(self):
        """Of no files: too few to be written into one."""
        return SimpleNamespace(summary={"total-data-files": "0"}) if self._version.has_snapshot else None

    @contextmanager
    def transaction(self):
        added: list[StoredSeal] = []
        yield SimpleNamespace(
            append=lambda rows: added.extend(rows.to_pylist()),
            table_metadata=SimpleNamespace(schema=self.schema),
        )
        may_retry = self.metadata.properties.get("commit.retry.num-retries") != "0"
        append = self._table.append
        self._version = perform("append seals", lambda: append(self._version, added, may_retry=may_retry), _lost)


def _lost():
    return ConnectionError("the reply was lost")

"""The ledger's files, and what a driver's errors become; its statements are tested on the real Postgres."""

from __future__ import annotations

import pytest

from k2_offload.adapters.ledger import Ledger
from k2_offload.adapters.ledger_sql import migrations, statements
from k2_offload.core.errors import Busy, OffloadError, Refused, Unreachable
from k2_offload.files import LEDGER_SQL


class DriverError(Exception):
    def __init__(self, message, sqlstate=None):
        super().__init__(message)
        self.sqlstate = sqlstate


class Cursor:
    def __init__(self, error):
        self._error = error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def execute(self, *_):
        raise self._error


class Connection:
    Error = DriverError

    def __init__(self, error, closed):
        self._error, self.closed, self.ended = error, closed, False

    def cursor(self):
        return Cursor(self._error)

    def close(self):
        self.ended = True


def test_each_migration_has_a_number_of_its_own_and_only_adds():
    files = list((LEDGER_SQL / "migrations").iterdir())
    assert list(migrations()) == sorted(int(file.name[:4]) for file in files)
    for script in migrations().values():
        words = script.upper()
        assert not any(word in words for word in ("DROP ", "RENAME ", "DELETE FROM ", "TRUNCATE ", "ALTER COLUMN"))


def test_every_statement_has_a_name_and_says_something():
    assert {"lock_table", "open_window", "record_success", "read_tables"} <= statements().keys()
    assert all(text.strip().endswith(";") for text in statements().values())


@pytest.mark.parametrize(
    ("error", "closed", "kind", "words"),
    [
        (
            DriverError("canceling statement due to lock timeout", "55P03"),
            False,
            Busy,
            "Another run has held this table",
        ),
        (DriverError("permission denied", "42501"), False, Refused, "refuses Airflow connection 'c'"),
        (
            DriverError("server closed the connection"),
            True,
            Unreachable,
            "not reachable through Airflow connection 'c'",
        ),
        (DriverError("syntax error", "42601"), False, OffloadError, "refused a statement: syntax error"),
    ],
)
def test_an_error_says_what_it_means_and_the_connection_is_closed(error, closed, kind, words):
    connection = Connection(error, closed)
    with pytest.raises(kind, match=words) as raised:
        Ledger(lambda: connection, "c").read_tables()
    assert type(raised.value) is kind
    assert connection.ended


def test_a_ledger_that_cannot_be_connected_to_is_unreachable():
    def refuse():
        raise DriverError("connection refused")

    with pytest.raises(Unreachable, match="connection refused"):
        Ledger(refuse, "c").read_tables()

"""A Postgres that refuses is told from one that is down."""

from __future__ import annotations

import pytest

from k2_offload.adapters.postgres import is_refusal


@pytest.mark.parametrize(
    ("sqlstate", "message", "refused"),
    [
        ("28P01", "password authentication failed", True),
        ("3D000", 'database "x" does not exist', True),
        ("42501", "permission denied for schema k2_offload", True),
        ("57P03", "the database system is starting up", False),
        ("40001", "could not serialize access", False),
        (None, 'FATAL:  password authentication failed for user "k2"', True),
        (None, 'FATAL:  no pg_hba.conf entry for host "10.0.0.1"', True),
        (None, "FATAL:  the database system is shutting down", False),
        (None, "connection refused: does not exist", False),
    ],
)
def test_by_its_state_or_where_there_is_none_by_its_words(sqlstate, message, refused):
    assert is_refusal(sqlstate, message) is refused
